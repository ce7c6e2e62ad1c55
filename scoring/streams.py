"""Sound on standard input: raw samples, or a sound file, which its first bytes tell."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from feature_extraction import AttentionAsdFeatureExtractor

from .first_bytes import HEAD_BYTES, is_sound_file
from .options import SAMPLE_FORMATS
from .watching import UNKNOWN_SIZE


FULL_SCALE = {"s16le": 2.0**15, "f32le": 1.0}
# A header that is longer is none: the chunk before the samples says what it likes.
MAX_HEADER_BYTES = 2**20
# A compressed sound file is read whole before it is decoded.
MAX_FILE_BYTES = 2**30


class StandardInputError(ValueError):
    """Sound on standard input that cannot be read."""


def stream_blocks(
    stream: BinaryIO, extractor: AttentionAsdFeatureExtractor, sample_format: str, sampling_rate: int | None
) -> Iterator[np.ndarray]:
    """Read sound in parts `(samples,)` at the model's sampling rate. WAV and raw samples are given as they arrive.

    Args:
        stream: where the sound arrives: a WAV file, which may have no end; another sound file; or raw samples.
        extractor: the model's feature extractor.
        sample_format: of raw samples, a key of [`SAMPLE_FORMATS`].
        sampling_rate: of raw samples, in Hz; by default the model's.

    Raises:
        ValueError: it is a sound file that cannot be decoded.
    """
    head = stream.read(12)
    if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
        yield from wav_blocks(stream, extractor)
        return
    head += stream.read(HEAD_BYTES - len(head))
    if is_sound_file(head):
        data = head + stream.read(MAX_FILE_BYTES + 1 - len(head))
        if len(data) > MAX_FILE_BYTES:
            raise StandardInputError(
                f"standard input: a sound file of more than {MAX_FILE_BYTES} bytes. Pipe it as WAV, or give the file by name."
            )
        yield from extractor.stream_audio(data)
    else:
        rate = sampling_rate or extractor.sampling_rate
        yield from extractor.resample(raw_samples(stream, head, sample_format, rate), rate)


def raw_samples(stream: BinaryIO, head: bytes, sample_format: str, sampling_rate: int) -> Iterator[np.ndarray]:
    """Read raw samples of one channel in blocks of a quarter of a second, as float32 in [-1, 1].

    Args:
        stream: where the samples arrive.
        head: what was read of it before.
        sample_format: a key of [`SAMPLE_FORMATS`].
        sampling_rate: in Hz.
    """
    sample_type = np.dtype(SAMPLE_FORMATS[sample_format])
    block_bytes = sampling_rate // 4 * sample_type.itemsize
    while data := head + stream.read(max(block_bytes, len(head)) - len(head)):
        head = b""
        whole = data[: len(data) // sample_type.itemsize * sample_type.itemsize]
        yield np.frombuffer(whole, sample_type).astype(np.float32) / FULL_SCALE[sample_format]


def wav_blocks(stream: BinaryIO, extractor: AttentionAsdFeatureExtractor) -> Iterator[np.ndarray]:
    """Decode a WAV file behind its first 12 bytes as it arrives, at the model's sampling rate.

    Every block becomes a small WAV file of its own for libsndfile, which knows all sample formats.

    Raises:
        ValueError: the header or the samples cannot be read.
    """
    import soundfile

    form, size = read_wav_header(stream)
    rate, bytes_per_second, frame_bytes = struct.unpack("<IIH", form[4:14])
    # Whole frames, or whole blocks of a compressed format.
    block_bytes = max(bytes_per_second // 4 // max(frame_bytes, 1), 1) * max(frame_bytes, 1)

    def blocks() -> Iterator[np.ndarray]:
        left = size
        while data := stream.read(min(block_bytes, MAX_HEADER_BYTES, left)):
            left -= len(data)
            try:
                samples, _ = soundfile.read(io.BytesIO(wav_file(form, data)), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise StandardInputError(f"standard input: a WAV file that cannot be decoded ({error}).") from None
            if not np.isfinite(samples).all():
                raise StandardInputError("standard input: samples that are not finite (NaN or infinite).")
            yield samples.mean(1) if extractor.channels == "mean" else samples[:, 0]

    for block in extractor.resample(blocks(), rate):
        yield block.clip(-1.0, 1.0)


def read_wav_header(stream: BinaryIO) -> tuple[bytes, int]:
    """Read a WAV file up to its samples: the content of its chunk `fmt `, and the size of the samples in bytes.

    Raises:
        ValueError: it ends before, or its header is damaged.
    """
    form, read = b"", 0
    while len(chunk := stream.read(8)) == 8:
        name, size = chunk[:4], struct.unpack("<I", chunk[4:])[0]
        if name == b"data" and len(form) >= 16:
            # Programs that write to a pipe do not know the size. RF64 has it in another chunk.
            return form, size if 0 < size < UNKNOWN_SIZE else 2**62
        read += size
        if name == b"data" or read > MAX_HEADER_BYTES:
            break
        content = stream.read(size + size % 2)
        form = content if name == b"fmt " else form
    raise StandardInputError("standard input: begins like a WAV file, but its header is damaged. Check what writes it.")


def wav_file(form: bytes, samples: bytes) -> bytes:
    """Make a WAV file of the content of a chunk `fmt ` and of samples."""
    chunks = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for name, content in ((b"fmt ", form), (b"data", samples))
    )
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks
