"""Commands in processes that start at once and can be killed: a process that has the libraries and no work forks them."""

import contextlib
import faulthandler
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO


ROOT = Path(__file__).resolve().parents[2]
# What commands and parts import. Without this, each process would import it anew, for seconds.
LIBRARIES = (
    "datasets evaluate matplotlib.pyplot sklearn.metrics soundfile transformers.pipelines "
    "engines.native_attention_asd evaluation.evaluate_model machine_room.generate scoring.session training.finish "
    "training.loop training.setup research.reliability.operations"
).split()
# A process that is forked from one at work has its locks, but none of the threads that would free them, and shares its
# semaphores: tqdm has one, and a process killed in the middle of a progress bar never frees it. So all processes are
# forked from one of the standard library, which only forks.
CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(LIBRARIES)
# Each command ends within seconds.
PATIENCE_SECONDS = 300.0
# A process that asks for so much more gets none: the machine stays usable.
MORE_MEMORY_BYTES = 4 * 2**30


class Forked:
    """A process that runs a function.

    Args:
        function: a function of a module, which the process imports; `SystemExit` carries its exit code.
        arguments: of the function.
    """

    def __init__(self, function: Callable[..., object], *arguments: object):
        self.file = tempfile.NamedTemporaryFile(prefix="reliability-")  # noqa: SIM115  # open as long as this object
        self.process = CONTEXT.Process(target=be_program, args=(self.file.name, function, arguments))
        self.started = time.monotonic()
        self.process.start()
        self.pid: int = self.process.pid

    @classmethod
    def script(cls, name: str, *arguments: object) -> "Forked":
        """Start a script of this repository as `python NAME ARGUMENTS` does."""
        return cls(run_script, name, *map(str, arguments))

    def wait(self) -> int:
        """Wait for the end, and return the exit code; minus the signal's number where the process was killed.

        Raises:
            RuntimeError: the process did not end. It is killed, and the message says where it hung.
        """
        self.process.join(PATIENCE_SECONDS)
        if self.process.exitcode is None:
            self.send(signal.SIGABRT)  # prints where all threads are
            self.process.join(PATIENCE_SECONDS)
            self.send(signal.SIGKILL)
            raise RuntimeError(f"took more than {PATIENCE_SECONDS:g} s: {self.output}")
        self.seconds = time.monotonic() - self.started
        return self.process.exitcode

    def send(self, number: int) -> None:
        """Send a signal to the process and to all that it has started. It may be too young for a group of its own."""
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                send(self.pid, number)

    def kill_after(self, seconds: float) -> bool:
        """Kill the process, with all that it has started, after so many seconds. Returns whether it was still there."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.send(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    @property
    def output(self) -> str:
        """What the process has printed."""
        return Path(self.file.name).read_text(encoding="utf-8", errors="replace")


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a process of its own, which may crash, and return what it returns there, or raise what it raises."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    with ours:
        with theirs:
            process = Forked(send_result, theirs, function, arguments)
        try:
            value, error = ours.recv() if ours.poll(PATIENCE_SECONDS) else (None, None)
        except EOFError:
            raise AssertionError(f"its process ended with code {process.wait()}: {process.output}") from None
        process.wait()
    if error is not None:
        raise error
    return value


# In the process


def be_program(output: str, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Run a function as Python runs a program whose output goes into a file."""
    os.setpgid(0, 0)
    limit_memory()
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    # A test's own streams lead elsewhere.
    sys.stdout, sys.stderr = map(stream_of, (1, 2))
    faulthandler.enable()
    os._exit(exit_code(lambda: function(*arguments)))


def run_script(name: str, *arguments: str) -> None:
    sys.argv = [str(ROOT / name), *arguments]
    os.chdir(ROOT)
    runpy.run_path(sys.argv[0], run_name="__main__")


def send_result(pipe: Any, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Call a function, and send what it returns or raises."""
    try:
        pipe.send((function(*arguments), None))
    except Exception as error:
        pipe.send((None, error))


def limit_memory() -> None:
    """Let this process have `MORE_MEMORY_BYTES` more than now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    most = pages * resource.getpagesize() + MORE_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def stream_of(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", closefd=False, errors="replace")  # the process's own


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
