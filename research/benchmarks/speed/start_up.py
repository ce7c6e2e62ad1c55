"""Peak memory and time to the first verdict of score.py, beside the authors' chain and the libraries alone."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import soundfile
import torch
from tqdm.auto import tqdm

from research.benchmarks.processes import FreshProcess, peak_memory_mib, timed_command

from .systems import AUTHORS, Task, load_published


LONG_RECORDING_SECONDS = 30 * 60


def measure_processes(task: Task) -> list[dict[str, Any]]:
    """Return a row for the libraries alone, one for the authors' chain and two for each model with score.py."""
    libraries = timed_command([sys.executable, "-c", "import torch, transformers; print()"])
    rows = [row_of("python -c 'import torch, transformers'", libraries)]
    with FreshProcess() as process:
        peak = process.run(peak_of_published, task)
    rows.append({"command": f"{AUTHORS}, one clip", "first line s": None, "seconds": None, "peak MiB": peak})
    with tempfile.TemporaryDirectory() as folder:
        long = write_repeated(task.audio, Path(folder) / "long.wav")
        for model in tqdm([task.model, *task.exported], desc="score.py", unit="model"):
            for what, recording in (("one clip", task.audio), ("30 minutes", long)):
                command = [sys.executable, "score.py", recording, "--model", model, "--format", "json"]
                # Exit code 1: something is anomalous.
                run = timed_command(command, allowed=(0, 1))
                rows.append(row_of(f"score.py, {what}, {Path(model).name}", run))
    return rows


def row_of(command: str, run: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a command that `timed_command` measured."""
    return {
        "command": command,
        "first line s": run["first_line_s"],
        "seconds": run["seconds"],
        "peak MiB": run["peak_mib"],
    }


@torch.no_grad()
def peak_of_published(task: Task) -> float:
    """Return the peak memory in MiB of the authors' chain with one clip, for a process of its own."""
    value: Any = [task.audio]
    for step in load_published(task).steps.values():
        value = step(value)
    return peak_memory_mib()


def write_repeated(audio: str, path: Path) -> Path:
    """Write the first channel of a recording over and over, until `LONG_RECORDING_SECONDS` are full."""
    samples, rate = soundfile.read(audio, dtype="int16", always_2d=True)
    with soundfile.SoundFile(path, "w", rate, 1, subtype="PCM_16") as file:
        for _ in range(-(-LONG_RECORDING_SECONDS * rate // len(samples))):
            file.write(samples[:, 0])
    return path
