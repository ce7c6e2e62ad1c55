"""Start Python programs that meet some refusals of Windows: `python as_on_windows.py train.py ARGUMENTS`.

Linux cannot run Windows' Python. This file makes Linux' Python refuse this project what Windows refuses most often:

- modules and functions of POSIX alone: they are missing;
- replacing, renaming or removing a file that this process has open or mapped;
- opening a folder, or a file that this process holds locked;
- names with characters that Windows' file systems do not know;
- a link without the right to make links.

Other packages find Linux as it is: theirs are tested on Windows by their authors.
"""

import builtins
import os
import re
import runpy
import sys
import types
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "os": (
        "O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_CLOEXEC chown fchmod fchown fork forkpty getegid geteuid getgid getloadavg "
        "getpgid getuid killpg lchown mkfifo nice setsid sched_getaffinity sched_setaffinity sync sysconf uname umask waitid"
    ).split(),
    "signal": "SIGALRM SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGSTOP SIGURG SIGUSR1 SIGUSR2 alarm setitimer".split(),
    "mmap": ["MADV_HUGEPAGE", "MAP_PRIVATE", "MAP_SHARED", "PROT_READ"],
    "socket": ["AF_UNIX"],
    "select": ["poll", "epoll"],
}
FORBIDDEN_NAME = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)


class WindowsModule(types.ModuleType):
    """A module without the names that it has on POSIX alone."""

    def __init__(self, module: types.ModuleType):
        super().__init__(module.__name__)
        object.__setattr__(self, "_module", module)

    def __getattr__(self, name: str):
        module = object.__getattribute__(self, "_module")
        if name in POSIX_NAMES.get(module.__name__, ()):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r} on Windows")
        other = {("os", "name"): "nt", ("sys", "platform"): "win32"}
        return other.get((module.__name__, name)) or getattr(module, name)

    def __setattr__(self, name: str, value):
        setattr(object.__getattribute__(self, "_module"), name, value)


WINDOWS_MODULES = {name: WindowsModule(__import__(name)) for name in (*POSIX_NAMES, "sys")}
import_ = builtins.__import__


def is_own(frame_globals) -> bool:
    """Whether code is this project's, and no test."""
    file = str((frame_globals or {}).get("__file__") or "")
    return file.startswith(f"{ROOT}{os.sep}") and "/tests/" not in file and "/site-packages/" not in file


def import_as_on_windows(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and is_own(globals):
        if name in POSIX_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
        if name in WINDOWS_MODULES:
            return WINDOWS_MODULES[name]
    return import_(name, globals, locals, fromlist, level)


def open_files() -> set[str]:
    """What this process has open or mapped."""
    files = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            files.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    with open("/proc/self/maps", encoding="utf-8") as maps:
        files.update(line.split(maxsplit=5)[5].strip() for line in maps if "/" in line)
    return {file for file in files if not os.path.isdir(file)}


def in_folder(path, descriptor) -> str:
    """The whole path of one that may be relative to an open folder."""
    path = os.fsdecode(path)
    if isinstance(descriptor, int) and descriptor >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), path)
    return os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))


def refuse_open(*paths: str) -> None:
    opened = open_files()
    for path in paths:
        if used := [file for file in opened if file == path or file.startswith(path + os.sep)]:
            raise PermissionError(13, f"[WinError 32] Windows: the file is in use by this process ({used[0]})", path)


def refuse_name(path: str) -> None:
    if FORBIDDEN_NAME.search(os.path.basename(path)):
        raise OSError(22, "[WinError 123] Windows: the name of a file or folder is not possible", path)


def refuse(event: str, arguments: tuple) -> None:
    """Raise what Windows would."""
    if event == "os.rename":
        source, target, source_folder, target_folder = arguments
        source, target = in_folder(source, source_folder), in_folder(target, target_folder)
        refuse_name(target)
        refuse_open(source, target)
        if os.path.isdir(target) and os.path.isdir(source):
            raise PermissionError(13, "[WinError 5] Windows: a folder is never replaced", target)
    elif event == "os.remove":
        refuse_open(in_folder(*arguments))
    elif event == "os.mkdir":
        refuse_name(in_folder(arguments[0], arguments[2]))
    elif event == "os.symlink" and is_own(sys._getframe(2).f_globals):
        raise OSError(22, "[WinError 1314] Windows: a required privilege is not held by the client", arguments[1])
    elif event == "open" and isinstance(arguments[0], (str, bytes)):
        refuse_opening(os.fsdecode(arguments[0]), *arguments[1:])


def refuse_opening(path: str, mode: str | None, flags: int) -> None:
    if path.startswith("/proc/"):
        return
    callers = [sys._getframe(depth).f_globals for depth in (2, 3)]
    if os.path.isdir(path) and any(map(is_own, callers)):
        raise PermissionError(13, "[WinError 5] Windows: a folder cannot be opened", path)
    if flags & os.O_CREAT:
        refuse_name(path)
    if path.endswith(".lock") and os.path.realpath(path) in open_files():
        raise PermissionError(13, "[WinError 33] Windows: another handle has locked a part of the file", path)


def become_windows() -> None:
    """From here on, this process is refused what Windows refuses."""
    builtins.__import__ = import_as_on_windows
    sys.addaudithook(refuse)


if __name__ == "__main__":
    become_windows()
    sys.argv = [str(ROOT / sys.argv[1]), *sys.argv[2:]]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
