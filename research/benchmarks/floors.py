"""The floors under every engine: how fast this machine multiplies matrices and copies memory."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def synchronize(device: str) -> None:
    """Wait until a GPU has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def best_seconds(function: Callable[[], object], device: str, repeats: int = 10) -> float:
    """Return the time of the fastest of `repeats` calls, after one that is not counted.

    A floor is what the machine can do undisturbed.
    """
    times = []
    for _ in range(repeats + 1):
        synchronize(device)
        started = time.perf_counter()
        function()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def measure_floors(device: str = "cpu") -> dict[str, float]:
    """Measure matrix products and a copy with the process's threads.

    Returns:
        `sgemm_gflops` and `bf16_gemm_gflops`, GFLOP/s of square matrix products in float32 and bfloat16, and
        `copy_gbytes_per_s`, GB/s of a copy, bytes read and written.
    """
    size, floats = (8192, 2**28) if device == "cuda" else (1024, 2**24)
    floors = {}
    for name, dtype in (("sgemm_gflops", torch.float32), ("bf16_gemm_gflops", torch.bfloat16)):
        left, right = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
        floors[name] = 2e-9 * size**3 / best_seconds(lambda a=left, b=right: a @ b, device)
    source = torch.ones(floats, device=device)
    target = torch.empty_like(source)
    floors["copy_gbytes_per_s"] = 2e-9 * source.nbytes / best_seconds(lambda: target.copy_(source), device)
    return floors


def count_gflop(function: Callable[[], object]) -> float:
    """Return the arithmetic of the convolutions and matrix products in a call, 2 operations per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / 1e9
