"""How loud a machine normally is, and whether a sound is noise: what the mean log-mel says besides the anomaly score."""

import math
from dataclasses import dataclass

import torch

from .spectrum_attention_asd import kept_bins, median


# Kinds of noise that no machine should be taken for.
NOISES = ("white noise", "brown noise")
# White and brown noise of 10 s: 0.21 to 0.26. 386 real clips, normal and faulty: 0.77 and more.
NOISE_ROUGHNESS, NOISE_FRAMES = 0.45, 313
# A recording so much louder or softer than all of the machine's normal clips gets a note.
LEVEL_DB = 3.0
# It is so in nearly every bin; a fault may raise more than half of them.
WHOLE_SHARE = 0.9
# The highest bins (three of 128) lie so far below the machine's, beside the other bins, where a codec or a low sampling rate
# has cut them off. Of 386 real clips, normal and faulty, not one lies there.
MISSING_DB, TOP_BINS = -15.0, 3 / 128
# Of 128 bins below, so many are left out as well: the filter begins to fall off there.
EDGE_BINS = 3 / 128


@dataclass(frozen=True, eq=False)
class NormalLevel:
    """The level of a machine in normal operation. Made by [`NormalLevel.of`].

    Args:
        bins (`torch.Tensor` of shape `(2, num_mel_bins)`):
            Mean and standard deviation of its log-mel in dB, over clips and frames.
        lowest, highest (`float`):
            The lowest and the highest offset of its clips from that mean, in dB; see [`NormalLevel.offset`].
        roughness (`float`, *optional*):
            The lowest [`roughness`] of its clips; `None` where the spectrum of noise is not known.
        frames (`float`, *optional*):
            Frames of the log-mel that its clips have on average; `None` where all fill the network's clip.
    """

    bins: torch.Tensor
    lowest: float
    highest: float
    roughness: float | None
    frames: float | None = None

    @classmethod
    def of(cls, spectra: torch.Tensor, noise: torch.Tensor | None, frames: torch.Tensor | None = None) -> "NormalLevel":
        """The level of normal clips.

        Args:
            spectra: of the clips, `(clips, 6, num_mel_bins)`.
            noise: the mean log-mel of white noise, `(num_mel_bins,)`.
            frames: of the clips, `(clips,)`; `None` where all fill the network's clip.
        """
        mean, std = spectra[:, 0].double(), spectra[:, 1].double()
        bins = torch.stack([mean.mean(0), (std.square().mean(0) + mean.var(0, correction=0)).sqrt()]).float()
        offsets = offset_db(mean, bins[0])
        lowest_roughness = None if noise is None else roughness(mean, noise).min().item()
        mean_frames = None if frames is None else frames.double().mean().item()
        return cls(bins, offsets.min().item(), offsets.max().item(), lowest_roughness, mean_frames)

    def excess_db(self, spectra: torch.Tensor) -> float:
        """How much louder (or softer, below 0) a recording is than all normal clips, in dB; 0 within their range.

        Args:
            spectra: of the recording, `(1, 6, num_mel_bins)`.
        """
        return excess(spectra[0, 0].double(), self.bins[0], self.lowest, self.highest).item()

    def first_missing_bin(self, spectra: torch.Tensor) -> int | None:
        """The lowest of the bins at the top that a recording lacks; `None` where it lacks none.

        Args:
            spectra: of the recording, `(1, 6, num_mel_bins)`.
        """
        first_missing = int(first_missing_bin(spectra[0, 0], self.bins[0]))
        return first_missing if first_missing < spectra.shape[2] else None


def excess(
    mean: torch.Tensor, normal: torch.Tensor, lowest: float | torch.Tensor, highest: float | torch.Tensor
) -> torch.Tensor:
    """How much louder (or softer, below 0) a recording is than a range of offsets, in dB; 0 within the range.

    Args:
        mean: the mean log-mel of the recording, `(num_mel_bins,)` in float64.
        normal: that of the machine, `(num_mel_bins,)`.
        lowest, highest: the range, see [`NormalLevel`].
    """
    offset = offset_db(mean.unsqueeze(0), normal)
    beyond = (offset - highest).clamp_min(0.0) + (offset - lowest).clamp_max(0.0)
    moved = (mean - normal)[: kept_bins(len(mean))] * beyond > 0.0
    return torch.where(moved.double().mean() >= WHOLE_SHARE, beyond, torch.zeros_like(beyond))


def first_missing_bin(mean: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """The lowest of the bins at the top that a recording lacks; the number of bins where it lacks none.

    Args:
        mean: the mean log-mel of the recording, `(num_mel_bins,)`.
        normal: that of the machine, `(num_mel_bins,)`.
    """
    bins = len(mean)
    beside = mean - normal
    beside = beside - median(beside[: kept_bins(bins)].unsqueeze(0))
    present = (beside >= MISSING_DB) * torch.arange(1, bins + 1)
    first_missing = present.max()
    is_missing = bins - first_missing >= max(bins * TOP_BINS, 1)
    return torch.where(is_missing, (first_missing - edge_bins(bins)).clamp_min(1), bins)


def edge_bins(num_mel_bins: int) -> int:
    """The number of bins over which the filter of a codec or a resampler falls off."""
    return round(num_mel_bins * EDGE_BINS)


def offset_db(mean: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """By how much the mean log-mel of clips lies above the normal one in the median bin, `(clips,)` in dB.

    Args:
        mean: `(clips, num_mel_bins)`.
        normal: `(num_mel_bins,)`.
    """
    return median((mean - normal)[:, : kept_bins(mean.shape[1])])


def recording_level(spectra: torch.Tensor | None) -> float | None:
    """The level of a recording in dB: the median over mel bins of its mean log-mel. `None` where that is not known.

    Args:
        spectra: of its windows, `(windows, 6, num_mel_bins)`.
    """
    if spectra is None:
        return None
    mean = spectra[:, 0].double().mean(0, keepdim=True)
    level_db = median(mean[:, : kept_bins(mean.shape[1])]).item()
    return level_db if math.isfinite(level_db) else None


def roughness(mean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """How much the mean log-mel of clips changes its slope from bin to bin beside that of white noise, `(clips,)` in dB.

    It is the root mean square of the second difference, so that the color of the noise does not matter. A machine has tones
    and resonances. The lowest and highest bins are left out, where filters of recorders act.

    Args:
        mean: `(clips, num_mel_bins)`.
        noise: `(num_mel_bins,)`.
    """
    bins = mean.shape[1]
    beside_noise = (mean - noise)[:, bins // 32 : bins * 15 // 16]
    return beside_noise.diff(n=2, dim=1).square().mean(1).sqrt()


def roughness_limit(frames: int) -> float:
    """The roughness below which a recording of so many frames is noise.

    Noise is rougher in a short recording, by chance.
    """
    return NOISE_ROUGHNESS * max(NOISE_FRAMES / frames, 1.0) ** 0.5


__all__ = ["LEVEL_DB", "NOISES", "NormalLevel", "edge_bins", "recording_level", "roughness", "roughness_limit"]
