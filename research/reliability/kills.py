"""Processes killed at random moments, and two processes on one output: what is left is whole, or refused by name."""

import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from .damage import generator_of
from .operations import OPERATIONS, Operations


KILLS = 5
IN_USE = "in use by"


class DisturbedOperations(ABC):
    """Operations that are disturbed at a random moment; in the end all must be as if they were not.

    Args:
        seed: part of the key of all moments.
        folder: an empty folder to work in.
        kinds: names of operations, by default all.
    """

    title: str
    cpu_seconds, seconds, starts_processes = 600.0, 600.0, True

    def __init__(self, seed: int, folder: Path, kinds: tuple[str, ...] = OPERATIONS):
        self.seed, self.folder, self.kinds, self.operations = seed, folder, kinds, Operations(folder, kinds)

    def check(self, case: int) -> list[tuple[str, str]]:
        """Disturb one operation, and look at what is left."""
        kind, generator = self.kinds[case % len(self.kinds)], generator_of(self.seed, case)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            directory = Path(scratch) / kind
            self.operations.prepare_directory(kind, directory)
            outcomes = self.disturb(kind, directory, generator)
            self.operations.check_end(kind, directory)
        return [(kind, outcome) for outcome in outcomes]

    @abstractmethod
    def disturb(self, kind: str, directory: Path, generator: np.random.Generator) -> list[str]:
        """Disturb an operation, then let it end. Returns what came of each disturbance."""

    def moment(self, kind: str, generator: np.random.Generator) -> float:
        """Draw a moment of an operation, in seconds from its beginning."""
        return float(generator.uniform(0, self.operations.durations[kind]))


class Kills(DisturbedOperations):
    """Each operation of the product, cut off several times by SIGKILL, and begun again each time."""

    title = "Processes that are killed"

    def disturb(self, kind: str, directory: Path, generator: np.random.Generator) -> list[str]:
        """See `DisturbedOperations`. What each kill leaves is looked at."""
        kills = 0
        for _ in range(KILLS):
            kills += self.operations.start(kind, directory).kill_after(self.moment(kind, generator))
            self.operations.check_left(kind, directory)
        last = self.operations.start(kind, directory)
        assert last.wait() in (0, 1) and "Traceback" not in last.output, last.output
        return ["killed, ended as if undisturbed"] * kills + ["ended before the kill"] * (KILLS - kills)


class TwoAtOnce(DisturbedOperations):
    """Each operation of the product, begun while another process is at the same, with the same output."""

    title = "Two processes on one output"

    def disturb(self, kind: str, directory: Path, generator: np.random.Generator) -> list[str]:
        """See `DisturbedOperations`. One of both may be refused, with a sentence."""
        first = self.operations.start(kind, directory)
        time.sleep(self.moment(kind, generator))
        second = self.operations.start(kind, directory)
        refused = 0
        for process in (first, second):
            code = process.wait()
            assert "Traceback" not in process.output, process.output
            assert code in (0, 1) or (code == 2 and IN_USE in process.output), process.output
            refused += code == 2
        assert refused < 2
        return ["one is refused" if refused else "both end"]
