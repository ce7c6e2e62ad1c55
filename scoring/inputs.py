"""What is to be scored: files, folders and patterns, and the machine that a path names."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dcase2020_task2 import label_name, parse_clip_name
from feature_extraction import AUDIO_SUFFIXES


@dataclass
class Found:
    """What a search for recordings found.

    Attributes:
        recordings: paths, in the order of the inputs and by name within a folder.
        others: paths of what else is in folders: other files, and folders that cannot be opened.
    """

    recordings: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def passed_over(self) -> Counter[str]:
        """The number of other files by suffix, and of hidden files and closed folders."""
        return Counter(kind_of(path) for path in self.others)


def kind_of(path: str) -> str:
    """Say what a path is that is no recording."""
    if os.path.isdir(path):
        return "closed folder"
    if is_hidden(path):
        return "hidden"
    return os.path.splitext(path)[1].lower() or "no suffix"


def is_hidden(path: str) -> bool:
    """Tell whether a file or folder is hidden, as are the `._` files that macOS writes beside every file on other disks."""
    return os.path.basename(path).startswith(".")


def find_recordings(inputs: Iterable[str]) -> Found:
    """Find the recordings of all inputs, each once.

    An input without any file is among the recordings as it is: reading it gives the error that names it. A file that is
    named is taken whatever its suffix.
    """
    found = Found()
    for name in inputs:
        is_one = os.path.lexists(name) or "://" in name
        for path in [name] if is_one else sorted(glob.glob(name, recursive=True)) or [name]:
            in_folder = list_folder(path) if os.path.isdir(path) else Found([path])
            found.recordings += in_folder.recordings or ([path] if is_one else [])
            found.others += in_folder.others
    return Found(list(dict.fromkeys(found.recordings)), list(dict.fromkeys(found.others)))


def list_folder(folder: str | os.PathLike) -> Found:
    """List the sound files in a folder and its subfolders, by name. Links to folders are followed, each folder once."""
    found = Found()
    for path in walk_files(folder, closed=found.others):
        is_sound = os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES and not is_hidden(path)
        (found.recordings if is_sound else found.others).append(path)
    found.recordings.sort()
    return found


def walk_files(folder: str | os.PathLike, closed: list[str]) -> Iterator[str]:
    """Give the files in a folder and its subfolders, but for hidden subfolders.

    Args:
        folder: where to begin.
        closed: a list that gets the folders that cannot be opened.
    """
    visited = set()
    for parent, folders, names in os.walk(
        folder, followlinks=True, onerror=lambda error: closed.append(error.filename)
    ):
        try:
            status = os.stat(parent)
        except OSError:  # taken away meanwhile
            continue
        # A link to a folder above it would lead round and round.
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(parent, name) for name in names)


def machine_in_path(path: str, known: list[str]) -> str:
    """Read the machine from `<machine type>/.../*id_XX_*.wav`; the label in the name plays no part.

    Raises:
        ValueError: the name is not a clip's, or the path names none of the `known` machines.
    """
    machine_id = parse_clip_name(path).machine_id
    candidates = [label_name(parent.name, machine_id) for parent in Path(path).absolute().parents if parent.name]
    for candidate in candidates:
        if candidate in known:
            return candidate
    raise ValueError(
        f"{path}: no folder above it is the type of a machine with ID {machine_id}; known: {', '.join(known)}."
    )
