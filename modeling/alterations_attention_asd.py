"""Faults that are made up, by changing the statistics of a normal clip: what a machine's self-test tries.

No sound is needed: each alteration says what it does to the mean of the log-mel and to its changes, see `SPECTRA_ROWS`.
"""

from collections.abc import Callable

import torch

from .configuration_attention_asd import LAGS


BAND_DB, KNOCK_DB, TONE_DB = 6.0, 6.0, 10.0
# A knock lasts two frames (64 ms at 16 kHz), and comes every sixteenth (twice a second).
KNOCK_FRAMES, KNOCK_PERIOD = 2, 16
# What a tone leaves of the changes in its bins, which it dominates.
TONE_STEADINESS = 0.5


def louder_band(spectra: torch.Tensor) -> torch.Tensor:
    """One eighth of the bins, in the middle, 6 dB louder; the changes in dB stay as they are."""
    altered, bins = spectra.clone(), spectra.shape[2]
    altered[:, 0, bins * 7 // 16 : bins * 9 // 16] += BAND_DB
    return altered


def knocks(spectra: torch.Tensor) -> torch.Tensor:
    """All bins 6 dB louder for two frames of sixteen."""
    altered = spectra.clone()
    share = KNOCK_FRAMES / KNOCK_PERIOD
    altered[:, 0] += KNOCK_DB * share
    # At a lag below its length a knock meets itself: fewer pairs of frames differ.
    differing = [share * (1.0 - share), *(2.0 * min(lag, KNOCK_FRAMES) / KNOCK_PERIOD for lag in LAGS)]
    added = KNOCK_DB**2 * torch.tensor(differing, dtype=spectra.dtype)
    altered[:, 1:] = (spectra[:, 1:].square() + added[:, None]).sqrt()
    return altered


def tone(spectra: torch.Tensor) -> torch.Tensor:
    """Two bins, a third of the way up, 10 dB louder and steadier."""
    altered, place = spectra.clone(), spectra.shape[2] // 3
    altered[:, 0, place : place + 2] += TONE_DB
    altered[:, 1:, place : place + 2] *= TONE_STEADINESS
    return altered


# Spectra of clips (clips, 6, num_mel_bins) -> the same, altered.
ALTERATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "louder band (6 dB)": louder_band,
    "knocks (6 dB)": knocks,
    "tone (10 dB)": tone,
}


__all__ = ["ALTERATIONS"]
