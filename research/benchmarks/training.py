#!/usr/bin/env python
"""How fast training is: the authors' loop as published against this project's, and what each difference brings.

    python -m research.benchmarks.training                            # CPU, at the published batch of 64
    python -m research.benchmarks.training --device cuda              # a GPU: full size, synthetic waveforms that live on it

On a CPU every row is a process of its own, at full size on clips of noise; each row has what the row above has and one
thing more, and the last is `train.py`'s own loop. The rows take turns, an update each. The authors' loop takes 15 GB of memory
at their batch. torch.compile is no row here: on a CPU the compiled network took as long as the last but one (261 to 290 ms a
clip in turns with 237 to 290, one busy core, batch 4), after minutes of compiling.
"""

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from dcase2020_task2.clips import LABELS
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel
from modeling.modeling_attention_asd import AttentionAsdPReLU
from training.allocator import keep_freed_memory
from training.arguments import Arguments
from training.batches import KeyedBatches, draw_mixup
from training.clips import TrainingClips
from training.loop import ChosenClips, train
from training.waveform_bank import WaveformBank, to_waveforms

from .floors import count_gflop, measure_floors, synchronize
from .processes import FreshProcess, available_cores, peak_memory_mib
from .published_network import PublishedLogMel, published_forward, random_checkpoint, trainable
from .report import describe_machine, markdown, write_json


SAMPLING_RATE = 16_000
LEARNING_RATE = 1e-4
MIXUP_ALPHA = 0.2
# The published schedule: 300 epochs of the development training clips.
SCHEDULE_CLIPS = 300 * 20_119
# Times that an update moves what a layer writes where every layer is a kernel of its own: written, and read by the next
# layer; backward its gradient is written and read, and it is read again.
MOVES = 5


@dataclass(frozen=True)
class Loop:
    """A way to train. The defaults are the authors'."""

    name: str
    tuned_allocator: bool = False
    waveform_bank: bool = False
    our_network: bool = False
    channels_last: bool = False
    vectorised_prelu: bool = False
    bfloat16: bool = False
    compile_mode: str | None = None
    train_py: bool = False


def ablation() -> list[Loop]:
    """From the authors' loop to this project's, one difference a row."""
    loops = [Loop("the authors' loop as published")]
    for name, change in (
        ("+ allocator that keeps freed memory", {"tuned_allocator": True}),
        ("+ clips decoded once, int16 bank", {"waveform_bank": True}),
        ("+ this project's network, fused AdamW", {"our_network": True}),
        ("+ channels-last", {"channels_last": True}),
        ("+ vectorised PReLU", {"vectorised_prelu": True}),
        ("+ bfloat16 autocast", {"bfloat16": True}),
        ("train.py --mixed_precision bf16", {"train_py": True}),
    ):
        loops.append(replace(loops[-1], name=name, **change))
    return loops


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


def write_clips(folder: Path, count: int, seconds: float) -> tuple[list[str], list[int]]:
    """WAV files of noise, 16 bit, and labels of DCASE 2020's 41 machine IDs."""
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        path = folder / f"{index:05d}.wav"
        noise = 0.1 * generator.standard_normal(round(seconds * SAMPLING_RATE))
        soundfile.write(path, noise, SAMPLING_RATE, subtype="PCM_16")
        paths.append(str(path))
    return paths, [index % len(LABELS) for index in range(count)]


# The loops. A process holds one, and takes its updates when it is told to.

TAKE_UPDATES: list[Callable[[int], float]] = []


def prepare(loop: Loop, folder: str, paths: list[str], labels: list[int], batch_size: int) -> None:
    """Make `loop` ready in this process, warmed up."""
    torch.set_num_threads(len(available_cores()))
    if loop.tuned_allocator:
        keep_freed_memory()
    samples = soundfile.info(paths[0]).frames
    config = AttentionAsdConfig(clip_length=samples, id2label=dict(enumerate(LABELS)))
    extractor = AttentionAsdFeatureExtractor(clip_length=samples)
    if loop.waveform_bank:
        bank = WaveformBank(paths, labels, extractor, cache_dir=Path(folder), progress=False)
    if loop.train_py:
        TAKE_UPDATES.append(train_py(config, extractor, folder, bank, batch_size))
        return

    if loop.waveform_bank:
        clips = ChosenClips(bank, np.arange(len(bank)))
        loader = DataLoader(clips, batch_sampler=KeyedBatches(len(bank), batch_size), collate_fn=lambda batch: batch)
        batches = ((to_waveforms(samples), numbers) for samples, numbers in endless(loader))
    else:
        batches = endless(DataLoader(LibrosaClips(paths, labels), batch_size=batch_size, shuffle=True))
    step = our_step(loop, config, extractor) if loop.our_network else published_step(config)

    def take_updates(count: int) -> float:
        started = time.perf_counter()
        for update in range(count):
            waveforms, numbers = next(batches)
            waveforms, *mixing = mix(waveforms, update)
            loss = step(waveforms, numbers, *mixing)
        seconds = time.perf_counter() - started
        check_loss(float(loss))
        return seconds

    # Not a whole batch: the authors' takes most of a minute.
    waveforms, *mixing = mix(0.1 * torch.ones(2, samples), 0)
    step(waveforms, torch.tensor([0, 1]), *mixing)
    TAKE_UPDATES.append(take_updates)


def take_updates(count: int) -> float:
    """Seconds that so many updates of this process's loop take."""
    return TAKE_UPDATES[0](count)


def endless(loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from loader


def mix(waveforms: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mixup as both loops do it: mixed waveforms, lambda and partners, the lambda a tensor because torch.compile would
    compile anew for every number."""
    share, partner = draw_mixup(len(waveforms), MIXUP_ALPHA, 0, step)
    share, partner = torch.tensor(share, dtype=torch.float32).to(waveforms.device), partner.to(waveforms.device)
    return share * waveforms + (1.0 - share) * waveforms[partner], share, partner


def check_loss(loss: float) -> None:
    if not np.isfinite(loss):
        raise RuntimeError(f"the loss is {loss}: what was timed is no training.")


def published_step(config: AttentionAsdConfig) -> Callable[..., torch.Tensor]:
    """The authors' update: log-mel inside the network, Noisy-ArcMix, plain AdamW."""
    state = random_checkpoint(0, config.num_labels, config.num_frames)["state_dict"]
    optimizer = torch.optim.AdamW(trainable(state), lr=LEARNING_RATE)
    log_mel = PublishedLogMel()

    def step(waveforms: torch.Tensor, labels: torch.Tensor, share: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        logits = published_forward(state, waveforms, log_mel(waveforms), labels, training=True)["logits"]
        loss = share * F.cross_entropy(logits, labels) + (1.0 - share) * F.cross_entropy(logits, labels[partner])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def our_step(
    loop: Loop, config: AttentionAsdConfig, extractor: AttentionAsdFeatureExtractor, device: str = "cpu"
) -> Callable[..., torch.Tensor]:
    """This project's update with what `loop` has of it."""
    if not loop.vectorised_prelu:
        AttentionAsdPReLU.forward = nn.PReLU.forward
    torch.manual_seed(0)
    memory_format = torch.channels_last if loop.channels_last else torch.contiguous_format
    model = AttentionAsdModel(config).train().to(device, memory_format=memory_format)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    network = torch.compile(model, mode=loop.compile_mode) if loop.compile_mode else model

    def step(waveforms: torch.Tensor, labels: torch.Tensor, share: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        inputs = {"input_values": waveforms, "input_features": extractor.log_mel(waveforms)}
        with torch.autocast(device, torch.bfloat16, enabled=loop.bfloat16):
            loss = network(**inputs, labels=labels, mixup_partner=partner, mixup_lambda=share).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def train_py(
    config: AttentionAsdConfig,
    extractor: AttentionAsdFeatureExtractor,
    folder: str,
    bank: WaveformBank,
    batch_size: int,
) -> Callable[[int], float]:
    """`train.py`'s own loop, an update an epoch because the bank is one batch."""

    def take_updates(count: int) -> float:
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

    take_updates(1)
    return take_updates


# CPU: a row for every difference


def measure_loops(batch_size: int, updates: int, clip_seconds: float) -> list[dict[str, Any]]:
    """The table of `ablation()`, on all cores."""
    loops = ablation()
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


# One device, all of the data on it


def device_loops() -> list[Loop]:
    whole = Loop("float32", our_network=True, vectorised_prelu=True)
    mixed = replace(whole, name="bfloat16 autocast, channels-last", bfloat16=True, channels_last=True)
    return [
        whole,
        mixed,
        replace(mixed, name="+ torch.compile", compile_mode="default"),
        replace(mixed, name="+ torch.compile with CUDA graphs", compile_mode="reduce-overhead"),
    ]


def measure_device(
    device: str, batch_sizes: list[int], updates: int, clip_seconds: float, loops: list[Loop]
) -> dict[str, Any]:
    """The whole update at several batch sizes: clips drawn from int16 waveforms on the device, mixed, log-mel, network,
    backward, AdamW. With it the device's floors and the share of every kernel in the fastest loop."""
    samples = round(clip_seconds * SAMPLING_RATE)
    config = AttentionAsdConfig(clip_length=samples, id2label=dict(enumerate(LABELS)))
    extractor = AttentionAsdFeatureExtractor(clip_length=samples)
    generator = torch.Generator(device).manual_seed(0)
    count = 4 * max(batch_sizes)
    bank = torch.randint(-4000, 4000, (count, samples), dtype=torch.int16, device=device, generator=generator)
    labels = torch.arange(count, device=device) % len(LABELS)

    def update(step: Callable, batch_size: int, number: int) -> torch.Tensor:
        order = np.random.default_rng([0, number]).integers(count, size=batch_size)
        chosen = torch.from_numpy(order).to(device, non_blocking=True)
        waveforms, *mixing = mix(to_waveforms(bank[chosen]), number)
        return step(waveforms, labels[chosen], *mixing)

    rows, fastest = [], None
    for loop in loops:
        step = our_step(loop, config, extractor, device)
        for batch_size in batch_sizes:
            for number in range(3):  # compiled and warmed up
                update(step, batch_size, number)
            synchronize(device)
            started = time.perf_counter()
            for number in tqdm(range(updates), desc=f"{loop.name}, batch {batch_size}", unit="update"):
                loss = update(step, batch_size, number)
            synchronize(device)
            seconds = time.perf_counter() - started
            check_loss(loss.item())
            clips_per_second = updates * batch_size / seconds
            rows.append(
                {
                    "loop": loop.name,
                    "batch": batch_size,
                    "ms an update": 1000 * seconds / updates,
                    "clips/s": clips_per_second,
                    "300 epochs of 20,119 clips, minutes": SCHEDULE_CLIPS / clips_per_second / 60,
                }
            )
            if fastest is None or clips_per_second > fastest[0]:
                fastest = (clips_per_second, step, batch_size, rows[-1])
    clips_per_second, step, batch_size, row = fastest
    floors = measure_floors(device)
    gflop, mbytes = training_gflop(config), activation_mbytes(config)
    return {
        "rows": rows,
        "fastest": {
            "loop": row["loop"],
            "batch": row["batch"],
            "times the arithmetic floor": floors["bf16_gemm_gflops"] / gflop / clips_per_second,
            "times the memory floor": 1e3 * floors["copy_gbytes_per_s"] / (MOVES * mbytes) / clips_per_second,
        },
        "floors": floors,
        "gflop_per_clip": gflop,
        "activation_mbytes_per_clip": mbytes,
        "kernels": profile_kernels(lambda: update(step, batch_size, 0), device),
    }


def training_gflop(config: AttentionAsdConfig) -> float:
    """Arithmetic of a clip's forward and backward pass."""
    model, inputs = AttentionAsdModel(config).train(), network_inputs(config)
    return count_gflop(lambda: model(**inputs).loss.backward()) / len(inputs["labels"])


def activation_mbytes(config: AttentionAsdConfig) -> float:
    """Size of what a clip's layers write in a forward pass in bfloat16."""
    model, inputs = AttentionAsdModel(config).train(), network_inputs(config)
    sizes = []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, arguments, output: sizes.append(output.numel()))
    with torch.no_grad():
        model(**inputs)
    return 2e-6 * sum(sizes) / len(inputs["labels"])


def network_inputs(config: AttentionAsdConfig) -> dict[str, torch.Tensor]:
    """Two silent clips with labels."""
    return {
        "input_values": torch.zeros(2, config.clip_length),
        "input_features": torch.zeros(2, config.num_mel_bins, config.num_frames),
        "labels": torch.tensor([0, 1]),
    }


def profile_kernels(
    update: Callable[[], object], device: str, updates: int = 3, kept: int = 15
) -> list[dict[str, Any]]:
    """The kernels that take most of an update's time, and their share of it."""
    activity = {"cuda": ProfilerActivity.CUDA, "cpu": ProfilerActivity.CPU}[device]
    with profile(activities=[activity]) as profiler:
        for _ in range(updates):
            update()
        synchronize(device)
    events = profiler.key_averages()
    times = {
        event.key: getattr(event, f"self_{'device' if device == 'cuda' else 'cpu'}_time_total") for event in events
    }
    total = sum(times.values())
    ranked = sorted(times.items(), key=lambda item: -item[1])[:kept]
    return [
        {"kernel": name[:100], "share": time / total, "ms an update": time / 1000 / updates} for name, time in ranked
    ]


# The report


def device_report(result: dict[str, Any]) -> str:
    floors, fastest = result["floors"], result["fastest"]
    return "\n\n".join(
        [
            markdown(result["rows"]),
            f"A clip's update is {result['gflop_per_clip']:.2f} GFLOP, and its layers write "
            f"{result['activation_mbytes_per_clip']:.0f} MB of bfloat16 forward. Floors: "
            f"{floors['bf16_gemm_gflops'] / 1000:.1f} TFLOP/s in bfloat16 matrix products, "
            f"{floors['copy_gbytes_per_s']:.0f} GB/s copied. The fastest, {fastest['loop']} at batch {fastest['batch']}, is "
            f"{fastest['times the arithmetic floor']:.1f} times above the floor of arithmetic and "
            f"{fastest['times the memory floor']:.1f} times above that of memory, were every layer a kernel of its own. "
            "Where its time goes:",
            markdown(result["kernels"]),
        ]
    )


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cpu (default) or a GPU")
    parser.add_argument(
        "--batch_size", type=int, nargs="+", help="clips in an update (default 64; on a GPU 64 128 256 512)"
    )
    parser.add_argument("--updates", type=int, help="updates that are timed (default 2; on a GPU 30)")
    parser.add_argument("--clip_seconds", type=float, default=10.0, help="length of a clip (default 10)")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args(argv)
    results: dict[str, Any] = {"machine": describe_machine(), "device": options.device}
    if options.device == "cpu":
        results["rows"] = measure_loops((options.batch_size or [64])[0], options.updates or 2, options.clip_seconds)
        report = markdown(results["rows"])
    elif torch.cuda.is_available():
        batch_sizes = options.batch_size or [64, 128, 256, 512]
        results |= measure_device("cuda", batch_sizes, options.updates or 30, options.clip_seconds, device_loops())
        report = device_report(results)
    else:
        results["not_run"] = report = "no GPU here: not run"
    write_json(options.output, results)
    print(report)
    return results


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
