"""From a sound file of a user to samples, within limits on what a file may make the server do."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from texts import Told


# Gradio's name for a recording of the microphone, and the app's, which pictures/words.js says in the page's language.
MICROPHONE_FILE, RECORDED = "audio.wav", "The recording"
# Over all channels at the file's own rate: ten minutes of stereo at 192 kHz. 343 kB of FLAC can hold 8 channels at 655 kHz,
# which would take tens of seconds to decode.
MAX_DECODED_SAMPLES = 10 * 60 * 2 * 192_000


@dataclass(frozen=True)
class Sound:
    """A recording as one signal, `samples` (samples,) at the model's sampling rate, and its name on the page."""

    name: str
    samples: np.ndarray


def read(extractor: Any, path: str, max_seconds: int) -> Sound:
    """Read a sound file.

    Args:
        extractor: the model's feature extractor.
        path: of the file.
        max_seconds: the longest recording that is read.

    Raises:
        ValueError: the file is no sound, or is beyond a limit. The message names the file without its folder.
    """
    name = os.path.basename(path)
    limit, blocks, total = max_seconds * extractor.sampling_rate, [], 0
    # What one sample of the model costs to decode.
    width = source_samples_per_second(path) / extractor.sampling_rate
    try:
        for block in extractor.stream_audio(path):
            blocks.append(block)
            total += len(block)
            if total > limit:
                raise Told("reading.too_long", name=name, minutes=max_seconds // 60)
            if total * width > MAX_DECODED_SAMPLES:
                raise Told("reading.too_wide", name=name, millions=round(MAX_DECODED_SAMPLES / 1e6))
    except Told:
        raise
    except ValueError as error:
        raise ValueError(str(error).replace(path, name)) from None
    return Sound(RECORDED if name == MICROPHONE_FILE else name, np.concatenate(blocks))


def source_samples_per_second(path: str) -> int:
    """Return rate times channels of a file, or 0 where libsndfile does not know the format."""
    try:
        # Without its name, by which soundfile would take a file called `.raw` for raw samples.
        with open(path, "rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            return sound.samplerate * sound.channels
    except (soundfile.LibsndfileError, OSError):
        return 0


def suffixes(extractor: Any) -> list[str]:
    """Return the endings of sound files that the model's code reads, such as `.wav`."""
    code = sys.modules[type(extractor).__module__]
    return sorted(getattr(code, "AUDIO_SUFFIXES", (".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav")))


def seconds(extractor: Any, sound: Sound) -> float:
    """Return how long a sound lasts."""
    return len(sound.samples) / extractor.sampling_rate


def read_all(extractor: Any, paths: list[str], max_seconds: int, max_total: int) -> Iterator[Sound]:
    """Read recordings of one machine, as long as they keep the limit together.

    Raises:
        ValueError: as `read` does, or the recordings last longer than `max_total` seconds.
    """
    total = 0.0
    for path in paths:
        name = os.path.basename(path)
        try:
            os.utime(path)  # used: the file is kept for another while
        except OSError:
            raise Told("reading.deleted", name=name) from None
        sound = read(extractor, path, max_seconds)
        total += seconds(extractor, sound)
        if total > max_total:
            raise Told("reading.too_long_together", name=name, minutes=max_total // 60)
        yield sound


__all__ = ["Sound", "read", "read_all", "seconds", "suffixes"]
