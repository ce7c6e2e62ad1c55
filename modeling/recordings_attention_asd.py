"""
Recordings in any form: files, URLs, bytes and arrays, as a stream of samples at the model's sampling rate.

Begin with [`open_recording`]. Reading, resampling and cutting windows are the feature extractor's.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch

from .conditions_attention_asd import Heard, listen


# A recording by URL: 100 MiB are 54 minutes of 16 kHz, 16 bit, mono.
MAX_DOWNLOAD_BYTES = 100 * 2**20
# To connect, and between two pieces of the answer.
CONNECT_SECONDS = 10.0
DOWNLOAD_SECONDS = 120.0
MAX_REDIRECTS = 10

MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 1_000, 1_000_000


@dataclass(frozen=True)
class Recording:
    """A recording that is read block by block, as often as needed, in memory that does not grow with its length.

    Attributes:
        name: the recording's name in messages.
        blocks: a function that starts to read; gives parts `(samples,)` at the model's sampling rate, float32 in [-1, 1].
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.
    """

    name: str
    blocks: Callable[[], Iterable[np.ndarray]]
    feature_extractor: Any

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
        source: a path, an http(s) URL, the bytes of a sound file, an array, tensor or list of numbers `(samples,)`,
            `(channels, samples)` or `(samples, channels)` at the model's sampling rate, or a dictionary with `"raw"` or
            `"array"` and `"sampling_rate"` in Hz.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.

    Raises:
        ValueError: for another form, an array that is no sound, or a URL that cannot be downloaded.
    """
    read = feature_extractor.stream_audio
    if isinstance(source, str) and "://" in source:
        data = download(source)
        return Recording(source, lambda: with_name(source, read(data)), feature_extractor)
    if isinstance(source, (str, os.PathLike)):
        return Recording(str(source), lambda: read(source), feature_extractor)
    if isinstance(source, (bytes, bytearray)):
        return Recording("audio data", lambda: read(bytes(source)), feature_extractor)
    samples, sampling_rate = samples_and_rate(source, feature_extractor.sampling_rate)
    mono = feature_extractor.to_mono(samples).cpu().numpy()
    return Recording("audio array", lambda: resampled([mono], sampling_rate, feature_extractor), feature_extractor)


def samples_and_rate(source: Any, default_rate: int) -> tuple[Any, float]:
    """Return the samples of an array, or of a dictionary that holds one, and their rate in Hz.

    Raises:
        ValueError: for another type, or a dictionary that lacks a key.
    """
    sampling_rate = default_rate
    if isinstance(source, dict):
        array = source.get("raw", source.get("array"))
        if array is None or source.get("sampling_rate") is None:
            raise ValueError(
                f"a recording as a dictionary has the keys {sorted(source)}: expected 'raw' (or 'array') with the "
                "samples and 'sampling_rate' in Hz."
            )
        source, sampling_rate = array, source["sampling_rate"]
    if not isinstance(source, (np.ndarray, torch.Tensor, list, tuple)):
        raise ValueError(
            f"a recording of type {type(source).__name__}: expected a path, an http(s) URL, the bytes of a sound "
            "file, an array, a tensor, or a dictionary with 'raw' and 'sampling_rate'."
        )
    return source, sampling_rate


def resampled(blocks: Iterable[np.ndarray], sampling_rate: float, feature_extractor) -> Iterator[np.ndarray]:
    """Resample a recording in parts `(samples,)` to the model's rate, as the feature extractor resamples files.

    Raises:
        ValueError: for a sampling rate, in Hz, that no recording has.
    """
    if not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
        raise ValueError(f"sampling_rate={sampling_rate}: expected {MIN_SAMPLING_RATE:,} to {MAX_SAMPLING_RATE:,} Hz.")
    yield from feature_extractor.resample(blocks, sampling_rate)


def with_name(name: str, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Give the blocks of downloaded data; an error about them gets the name of their source."""
    try:
        yield from blocks
    except ValueError as error:
        raise ValueError(str(error).replace("audio data", name, 1)) from None


def download(url: str, max_bytes: int = MAX_DOWNLOAD_BYTES, max_seconds: float = DOWNLOAD_SECONDS) -> bytes:
    """Download a file by http or https, which every redirect has to keep to.

    Args:
        url: the file's address.
        max_bytes: the largest size.
        max_seconds: the longest time in all.

    Raises:
        ValueError: for another scheme, a server that does not answer as it should, or a file beyond the limits.
        ImportError: httpx is not installed.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{url}: expected an http or https URL, or the path of a file.")
    try:
        import httpx
    except ImportError:
        raise ImportError(
            "Recordings by URL need httpx, which huggingface_hub needs as well: pip install httpx"
        ) from None
    deadline = time.monotonic() + max_seconds
    data = bytearray()
    try:
        with (
            # httpx follows redirects to http and https alone.
            httpx.Client(follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=CONNECT_SECONDS) as client,
            # The bytes as they are: a small answer in a compressed form could be very large.
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if not response.is_success:
                raise ValueError(f"the server answers {response.status_code} {response.reason_phrase}")
            for chunk in response.iter_raw():
                data += chunk
                if len(data) > max_bytes:
                    raise ValueError(f"it is larger than {max_bytes} bytes")
                if time.monotonic() > deadline:
                    raise ValueError(f"it took longer than {max_seconds:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{url}: cannot be downloaded ({reason}). Download it yourself and give the file.") from None
    return bytes(data)


__all__ = ["Recording", "download", "open_recording", "resampled"]
