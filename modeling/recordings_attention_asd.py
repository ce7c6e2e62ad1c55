"""
Recordings in any form: files, URLs, bytes and arrays, as a stream of samples at the model's sampling rate.

Begin with [`open_recording`]. Reading, resampling and cutting windows are the feature extractor's.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch

from .conditions_attention_asd import Heard, listen
from .downloads_attention_asd import download, without_secrets


@dataclass(frozen=True)
class Recording:
    """A recording that is read block by block, as often as needed, in memory that does not grow with its length.

    Attributes:
        name: the recording's name in messages.
        blocks: a function that starts to read; gives parts `(samples,)` at the model's sampling rate, float32 in [-1, 1].
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.
        notes: sentences about the recording's file, which are complete as soon as it was read to its end.
    """

    name: str
    blocks: Callable[[], Iterable[np.ndarray]]
    feature_extractor: Any
    notes: list[str] = field(default_factory=list)

    @cached_property
    def heard(self) -> Heard:
        """How it was recorded, and where the sound lies in it. The first use reads all of it.

        Raises:
            ValueError: the recording cannot be read, or is empty. A few samples at a high rate are none at the model's.
        """
        heard = listen(self.blocks(), self.feature_extractor)
        if not heard.samples:
            raise ValueError(f"{self.name}: is empty at the model's sampling rate. Expected one sample or more.")
        return heard

    def windows(self) -> Iterator[tuple[int, np.ndarray]]:
        """Cut the sound into windows of one clip, each with its first sample's position in the recording.

        Silence at both ends is left out, and so is an offset (DC) of a window.

        Raises:
            ValueError: as [`Recording.heard`] does.
        """
        heard = self.heard
        blocks = self.blocks() if heard.kept is None else heard.kept
        for start, window in self.feature_extractor.cut_windows(between(blocks, heard.first, heard.stop)):
            yield heard.first + start, self.feature_extractor.without_offset(window)

    def window(self, index: int) -> np.ndarray:
        """Read one window again, so that none need be kept."""
        return next(islice(self.windows(), index, None))[1]


def between(blocks: Iterable[np.ndarray], first: int, stop: int) -> Iterator[np.ndarray]:
    """The samples from `first` up to `stop` of a recording in parts `(samples,)`."""
    position = 0
    for block in blocks:
        part = block[max(first - position, 0) : max(stop - position, 0)]
        position += len(block)
        if len(part):
            yield part


def open_recording(source: Any, feature_extractor) -> Recording:
    """Open a recording in any form. A recording by URL is downloaded here, once.

    Args:
        source: a path, an http(s) URL, the bytes of a sound file, a binary file, an array, tensor or list of numbers
            `(samples,)`, `(channels, samples)` or `(samples, channels)` at the model's sampling rate, `(rate, array)`,
            torchcodec's `AudioDecoder`, or a dictionary: `"raw"` or `"array"` with `"sampling_rate"` in Hz, `"bytes"` or
            `"path"`, or a row of a data set with any of these under `"audio"`.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.

    Raises:
        ValueError: for another form, an array that is no sound, or a URL that cannot be downloaded.
    """
    name, source = name_and_contents(source)
    if isinstance(source, str) and "://" in source:
        # A server that gives no length ends the same way whether it is done or broken: the file's own header tells.
        return file_recording(without_secrets(source), download(source), feature_extractor, must_be_whole=True)
    if isinstance(source, (str, os.PathLike)):
        return file_recording(None, source, feature_extractor)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return file_recording(name, bytes(source), feature_extractor)
    if hasattr(source, "read"):
        # A window is read again, and not everything can go back to its start.
        return file_recording(name, source if source.seekable() else source.read(), feature_extractor)
    try:
        samples, sampling_rate = samples_and_rate(source, feature_extractor)
        mono = feature_extractor.to_mono(samples).cpu().numpy()
    except ValueError as error:
        raise ValueError(str(error) if name is None else f"{name}: {error}") from None
    return Recording(
        name or "audio array",
        lambda: with_name(name or "audio array", feature_extractor.resample([mono], sampling_rate)),
        feature_extractor,
    )


def open_normal(source: Any, feature_extractor) -> Recording:
    """Open a recording that a machine is to be made of. Training, fitting and enrolling all open recordings so.

    Raises:
        ValueError: as [`open_recording`] and [`Recording.heard`] do, or it is too short, or mostly silent. One without any
            sound is left to `sort_out`.
    """
    recording = open_recording(source, feature_extractor)
    conditions = recording.heard.conditions
    if conditions.seconds and conditions.obstacle:
        raise ValueError(f"{recording.name}: {conditions.obstacle}.")
    return recording


def file_recording(name: str | None, source: Any, feature_extractor, must_be_whole: bool = False) -> Recording:
    """Open a sound file: a path, bytes or a binary file; `name` is said in messages in the place of "audio data"."""
    notes: list[str] = []

    def blocks() -> Iterator[np.ndarray]:
        read = feature_extractor.stream_audio(source, notes=notes, must_be_whole=must_be_whole)
        return read if name is None else with_name(name, read)

    is_path = isinstance(source, (str, os.PathLike))
    return Recording(name or (str(source) if is_path else "audio data"), blocks, feature_extractor, notes)


def name_and_contents(source: Any) -> tuple[str | None, Any]:
    """Take a recording out of a row of a data set, or of a dictionary of a file, with its name where it has one."""
    if not isinstance(source, dict):
        return None, source
    path = source.get("path")
    name = None if path is None else str(path)
    if source.get("raw", source.get("array")) is not None:
        return name, source
    if source.get("audio") is not None:
        own_name, contents = name_and_contents(source["audio"])
        return own_name or name, contents
    if source.get("bytes") is not None:
        return name, source["bytes"]
    return name, source if path is None else path


def is_one_recording(source: Any) -> bool:
    """Tell one recording in a form that [`open_recording`] takes from several, such as a list of recordings."""
    if isinstance(source, (list, tuple)):  # a list of numbers, or a pair of rate and samples
        return len(source) > 0 and bool(np.isscalar(source[0])) and not isinstance(source[0], (str, bytes))
    if isinstance(source, np.ndarray | torch.Tensor):  # two axes may be several recordings, and text is their paths
        return source.ndim == 1 and not (isinstance(source, np.ndarray) and source.dtype.kind in "OSU")
    is_file = isinstance(source, (str, bytes, bytearray, memoryview, os.PathLike, dict)) or hasattr(source, "read")
    return is_file or hasattr(source, "get_all_samples")


def samples_and_rate(source: Any, feature_extractor) -> tuple[Any, float]:
    """Return a recording's samples and their rate in Hz.

    Raises:
        ValueError: for another type, or a dictionary that lacks a key.
    """
    known = (np.ndarray, torch.Tensor, list, tuple, dict)
    if not isinstance(source, known) and not hasattr(source, "get_all_samples") and not hasattr(source, "__array__"):
        raise ValueError(
            f"a recording of type {type(source).__name__}: expected a path, an http(s) URL, the bytes of a sound file, a "
            "binary file, an array, a tensor, (rate, array), an AudioDecoder, or a dictionary with 'raw' and 'sampling_rate'."
        )
    return feature_extractor.samples_and_rate(source, feature_extractor.sampling_rate)


def with_name(name: str, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Give the blocks of data without a name; an error about them gets the name of their source."""
    try:
        yield from blocks
    except ValueError as error:
        text = str(error)
        raise ValueError(f"{name}: {text.removeprefix('audio data: ')}") from None


__all__ = ["Recording", "is_one_recording", "open_normal", "open_recording"]
