"""On one device with all of the data on it: the whole update at several batch sizes, and how far it is from the floors."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from tqdm.auto import tqdm

from dcase2020_task2 import LABELS
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel
from research.benchmarks.floors import count_gflop, measure_floors, synchronize
from research.benchmarks.noise_clips import SAMPLING_RATE
from research.benchmarks.report import markdown
from training.waveform_bank import to_waveforms

from .loops import Loop
from .steps import Step, check_loss, mix, our_step


# The published schedule: 300 epochs of the development training clips.
SCHEDULE_CLIPS = 300 * 20_119
# How often an update moves what a layer writes, where every layer is a kernel of its own. Forward it is written, and read
# by the next layer. Backward its gradient is written and read, and it is read again.
MOVES = 5
# Updates before the time is taken, in which kernels are compiled and memory is allocated.
WARM_UP = 3


class DeviceClips:
    """Clips `(count, samples)` int16 and labels that live on a device.

    Args:
        device: `"cuda"` or `"cpu"`.
        count: number of clips.
        samples: length of a clip.
    """

    def __init__(self, device: str, count: int, samples: int):
        self.device, self.count = device, count
        generator = torch.Generator(device).manual_seed(0)
        self.waveforms = torch.randint(
            -4000, 4000, (count, samples), dtype=torch.int16, device=device, generator=generator
        )
        self.labels = torch.arange(count, device=device) % len(LABELS)

    def update(self, step: Step, batch_size: int, number: int) -> torch.Tensor:
        """Take one update: clips are drawn and mixed on the device. Returns the loss."""
        order = np.random.default_rng([0, number]).integers(self.count, size=batch_size)
        chosen = torch.from_numpy(order).to(self.device, non_blocking=True)
        waveforms, *mixing = mix(to_waveforms(self.waveforms[chosen]), number)
        return step(waveforms, self.labels[chosen], *mixing)


@dataclass
class Measurement:
    """A loop at one batch size: its update, and the row that was measured."""

    step: Step
    batch_size: int
    clips_per_second: float
    row: dict[str, Any]


def measure_device(
    device: str, batch_sizes: list[int], updates: int, clip_seconds: float, loops: list[Loop]
) -> dict[str, Any]:
    """Measure the whole update of every loop: clips drawn and mixed, log-mel, network, backward, AdamW.

    Returns:
        The rows, the floors of the device, the fastest loop's distance from them, and the share of its kernels.
    """
    samples = round(clip_seconds * SAMPLING_RATE)
    config = AttentionAsdConfig(clip_length=samples, id2label=dict(enumerate(LABELS)))
    extractor = AttentionAsdFeatureExtractor(clip_length=samples)
    clips = DeviceClips(device, 4 * max(batch_sizes), samples)
    measurements = []
    for loop in loops:
        step = our_step(loop, config, extractor, device)
        measurements += [measure_updates(loop, step, clips, batch_size, updates) for batch_size in batch_sizes]
    fastest = max(measurements, key=lambda measurement: measurement.clips_per_second)
    floors = measure_floors(device)
    gflop, mbytes = training_gflop(config), activation_mbytes(config)
    return {
        "rows": [measurement.row for measurement in measurements],
        "fastest": {
            "loop": fastest.row["loop"],
            "batch": fastest.row["batch"],
            "times the arithmetic floor": floors["bf16_gemm_gflops"] / gflop / fastest.clips_per_second,
            "times the memory floor": 1e3 * floors["copy_gbytes_per_s"] / (MOVES * mbytes) / fastest.clips_per_second,
        },
        "floors": floors,
        "gflop_per_clip": gflop,
        "activation_mbytes_per_clip": mbytes,
        "kernels": profile_kernels(lambda: clips.update(fastest.step, fastest.batch_size, 0), device),
    }


def measure_updates(loop: Loop, step: Step, clips: DeviceClips, batch_size: int, updates: int) -> Measurement:
    """Time `updates` updates of one loop at one batch size, after `WARM_UP` that are not counted."""
    for number in range(WARM_UP):
        clips.update(step, batch_size, number)
    synchronize(clips.device)
    started = time.perf_counter()
    for number in tqdm(range(updates), desc=f"{loop.name}, batch {batch_size}", unit="update"):
        loss = clips.update(step, batch_size, number)
    synchronize(clips.device)
    seconds = time.perf_counter() - started
    check_loss(loss.item())
    clips_per_second = updates * batch_size / seconds
    # A run that is cut off keeps what it measured. The bar is ahead of the device, and shows too much.
    tqdm.write(f"{loop.name}, batch {batch_size}: {clips_per_second:,.0f} clips/s")
    row = {
        "loop": loop.name,
        "batch": batch_size,
        "ms an update": 1000 * seconds / updates,
        "clips/s": clips_per_second,
        "300 epochs of 20,119 clips, minutes": SCHEDULE_CLIPS / clips_per_second / 60,
    }
    return Measurement(step, batch_size, clips_per_second, row)


def training_gflop(config: AttentionAsdConfig) -> float:
    """Return the arithmetic of a clip's forward and backward pass."""
    model, inputs = AttentionAsdModel(config).train(), network_inputs(config)
    return count_gflop(lambda: model(**inputs).loss.backward()) / len(inputs["labels"])


def activation_mbytes(config: AttentionAsdConfig) -> float:
    """Return the size of what a clip's layers write in a forward pass in bfloat16."""
    model, inputs = AttentionAsdModel(config).train(), network_inputs(config)
    sizes = []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, arguments, output: sizes.append(output.numel()))
    with torch.no_grad():
        model(**inputs)
    return 2e-6 * sum(sizes) / len(inputs["labels"])


def network_inputs(config: AttentionAsdConfig) -> dict[str, torch.Tensor]:
    """Return two silent clips with labels."""
    return {
        "input_values": torch.zeros(2, config.clip_length),
        "input_features": torch.zeros(2, config.num_mel_bins, config.num_frames),
        "labels": torch.tensor([0, 1]),
    }


def profile_kernels(
    update: Callable[[], object], device: str, updates: int = 3, kept: int = 15
) -> list[dict[str, Any]]:
    """Return the `kept` kernels that take most of an update's time, with their share of it."""
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


def device_report(result: dict[str, Any]) -> str:
    """Return what `measure_device` returned as Markdown."""
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
