"""Processes killed at random moments, and two processes on one output: what is left is whole, or refused by name."""

import tempfile
import time
from pathlib import Path

import numpy as np

from .damage import generator_of
from .operations import OPERATIONS, Operations


KILLS = 2
IN_USE = "in use by"
TWICE = ", two processes"


class Kills:
    """Each operation of the product, cut off by SIGKILL and begun again; and with a second process on the same output.

    Args:
        seed: part of the key of all moments.
        folder: an empty folder to work in.
        kinds: names of operations, by default all.
    """

    title = "Processes that are killed, and two processes on one output"
    cpu_seconds, seconds = 300.0, 300.0

    def __init__(self, seed: int, folder: Path, kinds: tuple[str, ...] = OPERATIONS):
        self.seed, self.folder, self.operations = seed, folder, Operations(folder, kinds)
        self.names = (*kinds, *(kind + TWICE for kind in kinds))

    def check(self, case: int) -> list[tuple[str, str]]:
        """Cut off one operation, or begin it twice, and look at what is left."""
        name = self.names[case % len(self.names)]
        generator, kind = generator_of(self.seed, case), name.removesuffix(TWICE)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            directory = Path(scratch) / kind
            self.operations.prepare_directory(kind, directory)
            run = self.run_twice if name.endswith(TWICE) else self.run_killed
            outcome = run(kind, directory, generator)
            self.operations.check_end(kind, directory)
        return [(name, outcome)]

    def run_killed(self, kind: str, directory: Path, generator: np.random.Generator) -> str:
        """Kill an operation at random moments, look at what is left each time, and let it end at last."""
        kills = 0
        for _ in range(KILLS):
            moment = float(generator.uniform(0, self.operations.durations[kind]))
            kills += self.operations.start(kind, directory).kill_after(moment)
            self.operations.check_left(kind, directory)
        last = self.operations.start(kind, directory)
        assert last.wait() in (0, 1) and "Traceback" not in last.output, last.output
        return f"{kills} kills, ended as if undisturbed"

    def run_twice(self, kind: str, directory: Path, generator: np.random.Generator) -> str:
        """Begin an operation while another process is at it."""
        first = self.operations.start(kind, directory)
        time.sleep(float(generator.uniform(0, self.operations.durations[kind])))
        second = self.operations.start(kind, directory)
        refused = 0
        for process in (first, second):
            code = process.wait()
            assert "Traceback" not in process.output, process.output
            assert code in (0, 1) or (code == 2 and IN_USE in process.output), process.output
            refused += code == 2
        assert refused < 2
        return "the second is refused" if refused else "both end"
