"""Fresh processes on given cores to measure in: nothing else has touched their memory and time.

Only the standard library is imported. As a script this file starts a command, from a process so small that the
command's peak memory is its own. Linux counts the memory of the process that starts a command into the command's
`ru_maxrss`.
"""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parents[2]


class FreshProcess:
    """A new Python process that runs functions of importable modules, one after the other.

    What the functions leave in their modules stays, so that several processes, each with what it measures, can take turns.

    Args:
        cores: the only cores that the process may run on, on systems that let a process choose. The process starts with
            as many threads. None: all cores.
    """

    def __init__(self, cores: Sequence[int] | None = None):
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        threads = os.environ.get("OMP_NUM_THREADS")
        before = available_cores()
        try:
            if cores is not None:
                # Inherited, and in place before any library counts cores.
                set_cores(cores)
                os.environ["OMP_NUM_THREADS"] = str(len(cores))
            self.run(os.getpid)
        finally:
            set_cores(before)
            os.environ.pop("OMP_NUM_THREADS", None)
            if threads is not None:
                os.environ["OMP_NUM_THREADS"] = threads

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the function in the process and return its result."""
        return self._pool.submit(function, *arguments).result()

    def __enter__(self) -> "FreshProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()


def available_cores() -> list[int]:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def set_cores(cores: Sequence[int]) -> None:
    """Let this process run on these cores alone, where the system lets a process choose."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def peak_memory_mib() -> float:
    """Return the most memory that this process has had resident, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return maxrss_mib(resource.getrusage(resource.RUSAGE_SELF))


def maxrss_mib(usage: resource.struct_rusage) -> float:
    """Return the peak memory of a usage in MiB; macOS counts it in bytes, Linux in KiB."""
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def timed_command(command: Sequence[str | Path], allowed: Sequence[int] = (0,), **environment: str) -> dict[str, Any]:
    """Run a command from the repository's root and measure it.

    Args:
        command: the command and its arguments.
        allowed: exit codes that are no error.
        environment: variables of the environment that the command gets besides this process's.

    Returns:
        `seconds`, `first_line_s` (from the start until the first line on standard output), `peak_mib` (of the command or
        of the largest process that it started), `first_line` and `returncode`.

    Raises:
        RuntimeError: the command ended with another exit code; the message has its standard error.
    """
    launcher = [sys.executable, "-S", str(Path(__file__)), *map(str, command)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    done = subprocess.run(launcher, capture_output=True, text=True, cwd=ROOT, env=environment)
    result = json.loads(done.stdout) if done.returncode == 0 else {"returncode": done.returncode}
    if result["returncode"] not in allowed:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {result['returncode']}.\n{done.stderr[-4000:]}")
    return result


def measure_command(command: list[str]) -> dict[str, Any]:
    """Run a command and return what `timed_command` returns."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        raise RuntimeError(f"{command[0]}: started without its standard output.")
    first_line = process.stdout.readline()
    first_line_s = time.perf_counter() - start
    process.stdout.read()
    returncode = process.wait()
    return {
        "seconds": time.perf_counter() - start,
        "first_line_s": first_line_s,
        "peak_mib": maxrss_mib(resource.getrusage(resource.RUSAGE_CHILDREN)),
        "first_line": first_line.rstrip("\n"),
        "returncode": returncode,
    }


if __name__ == "__main__":
    print(json.dumps(measure_command(sys.argv[1:])))
