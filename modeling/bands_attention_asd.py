"""A clip relative to its machine's normal level, and one band of the clip: how far it is from normal, and when."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from .relevance_attention_asd import level_difference


# The two sides of the normal level.
ABOVE, BELOW = 1, -1

# A machine enrolled from one steady clip may have no spread at all.
MIN_STD_DB = 0.1
# Shorter gaps do not end a sound that lasts. A sound of at least this length is no burst.
GAP_S, LASTING_S = 0.25, 0.4


@dataclass(frozen=True)
class Clip:
    """A clip relative to its machine's normal level, with its axes.

    Attributes:
        deviation: `(bins, frames)` from the normal mean in dB.
        difference: `(bins, frames)` from the normal range in dB, see [`level_difference`].
        normal_std: of the machine's normal log-mel `(bins,)`, in dB.
        edges: of the mel bins `(bins + 1,)`, in Hz.
        hop_seconds: from one frame to the next.
        waveform: `(samples,)`; its envelope shows impacts that follow each other faster than the frames do.
    """

    deviation: np.ndarray
    difference: np.ndarray
    normal_std: np.ndarray
    edges: np.ndarray
    hop_seconds: float
    waveform: np.ndarray

    @classmethod
    def of(
        cls,
        waveform: torch.Tensor,
        normal_mean: np.ndarray | torch.Tensor,
        normal_std: np.ndarray | torch.Tensor,
        feature_extractor,
    ) -> "Clip":
        """Compare a clip `(samples,)` with its machine's normal log-mel, mean and standard deviation `(bins,)` in dB."""
        log_mel = feature_extractor.log_mel(waveform).cpu()
        mean, std = (torch.as_tensor(level).cpu().float() for level in (normal_mean, normal_std))
        std = std.clamp_min(MIN_STD_DB)
        return cls(
            deviation=(log_mel - mean[:, None]).numpy(),
            difference=level_difference(log_mel, mean, std).numpy(),
            normal_std=std.numpy(),
            edges=bin_edges(feature_extractor.mel_frequencies),
            hop_seconds=feature_extractor.hop_length / feature_extractor.sampling_rate,
            waveform=waveform.cpu().numpy(),
        )

    @property
    def seconds(self) -> float:
        """The time from the first frame to the last."""
        return (self.deviation.shape[1] - 1) * self.hop_seconds

    def frames(self, seconds: float) -> int:
        """Convert a time to a number of frames."""
        return round(seconds / self.hop_seconds)

    def intervals(self, frames: np.ndarray) -> tuple[tuple[float, float], ...]:
        """Convert the runs in a mask of frames to seconds; a frame stands for the hop around its center."""
        edges = run_edges(frames) - 0.5
        seconds = np.clip(edges * self.hop_seconds, 0, self.seconds)
        return tuple((round(float(start), 3), round(float(end), 3)) for start, end in seconds)


def bin_edges(centers: np.ndarray) -> np.ndarray:
    """Return the edges half-way between the centers of bins: `(bins,)` -> `(bins + 1,)`."""
    inner = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([[max(2 * centers[0] - inner[0], 0.0)], inner, [2 * centers[-1] - inner[-1]]])


@dataclass(frozen=True)
class Band:
    """A band of a clip, on one side of the normal level.

    Attributes:
        clip: the whole clip.
        bins: the band's rows.
        sign: `ABOVE` or `BELOW` the normal level.
        relevance: of the band's cells `(band's bins, frames)`.
        level: distance from normal in dB `(frames,)`, over the bins, where each bin counts as it is relevant.
        level_db: mean of `level`, where each frame counts as it is relevant.
    """

    clip: Clip
    bins: slice
    sign: int
    relevance: np.ndarray
    level: np.ndarray
    level_db: float

    @classmethod
    def of(cls, clip: Clip, bins: slice, sign: int, relevance: np.ndarray) -> "Band":
        """Measure the level of a band."""
        weights = relevance.sum(1) / relevance.sum()
        level = sign * (weights @ clip.deviation[bins])
        level_db = float(relevance.sum(0) @ level / relevance.sum())
        return cls(clip, bins, sign, relevance, level, level_db)

    @property
    def low_hz(self) -> float:
        """Lower edge."""
        return float(self.clip.edges[self.bins.start])

    @property
    def high_hz(self) -> float:
        """Upper edge."""
        return float(self.clip.edges[self.bins.stop])

    @cached_property
    def is_active(self) -> np.ndarray:
        """Mask of the frames `(frames,)` in which the level exceeds half its height."""
        return self.level > self.level_db / 2

    @cached_property
    def lasts(self) -> np.ndarray:
        """Mask of the frames `(frames,)` in which the sound goes on, averaged over five frames and over short gaps."""
        steady = np.convolve(np.pad(self.level, 2, mode="edge"), np.full(5, 0.2), "valid") > self.level_db / 2
        return long_runs(close_gaps(steady, self.clip.frames(GAP_S)), self.clip.frames(LASTING_S))


# Runs of frames or bins


def run_edges(is_on: np.ndarray) -> np.ndarray:
    """Return the first position of each run, and the position after its last: `(runs, 2)`."""
    return np.flatnonzero(np.diff(is_on.astype(int), prepend=0, append=0)).reshape(-1, 2)


def close_gaps(is_on: np.ndarray, longest: int) -> np.ndarray:
    """Fill the gaps of at most `longest` between runs."""
    is_off = ~is_on
    on = np.flatnonzero(is_on)
    if len(on):
        is_off[: on[0]] = is_off[on[-1] + 1 :] = False
    closed = is_on.copy()
    closed[is_off & ~long_runs(is_off, longest + 1)] = True
    return closed


def long_runs(is_on: np.ndarray, shortest: int) -> np.ndarray:
    """Keep the runs of at least `shortest`."""
    kept = np.zeros_like(is_on)
    for start, end in run_edges(is_on):
        kept[start:end] = end - start >= shortest
    return kept


__all__ = ["ABOVE", "BELOW", "Band", "Clip", "close_gaps", "long_runs"]
