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
import gc
import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path


# Until the detector is loaded nothing is garbage. The search for garbage among all imported objects took a tenth of the
# time to the first verdict, and most of a second once more at the end.
if __name__ == "__main__":
    gc.disable()

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from engines import load_pipeline
from evaluation.command import run
from scoring.inputs import SAMPLE_FORMATS, find_recordings, watch_folder
from scoring.results import FORMAT_OF_SUFFIX, Results, ResultsFile, StandardOutput
from scoring.rows import FORMATS
from scoring.scorer import CLOSEST_MACHINE, Row, Scorer
from training.allocator import keep_freed_memory


STANDARD_INPUT = "-"
INTERRUPTED = 130


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; an error that the options make together ends the program with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "inputs", nargs="*", metavar="FILE_OR_FOLDER", help="files, folders, globs, or - for raw PCM on standard input"
    )
    parser.add_argument("--model", required=True, help="directory that train.py wrote, or a repository on the Hub")
    parser.add_argument(
        "--machine",
        default=CLOSEST_MACHINE,
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
    parser.add_argument("--format", choices=FORMATS, default="table", help="on standard output")
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
    if STANDARD_INPUT in arguments.inputs and len(arguments.inputs) > 1:
        parser.error("- (standard input) goes alone")
    if arguments.batch_size < 1:
        parser.error(f"--batch_size {arguments.batch_size}: expected a number above 0")
    if arguments.output and arguments.output.suffix not in FORMAT_OF_SUFFIX:
        parser.error(f"--output {arguments.output}: expected a name that ends in .jsonl or .csv")
    return arguments


def prepare_process() -> None:
    """Set up memory, messages and standard streams."""
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    # File names may hold bytes that are no text.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def load_scorer(arguments: argparse.Namespace, device: torch.device) -> Scorer:
    """Load the model, or its export, with the options asked for and the detector's own for the others."""
    detect = load_pipeline(arguments.model, engine=arguments.engine, device=device)
    rate = detect.detector.false_alarm_rate if arguments.false_alarm_rate is None else arguments.false_alarm_rate
    backend = arguments.backend or detect.detector.backend
    if arguments.machine in detect.detector.machines:
        tested = detect.detector.self_test(arguments.machine)
        if tested.backend == backend:
            print(f"{arguments.machine}: {tested.summary(rate)}", file=sys.stderr)
    return Scorer(detect, arguments.machine, rate, backend, arguments.batch_size, arguments.picture)


def open_results(arguments: argparse.Namespace, scorer: Scorer) -> Results:
    """Open the results file, or standard output."""
    if arguments.output is None:
        return StandardOutput(arguments.format)
    return ResultsFile(arguments.output, {"false_alarm_rate": scorer.false_alarm_rate, "backend": scorer.backend})


def score_inputs(
    arguments: argparse.Namespace, scorer: Scorer, state: PartialState, done: set[str]
) -> tuple[Iterator[Row], int | None]:
    """Score what the arguments ask for; return the rows, and their number where it is known."""
    if arguments.inputs == [STANDARD_INPUT]:
        return scorer.score_stream(sys.stdin.buffer, arguments.sample_format, arguments.sampling_rate), None
    if arguments.watch:
        return (scorer.score(path, path) for path in watch_folder(arguments.watch, done)), None
    paths = [path for path in dict.fromkeys(find_recordings(arguments.inputs)) if path not in done]
    return scorer.score_files(paths, state), len(paths)


def main() -> int:
    """Score everything and return the exit code."""
    arguments = parse_arguments()
    prepare_process()
    state = PartialState(cpu=not torch.accelerator.is_available())
    if state.num_processes > 1 and (arguments.watch or arguments.inputs == [STANDARD_INPUT]):
        raise ValueError("--watch and standard input are for one process: start python score.py without a launcher.")
    scorer = load_scorer(arguments, state.device or torch.device("cpu"))
    gc.freeze()
    gc.enable()
    results = open_results(arguments, scorer) if state.is_main_process else None
    done = gather_object([results.done if results else set()])[0]
    rows, total = score_inputs(arguments, scorer, state, done)
    hide_progress = total is None or results is None
    # A service is stopped by SIGTERM as by Ctrl-C: finished rows are written, and the exit code counts them.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for row in tqdm(rows, total=total, desc="Scoring", unit="recording", disable=hide_progress):
            if results is not None:
                results.add(row)
    except KeyboardInterrupt:
        if total is not None:
            print("interrupted: the same command with --output goes on where it stopped", file=sys.stderr)
            return INTERRUPTED
    if results is None:
        return 0
    print(results.summary, file=sys.stderr)
    return results.exit_code


if __name__ == "__main__":
    run(main)
