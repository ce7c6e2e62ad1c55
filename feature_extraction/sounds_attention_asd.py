"""What an opened sound is, whatever library reads it, and the limits that every sound has to keep to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 1_000, 1_000_000
MAX_CHANNELS = 64
# A day. The second limit is a day of two channels at 48 kHz: some kB of a compressed format can hold years of silence.
MAX_SECONDS = 24 * 3600
MAX_SAMPLES = MAX_SECONDS * 2 * 48_000
# Full scale is 1. Decoders and filters go somewhat beyond, and white noise of unit variance reaches 6. Sound in 16-bit
# units below this is softer than -66 dB.
MAX_AMPLITUDE = 16.0


class AudioReadError(ValueError):
    """A recording that cannot be read: missing, empty, no audio, too long, or with samples that are not finite."""


@dataclass(frozen=True)
class Sound:
    """An opened sound file.

    Attributes:
        sampling_rate: in Hz.
        channels: their number.
        declared_frames: samples of each channel that the header says there are: 0 where its writer did not finish it, and
            `None` where it says nothing.
        blocks: gives the samples in parts `(frames, channels)` of at most so many frames, int16 or float32, once.
    """

    sampling_rate: float
    channels: int
    declared_frames: int | None
    blocks: Callable[[int], Iterator[np.ndarray]]

    def note(self, found: int) -> str | None:
        """Say in a sentence that `found` frames are other than the header says; `None` where they agree."""
        if self.declared_frames is None or self.declared_frames == found:
            return None
        found_s = found / self.sampling_rate
        if self.declared_frames == 0:
            return f"the header says 0 samples; {found_s:.1f} s were found"
        # Formats that compress count in packets, so that a few samples more or less mean nothing.
        missing_s = self.declared_frames / self.sampling_rate - found_s
        return f"the header says {found_s + missing_s:.1f} s; {found_s:.1f} s were found" if missing_s > 0.1 else None


def check_rate(sampling_rate: float) -> None:
    """Check that a recording can have this sampling rate, in Hz.

    Raises:
        ValueError: the message names the rate.
    """
    if not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
        raise ValueError(f"sampling_rate={sampling_rate}: expected {MIN_SAMPLING_RATE:,} to {MAX_SAMPLING_RATE:,} Hz")


def check_channels(channels: int) -> None:
    """Check that a recording can have so many channels.

    Raises:
        ValueError: the message names the number.
    """
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"{channels} channels, expected at most {MAX_CHANNELS}")


def check_length(frames: int, sound: Sound) -> None:
    """Check that a sound of so many frames is not too long to be read, before and while it is decoded.

    Raises:
        ValueError: the message names the length.
    """
    seconds = frames / sound.sampling_rate
    if seconds > MAX_SECONDS or frames * sound.channels > MAX_SAMPLES:
        raise ValueError(
            f"it is too long: {seconds / 3600:.1f} hours or more of {sound.channels} channels at {sound.sampling_rate:g} Hz; "
            f"expected at most {MAX_SECONDS // 3600} hours, and {MAX_SAMPLES:,} samples over all channels. Cut it"
        )


def check_amplitude(samples: np.ndarray) -> None:
    """Check that float samples are finite and in the units of full scale 1.

    Raises:
        ValueError: the message names the largest sample, or the number of those that are not finite.
    """
    if not samples.size:
        return
    peak = max(float(samples.max()), -float(samples.min()))  # NaN where a sample is
    if not np.isfinite(peak):
        bad = int((~np.isfinite(samples)).sum())
        raise ValueError(
            f"{bad} samples of {samples.size} are not finite (NaN or infinite); repair or drop the recording"
        )
    if peak > MAX_AMPLITUDE:
        raise ValueError(
            f"it has float samples up to {peak:.4g}, where full scale is 1. Samples in 16-bit units: divide by 32768"
        )
