"""
Sound files of any kind as blocks of one channel: opened, checked, limited, with errors that name the file.

Begin with [`read_mono`]. libsndfile reads nearly all files, through soundfile. Phones' and browsers' formats are read by
FFmpeg's libraries, through PyAV. What a file is, its first bytes say, and never its name.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from .libav_attention_asd import libav_format, open_with_libav
from .sounds_attention_asd import (
    AudioReadError,
    Sound,
    check_amplitude,
    check_channels,
    check_length,
    check_rate,
)
from .unfinished_attention_asd import NamelessFile, declared_wav_bytes


AudioSource = str | os.PathLike | bytes | BinaryIO

# Files with these names are taken for sound, whatever is installed to read them: one that cannot be read is named, not missed.
AUDIO_SUFFIXES = frozenset(
    ".3g2 .3gp .aac .aif .aifc .aiff .alac .amr .ape .au .avr .bwf .caf .flac .gsm .htk .iff .m4a .m4b .mat4 .mat5 .mka .mkv "
    ".mov .mp1 .mp2 .mp3 .mp4 .mpc .nist .oga .ogg .opus .paf .pcm .pvf .raw .rf64 .sd2 .sds .sf .snd .sph .svx .tta .voc .vox "
    ".w64 .wav .wave .webm .wma .wv .xi".split()
)
# Over all channels: 16 MiB of float32. A minute of 8 channels at 655,350 Hz, which FLAC can have, would be 1.2 GiB.
MAX_BLOCK_SAMPLES = 2**22
# What comes from a pipe is kept in memory, because libraries go back and forth in a file.
MAX_PIPE_BYTES = 2**30
# libsndfile's number of frames for a file that does not say how many it has.
UNKNOWN_FRAMES = 2**63 - 1
# Small blocks, because one that meets the end of an unfinished file is lost.
UNFINISHED_BLOCK = 4096
# Programs that write to a pipe put such sizes into a WAV header, because the true one is not known yet.
STREAMED_WAV_BYTES = 0x7FFF_0000
# Of WAV files, whose header counts bytes; libsndfile counts the samples that there are.
BYTES_PER_SAMPLE = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
INT16_FULL_SCALE = 2.0**15


def read_mono(
    source: AudioSource,
    resample: Callable[[Iterable[np.ndarray], float], Iterable[np.ndarray]],
    channels: str,
    block_seconds: float,
    notes: list[str] | None = None,
    must_be_whole: bool = False,
) -> Iterator[np.ndarray]:
    """Read a recording block by block, as one channel in [-1, 1].

    Args:
        source: a path, the bytes of a sound file, or a binary file, which is read from its start.
        resample: brings blocks `(samples,)` of a sampling rate in Hz to the wanted rate.
        channels: `"first"` or `"mean"`, how several channels become one.
        block_seconds: length of a block before resampling; a block of many channels is shorter.
        notes: a list that gets a sentence where the file holds another number of samples than its header says.
        must_be_whole: whether fewer samples than the header says are an error instead of a note.

    Returns:
        Iterator over `(samples,)` float32.

    Raises:
        AudioReadError: the message names the file and what is wrong with it.
    """
    name = name_of(source)
    try:
        with open_sound(source) as sound:
            check_rate(sound.sampling_rate)
            check_channels(sound.channels)
            check_length(sound.declared_frames or 0, sound)
            frames = max(1, min(round(block_seconds * sound.sampling_rate), MAX_BLOCK_SAMPLES // sound.channels))
            is_empty = True
            mono = mono_blocks(sound, frames, channels, [] if notes is None else notes, must_be_whole)
            for block in resample(mono, sound.sampling_rate):
                if len(block):
                    is_empty = False
                    # Full scale is where 16-bit recordings end: training and scoring get the same sound.
                    yield block.clip(-1.0, 1.0)
            if is_empty:
                raise ValueError("it holds no samples")
    except FileNotFoundError:
        raise AudioReadError(f"{name}: no such file.") from None
    except AudioReadError as error:  # from below, where no name is known
        raise AudioReadError(f"{name}: {error}") from None
    except Exception as error:  # a library's own, or no memory: one file must not end the run over many
        raise AudioReadError(
            f"{name}: cannot be read as audio ({reason_of(error)}). Expected a sound file such as WAV, FLAC, OGG or MP3; "
            "check that it is whole."
        ) from error


def mono_blocks(
    sound: Sound, frames: int, channels: str, notes: list[str], must_be_whole: bool
) -> Iterator[np.ndarray]:
    """Read blocks of `frames` from an open sound, as one channel at the file's sampling rate."""
    found = 0
    for block in sound.blocks(frames):
        found += len(block)
        check_length(found, sound)
        is_16_bit = block.dtype == np.int16
        if channels == "mean" and sound.channels > 1:
            mono = block.mean(1, dtype=np.float32)
        else:
            mono = block[:, 0].astype(np.float32)
        if is_16_bit:
            mono *= np.float32(1.0 / INT16_FULL_SCALE)
        else:
            check_amplitude(mono)
        yield mono
    note = sound.note(found)
    if note and must_be_whole and sound.declared_frames:
        raise ValueError(f"it was cut off: {note}")
    if found and note and note not in notes:
        notes.append(note)


@contextlib.contextmanager
def open_sound(source: AudioSource) -> Iterator[Sound]:
    """Open a recording with the library that reads files of its kind."""
    with open_binary(source) as file:
        file.seek(0)
        head = file.read(64)
        if head[:3] == b"ID3" and len(head) >= 10:  # tags, before MP3 or AAC
            tag_bytes = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            file.seek(10 + tag_bytes)
            head = file.read(64)
        file.seek(0)
        if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
            raise ValueError("it is a page of HTML or XML, not a sound")
        kind = libav_format(head)
        opened = open_with_soundfile(file) if kind is None else open_with_libav(NamelessFile(file), kind)
        with opened as sound:
            yield sound


@contextlib.contextmanager
def open_binary(source: AudioSource) -> Iterator[Any]:
    """Open a path or bytes as a binary file; a file that cannot go back is read into memory."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
        return
    # Without a buffer, because libsndfile reads from the descriptor.
    if isinstance(source, (str, os.PathLike)):
        opened: Any = open(source, "rb", buffering=0)  # noqa: SIM115  # closed below
    elif hasattr(source, "read"):
        opened = contextlib.nullcontext(source)
    else:
        raise ValueError(f"type {type(source).__name__}, expected a path, bytes or a binary file")
    with opened as file:
        if not file.seekable():
            yield io.BytesIO(read_all(file))
        elif not isinstance(file.read(0), (bytes, bytearray)):
            raise ValueError('the file was opened as text; open it with mode "rb"')
        else:
            yield file


def read_all(pipe: Any) -> bytes:
    """Read what comes from a pipe.

    Raises:
        ValueError: more comes than is kept in memory.
    """
    data = bytearray()
    while part := pipe.read(2**20):
        data += part
        if len(data) > MAX_PIPE_BYTES:
            raise ValueError(f"more than {MAX_PIPE_BYTES} bytes came from a pipe; write them to a file")
    return bytes(data)


@contextlib.contextmanager
def open_with_soundfile(file: Any) -> Iterator[Sound]:
    """Open a binary file, at its start, with libsndfile.

    Raises:
        AudioReadError: soundfile is not installed. The message lacks the file's name.
    """
    try:
        import soundfile
    except ImportError:
        raise AudioReadError("reading sound files needs soundfile and soxr: pip install soundfile soxr") from None
    wav_bytes = declared_wav_bytes(file)
    # A descriptor takes two thirds of a Python file's time. On Windows Python and libsndfile number them apart.
    by_descriptor = isinstance(file, io.FileIO) and os.name == "posix" and wav_bytes != 0
    target: Any = file.fileno() if by_descriptor else NamelessFile(file, is_unclosed_wav=wav_bytes == 0)
    with soundfile.SoundFile(target, mode="r", closefd=False) as opened:
        if opened.frames >= UNKNOWN_FRAMES:
            # soundfile goes to where it is after each block, which libFLAC refuses where the header has no total.
            opened.seekable = lambda: False
        declared = declared_frames(opened, wav_bytes)
        yield Sound(
            opened.samplerate, opened.channels, declared, lambda frames: soundfile_blocks(opened, frames, declared == 0)
        )


def soundfile_blocks(opened: Any, frames: int, is_unfinished: bool) -> Iterator[np.ndarray]:
    """Read an open `soundfile.SoundFile` in blocks; where the file is unfinished, as far as its samples are whole."""
    # Nearly all files have 16-bit samples. libsndfile takes three times as long to the same floats.
    sample_type = "int16" if opened.subtype == "PCM_16" else "float32"
    frames = min(frames, UNFINISHED_BLOCK) if is_unfinished else frames
    block = opened.read(frames, dtype=sample_type, always_2d=True)
    while len(block):
        yield block
        try:
            block = opened.read(frames, dtype=sample_type, always_2d=True)
        except RuntimeError:  # LibsndfileError
            if not is_unfinished:
                raise
            return  # the recorder stopped within a packet; what came before is whole


def declared_frames(opened: Any, wav_bytes: int | None) -> int:
    """Return the frames that the header of an open `soundfile.SoundFile` says there are; 0 where it was not finished."""
    if wav_bytes == 0 or opened.frames >= UNKNOWN_FRAMES:
        return 0
    if wav_bytes is None or wav_bytes >= STREAMED_WAV_BYTES or opened.subtype not in BYTES_PER_SAMPLE:
        return opened.frames
    return wav_bytes // (BYTES_PER_SAMPLE[opened.subtype] * opened.channels)


def name_of(source: Any) -> str:
    """Return a recording's name for messages, in characters that can be printed."""
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    if not isinstance(name, (str, os.PathLike)):
        return "audio data"
    # A name in Latin-1 has bytes that are no UTF-8, which Python keeps as characters that cannot be printed.
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def reason_of(error: Exception) -> str:
    """Say what an error is about, without the names that libraries give to what they read."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text or type(error).__name__).strip().rstrip(".")
