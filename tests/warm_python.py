"""Python processes that start in half a second instead of six, forked from one that has imported the libraries.

Each process has its own arguments, environment, folder, output and exit code, as with `python script.py`. There is one
difference: a library that reads the environment during its import has read that of the first process.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


# The libraries that scripts import, and no module of the project.
LIBRARIES = "accelerate datasets evaluate matplotlib.pyplot sklearn.metrics transformers.pipelines".split()


class Forked:
    """A process. It has the part of `subprocess.Popen` that the tests use."""

    def __init__(self, server: socket.socket, request: dict):
        # Open as long as this object: the process writes into them, and `communicate` reads them.
        self.outputs = [tempfile.TemporaryFile("w+") for _ in ("stdout", "stderr")]  # noqa: SIM115
        self.status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fds = [theirs.fileno(), *(file.fileno() for file in self.outputs)]
            socket.send_fds(server, [json.dumps(request).encode()], fds)
        self.status.settimeout(300)
        self.pid = int(self.status.recv(32))
        self.returncode: int | None = None

    # Each method does what the method of this name does in `subprocess.Popen`.
    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.status.settimeout(timeout)
            self.returncode = int(self.status.recv(32))
            self.status.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(timeout=0)
        except BlockingIOError:
            return None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        for file in self.outputs:
            file.seek(0)
        return self.outputs[0].read(), self.outputs[1].read()


class WarmPython:
    """A process that forks others, with `environment`. It ends with the `with` block."""

    def __init__(self, environment: dict[str, str]):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self.process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])

    def start(self, arguments: list[str], folder: Path, **changes: str | None) -> Forked:
        """Start a process as `python ARGUMENTS` does.

        Args:
            arguments: a script and its arguments, or `-c` and code.
            folder: the working directory.
            changes: variables of the environment to set, or to remove with `None`.
        """
        return Forked(self.socket, {"arguments": arguments, "folder": str(folder), "changes": changes})

    def __enter__(self) -> "WarmPython":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()
        self.process.wait(30)


class ColdPython:
    """In place of [`WarmPython`] where it cannot be, on Windows and macOS: each process starts from the beginning."""

    def __enter__(self) -> "ColdPython":
        return self

    def __exit__(self, *_) -> None: ...

    def start(self, arguments: list[str], folder: Path, **changes: str | None) -> subprocess.Popen[str]:
        """Start a process, see [`WarmPython.start`]."""
        environment = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
        pipes: dict[str, Any] = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "encoding": "utf-8",
        }
        return subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, **pipes)


def next_request(server: socket.socket) -> list[str] | None:
    """Fork a process for each request. Return the request's arguments in that process, and `None` in this one at the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, fds, *_ = socket.recv_fds(server, 2**17, 3)
        if not message:
            return None
        if os.fork() == 0:
            break
        for fd in fds:
            os.close(fd)
    status, *outputs = fds
    # One process waits for the other, and reports its exit code.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server.close()
    pid = os.fork()
    if pid:
        os.write(status, str(pid).encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(status, str(code).encode())
        os._exit(0)
    os.close(status)
    for fd, output in enumerate(outputs, start=1):
        os.dup2(output, fd)
        os.close(output)
    request = json.loads(message)
    for name, value in request["changes"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(request["folder"])
    return request["arguments"]


if __name__ == "__main__":
    for name in LIBRARIES:
        importlib.import_module(name)
    # Without this, each process would search all imported objects for garbage at its end, and copy their memory pages.
    gc.freeze()
    arguments = next_request(socket.socket(fileno=int(sys.argv[1])))
    if arguments is None:
        sys.exit()
    sys.argv = arguments
    if arguments[0] == "-c":
        sys.path[0] = ""
        exec(compile(arguments.pop(1), "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")
