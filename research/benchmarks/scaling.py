"""What grows with what: an epoch, an archive and memory with clips and processes, a detector with its machines.

    python -m research.benchmarks.scaling
    python -m research.benchmarks.scaling --parts fleet --machines 10 100 1000 10000

Training and scoring run as a user runs them, `torchrun ... train.py` and `torchrun ... score.py`, with one thread a process,
on clips of noise. `docs/scaling.md` explains the curves.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from dcase2020_task2 import label_name
from evaluation.command import run
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdConfig, ClipOutputs
from modeling.outputs_attention_asd import SPECTRA_ROWS
from training.batches import KeyedBatches
from training.waveform_bank import WaveformBank, bank_digest

from .noise_clips import SAMPLING_RATE, write_clips
from .processes import FreshProcess, available_cores, timed_command
from .report import describe_machine, markdown, write_json


PARTS = ("fleet", "bank", "epochs", "archive")
EMBEDDING_SIZE, MEL_BINS = 128, 128
TRAINED_MACHINES = 16
CLIPS_OF_A_MACHINE = 8
BATCH = 64


# A fleet: one detector, many enrolled machines


def clips_near(centroid: np.ndarray, count: int, generator: np.random.Generator) -> torch.Tensor:
    """Return embeddings `(count, h)` around a machine's direction."""
    noise = generator.standard_normal((count, EMBEDDING_SIZE)) / np.sqrt(EMBEDDING_SIZE)
    return torch.from_numpy(centroid / np.linalg.norm(centroid) + 0.3 * noise)


def fitted_detector(generator: np.random.Generator) -> AnomalyDetector:
    """Return a detector of machines whose embeddings are drawn, with the paper's embedding size."""
    names = [label_name("fan", f"{index:02d}") for index in range(TRAINED_MACHINES)]
    config = AttentionAsdConfig(id2label=dict(enumerate(names)), embedding_size=EMBEDDING_SIZE)
    centroids = generator.standard_normal((TRAINED_MACHINES, EMBEDDING_SIZE))
    embeddings = torch.cat([clips_near(centroid, 2 * CLIPS_OF_A_MACHINE, generator) for centroid in centroids])
    machines = [name for name in names for _ in range(2 * CLIPS_OF_A_MACHINE)]
    held_out = np.arange(len(machines)) % 2 == 1
    return AnomalyDetector.fit(config, outputs_of(embeddings, generator), machines, held_out)


def outputs_of(embeddings: torch.Tensor, generator: np.random.Generator) -> ClipOutputs:
    """Return outputs with the cosines of the embeddings and with spectra that are drawn."""
    spectra = torch.from_numpy(generator.standard_normal((len(embeddings), len(SPECTRA_ROWS), MEL_BINS)))
    cosines = torch.nn.functional.normalize(embeddings)[:, :TRAINED_MACHINES]
    return ClipOutputs(embeddings, cosines, spectra)


def measure_fleet(sizes: list[int]) -> list[dict[str, Any]]:
    """Measure enrolling, deciding, saving and loading as the number of enrolled machines grows, 8 clips each."""
    generator = np.random.default_rng(0)
    detector, rows, enrolled = fitted_detector(generator), [], 0
    for size in sizes:
        started = time.perf_counter()
        for index in tqdm(range(enrolled, size), desc=f"Enrolling up to {size:,}", unit="machine"):
            embeddings = clips_near(generator.standard_normal(EMBEDDING_SIZE), CLIPS_OF_A_MACHINE, generator)
            clips = outputs_of(embeddings, generator)
            detector.enroll(f"machine_{index:05d}", clips)
        enroll_s = (time.perf_counter() - started) / (size - enrolled)
        clip = clips[:1]
        rows.append(
            {
                "machines": size,
                "enroll ms a machine": 1000 * enroll_s,
                "decide ms, machine told": 1000 * decide_seconds(detector, clip, "machine_00000"),
                "decide ms, machine unknown": 1000 * decide_seconds(detector, clip, None),
                **measure_files(detector, size + TRAINED_MACHINES),
            }
        )
        enrolled = size
    return rows


def decide_seconds(detector: AnomalyDetector, clip: ClipOutputs, machine: str | None, repeats: int = 21) -> float:
    """Return the median time of a decision, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        detector.decide(clip, machine)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))


def measure_files(detector: AnomalyDetector, machines: int) -> dict[str, float]:
    """Save a detector and load it again; `machines` is how many it knows."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        detector.save_pretrained(folder)
        saved = time.perf_counter()
        AnomalyDetector.from_pretrained(folder)
        loaded = time.perf_counter()
        total_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())
    return {
        "save s": saved - started,
        "load s": loaded - saved,
        "files MB": total_bytes / 1e6,
        "kB a machine": total_bytes / 1e3 / machines,
    }


# The bank: clips that training reads


def measure_bank(sizes: list[int], clip_seconds: float) -> list[dict[str, Any]]:
    """Read batches from banks of growing size, each in a process of its own."""
    rows = []
    for size in tqdm(sizes, desc="Banks", unit="bank"):
        with tempfile.TemporaryDirectory() as folder, FreshProcess() as process:
            rows.append({"clips": size, **process.run(read_bank, folder, size, clip_seconds)})
    return rows


def read_bank(folder: str, size: int, clip_seconds: float, batches: int = 100) -> dict[str, float]:
    """Return what a process holds and how fast it reads random batches of a bank.

    The bank's file is sparse: no disk is needed, and its pages are mapped like any others.
    """
    extractor = AttentionAsdFeatureExtractor(clip_length=round(clip_seconds * SAMPLING_RATE))
    paths = [f"clip_{index:06d}.wav" for index in range(size)]
    file = Path(folder) / f"waveforms-{bank_digest(paths, extractor)}.npy"
    np.lib.format.open_memmap(file, mode="w+", dtype=np.int16, shape=(size, extractor.clip_length))
    file.with_suffix(".json").write_text(
        json.dumps({"errors": {}, "looks": {}, "lengths": [extractor.clip_length] * size}),
        encoding="utf-8",
    )
    before = resident_mib("RssAnon")
    started = time.perf_counter()
    bank = WaveformBank(paths, [0] * size, extractor, cache_dir=Path(folder), progress=False)
    opened = time.perf_counter()
    read = 0
    for _, indices in zip(range(batches), KeyedBatches(len(bank), BATCH), strict=False):
        read += len(bank.fetch(indices)[0])
    seconds = time.perf_counter() - opened
    return {
        "open s": opened - started,
        "clips/s read": read / seconds,
        "own memory MiB": resident_mib("RssAnon") - before,
        "mapped MiB, given back when asked": resident_mib("RssFile"),
        "file GB": size * extractor.clip_length * 2 / 1e9,
    }


def resident_mib(kind: str) -> float:
    """Return this process's memory on Linux.

    `kind` is `RssAnon`, what a process holds itself, or `RssFile`, pages of files that the system can take back.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


# Epochs and archives, as a user runs them


def grown(sizes: list[int]) -> list[tuple[int, int]]:
    """Return every size with every number of processes up to that of the cores."""
    return [(size, processes) for size in sizes for processes in range(1, len(available_cores()) + 1)]


def torchrun(processes: int, *command: str | Path, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Run a command in so many processes with one thread each, and return what `timed_command` returns."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return timed_command([*launcher, *command], allowed, ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")


def write_data(folder: Path, count: int, clip_seconds: float) -> Path:
    """Write a training folder in the DCASE layout with two machine IDs of noise."""
    paths, _ = write_clips(folder, count, clip_seconds)
    train = folder / "fan" / "train"
    train.mkdir(parents=True)
    for index, path in enumerate(paths):
        os.replace(path, train / f"normal_id_{2 * (index % 2):02d}_{index:08d}.wav")
    return folder


def measure_epochs(sizes: list[int], clip_seconds: float, model_dir: Path) -> list[dict[str, Any]]:
    """Time an epoch of train.py as clips and processes grow, at 16 clips a process and update. The last model stays."""
    rows = []
    for size, processes in tqdm(grown(sizes), desc="Epochs", unit="run"):
        with tempfile.TemporaryDirectory() as folder:
            data = write_data(Path(folder), size, clip_seconds)
            ended = torchrun(processes, "train.py", "--data_dir", data, "--output_dir", model_dir,
                           "--num_train_epochs", "1", "--per_device_train_batch_size", "16",
                           "--clip_seconds", str(clip_seconds), "--mixed_precision", "bf16",
                           "--checkpointing_steps", "1000000", "--validation_fraction", "0.1")  # fmt: skip
        # Of the loop alone, without what starts and ends a run.
        seconds = json.loads((model_dir / "all_results.json").read_text(encoding="utf-8"))["train_runtime"]
        rows.append(
            {
                "clips": size,
                "processes": processes,
                "s an epoch": seconds,
                "ms a clip": 1000 * seconds / size,
                "peak MiB a process": ended["peak_mib"],
            }
        )
    return rows


def measure_archive(sizes: list[int], clip_seconds: float, model_dir: Path) -> list[dict[str, Any]]:
    """Time score.py over folders of growing size, shared out over processes."""
    rows = []
    for size, processes in tqdm(grown(sizes), desc="Archives", unit="run"):
        with tempfile.TemporaryDirectory() as folder:
            write_clips(Path(folder), size, clip_seconds)
            output = Path(folder) / "verdicts.jsonl"
            # A launcher makes a failure of exit code 1, which says that something is anomalous.
            ended = torchrun(processes, "score.py", folder, "--model", model_dir, "--output", output, allowed=(0, 1))
            scored = len(output.read_text(encoding="utf-8").splitlines())
        if scored != size:
            raise RuntimeError(f"score.py wrote {scored} results of {size} recordings.")
        rows.append(
            {
                "recordings": size,
                "processes": processes,
                "seconds": ended["seconds"],
                "recordings/s, start included": size / ended["seconds"],
                "peak MiB a process": ended["peak_mib"],
            }
        )
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)")
    parser.add_argument("--machines", type=int, nargs="+", default=[10, 100, 1000, 10_000], help="sizes of the fleet")
    parser.add_argument("--bank_clips", type=int, nargs="+", default=[1_000, 10_000, 54_254], help="sizes of the bank")
    parser.add_argument("--epoch_clips", type=int, nargs="+", default=[64, 128], help="clips of an epoch")
    parser.add_argument("--recordings", type=int, nargs="+", default=[64, 128], help="recordings of an archive")
    parser.add_argument("--clip_seconds", type=float, default=10.0, help="length of a clip (default 10)")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args(argv)
    if "archive" in options.parts and "epochs" not in options.parts:
        parser.error("--parts archive scores with the model that epochs trains: give both")
    results: dict[str, Any] = {"machine": describe_machine()}
    seconds = options.clip_seconds
    with tempfile.TemporaryDirectory() as folder:
        model_dir = Path(folder) / "model"
        measured = {
            "fleet": lambda: measure_fleet(options.machines),
            "bank": lambda: measure_bank(options.bank_clips, seconds),
            "epochs": lambda: measure_epochs(options.epoch_clips, seconds, model_dir),
            "archive": lambda: measure_archive(options.recordings, seconds, model_dir),
        }
        for part in PARTS:
            if part in options.parts:
                results[part] = measured[part]()
    write_json(options.output, results)
    print("\n\n".join(f"## {part}\n\n{markdown(results[part])}" for part in PARTS if part in results))


if __name__ == "__main__":
    run(main)
