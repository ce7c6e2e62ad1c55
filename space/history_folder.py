"""A folder of verdicts that the owner of the app names: JSON lines, which several processes may append to."""

import os
from pathlib import Path
from typing import Any

from errors import to_json
from filelock import FileLock, Timeout
from settings import MAX_HISTORY_BYTES, MAX_SENT_BYTES


# A name that nobody gives to the output of score.py, which holds a lock of its own.
FILE, SUFFIXES = "app.jsonl", (".jsonl", ".csv")


class Folder:
    """A folder of verdicts. The app writes one file there, and reads those of `score.py --output` beside it.

    Args:
        path: of the folder.

    Raises:
        ValueError: the app cannot write there.
    """

    def __init__(self, path: str):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(self.path / f".{FILE}.lock", timeout=10)
            self.add([])
        except (OSError, Timeout) as error:
            raise ValueError(
                f"HISTORY_DIR={path}: cannot be written ({error}). Name another folder, or none."
            ) from error

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append rows, each whole, while no other process does.

        Raises:
            OSError: the disk is full, or the file has reached its limit.
            Timeout: another process holds the file.
        """
        with self.lock, open(self.path / FILE, "a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if rows and size > MAX_HISTORY_BYTES:
                raise OSError(f"{FILE} has {size // 10**6} MB, and takes no more: move it away")
            # A process that was killed while it wrote has left a part of a line.
            file.seek(max(size - 1, 0))
            is_cut_off = file.read(1) not in (b"", b"\n")
            lines = "".join(to_json(row) + "\n" for row in rows)
            file.write(("\n" * is_cut_off + lines).encode("utf-8", "replace"))

    def texts(self) -> list[dict[str, str]]:
        """Return name and text of the files with rows, as much of their ends as the limit allows."""
        files = [path for path in sorted(self.path.iterdir()) if path.suffix in SUFFIXES and path.is_file()]
        return [{"name": path.name, "text": tail(path, MAX_SENT_BYTES // len(files))} for path in files]


def tail(path: Path, limit: int) -> str:
    """Return the last whole lines of a file, `limit` bytes at most. A header of CSV stays."""
    with open(path, "rb") as file:
        head = file.readline() if path.suffix == ".csv" else b""
        start = max(len(head), file.seek(0, os.SEEK_END) - limit)
        file.seek(start)
        if start > len(head):
            file.readline()  # which has no beginning
        return (head + file.read(limit)).decode("utf-8", "replace")


__all__ = ["Folder", "Timeout"]
