"""Commands in processes forked from this one, which has imported the libraries: they start at once and can be killed."""

import contextlib
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO


ROOT = Path(__file__).resolve().parents[2]


def stream_of(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", closefd=False, errors="replace")  # the process's own


class Forked:
    """A process that runs a function.

    Args:
        function: what runs, with the exit code that `SystemExit` carries.
    """

    def __init__(self, function: Callable[[], object]):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as this object
        self.started = time.monotonic()
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setpgid(0, 0)
            os.dup2(self.file.fileno(), 1)
            os.dup2(self.file.fileno(), 2)
            # A test's own streams lead elsewhere.
            sys.stdout, sys.stderr = map(stream_of, (1, 2))
            os._exit(exit_code(function))
        # Here as well: the process may not have come so far when it is killed.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(self.pid, self.pid)

    @classmethod
    def script(cls, name: str, *arguments: object) -> "Forked":
        """Start a script of this repository as `python NAME ARGUMENTS` does."""

        def run() -> None:
            sys.argv = [str(ROOT / name), *map(str, arguments)]
            os.chdir(ROOT)
            runpy.run_path(sys.argv[0], run_name="__main__")

        return cls(run)

    def wait(self) -> int:
        """Wait for the end, and return the exit code; minus the signal's number where the process was killed."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.seconds = time.monotonic() - self.started
        return self.code

    def kill_after(self, seconds: float) -> bool:
        """Kill the process, with all that it has started, after so many seconds. Returns whether it was still there."""
        time.sleep(seconds)
        os.killpg(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    @property
    def output(self) -> str:
        """What the process has printed."""
        self.file.seek(0)
        return self.file.read().decode(errors="replace")


def exit_code(function: Callable[[], object]) -> int:
    """Run a function as Python runs a program, and return the exit code."""
    code = 0
    try:
        function()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code
