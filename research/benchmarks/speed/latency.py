"""Latency of one clip and throughput of a batch: the systems take turns in processes of their own.

What a process has loaded stays in it, so that several processes can take turns.
"""

import statistics
import time
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from research.benchmarks.floors import count_gflop, measure_floors
from research.benchmarks.processes import FreshProcess, available_cores
from training.allocator import keep_freed_memory

from .systems import System, Task, load_peers, load_published, load_systems


THROUGHPUT_BATCH = 16
CALLS_IN_A_ROW = 4
# Name of the system -> for each call, the seconds of every step.
Turn = dict[str, list[dict[str, float]]]

LOADED: list[System] = []


def load(task: Task, whose: str) -> None:
    """Load the `"theirs"` systems or `"ours"` into this process, in place of what was loaded."""
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(len(available_cores()))
    if whose == "ours":
        keep_freed_memory()
        LOADED[:] = load_systems(task)
    else:
        LOADED[:] = [load_published(task), *load_peers(task)]


@torch.no_grad()
def take_turn(paths: list[str], calls: int) -> Turn:
    """Call every loaded system `calls` times in a row, and return the seconds of every step."""
    return {system.name: [time_steps(system, paths) for _ in range(calls)] for system in LOADED}


def time_steps(system: System, paths: list[str]) -> dict[str, float]:
    """Return the seconds of every step of one call."""
    value: Any = paths
    seconds = {}
    for name, step in system.steps.items():
        started = time.perf_counter()
        value = step(value)
        seconds[name] = time.perf_counter() - started
    return seconds


@torch.no_grad()
def floors_of_network(paths: list[str]) -> dict[str, float]:
    """Return the machine's floors with this process's cores, and the arithmetic of the first system's network."""
    eager = LOADED[0]
    inputs = eager.steps["log-mel"](eager.steps["decode"](paths))
    return {**measure_floors(), "network_gflop": count_gflop(lambda: eager.steps["network"](inputs))}


def measure_systems(task: Task, cores: list[int]) -> dict[str, Any]:
    """Return latency of one clip, throughput of a batch and the floors on these cores."""
    with FreshProcess(cores) as theirs, FreshProcess(cores) as ours:
        theirs.run(load, task, "theirs")
        ours.run(load, task, "ours")
        processes = [theirs, ours]
        clip, batch = [task.audio], [task.audio] * THROUGHPUT_BATCH
        return {
            "cores": len(cores),
            "floors": ours.run(floors_of_network, clip),
            "latency": measure_turns(processes, clip, task.repeats, CALLS_IN_A_ROW, f"1 clip, {len(cores)} cores"),
            "throughput": measure_turns(processes, batch, -(-task.repeats // 10), 1, f"batch, {len(cores)} cores"),
        }


def measure_turns(
    processes: list[FreshProcess], paths: list[str], repeats: int, calls: int, what: str
) -> dict[str, dict[str, Any]]:
    """Call one system after the other, over and over, and return each system's times.

    What slows the machine down for a while slows all systems down.

    Args:
        processes: processes that have loaded their systems.
        paths: the clips of a call.
        repeats: turns that count.
        calls: calls of a system in a row in each turn.
        what: text beside the progress bar.
    """
    # The first turn warms up: lazy imports, kernels chosen, memory allocated.
    turns: list[Turn] = [
        {name: seconds for process in processes for name, seconds in process.run(take_turn, paths, calls).items()}
        for _ in tqdm(range(repeats + 1), desc=what, unit="turn")
    ][1:]
    return {name: summarize([turn[name] for turn in turns]) for name in turns[0]}


def summarize(turns: list[list[dict[str, float]]]) -> dict[str, Any]:
    """Return the times of one system; of several calls in a row the first, after other systems, stands apart."""
    in_a_row = [steps for turn in turns for steps in turn[min(len(turn) - 1, 1) :]]
    totals = [sum(steps.values()) for steps in in_a_row]
    return {
        "min_s": min(totals),
        "median_s": statistics.median(totals),
        "max_s": max(totals),
        "after_others_s": statistics.median(sum(turn[0].values()) for turn in turns),
        "steps_s": {step: statistics.median(steps[step] for steps in in_a_row) for step in in_a_row[0]},
    }
