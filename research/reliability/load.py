"""Programs that run for long while work arrives: memory over time, how long answers take, nothing lost or answered twice."""

import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .trials import Tally


MEMORY_SECONDS = 2.0
# In less time a slope says nothing.
SLOPE_MINUTES = 10
# A program that needs a tenth more memory at the end than in its second quarter is losing memory. Allocators need some MiB.
MOST_GROWTH, SPARE_MIB = 1.1, 16.0


class Load(ABC):
    """A program that runs until a time, with work that arrives meanwhile.

    Attributes:
        title: what is tried, in a few words.
    """

    title: str

    @abstractmethod
    def run(self, until: float) -> Tally:
        """Let work arrive until this time of `time.monotonic`, and wait for the last answers."""


@dataclass
class Measured:
    """What is measured of a program that runs for long.

    Attributes:
        tally: the outcomes; each failure is counted, and never the end of the run.
        latencies: the seconds until each answer.
        memory: time in seconds and memory in MiB, of the whole process.
    """

    tally: Tally = field(default_factory=Tally)
    latencies: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def cut_off_by_signal(self) -> Iterator[None]:
        """Let `KeyboardInterrupt` end the block, and note that."""
        try:
            yield
        except KeyboardInterrupt:
            self.tally.is_cut_off = True

    def count(self, kind: str, outcome: str) -> None:
        """Count an outcome."""
        with self.lock:
            self.tally.outcomes[kind][outcome] += 1

    def fail(self, number: int, message: str) -> None:
        """Count a failure."""
        with self.lock:
            self.tally.fail(number, message)

    def look_at_memory(self, pid: int) -> None:
        """Note the memory of a process, at most every `MEMORY_SECONDS`."""
        now = time.monotonic()
        if self.memory and now - self.memory[-1][0] < MEMORY_SECONDS:
            return
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
        if found:
            self.memory.append((now, int(found.group(1)) / 2**10))

    def finish(self) -> Tally:
        """Return the tally, with what was measured in its remarks."""
        self.tally.remarks += [latency_remark(self.latencies), self.memory_remark()]
        return self.tally

    def memory_remark(self) -> str:
        """Say how the memory went, and count it as a failure where it grows."""
        times, mib = np.array(self.memory).T
        quarter = max(len(times) // 4, 1)
        early, late = (float(np.median(part)) for part in (mib[quarter : 2 * quarter], mib[-quarter:]))
        if late > MOST_GROWTH * early + SPARE_MIB:
            self.fail(-1, f"memory grew from {early:.0f} to {late:.0f} MiB")
        minutes = (times[-1] - times[0]) / 60
        text = (
            f"Memory over {minutes:.1f} minutes: {early:.0f} MiB in the second quarter (median), {late:.0f} MiB in the last, "
            f"{mib.max():.0f} MiB at most."
        )
        if minutes < SLOPE_MINUTES:
            return text
        slope = np.polyfit(times[2 * quarter :], mib[2 * quarter :], 1)[0] * 3600
        return f"{text} The slope of the second half is {slope:+.1f} MiB an hour."


def latency_remark(seconds: Sequence[float]) -> str:
    """Say how long answers took."""
    if not seconds:
        return "Nothing was answered."
    median, most, nearly_all = np.percentile(seconds, [50, 90, 99])
    return (
        f"Of {len(seconds):,} answers, half came within {median:.2f} s, 90 % within {most:.2f} s, 99 % within "
        f"{nearly_all:.2f} s; the longest took {max(seconds):.2f} s."
    )
