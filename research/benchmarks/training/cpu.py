"""On a CPU: every way to train in a process of its own, with clips of noise from files.

A process holds one loop, and takes its updates when it is told to.
"""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from dcase2020_task2 import LABELS
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel
from research.benchmarks.noise_clips import SAMPLING_RATE, write_clips
from research.benchmarks.processes import FreshProcess, available_cores, peak_memory_mib
from training.allocator import keep_freed_memory
from training.arguments import Arguments
from training.batches import KeyedBatches
from training.clips import TrainingClips
from training.loop import ChosenClips, as_fetched, train
from training.waveform_bank import WaveformBank, to_waveforms

from .loops import Loop, cpu_loops
from .steps import Step, check_loss, mix, our_step, published_step


# Number of updates -> their seconds.
Updates = Callable[[int], float]
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]

PREPARED: list[Updates] = []


def measure_loops(batch_size: int, updates: int, clip_seconds: float) -> list[dict[str, Any]]:
    """Return a row for each of `cpu_loops()`, on all cores."""
    loops = cpu_loops()
    seconds: dict[str, list[float]] = {loop.name: [] for loop in loops}
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        clips = write_clips(Path(folder), batch_size, clip_seconds)
        for loop in tqdm(loops * updates, desc="Training", unit="update"):
            # Started anew for every update: two of them at once would not fit into 24 GB at the published batch.
            with FreshProcess() as process:
                process.run(prepare, loop, folder, *clips, batch_size)
                seconds[loop.name].append(process.run(take_updates, 1))
                peaks[loop.name] = process.run(peak_memory_mib)
    authors = statistics.median(seconds[loops[0].name])
    return [
        {
            "loop": name,
            "min ms a clip": 1000 * min(times) / batch_size,
            "median ms a clip": 1000 * statistics.median(times) / batch_size,
            "max ms a clip": 1000 * max(times) / batch_size,
            "authors' / this": authors / statistics.median(times),
            "peak MiB": peaks[name],
        }
        for name, times in seconds.items()
    ]


def prepare(loop: Loop, folder: str, paths: list[str], labels: list[int], batch_size: int) -> None:
    """Make `loop` ready in this process, warmed up, in place of what was ready."""
    torch.set_num_threads(len(available_cores()))
    if loop.tuned_allocator:
        keep_freed_memory()
    samples = soundfile.info(paths[0]).frames
    config = AttentionAsdConfig(clip_length=samples, id2label=dict(enumerate(LABELS)))
    extractor = AttentionAsdFeatureExtractor(clip_length=samples)
    if not loop.waveform_bank:
        loader = DataLoader(LibrosaClips(paths, labels), batch_size=batch_size, shuffle=True)
        PREPARED[:] = [timed_updates(published_step(config), endless(loader), samples)]
        return
    bank = WaveformBank(paths, labels, extractor, cache_dir=Path(folder), progress=False)
    if loop.train_py:
        PREPARED[:] = [train_py(config, extractor, folder, bank, batch_size)]
        return
    step = our_step(loop, config, extractor) if loop.our_network else published_step(config)
    PREPARED[:] = [timed_updates(step, batches_of(bank, batch_size), samples)]


def take_updates(count: int) -> float:
    """Take so many updates of this process's loop, and return their seconds."""
    return PREPARED[0](count)


class LibrosaClips(Dataset):
    """The authors' data set: a file is decoded whenever a batch asks for it."""

    def __init__(self, paths: list[str], labels: list[int]):
        self.paths, self.labels = paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        import librosa

        waveform, _ = librosa.load(self.paths[index], sr=SAMPLING_RATE)
        return torch.from_numpy(waveform), self.labels[index]


def batches_of(bank: WaveformBank, batch_size: int) -> Batches:
    """Yield waveforms and labels from a bank, without end."""
    clips = ChosenClips(bank, np.arange(len(bank)))
    loader = DataLoader(clips, batch_sampler=KeyedBatches(len(bank), batch_size), collate_fn=as_fetched)
    return ((to_waveforms(samples), labels) for samples, labels in endless(loader))


def endless(loader: DataLoader) -> Batches:
    """Yield the loader's batches, without end."""
    while True:
        yield from loader


def timed_updates(step: Step, batches: Batches, samples: int) -> Updates:
    """Return a function that takes updates and times them; `step` is warmed up on two clips of `samples`."""

    def take(count: int) -> float:
        started = time.perf_counter()
        for update in range(count):
            waveforms, labels = next(batches)
            waveforms, *mixing = mix(waveforms, update)
            loss = step(waveforms, labels, *mixing)
        seconds = time.perf_counter() - started
        check_loss(float(loss))
        return seconds

    # Not a whole batch: the authors' takes most of a minute.
    waveforms, *mixing = mix(0.1 * torch.ones(2, samples), 0)
    step(waveforms, torch.tensor([0, 1]), *mixing)
    return take


def train_py(
    config: AttentionAsdConfig,
    extractor: AttentionAsdFeatureExtractor,
    folder: str,
    bank: WaveformBank,
    batch_size: int,
) -> Updates:
    """Return `train.py`'s own loop, warmed up; an update is an epoch because the bank is one batch."""

    def take(count: int) -> float:
        arguments = Arguments(
            output_dir=f"{folder}/out",
            num_train_epochs=count,
            per_device_train_batch_size=batch_size,
            mixed_precision="bf16",
            validation_fraction=0.0,
            checkpointing_steps="1000000",
        )
        accelerator = Accelerator(cpu=True, mixed_precision=arguments.mixed_precision)
        torch.manual_seed(arguments.seed)
        machines = [config.id2label[label] for label in bank.labels.tolist()]
        clips = TrainingClips.split(bank, machines, arguments.validation_fraction, arguments.seed)
        # What the loop says to people is not part of this report.
        with contextlib.redirect_stdout(io.StringIO()):
            progress = train(arguments, accelerator, AttentionAsdModel(config), extractor, clips)
        return progress.seconds

    take(1)
    return take
