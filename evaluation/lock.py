"""A lock on what a command writes: of two processes, the second ends with a sentence that says who holds it."""

import atexit
import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


def hold_folder(folder: Path) -> FileLock:
    """Take the lock of a folder that a command writes into; see [`hold`]."""
    return hold(folder / ".lock", str(folder))


def hold(path: Path, name: str) -> FileLock:
    """Take the lock `path`, and keep it until `release` is called on the returned object, or until the process ends.

    The system frees the lock of a process that is killed. The file stays: its removal would let two processes hold it.

    Args:
        path: the lock file.
        name: what is locked, for the message.

    Raises:
        ValueError: another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{name} is in use by {holder(path)}, which writes into it. Wait for its end, or choose another output."
        ) from None
    with suppress(OSError):  # a full disk; and Windows lets nobody write into a locked file, or read it
        path.write_text(str(os.getpid()), encoding="utf-8")
    atexit.register(lock.release)  # refers to the lock: one that nothing refers to is freed
    return lock


def holder(path: Path) -> str:
    """Say which process holds a lock."""
    try:
        return f"process {int(path.read_text(encoding='utf-8'))}"
    except (OSError, ValueError):
        return "another process"
