"""Clips of noise for benchmarks that need recordings and no sound."""

from pathlib import Path

import numpy as np
import soundfile

from dcase2020_task2 import LABELS


SAMPLING_RATE = 16_000


def write_clips(folder: Path, count: int, seconds: float) -> tuple[list[str], list[int]]:
    """Write WAV files of noise, 16 bit, and return their paths and labels of DCASE 2020's 41 machine IDs."""
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        path = folder / f"{index:05d}.wav"
        noise = 0.1 * generator.standard_normal(round(seconds * SAMPLING_RATE))
        soundfile.write(path, noise, SAMPLING_RATE, subtype="PCM_16")
        paths.append(str(path))
    return paths, [index % len(LABELS) for index in range(count)]
