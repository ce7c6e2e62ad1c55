"""Tables and picture of the speed benchmark."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from evaluation.figures import BLUE, ORANGE, SKY_BLUE, VERMILION
from research.benchmarks.report import markdown

from .latency import THROUGHPUT_BATCH
from .systems import AUTHORS, STEPS


def latency_table(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each system: milliseconds, ratio to the authors' chain, and the network's time over its floor."""
    latency, floor_ms = result["latency"], network_floor_ms(result["floors"])
    authors = latency[AUTHORS]["median_s"]
    rows = []
    for name, timing in latency.items():
        steps = {step: 1000 * seconds for step, seconds in timing["steps_s"].items()}
        batch = result["throughput"][name]["median_s"]
        rows.append(
            {
                "system": name,
                "min ms": 1000 * timing["min_s"],
                "median ms": 1000 * timing["median_s"],
                "max ms": 1000 * timing["max_s"],
                "authors' / this": authors / timing["median_s"],
                "after others ms": 1000 * timing["after_others_s"],
                **{f"{step} ms": steps.get(step) for step in STEPS},
                "network / sgemm floor": steps["network"] / floor_ms if has_our_network(name, steps) else None,
                f"clips/s, batch {THROUGHPUT_BATCH}": THROUGHPUT_BATCH / batch,
            }
        )
    return rows


def latency_figure(result: dict[str, Any]) -> Figure:
    """Draw the median milliseconds of one clip by system, in steps; pipeline calls, which have no steps, are left out."""
    rows = {name: timing for name, timing in result["latency"].items() if "all" not in timing["steps_s"]}
    names = list(reversed(rows))
    figure = Figure(figsize=(8, 0.6 + 0.36 * len(names)), layout="constrained")
    ax = figure.subplots()
    left = np.zeros(len(names))
    for step, color in zip(STEPS, (SKY_BLUE, ORANGE, BLUE, VERMILION), strict=True):
        widths = 1000 * np.array([rows[name]["steps_s"].get(step, 0.0) for name in names])
        ax.barh(names, widths, left=left, color=color, label=step)
        left += widths
    for row, end in enumerate(left):
        ax.annotate(f"{end:.1f}", (end, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize="small")
    cores = f"{result['cores']} core{'s' if result['cores'] > 1 else ''}"
    ax.set(xlabel=f"ms from a WAV file of one clip to the verdict, {cores}", xlim=(0, 1.08 * left.max()))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower right", frameon=False, fontsize="small")
    return figure


def has_our_network(name: str, steps: dict[str, float]) -> bool:
    """Whether the system is the paper's network, whose floor was measured."""
    return "network" in steps and not name.endswith("eager network")


def network_floor_ms(floors: dict[str, float]) -> float:
    """Return the milliseconds that the network's arithmetic takes at the rate of float32 matrix products."""
    return 1000 * floors["network_gflop"] / floors["sgemm_gflops"]


def report(results: dict[str, Any]) -> str:
    """Return everything that was measured as Markdown."""
    machine = results["machine"]
    parts = [
        f"{machine['processor']}, cores: {machine['cores']}, PyTorch {machine['torch']} ({machine['cpu_capability']}); load "
        f"average at the start {machine['load_average']:.1f}",
    ]
    for result in results["speed"]:
        floors = result["floors"]
        parts += [
            f"## {result['cores']} core{'s' if result['cores'] > 1 else ''}",
            markdown(latency_table(result)),
            f"Exported engines have the log-mel in their graph: their network is both. Floors: the network's "
            f"{floors['network_gflop']:.2f} GFLOP at this machine's {floors['sgemm_gflops']:.0f} GFLOP/s of float32 matrix "
            f"products take {network_floor_ms(floors):.1f} ms (bfloat16: {floors['bf16_gemm_gflops']:.0f} GFLOP/s); copying "
            f"memory runs at {floors['copy_gbytes_per_s']:.1f} GB/s.",
        ]
    parts += ["## Memory and start-up", markdown(results["processes"])]
    if results["accuracy"]:
        parts += ["## What the engines change", markdown(results["accuracy"])]
    return "\n\n".join(parts)
