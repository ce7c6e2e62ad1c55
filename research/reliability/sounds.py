"""Damaged sound files of every format that is read: samples or one sentence, in bounded time and memory."""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from feature_extraction import AttentionAsdFeatureExtractor

from .damage import damaged_bytes, generator_of


SAMPLING_RATE, SECONDS = 16_000, 1.0
# Format and subtype of libsndfile.
SOUNDFILE_KINDS = (
    "WAV PCM_16", "WAV PCM_24", "WAV FLOAT", "WAV ULAW", "WAV MS_ADPCM", "WAV IMA_ADPCM", "WAV GSM610", "WAVEX PCM_16",
    "RF64 PCM_16", "W64 PCM_16", "FLAC PCM_16", "FLAC PCM_24", "OGG VORBIS", "OGG OPUS", "MP3 MPEG_LAYER_III",
    "AIFF PCM_16", "AIFF FLOAT", "AU PCM_16", "CAF PCM_16", "CAF ALAC_16", "VOC PCM_16", "NIST PCM_16", "SVX PCM_16",
)  # fmt: skip
# FFmpeg's format, codec, rate and layout of channels.
LIBAV_KINDS = {
    "M4A": ("ipod", "aac", 44_100, "mono"),
    "MP4": ("mp4", "aac", 44_100, "mono"),
    "AAC": ("adts", "aac", 44_100, "mono"),
    "AAC, 8 channels": ("adts", "aac", 44_100, "7.1"),
    "WebM": ("webm", "libopus", 48_000, "mono"),
    "WebM, 6 channels": ("webm", "libopus", 48_000, "5.1"),
    "Matroska": ("matroska", "aac", 44_100, "mono"),
    "WMA": ("asf", "wmav2", 44_100, "mono"),
    "3GP": ("3gp", "aac", 44_100, "mono"),
    "AMR": ("amr", "libopencore_amrnb", 8_000, "mono"),
}


class Sounds:
    """Damage to sound files, read as the pipeline reads them, from bytes or from a path."""

    title = "Damaged sound files"
    cpu_seconds, seconds, starts_processes = 10.0, 60.0, False

    def __init__(self, seed: int, folder: Path):
        self.seed, self.folder = seed, folder
        self.extractor = AttentionAsdFeatureExtractor(clip_length=SAMPLING_RATE)
        self.files = sound_files()
        self.kinds = list(self.files)

    def check(self, case: int) -> list[tuple[str, str]]:
        """Read a damaged file: finite samples within [-1, 1], or one sentence in a ValueError or OSError."""
        generator = generator_of(self.seed, case)
        kind = self.kinds[case % len(self.kinds)]
        data = damaged_bytes(self.files[kind], generator, list(self.files.values()))
        is_path = generator.random() < 0.5
        if not is_path:
            return [(kind, self.read(data))]
        with tempfile.NamedTemporaryFile(
            dir=self.folder, suffix=f".{generator.choice(['wav', 'raw', 'flac', 'm4a'])}"
        ) as file:
            file.write(data)
            file.flush()
            return [(kind, self.read(file.name))]

    def read(self, source: Any) -> str:
        """Read a source, and say what came of it."""
        try:
            blocks = list(self.extractor.stream_audio(source, notes=[]))
        except (ValueError, OSError) as error:
            text = str(error)
            assert text.startswith(source if isinstance(source, str) else "audio data"), text
            assert "\n" not in text and " at 0x" not in text, text
            return "refused"
        samples = np.concatenate(blocks)
        assert samples.dtype == np.float32 and samples.ndim == 1 and len(samples), samples
        assert np.isfinite(samples).all() and np.abs(samples).max() <= 1.0
        return "read"


def sound_files() -> dict[str, bytes]:
    """Return a second of a tone in noise as a file of every format."""
    files = {}
    known = soundfile.available_formats()
    for kind in SOUNDFILE_KINDS:
        container, subtype = kind.split()
        if container not in known or subtype not in soundfile.available_subtypes(container):
            continue
        buffer = io.BytesIO()
        soundfile.write(buffer, tone(SAMPLING_RATE), SAMPLING_RATE, format=container, subtype=subtype)
        files[kind] = buffer.getvalue()
    return files | {kind: libav_file(*how) for kind, how in LIBAV_KINDS.items()}


def libav_file(container: str, codec: str, rate: int, layout: str) -> bytes:
    """Let PyAV write the tone, the same into each channel."""
    import av

    buffer = io.BytesIO()
    channels = av.AudioLayout(layout).nb_channels
    samples = np.repeat((32767 * tone(rate)).astype(np.int16), channels)
    # Without a seek back at the end, FFmpeg cannot finish an MP4.
    with av.open(buffer, "w", format=container) as opened:
        stream: Any = opened.add_stream(codec, rate=rate, layout=layout)
        if codec == "wmav2":  # the others have a default
            stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            opened.mux(packet)
    return buffer.getvalue()


def tone(rate: int) -> np.ndarray:
    """Return a tone in noise, float32 within [-1, 1]."""
    count = round(SECONDS * rate)
    noise = generator_of(rate).standard_normal(count)
    return (0.4 * np.sin(2 * np.pi * 440 * np.arange(count) / rate) + 0.05 * noise).astype(np.float32)
