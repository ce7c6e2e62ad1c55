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
        passed_over: the number of other files in folders, by suffix, or `"hidden"`.
    """

    recordings: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def find_recordings(inputs: Iterable[str]) -> Found:
    """Find the recordings of all inputs, each once.

    An input without any file is among the recordings as it is: reading it gives the error that names it. A file that is
    named is taken whatever its suffix.
    """
    found = Found()
    for name in inputs:
        if os.path.isdir(name):
            in_folder = list_folder(name)
            found.recordings += in_folder.recordings or [name]
            found.passed_over += in_folder.passed_over
        elif os.path.lexists(name) or "://" in name:
            found.recordings.append(name)
        else:
            found.recordings += sorted(glob.glob(name, recursive=True)) or [name]
    found.recordings = list(dict.fromkeys(found.recordings))
    return found


def list_folder(folder: str | os.PathLike) -> Found:
    """List the sound files in a folder and its subfolders, by name. Links to folders are followed, each folder once."""
    found = Found()
    for path in walk_files(folder):
        name, suffix = os.path.basename(path), os.path.splitext(path)[1].lower()
        if name.startswith("."):  # as are the `._` files that macOS writes beside every file on other disks
            found.passed_over["hidden"] += 1
        elif suffix in AUDIO_SUFFIXES:
            found.recordings.append(path)
        else:
            found.passed_over[suffix or "no suffix"] += 1
    found.recordings.sort()
    return found


def walk_files(folder: str | os.PathLike) -> Iterator[str]:
    """Give the files in a folder and its subfolders, but for hidden subfolders."""
    visited = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
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
