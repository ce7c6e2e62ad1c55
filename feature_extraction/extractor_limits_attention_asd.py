"""What `preprocessor_config.json` may ask for: sizes and scales, checked before anything of these sizes is made."""

from typing import Any

import numpy as np


# Lowest and highest sizes that `preprocessor_config.json` may ask for, far beyond the paper's.
SIZE_RANGES = {
    "sampling_rate": (1_000, 1_000_000),
    "clip_length": (1, 2**24),
    "n_fft": (16, 2**16),
    "hop_length": (1, 2**20),
    "num_mel_bins": (1, 2**12),
}
MAX_FILTER_SIZE = 2**26


def check_whole_numbers(**numbers: Any) -> None:
    """Check sizes before anything of these sizes is made.

    Raises:
        ValueError: the message names the value.
    """
    for name, value in numbers.items():
        lowest, highest = SIZE_RANGES[name]
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise ValueError(f"{name}={str(value)[:60]}: expected a whole number from {lowest} to {highest}.")
    num_mel_bins, n_fft = numbers["num_mel_bins"], numbers["n_fft"]
    if num_mel_bins * n_fft > MAX_FILTER_SIZE:
        raise ValueError(
            f"num_mel_bins={num_mel_bins}, n_fft={n_fft}: expected a product of at most {MAX_FILTER_SIZE}."
        )


def check_mel_scale(
    sampling_rate: int,
    min_frequency: float,
    max_frequency: float,
    mel_scale: str,
    mel_norm: str | None,
    mel_floor: float,
) -> None:
    """Check what the mel filters are made of.

    Raises:
        ValueError: the message names the value.
    """
    numbers = {"min_frequency": min_frequency, "max_frequency": max_frequency, "mel_floor": mel_floor}
    for name, value in numbers.items():
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            raise ValueError(f"{name}={str(value)[:60]}: expected a number.")
    if not 0 <= min_frequency < max_frequency <= sampling_rate / 2:
        raise ValueError(
            f"min_frequency={min_frequency}, max_frequency={max_frequency}: expected 0 or more, a higher one, and at most half "
            f"the sampling rate of {sampling_rate} Hz."
        )
    if not 1e-30 <= mel_floor <= 1:
        raise ValueError(f"mel_floor={mel_floor}: expected 1e-30 to 1, which silence has a finite logarithm for.")
    if mel_scale not in ("htk", "slaney"):
        raise ValueError(f"mel_scale={str(mel_scale)[:60]!r}: expected 'htk' or 'slaney'.")
    if mel_norm not in ("slaney", None):
        raise ValueError(f"mel_norm={str(mel_norm)[:60]!r}: expected 'slaney' or None.")


__all__ = ["check_mel_scale", "check_whole_numbers"]
