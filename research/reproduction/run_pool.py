"""Runs are completed, several processes at a time: a finished run is skipped, a stopped one goes on.

This is written by hand in place of `concurrent.futures` and `filelock` for three reasons. The lock of a run must be held
by the process that trains, because this process may be killed while that one goes on. `filelock` gives no handle that a
child can inherit. A run that another call trains must not hold a place among the `jobs`; a thread that waits for its lock
would. When this call is interrupted, its processes must be stopped; a thread pool waits for them.
"""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .runs import Run


ROOT = Path(__file__).resolve().parents[2]
# Seconds between two looks at the processes and the locks.
LOOK_EVERY = 0.2


def complete(runs: Sequence[Run], jobs: int) -> None:
    """Run what is not finished, `jobs` at a time with an equal share of the cores each.

    On two cores two trainings of one thread each took less time together than one after the other with two. After this
    process was killed, another call waits for what still runs instead of training it twice.

    Raises:
        ValueError: a folder belongs to other settings, or runs have failed; their logs are named.
    """
    for run in runs:
        run.check()
    unfinished = [run for run in runs if not run.is_finished]
    print(f"{len(runs)} runs, of which {len(runs) - len(unfinished)} are finished", flush=True)
    pool = Pool(unfinished, jobs)
    pool.work()
    if pool.failed:
        first_log = pool.failed[0].folder / "log.txt"
        raise ValueError(
            f"{len(pool.failed)} of {len(unfinished)} runs failed: {', '.join(run.name for run in pool.failed)}. The end of "
            f"{first_log}:\n{tail(first_log)}"
        )


@dataclass
class Training:
    """A process that trains, and when it began."""

    process: subprocess.Popen
    began: float


class Pool:
    """Processes that train `runs`, at most `jobs` at a time. After `work`, `failed` are the runs that did not finish."""

    def __init__(self, runs: Sequence[Run], jobs: int):
        self.jobs = jobs
        self.waiting = list(runs)
        self.active: dict[Run, Training] = {}
        self.failed: list[Run] = []
        self.total, self.done = len(runs), 0
        self.started = time.monotonic()
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        self.environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}

    def work(self) -> None:
        """Train all runs. The processes are stopped where this is interrupted."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.stop)
            while self.waiting or self.active:
                self.collect()
                self.fill()
                time.sleep(LOOK_EVERY)

    def collect(self) -> None:
        """Take out the processes that have ended, and report each."""
        for run in [run for run, training in self.active.items() if training.process.poll() is not None]:
            training = self.active.pop(run)
            self.done += 1
            if run.is_finished:
                self.report(f"{run.name}: finished in {words(time.monotonic() - training.began)}")
            else:
                self.failed.append(run)
                self.report(f"{run.name}: FAILED, see {run.folder}/log.txt")

    def fill(self) -> None:
        """Start waiting runs until all places are taken; a run that another call trains goes on waiting."""
        for run in list(self.waiting):
            if len(self.active) == self.jobs:
                return
            lock = try_lock(run.folder / ".pool.lock")
            if lock is None:
                continue
            with lock:
                self.waiting.remove(run)
                if run.is_finished:
                    self.done += 1
                else:
                    self.active[run] = Training(start(run, self.environment, lock), time.monotonic())

    def stop(self) -> None:
        """Stop all processes and wait for their end."""
        for training in self.active.values():
            training.process.terminate()
            training.process.wait()

    def report(self, line: str) -> None:
        """Print a line with the time so far and the time that is left."""
        elapsed = time.monotonic() - self.started
        left = elapsed / self.done * (self.total - self.done)
        rest = f", about {words(left)} left" if left else ""
        print(f"[{self.done}/{self.total}] {line}; {words(elapsed)} in all{rest}", flush=True)


def try_lock(path: Path) -> IO | None:
    """Return the open file that is the lock, or None where another process holds the lock."""
    file = open(path, "w", encoding="utf-8")  # noqa: SIM115  # open for as long as the lock is held
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def start(run: Run, environment: dict[str, str], lock: IO) -> subprocess.Popen:
    """Start the process of a run, which inherits the lock."""
    with open(run.folder / "log.txt", "a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, *run.command],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            # The open file is the lock: it is freed when the process ends, however it ends.
            pass_fds=[lock.fileno()],
        )


def words(seconds: float) -> str:
    """Return a time in words, such as `45 s` or `12 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def tail(path: Path, lines: int = 12) -> str:
    """Return the last lines of a log."""
    # A progress bar rewrites its line.
    return "\n".join(path.read_text(errors="replace", encoding="utf-8").replace("\r", "\n").splitlines()[-lines:])
