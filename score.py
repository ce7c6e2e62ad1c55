#!/usr/bin/env python
"""Tell whether recordings of machines sound as these machines do in normal operation.

    python score.py recording.wav recordings/ 'more/*.flac' --model OUT
    python score.py recordings/ --model OUT --output verdicts.jsonl      # start again: goes on where it stopped
    python score.py --watch recordings/ --model OUT                      # recordings that keep arriving
    arecord -f S16_LE -r 16000 -c 1 -t raw | python score.py - --model OUT
    accelerate launch score.py archive/ --model OUT --output verdicts.csv

Exit code: 0 nothing is anomalous, 1 something is, 2 an input could not be read (the others are scored all the same).
A launcher of several processes turns 2 into its own 1, and calls both a failure.
"""

import argparse
import csv
import gc
import glob
import hashlib
import io
import json
import os
import signal
import sys
import textwrap
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


# Until the detector is loaded nothing is garbage: to look for it among all that is imported took a tenth of the time to
# the first verdict, and once more most of a second at the end.
if __name__ == "__main__":
    gc.disable()

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from dcase2020_task2 import label_name, parse_clip_name
from engines import load_pipeline
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline, cut_windows, resample_blocks
from training.allocator import keep_freed_memory


AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"}
SAMPLE_FORMATS = {"s16le": "<i2", "f32le": "<f4"}
COLUMNS = (
    "file verdict score threshold p_value false_alarm_rate machine predicted_machine similarity method "
    "calibration_clips backend duration_s start_s end_s reason note anomalous_s error"
).split()
# Recordings that a process scores before the results of all are collected.
ROUND = 8


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "inputs", nargs="*", metavar="FILE_OR_FOLDER", help="files, folders, globs, or - for raw PCM on standard input"
    )
    parser.add_argument("--model", required=True, help="directory that train.py wrote, or a repository on the Hub")
    parser.add_argument(
        "--machine",
        default="auto",
        help="machine that the recordings are of; auto (default) takes the closest one, from-path reads <type> "
        "and XX from <type>/.../*id_XX_*.wav",
    )
    parser.add_argument(
        "--false_alarm_rate",
        type=float,
        help="share of normal recordings that may be called anomalous (default: the model's)",
    )
    parser.add_argument(
        "--engine",
        help="what runs the network: torch, or what --model was exported for by scripts/export.py (default: the latter, if "
        "it was)",
    )
    parser.add_argument("--backend", help="how clips are scored: arcface is the paper's way (default: the model's)")
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table", help="on standard output")
    parser.add_argument(
        "--output",
        type=Path,
        help="append to FILE.jsonl or FILE.csv instead; recordings that are in it are passed over",
    )
    parser.add_argument(
        "--watch", type=Path, metavar="FOLDER", help="score what is in FOLDER and what arrives, until Ctrl-C"
    )
    parser.add_argument("--picture", type=Path, metavar="DIR", help="write a picture of each recording to DIR")
    parser.add_argument("--batch_size", type=int, default=8, help="windows of a recording per forward pass (default 8)")
    parser.add_argument("--sampling_rate", type=int, help="of standard input, in Hz (default: the model's)")
    parser.add_argument(
        "--sample_format", choices=SAMPLE_FORMATS, default="s16le", help="of standard input, one channel"
    )
    arguments = parser.parse_args(argv)
    if bool(arguments.inputs) == bool(arguments.watch):
        parser.error("give files and folders, or - for standard input, or --watch FOLDER")
    if "-" in arguments.inputs and len(arguments.inputs) > 1:
        parser.error("- (standard input) goes alone")
    if arguments.batch_size < 1:
        parser.error(f"--batch_size {arguments.batch_size}: expected a number above 0")
    if arguments.output and arguments.output.suffix not in (".jsonl", ".csv"):
        parser.error(f"--output {arguments.output}: expected a name that ends in .jsonl or .csv")
    return arguments


# What is to be scored


def find_recordings(inputs: Iterable[str]) -> Iterator[str]:
    """The files of all inputs in their order, those of a folder by name. An input without any is given as it is:
    reading it names the error."""
    for name in inputs:
        if os.path.isdir(name):
            yield from list_folder(name) or [name]
        elif os.path.exists(name) or "://" in name:
            yield name
        else:
            yield from sorted(glob.glob(name, recursive=True)) or [name]


def list_folder(folder: str | Path) -> list[str]:
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sorted(path for path in paths if os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES)


def watch_folder(folder: Path, done: set[str], seconds: float = 1.0) -> Iterator[str]:
    """Recordings of the folder, each as soon as its size no longer grows; without end."""
    sizes: dict[str, int] = {}
    while True:
        for path in list_folder(folder):
            if path in done:
                continue
            try:
                size = os.path.getsize(path)
            except FileNotFoundError:  # taken away between two looks
                continue
            if sizes.get(path) == size:
                done.add(path)
                yield path
            sizes[path] = size
        time.sleep(seconds)


def machine_in_path(path: str, known: list[str]) -> str:
    """`<machine type>/.../*id_XX_*.wav` -> the machine; the label in the name plays no part."""
    machine_id = parse_clip_name(path).machine_id
    candidates = [label_name(parent.name, machine_id) for parent in Path(path).absolute().parents if parent.name]
    for candidate in candidates:
        if candidate in known:
            return candidate
    raise ValueError(
        f"{path}: no folder above it is the type of a machine with ID {machine_id}; known: {', '.join(known)}."
    )


# Scoring


def load_detector(arguments: argparse.Namespace, device: torch.device) -> AnomalousSoundDetectionPipeline:
    detect = load_pipeline(arguments.model, engine=arguments.engine, device=device)
    machine = detect.detector.machines[0] if arguments.machine in ("auto", "from-path") else arguments.machine
    # Asked once here, a machine, rate or back end that cannot be is one error and not one for each recording.
    detect.detector.threshold(machine, arguments.false_alarm_rate, arguments.backend)
    return detect


def score_recording(
    source: Any, name: str, detect: AnomalousSoundDetectionPipeline, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The result of one recording, or what is wrong with it."""
    try:
        if os.path.isdir(name):
            raise ValueError(f"{name}: no recordings in this folder; expected sound files such as WAV or FLAC.")
        machine = None if arguments.machine == "auto" else arguments.machine
        if machine == "from-path":
            machine = machine_in_path(name, detect.detector.machines)
        result = detect(
            source,
            machine=machine,
            false_alarm_rate=arguments.false_alarm_rate,
            backend=arguments.backend,
            batch_size=arguments.batch_size,
            return_attention_maps=arguments.picture is not None,
        )
        if arguments.picture:
            draw(source, name, result, detect, arguments.picture)
        return {"file": name, **result}
    except ValueError as error:
        return {"file": name, "error": str(error)}


def score_files(
    paths: list[str], detect: AnomalousSoundDetectionPipeline, arguments: argparse.Namespace, state: PartialState
) -> Iterator[dict[str, Any]]:
    """Results in the order of the files, on every process, each of which scores its share."""
    size = ROUND * state.num_processes if state.num_processes > 1 else 1
    for start in range(0, len(paths), size):
        with state.split_between_processes(paths[start : start + size]) as share:
            results = [score_recording(path, path, detect, arguments) for path in share]
        yield from gather_object(results)


def score_stream(
    stream: BinaryIO, detect: AnomalousSoundDetectionPipeline, arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Results of raw PCM, window by window as it arrives."""
    model_rate = detect.feature_extractor.sampling_rate
    rate = arguments.sampling_rate or model_rate
    sample_type = np.dtype(SAMPLE_FORMATS[arguments.sample_format])

    def blocks() -> Iterator[np.ndarray]:
        while data := stream.read(rate // 4 * sample_type.itemsize):
            samples = np.frombuffer(data[: len(data) // sample_type.itemsize * sample_type.itemsize], sample_type)
            yield samples.astype(np.float32) / (2.0**15 if sample_type.kind == "i" else 1.0)

    is_empty = True
    for start, window in cut_windows(resample_blocks(blocks(), rate, model_rate), detect.feature_extractor.clip_length):
        is_empty = False
        result = score_recording({"raw": window, "sampling_rate": model_rate}, "-", detect, arguments)
        yield {**result, "start_s": start / model_rate, "end_s": (start + len(window)) / model_rate}
    if is_empty:
        yield {"file": "-", "error": "standard input: no samples arrived."}


# Results


def draw(source: Any, name: str, result: dict[str, Any], detect: AnomalousSoundDetectionPipeline, folder: Path) -> None:
    """The picture of the recording's window with the highest score. Takes the attention maps out of the result."""
    # Here, because a verdict without a picture would wait two seconds for it.
    from evaluation.figures import clip_report, save

    maps, start = result.pop("attention_maps"), result.pop("attention_start_s")
    index = next((i for i, window in enumerate(result["windows"]) if window["start_s"] == start), 0)
    waveform = detect.fitted(detect.window_at(detect.open_recording(source), index))
    extractor = detect.feature_extractor
    title = name if start == 0 else f"{name} from {start:.1f} s"
    figure = clip_report(
        waveform.numpy(),
        extractor.log_mel(waveform).numpy(),
        None if maps is None else np.asarray(list(maps.values())),
        extractor.mel_frequencies,
        extractor.sampling_rate,
        title="\n".join([title, *textwrap.wrap(result["reason"] or "", 110)]),
        verdict_line=verdict_line(result),
        channel_names=list(maps or ()),
    )
    folder.mkdir(parents=True, exist_ok=True)
    # Recordings in different folders may have the same name.
    save(figure, folder / f"{Path(name).stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.png")


def verdict_line(result: dict[str, Any]) -> str:
    verdict = result["verdict"].upper()
    if result["p_value"] is None:
        return f"{verdict}: {result['note']}"
    calibration = f"{result['method']}, {result['calibration_clips']} normal clips"
    return f"{verdict} for {result['machine']}: p = {result['p_value']:.2g} ({calibration})"


def anomalous_stretches(result: dict[str, Any]) -> str:
    """Where in a long recording, in seconds: `20-40 90-100`."""
    stretches: list[list[float]] = []
    for window in result.get("windows", ()):
        if window["verdict"] == "anomalous":
            if stretches and stretches[-1][1] >= window["start_s"]:
                stretches[-1][1] = window["end_s"]
            else:
                stretches.append([window["start_s"], window["end_s"]])
    return " ".join(f"{start:g}-{end:g}" for start, end in stretches)


TABLE_HEADER = f"{'verdict':<12} {'p-value':>8} {'score':>10} {'threshold':>10}  {'machine':<18} recording"


def as_table(row: dict[str, Any]) -> str:
    name = row["file"] if "start_s" not in row else f"{row['start_s']:.1f}-{row['end_s']:.1f} s"
    if "error" in row:
        return f"{'unreadable':<12} {row['error']}"
    numbers = [f"{'-' if row[key] is None else format(row[key], '.4g'):>{width}}"
               for key, width in (("p_value", 8), ("score", 10), ("threshold", 10))]  # fmt: skip
    line = f"{row['verdict']:<12} {' '.join(numbers)}  {row['machine'] or '-':<18} {name}"
    stretches = anomalous_stretches(row)
    remarks = [row["reason"], row["note"], stretches and f"anomalous at {stretches} s"]
    return "\n".join([line, *(f"{'':<12} {remark}" for remark in remarks if remark)])


def as_csv(row: dict[str, Any]) -> str:
    line = io.StringIO()
    writer = csv.DictWriter(line, COLUMNS, extrasaction="ignore", lineterminator="")
    writer.writerow({**row, "anomalous_s": anomalous_stretches(row)})
    return line.getvalue()


FORMATS = {"table": as_table, "csv": as_csv, "json": lambda row: json.dumps(row, allow_nan=False)}
HEADERS = {"table": TABLE_HEADER, "csv": ",".join(COLUMNS)}


class Results:
    """Writes results, one after the other, and counts what they say.

    A result goes to the file whole, in one write. When the program starts again, a line that was cut off is removed,
    and `done` are the recordings that need not be scored again.
    """

    def __init__(self, arguments: argparse.Namespace):
        self.counts: dict[str, int] = {}
        self.done: set[str] = set()
        self.file = None
        self.format = arguments.format
        if arguments.output is None:
            if self.format in HEADERS:
                tqdm.write(HEADERS[self.format], file=sys.stdout)
            return
        self.format = "csv" if arguments.output.suffix == ".csv" else "json"
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(arguments.output, "a+b", buffering=0)  # noqa: SIM115  # open as long as the results
        self.file.seek(0)
        content = self.file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.file.truncate(len(whole))
        text = whole.decode("utf-8", "surrogateescape")
        try:
            if self.format == "csv":
                rows = list(csv.DictReader(io.StringIO(text, newline="")))
            else:
                rows = [json.loads(line) for line in text.split("\n")[:-1]]
            for row in rows:
                self.done.add(row["file"])
                self.count(row)
        except (ValueError, KeyError):
            raise ValueError(f"{arguments.output}: not written by this program; choose another file.") from None
        self.check_settings(rows, arguments)
        if self.format == "csv" and not whole:
            self.file.write((HEADERS["csv"] + "\n").encode())

    def check_settings(self, rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
        """Results with different settings in one file could not be told apart."""
        for option, asked in (("false_alarm_rate", arguments.false_alarm_rate), ("backend", arguments.backend)):
            before = {str(row[option]) for row in rows if row.get(option) not in (None, "")}
            if asked is not None and before and before != {str(asked)}:
                raise ValueError(
                    f"{arguments.output} holds results with {option} {', '.join(sorted(before))}, not {asked}: choose "
                    "another file."
                )

    def count(self, row: dict[str, Any]) -> None:
        kind = "unreadable" if row.get("error") else row["verdict"]
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def add(self, row: dict[str, Any]) -> None:
        self.count(row)
        line = FORMATS[self.format](row)
        if self.file is not None:
            self.file.write((line + "\n").encode("utf-8", "surrogateescape"))
        else:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
        if "error" in row and (self.file is not None or self.format != "table"):
            tqdm.write(f"error: {row['error']}", file=sys.stderr)

    @property
    def exit_code(self) -> int:
        return 2 if self.counts.get("unreadable") else int(bool(self.counts.get("anomalous")))


def main() -> int:
    arguments = parse_arguments()
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    # File names may hold bytes that are no text.
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr.reconfigure(errors="backslashreplace")
    state = PartialState(cpu=not torch.accelerator.is_available())
    if state.num_processes > 1 and (arguments.watch or arguments.inputs == ["-"]):
        raise ValueError("--watch and standard input are for one process: start python score.py without a launcher.")
    detect = load_detector(arguments, state.device)
    gc.freeze()
    gc.enable()
    arguments.false_alarm_rate = arguments.false_alarm_rate or detect.detector.false_alarm_rate
    arguments.backend = arguments.backend or detect.detector.backend

    results = Results(arguments) if state.is_main_process else None
    done = gather_object([results.done if results else set()])[0]
    total = None
    if arguments.inputs == ["-"]:
        rows = score_stream(sys.stdin.buffer, detect, arguments)
    elif arguments.watch:
        if not arguments.watch.is_dir():
            raise ValueError(f"{arguments.watch}: no such folder to watch.")
        rows = (score_recording(path, path, detect, arguments) for path in watch_folder(arguments.watch, set(done)))
    else:
        paths = [path for path in dict.fromkeys(find_recordings(arguments.inputs)) if path not in done]
        rows, total = score_files(paths, detect, arguments, state), len(paths)
    # A service is stopped by SIGTERM as by Ctrl-C: what was scored is written, and the exit code says what it was.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for row in tqdm(rows, total=total, desc="Scoring", unit="recording", disable=total is None or results is None):
            if results is not None:
                results.add(row)
    except KeyboardInterrupt:
        if total is not None:
            print("interrupted: the same command with --output goes on where it stopped", file=sys.stderr)
            return 130
    if results is None:
        return 0
    print(", ".join(f"{count} {kind}" for kind, count in sorted(results.counts.items())) or "nothing", file=sys.stderr)
    return results.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, ImportError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception:
        # Python's own exit code would say that something is anomalous.
        traceback.print_exc()
        sys.exit(2)
