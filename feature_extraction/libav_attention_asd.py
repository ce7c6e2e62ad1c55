"""The sound formats of phones and browsers, which libsndfile does not know: AAC, M4A, MP4, WebM, WMA, 3GP and AMR.

PyAV reads them, with FFmpeg's libraries in its wheel. FFmpeg is told the format, and reads from a file that is open
already: a playlist that names other files or addresses is never followed.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .sounds_attention_asd import AudioReadError, Sound


# Place and value of the bytes by which a format is known, and FFmpeg's name for it.
SIGNATURES = (
    (4, b"ftyp", "mp4"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"#!AMR", "amr"),
)
# FFmpeg's sample formats, of which planar ones have a "p" behind: their type, and the value of full scale.
SAMPLES = {"u8": ("u1", 2**7), "s16": ("i2", 2**15), "s32": ("i4", 2**31), "flt": ("f4", 1), "dbl": ("f8", 1)}
# FFmpeg's frame has places for so many planes. PyAV looks for their end, which more have not.
MAX_CHANNELS = 8


def libav_format(head: bytes) -> str | None:
    """Return FFmpeg's name for the format of a file that begins with `head`; `None` where libsndfile may know it."""
    for place, value, name in SIGNATURES:
        if head[place : place + len(value)] == value:
            return name
    # A frame of AAC has twelve ones, and then a layer of zero, which MP3 and its kin do not have.
    return "aac" if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 else None


@contextlib.contextmanager
def open_with_libav(file: Any, kind: str) -> Iterator[Sound]:
    """Open a binary file, at its start, with PyAV.

    Args:
        file: with `read`, `seek` and `tell`.
        kind: what [`libav_format`] said of it.

    Raises:
        AudioReadError: PyAV is not installed. The message lacks the file's name.
        ValueError: there is no sound in the file.
    """
    try:
        import av
    except ImportError:
        raise AudioReadError(
            "AAC, M4A, MP4, WebM, WMA, 3GP and AMR are read with PyAV: pip install 'attention-asd[audio]', or pip install av. "
            "Or convert the file to WAV or FLAC."
        ) from None
    opened: Any = av.open(file, mode="r", format=kind, metadata_errors="replace")
    with opened as container:
        if not container.streams.audio:
            raise ValueError("there is no sound in it")
        stream = container.streams.audio[0]
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is None:
            raise ValueError("it holds no samples")
        rate, channels = first.sample_rate, first.layout.nb_channels

        def blocks(frames: int) -> Iterator[np.ndarray]:
            pending, length = [samples_of(first)], first.samples
            for frame in decoded:
                if (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
                    raise ValueError("its sampling rate or number of channels changes on the way")
                if length + frame.samples > frames:
                    yield np.concatenate(pending)
                    pending, length = [], 0
                pending.append(samples_of(frame))
                length += frame.samples
            yield np.concatenate(pending)

        yield Sound(rate, channels, declared_frames(container, stream, kind, rate), blocks)


def declared_frames(container: Any, stream: Any, kind: str, sampling_rate: int) -> int | None:
    """Return the frames that the header says there are; formats without such a header give `None`."""
    if kind == "mp4" and stream.duration is not None:
        return round(stream.duration * stream.time_base * sampling_rate) or None
    if kind in ("matroska", "asf") and container.duration is not None:
        return round(container.duration * sampling_rate / 1e6) or None  # in microseconds
    return None  # FFmpeg only estimates the length of AAC and AMR


def samples_of(frame: Any) -> np.ndarray:
    """Return the samples of a decoded `av.AudioFrame` as float32 `(frames, channels)`.

    PyAV's own `to_ndarray` reads beyond the planes of a frame of eight channels, which ends the process.

    Raises:
        ValueError: there are more channels than PyAV can read, or the samples are of another format.
    """
    channels, kind = frame.layout.nb_channels, frame.format.name.removesuffix("p")
    if channels > MAX_CHANNELS:
        raise ValueError(f"it has {channels} channels; of such a format up to {MAX_CHANNELS} can be read")
    if kind not in SAMPLES:
        raise ValueError(f"its samples are of the format {frame.format.name}; expected {', '.join(SAMPLES)}")
    dtype, full_scale = SAMPLES[kind]
    count, width = (channels, 1) if frame.format.is_planar else (1, channels)
    planes = [np.frombuffer(plane, dtype, frame.samples * width) for plane in frame.planes[:count]]
    samples = np.stack(planes, axis=1).reshape(-1, channels).astype(np.float32)
    return (samples - 128.0 if kind == "u8" else samples) / np.float32(full_scale)
