"""
Hearing: what is normal of a machine's spectra, and how far a clip is from that.

Spectra are statistics of the log-mel over time, see `SPECTRA_ROWS`. They need no training, and normal clips of every
machine tell how they vary together. [`fit_space`] learns that from all machines, [`describe`] one machine in this space.
All tensors are on the CPU. D is the number of statistics that are compared, see [`compared`].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .configuration_attention_asd import LAGS


# Of the lower 31/32 of the bins (to 7.4 kHz) recordings tell the machine; above, the resampling filter or the codec.
KEPT_BINS = (31, 32)
# An enrolled machine's own variation counts beside the shared one as if the latter were known from so many clips. The value
# has the highest likelihood of left-out normal clips, on three sets of machines.
OWN_PRIOR = 256.0
# Clips of shared variation that are added before a machine's extra variance is worked out.
EXTRA_PRIOR = 2.0
# The score is the distance over the distance to the center of all machines to this power. What raises both, such as a noisy
# recording, counts half. Flat from 0.25 to 0.75.
RELATIVE = 0.5
# Directions of an enrolled machine's own variation that are kept: all of up to so many clips.
MAX_OWN = 128
# The mean and the changes over four lags.
COMPARED_ROWS = 1 + len(LAGS)
# Normal clips of a machine that are kept as they are.
MAX_EXAMPLES = 8
MIN_DEVIATION = 1e-6
MIN_VARIANCE = 1e-6
MIN_SQUARE = 1e-12


# Statistics


def kept_bins(num_mel_bins: int) -> int:
    """The number of mel bins, from the lowest, that are compared."""
    return max(num_mel_bins * KEPT_BINS[0] // KEPT_BINS[1], 1)


def compared(spectra: torch.Tensor) -> torch.Tensor:
    """The statistics that clips are compared by, `(clips, D)` in float64: the mean and the changes of the kept bins.

    The clip's own level, the median of its means, is taken out: it depends on the gain and the distance of the microphone.
    The standard deviation over time is left out: with it the official AUC on real recordings fell from 0.946 to 0.913.

    Args:
        spectra: `(clips, 6, num_mel_bins)` in dB.
    """
    kept = spectra[:, :, : kept_bins(spectra.shape[2])].double()
    mean = kept[:, 0]
    return torch.cat([mean - median(mean).unsqueeze(1), kept[:, 2:].flatten(1)], dim=1)


def median(values: torch.Tensor) -> torch.Tensor:
    """The median of each row `(rows, values)`; the mean of the middle two of an even number."""
    count = values.shape[1]
    # PyTorch's own median takes the lower one, and its quantile has no counterpart in ONNX.
    lowest = values.topk(count // 2 + 1, dim=1, largest=False).values
    return lowest[:, -1] if count % 2 else lowest[:, -2:].mean(1)


def pooled(spectra: torch.Tensor) -> torch.Tensor:
    """The spectra of a recording `(1, 6, num_mel_bins)` from those of its windows `(windows, 6, num_mel_bins)`.

    That is the mean of the means, and the root mean square of the other rows.
    """
    means, others = spectra[:, :1].mean(0), spectra[:, 1:].square().mean(0).sqrt()
    return torch.cat([means, others]).unsqueeze(0)


def with_missing_bins(spectra: torch.Tensor, normal: torch.Tensor, first_missing: int) -> torch.Tensor:
    """Spectra `(clips, 6, num_mel_bins)` with a machine's normal statistics in the bins that a recording lacks.

    So these bins say nothing about the clip, and get no gradient.

    Args:
        spectra: of the clips.
        normal: the machine's normal statistics, see [`normal_statistics`].
        first_missing: the lowest of the bins that the recording lacks.
    """
    kept = normal.shape[1]
    normal = normal.to(spectra)
    level = median(spectra[:, 0, :first_missing] - normal[0, :first_missing])
    means = torch.cat([spectra[:, 0, :first_missing], normal[0, first_missing:] + level.unsqueeze(1)], dim=1)
    changes = normal[1:, first_missing:].expand(len(spectra), -1, -1)
    changes = torch.cat([spectra[:, 2:, :first_missing], changes], dim=2)
    filled = torch.cat([means.unsqueeze(1), spectra[:, 1:2, :kept], changes], dim=1)
    return torch.cat([filled, spectra[:, :, kept:]], dim=2)


# What all machines share


@dataclass(frozen=True, eq=False)
class SpectrumSpace:
    """Coordinates in which normal clips vary independently around their machine's mean. Made by [`fit_space`].

    Args:
        matrix (`torch.Tensor` of shape `(D, D)`):
            From the statistics to the coordinates.
        variances (`torch.Tensor` of shape `(D,)`):
            How much normal clips vary around their machine's mean in each coordinate.
        center (`torch.Tensor` of shape `(D,)`):
            The mean of the fitted machines' means, in the coordinates.
    """

    matrix: torch.Tensor
    variances: torch.Tensor
    center: torch.Tensor

    def coordinates(self, spectra: torch.Tensor) -> torch.Tensor:
        """The coordinates `(clips, D)` of spectra `(clips, 6, num_mel_bins)`."""
        statistics = compared(spectra)
        if statistics.shape[1] != len(self.matrix):
            raise ValueError(
                f"the spectra have {spectra.shape[2]} mel bins: expected as many as those that the detector was fitted on."
            )
        return statistics @ self.matrix


def fit_space(statistics: torch.Tensor, machines: np.ndarray) -> SpectrumSpace:
    """Learn from normal clips of all machines how their statistics vary together.

    Each statistic is divided by its standard deviation within machines. Only then is the covariance estimated and shrunk
    (Ledoit and Wolf 2004): on real recordings this raised the official AUC by 6 to 11 points.

    Args:
        statistics: of normal clips, `(clips, D)`; see [`compared`].
        machines: each clip's machine, `(clips,)`.
    """
    try:
        from sklearn.covariance import ledoit_wolf_shrinkage
    except ImportError:
        raise ImportError("Fitting an AnomalyDetector needs scikit-learn: pip install scikit-learn") from None
    groups = [statistics[torch.from_numpy(machines == name)] for name in np.unique(machines)]
    residuals = torch.cat([group - group.mean(0) for group in groups])
    clips, size = residuals.shape
    degrees = max(clips - len(groups), 1)
    deviation = (residuals.square().sum(0) / degrees).sqrt().clamp_min(MIN_DEVIATION)
    standardized = residuals / deviation
    shrinkage = float(ledoit_wolf_shrinkage(standardized.numpy(), assume_centered=True))
    covariance = (1.0 - shrinkage) * (standardized.T @ standardized) / clips
    covariance.diagonal().add_(shrinkage * standardized.square().sum() / clips / size)
    variances, directions = torch.linalg.eigh(covariance * (clips / degrees))
    matrix = rounded(directions / deviation.unsqueeze(1))
    center = torch.stack([group.mean(0) for group in groups]).mean(0) @ matrix
    return SpectrumSpace(matrix, rounded(variances.clamp_min(MIN_VARIANCE)), rounded(center))


def rounded(values: torch.Tensor) -> torch.Tensor:
    """Values in float64, rounded to the float32 that they are saved in."""
    return values.float().double().contiguous()


# One machine


@dataclass(frozen=True, eq=False)
class MachineSpectrum:
    """A machine in normal operation, as a place and an extent in a [`SpectrumSpace`]. Made by [`describe`].

    Args:
        mean (`torch.Tensor` of shape `(D,)`):
            The mean of its normal clips.
        clips (`int`):
            The number of clips that the mean is of.
        extra_variance (`float`):
            The variance that it has in every coordinate beyond the shared one; 0 where this one explains its clips.
        own (`torch.Tensor` of shape `(directions, D)`):
            Its own variation, in float32; see [`own_variation`]. A fitted machine, whose clips are part of the shared
            variation, has none.
        examples (`torch.Tensor` of shape `(examples, D)`):
            A few of its normal clips beside the mean, in float16: what another machine's self-test tries.
    """

    mean: torch.Tensor
    clips: int
    extra_variance: float
    own: torch.Tensor
    examples: torch.Tensor

    @property
    def scale(self) -> float:
        """What the squared distance is multiplied by: the share of its own clips in what is known of its variation."""
        return 1.0 + (self.clips - 1) / OWN_PRIOR if len(self.own) else 1.0


def describe(space: SpectrumSpace, clips: torch.Tensor, is_enrolled: bool) -> MachineSpectrum:
    """Describe a machine by its normal clips.

    Args:
        space: the shared space.
        clips: the coordinates of its normal clips, `(clips, D)`, one or more.
        is_enrolled: whether the clips are no part of the fit of `space`, so that its own variation has to count.
    """
    mean, variances = rounded(clips.mean(0)), space.variances
    residuals = clips - clips.mean(0)
    examples = residuals[evenly(len(clips), MAX_EXAMPLES)].half()
    if not is_enrolled or len(clips) == 1:
        return MachineSpectrum(mean, len(clips), 0.0, torch.empty(0, len(mean)), examples)
    own = (EXTRA_PRIOR * variances + residuals.square().sum(0)) / (EXTRA_PRIOR + len(clips) - 1)
    extra = solve_extra_variance(variances, own)
    return MachineSpectrum(mean, len(clips), extra, own_variation(residuals / (variances + extra).sqrt()), examples)


def evenly(count: int, most: int) -> list[int]:
    """Places among `count`, evenly spaced, not more than `most` of them."""
    kept = min(count, most)
    return [place * count // kept for place in range(kept)]


def solve_extra_variance(shared: torch.Tensor, own: torch.Tensor) -> float:
    """The t >= 0 for which the mean of own / (shared + t) is 1; 0 where the mean is less already.

    Args:
        shared: shared variances `(D,)`.
        own: the machine's variances `(D,)`.
    """
    if (own / shared).mean() <= 1.0:
        return 0.0
    low, high = 0.0, 2.0 * own.max().item()
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if (own / (shared + middle)).mean() > 1.0 else (low, middle)
    return high


def own_variation(residuals: torch.Tensor) -> torch.Tensor:
    """The rows r `(directions, D)` with which |z|^2 - |r z|^2 is the distance by shared and own variation together.

    The covariance is I + B'B / nu, whose inverse is I - V diag(s^2 / (nu + s^2)) V' by the singular values s and
    directions V of B.

    Args:
        residuals: B, the clips' deviations from their mean in units of the shared variation, `(clips, D)`.
    """
    squares, vectors = torch.linalg.eigh(residuals @ residuals.T)
    kept = min(len(residuals) - 1, residuals.shape[1], MAX_OWN)
    squares, vectors = squares[-kept:].clamp_min(MIN_SQUARE), vectors[:, -kept:]
    return ((vectors / (OWN_PRIOR + squares).sqrt()).T @ residuals).float()


# Distances


def log_distance(space: SpectrumSpace, machine: MachineSpectrum, clips: torch.Tensor) -> torch.Tensor:
    """The logarithm of clips' squared Mahalanobis distance to a machine, over D, `(clips,)`.

    A normal clip's is about 0: the distance is corrected for the uncertainty of the machine's mean.

    Args:
        space: the shared space.
        machine: the machine.
        clips: coordinates `(clips, D)`.
    """
    deviations = (clips - machine.mean) / (space.variances + machine.extra_variance).sqrt()
    squares = deviations.square().sum(1)
    if len(machine.own):
        squares = machine.scale * (squares - (deviations @ machine.own.double().T).square().sum(1))
    correction = machine.clips / (machine.clips + 1) / len(machine.mean)
    return (squares * correction).clamp_min(MIN_SQUARE).log()


def anomaly_score(space: SpectrumSpace, machine: MachineSpectrum, clips: torch.Tensor) -> torch.Tensor:
    """The squared distance of clips `(clips, D)` to a machine beside that to the center of all machines, `(clips,)`."""
    from_center = ((clips - space.center).square() / space.variances).mean(1)
    return (log_distance(space, machine, clips) - RELATIVE * from_center.clamp_min(MIN_SQUARE).log()).exp()


def similarity(space: SpectrumSpace, machine: MachineSpectrum, clips: torch.Tensor) -> torch.Tensor:
    """The cosine between clips and a machine's mean as seen from the center of all machines, `(clips,)` in [-1, 1].

    0 where the mean is the center itself, as that of a single fitted machine.
    """
    deviations = space.variances.sqrt()
    return torch.cosine_similarity(
        (clips - space.center) / deviations, (machine.mean - space.center) / deviations, dim=1
    )


def unlikelihood(space: SpectrumSpace, machine: MachineSpectrum, clips: torch.Tensor) -> torch.Tensor:
    """How unlikely clips `(clips, D)` are as those of a machine, beside other machines, `(clips,)`.

    It is the distance, and the logarithm of the machine's variance beside the shared one: a machine that varies more is
    less likely to be meant at the same distance. Without this, four toy cars enrolled beside 16 machines took 10 % of these
    machines' normal clips for their own; with it none.
    """
    return log_distance(space, machine, clips) + extent(space, machine)


def extent(space: SpectrumSpace, machine: MachineSpectrum) -> float:
    """The mean logarithm of a machine's variance beside the shared one."""
    return torch.log1p(machine.extra_variance / space.variances).mean().item()


def normal_statistics(space: SpectrumSpace, machine: MachineSpectrum) -> torch.Tensor:
    """A machine's mean statistics, `(rows, kept bins)` in dB: what [`compared`] makes of its clips, on average."""
    # The rows of the matrix are orthogonal: its inverse needs no solving.
    inverse = (space.matrix / space.matrix.square().sum(1, keepdim=True)).T
    return (machine.mean @ inverse).reshape(COMPARED_ROWS, -1)


class NearestMachine:
    """Finds the machine that a clip is nearest to, among any number of machines.

    Args:
        space: the shared space.
        machines: the machines, one or more.
    """

    # Exact distances to 10,000 machines would take 40 ms; these candidates take less than 1.
    CANDIDATES = 16

    def __init__(self, space: SpectrumSpace, machines: Sequence[MachineSpectrum]):
        self.space, self.machines = space, machines
        self.deviations = space.variances.sqrt()
        self.means = self.whitened(torch.stack([machine.mean for machine in machines]))
        self.lengths = self.means.square().sum(1)

    def whitened(self, coordinates: torch.Tensor) -> torch.Tensor:
        return ((coordinates - self.space.center) / self.deviations).float()

    def __call__(self, clip: torch.Tensor) -> int:
        """The place of the machine that the clip is most likely of.

        Args:
            clip: coordinates `(1, D)`.
        """
        from_center = self.whitened(clip)[0]
        squares = self.lengths - 2.0 * (self.means @ from_center) + from_center.square().sum()
        candidates = squares.topk(min(self.CANDIDATES, len(self.machines)), largest=False).indices
        places = candidates.sort().values.tolist()
        return min(places, key=lambda place: unlikelihood(self.space, self.machines[place], clip).item())


__all__ = [
    "MachineSpectrum",
    "NearestMachine",
    "SpectrumSpace",
    "anomaly_score",
    "compared",
    "describe",
    "evenly",
    "fit_space",
    "log_distance",
    "normal_statistics",
    "pooled",
    "similarity",
    "unlikelihood",
    "with_missing_bins",
]
