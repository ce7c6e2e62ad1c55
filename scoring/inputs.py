"""What is to be scored: files, folders and patterns, a folder that recordings arrive in, raw samples on standard input."""

import glob
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dcase2020_task2 import label_name, parse_clip_name


AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"}
SAMPLE_FORMATS = {"s16le": "<i2", "f32le": "<f4"}
FULL_SCALE = {"s16le": 2.0**15, "f32le": 1.0}
# A recording is complete when its size stays the same for so long.
WATCH_SECONDS = 1.0


def find_recordings(inputs: Iterable[str]) -> Iterator[str]:
    """Find the files of all inputs in their order, those of a folder by name.

    An input without any file comes back as it is: reading it gives the error that names it.
    """
    for name in inputs:
        if os.path.isdir(name):
            yield from list_folder(name) or [name]
        elif os.path.exists(name) or "://" in name:
            yield name
        else:
            yield from sorted(glob.glob(name, recursive=True)) or [name]


def list_folder(folder: str | Path) -> list[str]:
    """List the sound files in a folder and its subfolders, by name."""
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sorted(path for path in paths if os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES)


def watch_folder(folder: Path, done: set[str]) -> Iterator[str]:
    """Give the recordings of a folder, each as soon as its size no longer grows. Never ends.

    Args:
        folder: the folder, which may have subfolders.
        done: recordings to pass over.

    Raises:
        ValueError: there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder to watch.")
    done = set(done)
    sizes: dict[str, int] = {}
    while True:
        for path in list_folder(folder):
            if path in done:
                continue
            try:
                size = os.path.getsize(path)
            except FileNotFoundError:  # taken away between two looks
                continue
            if sizes.get(path) == size:
                done.add(path)
                yield path
            sizes[path] = size
        time.sleep(WATCH_SECONDS)


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


def raw_samples(stream: BinaryIO, sample_format: str, sampling_rate: int) -> Iterator[np.ndarray]:
    """Read raw samples of one channel in blocks of a quarter of a second, as float32 in [-1, 1].

    Args:
        stream: where the samples arrive.
        sample_format: a key of `SAMPLE_FORMATS`.
        sampling_rate: in Hz.
    """
    sample_type = np.dtype(SAMPLE_FORMATS[sample_format])
    while data := stream.read(sampling_rate // 4 * sample_type.itemsize):
        whole = data[: len(data) // sample_type.itemsize * sample_type.itemsize]
        yield np.frombuffer(whole, sample_type).astype(np.float32) / FULL_SCALE[sample_format]
