"""A folder that recordings arrive in: each is given when it is whole, and again whenever it has changed."""

import os
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .inputs import list_folder


# Between two looks at the folder.
LOOK_SECONDS = 0.5
# How many times longer the wait is while there are signs that a recording is not whole.
PATIENCE = 6
# What was seen of a recording that is gone is kept for so long: a network disk that was away may come back.
FORGET_SECONDS = 24 * 3600.0
# Sizes from here on stand for "not known" in the header of a stream that goes on (arecord, ffmpeg, sox).
UNKNOWN_SIZE = 0x7FFF0000

Stamp = tuple[int, int, int]


@dataclass
class WatchedFile:
    """What was seen of a file: its stamp, since when it is unchanged, when it was last there, and whether it was given."""

    stamp: Stamp
    since: float
    last: float
    is_given: bool = False


@dataclass
class WatchedFolder:
    """A folder that recordings arrive in.

    Args:
        folder: the folder, which may have subfolders.
        settle_seconds: a recording that stays unchanged for so long is whole.
        stands: a function that tells whether a recording was judged before as it is now, and need not be given.

    Attributes:
        passed_over: the number of files in it that are no recordings, by suffix.
        files: what was seen of each recording that is there, or was within the last day.

    Raises:
        ValueError: there is no such folder.
    """

    folder: Path
    settle_seconds: float
    stands: Callable[[str], bool]
    passed_over: Counter[str] = field(default_factory=Counter)
    files: dict[str, WatchedFile] = field(default_factory=dict)

    def __post_init__(self):
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder}: no such folder to watch.")

    def recordings(self) -> Iterator[str]:
        """Give recordings as they become whole. Never ends."""
        while True:
            found = list_folder(self.folder)
            self.passed_over = found.passed_over
            oldest = time.monotonic() - FORGET_SECONDS
            self.files = {path: seen for path, seen in self.files.items() if seen.last >= oldest}
            for path in found.recordings:
                if self.is_due(path):
                    self.files[path].is_given = True
                    if not self.stands(path):
                        yield path
            time.sleep(LOOK_SECONDS)

    def is_due(self, path: str) -> bool:
        """Look at a file, and tell whether it is whole and was not given in this state."""
        stamp, now = stamp_of(path), time.monotonic()
        if stamp is None:
            return False
        if path not in self.files or self.files[path].stamp != stamp:
            self.files[path] = WatchedFile(stamp, now, now)
        seen = self.files[path]
        seen.last = now
        return not seen.is_given and is_whole(path, stamp[0], now - seen.since, self.settle_seconds)


def stamp_of(path: str) -> Stamp | None:
    """Return size, time of change in ns and inode of a file, which tell a replaced one too; `None` where there is none."""
    try:
        status = os.stat(path)
    except OSError:  # taken away between two looks
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def is_whole(path: str, size: int, unchanged_s: float, settle_seconds: float) -> bool:
    """Tell whether a recording is whole.

    It is whole at once if it has the length that its header announces and nobody has it open for writing. It is whole
    after `settle_seconds` without a change in other cases, but for two: its header announces more, or somebody has it open.
    Then it is taken after six times as long: a recorder may have lost its power.

    Args:
        path: the file.
        size: its size in bytes. An empty file is never whole.
        unchanged_s: for how long it has not changed.
        settle_seconds: how long a whole recording stays unchanged.
    """
    if size == 0:
        return False
    announced, is_written = announced_bytes(path), is_open_for_writing(path)
    if is_written or (announced is not None and size < announced):
        return unchanged_s >= PATIENCE * settle_seconds
    # Chunks have an even size: a byte may follow the last one.
    if is_written is False and announced is not None and size - announced in (0, 1):
        return True
    return unchanged_s >= settle_seconds


def announced_bytes(path: str) -> int | None:
    """Read the size that the header of a WAV, RF64 or AIFF file announces for the file, in bytes.

    Returns:
        The size; `None` for another format, a size that stands for "not known", and a file that cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(28)
    except OSError:
        return None
    if head[:4] in (b"RF64", b"BW64") and len(head) == 28:
        return struct.unpack("<Q", head[20:28])[0] + 8
    if head[:4] in (b"RIFF", b"FORM") and len(head) >= 8:
        size = struct.unpack("<I" if head[:4] == b"RIFF" else ">I", head[4:8])[0]
        return size + 8 if 0 < size < UNKNOWN_SIZE else None
    return None


def is_open_for_writing(path: str) -> bool | None:
    """Tell whether a process has a file open for writing.

    Linux gives a read lease on a file only if nobody does. The lease is given back at once.

    Returns:
        `None` where it cannot be told: on other systems, and for files of another user. Some network disks always say that
        somebody does; there a recording is taken after the longer wait.
    """
    if not sys.platform.startswith("linux"):
        return None
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # Who opens the file meanwhile waits, and the holder gets a signal. The usual one, SIGIO, would end this process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
