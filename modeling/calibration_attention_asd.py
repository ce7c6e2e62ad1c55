"""
From scores of held-out normal clips to p-values and thresholds.

A machine with enough calibration clips gets its p-values from ranks among them, with a guarantee. A machine with fewer
gets them from the tail of a distribution, fitted to its clips and to those of the other machines. Begin with
[`Calibration`].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch

from .reference_attention_asd import MIN_VARIANCE, ScorePrior


# Below this a tail says nothing, and machines whose scores are all the same would count as known exactly.
MIN_DEGREES = 2.0
MIN_CLIPS_FOR_OUTLIERS = 10
# A rate that is reached exactly counts as reached.
ROUNDING = 1e-9


# P-values and thresholds


class Tail(NamedTuple):
    """Student's t of normal scores on the tail's scale, see [`to_tail_scale`]."""

    location: float
    scale: float
    degrees: float


@dataclass(frozen=True, eq=False)
class Ranks:
    """Normal scores as the ranks among n calibration scores: a p-value, and its inverse, the threshold.

    p = (1 + #{calibration >= score}) / (n + 1) is at most a with probability a at most, whatever the scores'
    distribution, for normal clips that could have been drawn with the calibration clips (Vovk et al. 2005).
    """

    calibration: np.ndarray
    method: str

    def p_value(self, scores: np.ndarray) -> np.ndarray:
        """How often a normal clip scores as high or higher, `(clips,)`."""
        return (1.0 + count_at_least(self.calibration, scores)) / (len(self.calibration) + 1.0)

    def threshold(self, rate: float) -> float:
        """The score above which the p-value does not exceed `rate`."""
        return self.calibration[len(self.calibration) - count_within(self.calibration, rate)].item()


@dataclass(frozen=True, eq=False)
class FittedTail:
    """Normal scores as a fitted tail: a p-value, and its inverse, the threshold.

    The tail is believed only beyond the calibration clips: no score is rarer than it was among them.
    """

    backend: str
    calibration: np.ndarray
    tail: Tail | None
    method: str

    def p_value(self, scores: np.ndarray) -> np.ndarray:
        """How often a normal clip scores as high or higher, `(clips,)`; NaN where nothing is known."""
        if self.tail is None:
            return np.full(len(scores), np.nan)
        location, scale, degrees = self.tail
        p_values = student_tail((to_tail_scale(self.backend, scores) - location) / scale, degrees)
        return np.maximum(p_values, count_at_least(self.calibration, scores) / (len(self.calibration) + 1.0))

    def threshold(self, rate: float) -> float | None:
        """The score above which the p-value does not exceed `rate`; `None` where nothing is known."""
        if self.tail is None:
            return None
        location, scale, degrees = self.tail
        beyond = from_tail_scale(self.backend, location + scale * student_quantile(rate, degrees))
        # As many calibration clips as this may lie above.
        highest, above = len(self.calibration), count_within(self.calibration, rate)
        return max([beyond, *self.calibration[highest - 1 - above : highest - above].tolist()])


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a machine's normal clips say about the scores of one back end. Made by [`fit_calibration`].

    Args:
        backend (`str`):
            The back end that gave the scores.
        scores (`np.ndarray` of shape `(clips,)`):
            Scores of normal clips that were not fitted on, ascending.
        tail ([`Tail`], *optional*):
            The distribution fitted to them, or `None` where too little is known.
        is_cross (`bool`):
            Whether each clip was scored against the machine's other clips, as in an enrollment.
    """

    backend: str
    scores: np.ndarray
    tail: Tail | None
    is_cross: bool = False

    def p_value(self, scores: np.ndarray, rate: float) -> np.ndarray:
        """How often a normal clip scores as high or higher, `(clips,)`; NaN where nothing is known."""
        return self.normal_scores(rate).p_value(scores)

    def threshold(self, rate: float) -> float | None:
        """The score above which the p-value does not exceed `rate`; `None` where nothing is known."""
        return self.normal_scores(rate).threshold(rate)

    def method(self, rate: float) -> str:
        """What a p-value rests on: `conformal`, `cross-conformal`, `fitted tail` or `other machines`."""
        return self.normal_scores(rate).method

    def normal_scores(self, rate: float) -> Ranks | FittedTail:
        """The distribution of normal scores: ranks where a rank can be as rare as `rate`, else the fitted tail."""
        if rate * (len(self.scores) + 1) >= 1.0 - ROUNDING:
            return Ranks(self.scores, "cross-conformal" if self.is_cross else "conformal")
        return FittedTail(self.backend, self.scores, self.tail, "fitted tail" if len(self.scores) else "other machines")


def count_at_least(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How many calibration scores are as high as each of `scores` or higher, `(clips,)`."""
    # In NumPy: for the few scores of a recording each of PyTorch's operations takes three times as long.
    return len(calibration) - np.searchsorted(calibration, scores, side="left")


def count_within(calibration: np.ndarray, rate: float) -> int:
    """The largest k for which k of n + 1 ranks are no more than the share `rate`."""
    return math.floor(rate * (len(calibration) + 1) + ROUNDING)


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values: at a, the procedure of Benjamini and Hochberg (1995) rejects those that do not exceed a."""
    count = len(p_values)
    if count == 1:
        return p_values
    order = np.argsort(-p_values)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.minimum.accumulate(p_values[order] * (count / np.arange(count, 0, -1))), 1.0)
    return adjusted


def checked_rate(rate: float) -> float:
    """The false-alarm rate, if it is a possible one.

    Raises:
        ValueError: where it is not above 0 and at most 0.5.
    """
    if not 0.0 < rate <= 0.5:
        raise ValueError(
            f"false_alarm_rate={rate}: expected more than 0 and at most 0.5, such as 0.01 for 1 clip in 100."
        )
    return float(rate)


# Fitting


def fit_prior(backend: str, groups: Sequence[np.ndarray]) -> ScorePrior:
    """How a back end's normal scores vary within a machine, on the tail's scale.

    Args:
        backend: the back end that gave the scores.
        groups: each machine's calibration scores `(clips,)`, ascending. Groups of one clip say nothing.
    """
    values = [without_low_outliers(to_tail_scale(backend, group)) for group in groups if len(group) > 1]
    return variance_prior([group.var(ddof=1).item() for group in values], [len(group) - 1 for group in values])


def tail_mean(backend: str, scores: np.ndarray) -> float:
    """The mean of scores `(clips,)` on the tail's scale."""
    return float(to_tail_scale(backend, scores).mean())


def fit_calibration(
    backend: str,
    scores: np.ndarray,
    prior: ScorePrior,
    *,
    independent: int,
    other_means: Sequence[float] = (),
    is_cross: bool = False,
) -> Calibration:
    """Calibrate a machine and back end.

    On the tail's scale normal scores are close to Gaussian, so that the next one follows Student's t around their
    mean: few clips give a wide tail, as they should. The variance is the machine's own and that of the other
    machines, weighed by how much machines differ in it (Smyth 2004).

    A distance's logarithm rather than the cube root that makes a gamma distribution Gaussian (Wilson and Hilferty
    1931; the DCASE baselines fit a gamma): for nearest-neighbor distances in simulation the latter raised 1.5 %
    false alarms where 1 % were asked for, the former 1.0 %, and 0.5 % for scores that do follow a gamma
    distribution.

    Args:
        backend: the back end that gave the scores.
        scores: of the machine's normal clips that were not fitted on, `(clips,)`, ascending.
        prior: how scores vary within a machine, see [`fit_prior`].
        independent: how many of the scores are independent. With none, the mean comes from `other_means`.
        other_means: the [`tail_mean`] of other machines' normal scores.
        is_cross: whether each clip was scored against the machine's other clips.
    """
    if independent:
        tail = own_tail(to_tail_scale(backend, scores), prior, independent)
    else:
        tail = tail_of_others(other_means, prior)
    is_known = tail.degrees >= MIN_DEGREES and math.isfinite(tail.location)
    return Calibration(backend, scores, tail if is_known else None, is_cross)


def own_tail(values: np.ndarray, prior: ScorePrior, clips: int) -> Tail:
    """The tail around the mean of a machine's own values, `clips` of them independent."""
    values = without_low_outliers(values)
    own = values.var(ddof=1).item() if clips > 1 else 0.0
    degrees = prior.degrees + clips - 1
    variance = (prior.degrees * prior.variance + (clips - 1) * own) / max(degrees, 1.0)
    return Tail(values.mean().item(), tail_scale(variance * (1.0 + 1.0 / clips)), degrees)


def tail_of_others(other_means: Sequence[float], prior: ScorePrior) -> Tail:
    """The tail around the mean of other machines' means, wider by how much these differ."""
    means = torch.tensor(other_means, dtype=torch.float64)
    between = means.var().item() * (1.0 + 1.0 / len(means)) if len(means) > 1 else 0.0
    return Tail(means.mean().item(), tail_scale(prior.variance + between), min(prior.degrees, len(means) - 1))


def tail_scale(variance: float) -> float:
    return math.sqrt(max(variance, MIN_VARIANCE))


# Statistics


def to_tail_scale(backend: str, scores: np.ndarray) -> np.ndarray:
    """Scores on a scale on which those of normal clips are close to Gaussian.

    That is the logarithm of a distance. A cross-entropy is the softplus of a distance between logits, and becomes that
    distance. The combined score is on the scale already.
    """
    if backend == "combined":
        return scores
    if backend == "arcface":
        scores = np.maximum(scores, 1e-300)
        return scores + np.log(-np.expm1(-scores))
    return np.log(np.maximum(scores, 1e-12))


def from_tail_scale(backend: str, value: float) -> float:
    """The score that [`to_tail_scale`] makes `value` of."""
    if backend == "combined":
        return value
    return float(np.logaddexp(value, 0.0) if backend == "arcface" else np.exp(value))


def without_low_outliers(values: np.ndarray) -> np.ndarray:
    """Values with none left that lies three times farther below the median than the highest lies above it.

    A clip that is all but a copy of a fitted one has a logarithm far below the others', and says nothing about the tail
    above.
    """
    if len(values) < MIN_CLIPS_FOR_OUTLIERS:
        return values
    return np.maximum(values, 4.0 * np.quantile(values, 0.5, method="lower") - 3.0 * values.max())


def student_tail(t: np.ndarray, degrees: float) -> np.ndarray:
    """P(T > t) of Student's t, from Wallace's (1959) Gaussian approximation.

    It errs on the large side: by 0.1 % of the value at 10 degrees of freedom and a probability of 0.01, by 15 % at 2.
    """
    z = np.sqrt(degrees * np.log1p(np.square(t) / degrees)) * ((8.0 * degrees + 1.0) / (8.0 * degrees + 3.0))
    return np.array([0.5 * math.erfc(value) for value in (np.copysign(z, t) / math.sqrt(2.0)).tolist()])


def student_quantile(rate: float, degrees: float) -> float:
    """The t for which [`student_tail`] is `rate`."""
    z = -NormalDist().inv_cdf(rate)
    widened = z * (8.0 * degrees + 3.0) / (8.0 * degrees + 1.0)
    return math.copysign(math.sqrt(degrees * math.expm1(widened**2 / degrees)), z)


def variance_prior(variances: Sequence[float], degrees: Sequence[float]) -> ScorePrior:
    """The variance that groups have in common, and how many degrees of freedom it is worth beside a group's own.

    The more the groups differ, the fewer (Smyth 2004, Section 6.2).

    Args:
        variances: each group's variance.
        degrees: each group's degrees of freedom.
    """
    if not variances:
        return ScorePrior(0.0, 0.0)
    if len(variances) == 1:
        return ScorePrior(variances[0], 0.0)
    half = torch.tensor(degrees, dtype=torch.float64) / 2.0
    logs = torch.tensor(variances, dtype=torch.float64).clamp_min(MIN_VARIANCE).log() - torch.digamma(half) + half.log()
    excess = (logs.var() - torch.special.polygamma(1, half).mean()).item()
    if excess <= 0.0:
        return in_float32(math.exp(logs.mean()), float(sum(degrees)))
    y = torch.tensor(0.5 + 1.0 / excess, dtype=torch.float64)
    for _ in range(20):  # Newton's method for trigamma(y) = excess, from Smyth's appendix
        trigamma = torch.special.polygamma(1, y)
        y = y + trigamma * (1.0 - trigamma / excess) / torch.special.polygamma(2, y)
    return in_float32(math.exp(logs.mean() + torch.digamma(y) - y.log()), min(2.0 * y.item(), float(sum(degrees))))


def in_float32(variance: float, degrees: float) -> ScorePrior:
    """A prior rounded to float32, the precision that the measured figures were made with."""
    return ScorePrior(*torch.tensor([variance, degrees], dtype=torch.float32).tolist())


__all__ = ["Calibration", "benjamini_hochberg", "checked_rate", "fit_calibration", "fit_prior", "tail_mean"]
