"""Many cases, each tried in a process that may crash, hang or take too much memory: counted, and never the end of the run."""

import multiprocessing
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from .processes import CONTEXT, limit_memory


# What one case may take. The inputs are some seconds of sound and models of some kB.
MAX_MEMORY_MIB = 512


class Part(Protocol):
    """A part of the programme: one kind of damage.

    A process of its own gets a pickled copy of the part.

    Attributes:
        title: what is tried, in a few words.
        cpu_seconds: a case that computes longer has failed.
        seconds: a case that lasts longer is ended, and has failed.
        starts_processes: whether a case does nothing but start processes, and needs none of its own.
    """

    title: str
    cpu_seconds: float
    seconds: float
    starts_processes: bool

    def check(self, case: int) -> list[tuple[str, str]]:
        """Try one case.

        Returns:
            For each input of the case: what was damaged, and what came of it, such as "refused".

        Raises:
            Exception: the case has failed.
        """
        ...


@dataclass
class Tally:
    """What came of the cases of a part.

    Attributes:
        outcomes: for each kind of input, how often each outcome was seen.
        failures: case and message.
        cpu_seconds: the most that a case computed.
        memory_mib: the most by which a case raised the peak of its process.
        remarks: what else a report says, in Markdown.
        is_cut_off: whether a signal ended the part before its time.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    failures: list[tuple[int, str]] = field(default_factory=list)
    cpu_seconds: float = 0.0
    memory_mib: float = 0.0
    remarks: list[str] = field(default_factory=list)
    is_cut_off: bool = False

    @property
    def cases(self) -> int:
        """The number of cases."""
        return sum(counts.total() for counts in self.outcomes.values())

    def add(self, outcomes: Iterable[tuple[str, str]]) -> None:
        """Count the outcomes of a case."""
        for kind, outcome in outcomes:
            self.outcomes[kind][outcome] += 1

    def fail(self, case: int, message: str) -> None:
        """Count a case that failed, and say so at once."""
        print(f"case {case} failed: {message.strip()}", file=sys.stderr, flush=True)
        self.outcomes["(any)"]["failed"] += 1
        self.failures.append((case, message))


def try_cases(part: Part, cases: Iterable[int], until: float = float("inf")) -> Tally:
    """Try cases in processes; a new one takes the place of one that ended. `KeyboardInterrupt` ends the part early.

    Args:
        part: the part of the programme.
        cases: their numbers.
        until: the time of `time.monotonic` after which no case begins.
    """
    tally = Tally()
    left = takewhile(lambda case: time.monotonic() < until, cases)
    try:
        if part.starts_processes:
            for case in left:
                try_here(part, case, tally)
        else:
            while Worker(part, left).run(tally):
                pass
    except KeyboardInterrupt:
        tally.is_cut_off = True
        for process in multiprocessing.active_children():
            process.kill()
    return tally


def try_here(part: Part, case: int, tally: Tally) -> None:
    """Try one case in this process."""
    try:
        outcomes = part.check(case)
    except Exception:
        tally.fail(case, traceback.format_exc())
    else:
        tally.add(outcomes)


class Worker:
    """A process that tries cases one after the other until one of them ends it."""

    def __init__(self, part: Part, cases: Iterator[int]):
        self.part, self.cases = part, cases

    def run(self, tally: Tally) -> bool:
        """Try cases. Returns whether there may be more of them."""
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=serve, args=(self.part, theirs))
        process.start()
        theirs.close()
        is_alive = True
        while is_alive and (case := next(self.cases, None)) is not None:
            is_alive = self.try_one(case, ours, process, tally)
        ours.close()
        process.join()
        return not is_alive

    def try_one(self, case: int, pipe: Any, process: Any, tally: Tally) -> bool:
        """Try one case. Returns whether the process can try another."""
        pipe.send(case)
        if not pipe.poll(self.part.seconds):
            process.kill()
            tally.fail(case, f"took more than {self.part.seconds:g} s")
            return False
        try:
            outcomes, message, cpu_seconds, memory_mib = pipe.recv()
        except (EOFError, ConnectionError):
            process.join()
            tally.fail(case, f"its process ended with code {process.exitcode}")
            return False
        tally.cpu_seconds = max(tally.cpu_seconds, cpu_seconds)
        tally.memory_mib = max(tally.memory_mib, memory_mib)
        if cpu_seconds > self.part.cpu_seconds or memory_mib > MAX_MEMORY_MIB:
            message = f"took {cpu_seconds:.1f} s of processor time and {memory_mib:.0f} MiB"
        if message:
            tally.fail(case, message)
        else:
            tally.add(outcomes)
        # The peak of a process never falls: another one can be measured again.
        return memory_mib < MAX_MEMORY_MIB


def serve(part: Part, pipe: Any) -> None:
    """Try the cases that come through the pipe, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # C libraries write of each damaged file there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # What Python prints of an error that it cannot raise, in a callback of a C library, a user would see.
    unraised: list[str] = []
    sys.unraisablehook = lambda unraisable: unraised.append(repr(unraisable.exc_value))
    limit_memory()
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            return
        # The peak begins at the memory in use: a forked process has the peak of the one before.
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        before, outcomes, message = used(), [], ""
        try:
            outcomes = part.check(case)
            assert not unraised, f"printed, and not raised: {unraised}"
        except BaseException:
            message = traceback.format_exc()
        unraised.clear()
        after = used()
        pipe.send((outcomes, message, after[0] - before[0], after[1] - before[1]))


def used() -> tuple[float, float]:
    """Processor time of this process and its children in s, and this process's peak memory in MiB."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return seconds, int(peak.group(1)) / 2**10 if peak else own.ru_maxrss / 2**10
