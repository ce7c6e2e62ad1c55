"""How loud a machine normally is, and whether a sound is noise: what the mean log-mel says besides the anomaly score."""

from dataclasses import dataclass

import torch

from .spectrum_attention_asd import kept_bins, median


# Kinds of noise that no machine should be taken for.
NOISES = ("white noise", "brown noise")
# White and brown noise of 10 s: 0.21 to 0.26. 386 real clips, normal and faulty: 0.77 and more.
NOISE_ROUGHNESS, NOISE_FRAMES = 0.45, 313
# A recording so much louder or softer than all of the machine's normal clips gets a note.
LEVEL_DB = 3.0


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
    """

    bins: torch.Tensor
    lowest: float
    highest: float
    roughness: float | None

    @classmethod
    def of(cls, spectra: torch.Tensor, noise: torch.Tensor | None) -> "NormalLevel":
        """The level of normal clips.

        Args:
            spectra: of the clips, `(clips, 6, num_mel_bins)`.
            noise: the mean log-mel of white noise, `(num_mel_bins,)`.
        """
        mean, std = spectra[:, 0].double(), spectra[:, 1].double()
        bins = torch.stack([mean.mean(0), (std.square().mean(0) + mean.var(0, correction=0)).sqrt()]).float()
        offsets = offset_db(mean, bins[0])
        lowest_roughness = None if noise is None else roughness(mean, noise).min().item()
        return cls(bins, offsets.min().item(), offsets.max().item(), lowest_roughness)

    def excess_db(self, spectra: torch.Tensor) -> float:
        """How much louder (or softer, below 0) a recording is than all normal clips, in dB; 0 within their range.

        Args:
            spectra: of the recording, `(1, 6, num_mel_bins)`.
        """
        offset = offset_db(spectra[:, 0].double(), self.bins[0]).item()
        return max(offset - self.highest, 0.0) + min(offset - self.lowest, 0.0)


def offset_db(mean: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """By how much the mean log-mel of clips lies above the normal one in the median bin, `(clips,)` in dB.

    Args:
        mean: `(clips, num_mel_bins)`.
        normal: `(num_mel_bins,)`.
    """
    return median((mean - normal)[:, : kept_bins(mean.shape[1])])


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


__all__ = ["LEVEL_DB", "NOISES", "NormalLevel", "roughness", "roughness_limit"]
