"""The processes of one start of score.py: one alone, or those that a launcher started, each with its share of files."""

import os
from collections.abc import Callable, Iterator

import torch

from evaluation.loading import best_device

from .rows import Row


# What torchrun and accelerate tell their processes, and what several MPI launchers do.
NUMBERS_OF_PROCESSES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# Recordings that a process scores before the results of all are collected.
ROUND = 8


class OneProcess:
    """A start without a launcher.

    Attributes:
        count: the number of processes.
        is_main: whether this one writes the results.
        device: where PyTorch computes.
    """

    count = 1
    is_main = True

    def __init__(self):
        self.device: torch.device = best_device()

    def agree(self, paths: list[str]) -> list[str]:
        """Return the main process's list: all have to score the same one, whatever arrives meanwhile."""
        return paths

    def score(self, paths: list[str], score: Callable[[str], Row]) -> Iterator[Row]:
        """Score files in their order. Every process scores its share, and gets the rows of all."""
        return map(score, paths)


class LaunchedProcesses(OneProcess):
    """What a launcher started, such as `accelerate launch`. Only this needs accelerate.

    Raises:
        ImportError: accelerate is not installed.
    """

    def __init__(self):
        try:
            from accelerate import PartialState
        except ImportError:
            raise ImportError(
                "Several processes need accelerate: pip install accelerate, or start python score.py without a launcher."
            ) from None
        self.state = PartialState(cpu=not torch.accelerator.is_available())
        self.count, self.is_main = self.state.num_processes, self.state.is_main_process
        self.device = self.state.device or torch.device("cpu")

    def agree(self, paths: list[str]) -> list[str]:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([paths])[0]

    def score(self, paths: list[str], score: Callable[[str], Row]) -> Iterator[Row]:
        from accelerate.utils import gather_object

        size = ROUND * self.count
        for start in range(0, len(paths), size):
            with self.state.split_between_processes(paths[start : start + size]) as share:
                rows = [score(path) for path in map(str, share)]
            yield from gather_object(rows)


def find_processes() -> OneProcess:
    """Return the processes that this one belongs to."""
    counts = [os.environ.get(name, "") for name in NUMBERS_OF_PROCESSES]
    is_launched = any(count.isdecimal() and int(count) > 1 for count in counts)
    return LaunchedProcesses() if is_launched else OneProcess()
