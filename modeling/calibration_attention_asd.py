"""
From scores of normal clips to p-values and thresholds.

A machine's own normal scores say where its next one lies and how far it may lie from there; those of all other machines
are a prior that its own outweigh as they come in. Begin with [`Calibration`].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch

from .student_attention_asd import student_quantile, student_tail


# Other machines' scores say where a machine's own lie as much as so many own clips at most: with more, machines enrolled
# from two clips raised 9 to 14 % false alarms where 5 % were asked for.
MAX_LOCATION_CLIPS = 2.0
# A machine with fewer scores says nothing about how scores vary.
MIN_CLIPS = 3
# From so many machines and scores on, the shape of the tail is fitted to them.
MIN_MACHINES, MIN_SCORES = 8, 100
MAX_DEGREES = 100.0
MIN_VARIANCE = 1e-12
# The logarithm of the score of a normal clip that is cut to 1/r of its length rises by this times log(r), and varies by that
# times sqrt(log(r)). Of 64 left-out normal clips of 10 s cut to 4, 2, 1 and 0.5 s the rise is 0.39, 0.71, 1.03 and 1.41, its
# standard deviation 0.16, 0.22, 0.23 and 0.25.
SHORT_RISE, SHORT_SPREAD = 0.45, 0.16


class StudentT(NamedTuple):
    """Student's t: degrees of freedom, location and scale."""

    degrees: float
    location: float
    scale: float


@dataclass(frozen=True)
class ScorePrior:
    """What the normal scores of all machines say about those of one. Made by [`fit_prior`].

    Args:
        location (`float`):
            The mean over machines of their mean score.
        location_clips (`float`):
            How many of a machine's own clips that is worth.
        variance, degrees (`float`):
            The variance of scores within a machine, and the degrees of freedom that it is worth (Smyth 2004).
        tail ([`StudentT`], *optional*):
            The distribution of left-out scores, each beside its prediction and in units of that one's scale. `None`
            where there are too few: they are then taken to follow Student's t.
        count (`int`):
            The number of scores that all this rests on. No p-value is below 1 / (count + 1).
    """

    location: float
    location_clips: float
    variance: float
    degrees: float
    tail: StudentT | None
    count: int


@dataclass(frozen=True, eq=False)
class Calibration:
    """What normal clips say about the scores of one machine and back end. Made by [`Calibration.of`].

    The p-value is one monotone function of the score, whatever the false-alarm rate that is asked for. The threshold is
    its inverse.

    Args:
        backend (`str`):
            The back end that gives the scores.
        scores (`np.ndarray` of shape `(clips,)`):
            The machine's own normal scores in the order of the clips, each by a detector that had not seen the clip.
        prior ([`ScorePrior`], *optional*):
            What the scores of all machines say; `None` where nothing is known.
        shortening (`float`):
            How many times shorter the clip in question is than the machine's normal clips.
    """

    backend: str
    scores: np.ndarray
    prior: ScorePrior | None
    shortening: float = 1.0

    @classmethod
    def of(cls, backend: str, scores: np.ndarray, prior: ScorePrior | None) -> "Calibration":
        """A calibration that knows nothing where neither the machine's own scores nor others say where scores lie."""
        is_known = prior is not None and len(scores) + prior.location_clips > 0
        return cls(backend, scores, prior if is_known else None)

    def of_shorter_clips(self, shortening: float) -> "Calibration":
        """What the normal clips say about clips that are so many times shorter; only of spectra it is known."""
        return replace(self, shortening=shortening) if self.backend == "spectrum" and shortening > 1.0 else self

    def p_value(self, scores: torch.Tensor) -> torch.Tensor:
        """How often a normal clip scores as high or higher, `(clips,)` in float64; NaN where nothing is known."""
        return self.tail(scores).clamp_min(self.lowest_rate)

    def tail(self, scores: torch.Tensor) -> torch.Tensor:
        """The p-values as the fitted distribution has them, also below `lowest_rate`, where no clip vouches for them."""
        if self.prior is None:
            return torch.full(scores.shape, torch.nan, dtype=torch.float64)
        degrees, location, scale = self.normal_scores
        return student_tail((to_tail_scale(self.backend, scores.double()) - location) / scale, degrees)

    def threshold(self, rate: float, share: float = 1.0) -> float | None:
        """The score from which on the p-value does not exceed `rate`; `None` where no score has such a p-value.

        Args:
            rate: the false-alarm rate.
            share: of a recording's windows: the tail there is this share of the rate.
        """
        if self.prior is None or rate < self.lowest_rate:
            return None
        degrees, location, scale = self.normal_scores
        return from_tail_scale(self.backend, location + scale * student_quantile(rate * share, degrees))

    def p_value_with_more(self, scores: torch.Tensor, clips: int) -> torch.Tensor:
        """What the p-values would be with so many own clips more that vary as those that there are, `(clips,)`."""
        if self.prior is None:
            return torch.full(scores.shape, torch.nan, dtype=torch.float64)
        degrees, location, scale = self.normal_scores
        now = len(self.scores) + self.prior.location_clips
        scale *= float(np.sqrt((1.0 + 1.0 / (now + clips)) / (1.0 + 1.0 / now)))
        degrees += clips if self.prior.tail is None else 0
        tail = student_tail((to_tail_scale(self.backend, scores.double()) - location) / scale, degrees)
        return tail.clamp_min(1.0 / (self.prior.count + clips + 1.0))

    @property
    def lowest_rate(self) -> float:
        """The lowest false-alarm rate that the normal clips support: no p-value is lower. 1 where nothing is known."""
        return 1.0 if self.prior is None else 1.0 / (self.prior.count + 1.0)

    @property
    def method(self) -> str:
        """What a p-value rests on: `own and other machines`, or `other machines` alone."""
        return "own and other machines" if len(self.scores) else "other machines"

    @cached_property
    def normal_scores(self) -> StudentT:
        """The distribution of the machine's next normal score, on the tail's scale."""
        if self.prior is None:
            raise ValueError(f"backend={self.backend!r}: nothing is known of this machine's normal scores.")
        own = to_tail_scale(self.backend, torch.from_numpy(self.scores)).numpy()
        location, scale, degrees = predict(own, self.prior)
        rise = math.log(self.shortening)
        location, scale = location + SHORT_RISE * rise, math.hypot(scale, SHORT_SPREAD * math.sqrt(rise))
        shape = self.prior.tail or StudentT(degrees, 0.0, 1.0)
        return StudentT(shape.degrees, location + scale * shape.location, scale * shape.scale)


def predict(own: np.ndarray, prior: ScorePrior) -> tuple[float, float, float]:
    """Location, scale and degrees of freedom of a machine's next normal score.

    Args:
        own: its own scores `(clips,)` on the tail's scale; there may be none.
        prior: what the scores of all machines say.
    """
    # Two clips, each left out in turn, have one distance, however often it is counted.
    own = own[:1] if len(own) == 2 else own
    clips = len(own) + prior.location_clips
    location = (own.sum() + prior.location_clips * prior.location) / clips
    degrees = prior.degrees + max(len(own) - 1, 0)
    squares = np.square(own - own.mean()).sum() if len(own) else 0.0
    variance = (prior.degrees * prior.variance + squares) / degrees * (1.0 + 1.0 / clips)
    return float(location), float(np.sqrt(max(variance, MIN_VARIANCE))), float(degrees)


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values: at a, the procedure of Benjamini and Hochberg (1995) rejects those that do not exceed a."""
    count = len(p_values)
    if count == 1:
        return p_values
    order = np.argsort(-p_values)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.minimum.accumulate(p_values[order] * (count / np.arange(count, 0, -1))), 1.0)
    return adjusted


# Fitting


def fit_prior(backend: str, scores: Sequence[np.ndarray], folds: Sequence[np.ndarray]) -> ScorePrior | None:
    """Learn from the normal scores of all machines how those of one vary; `None` where no machine has enough of them.

    Args:
        backend: the back end that gave the scores.
        scores: of each machine's normal clips, `(clips,)`.
        folds: of each machine's clips, `(clips,)`: which of them are left out together.
    """
    groups = [
        (to_tail_scale(backend, torch.from_numpy(own)).numpy(), fold)
        for own, fold in zip(scores, folds, strict=True)
        if len(own) >= MIN_CLIPS
    ]
    if not groups:
        return None
    counts = np.array([len(own) for own, _ in groups], dtype=float)
    means = np.array([own.mean() for own, _ in groups])
    within = np.array([max(own.var(ddof=1), MIN_VARIANCE) for own, _ in groups])
    pooled = (within * (counts - 1)).sum() / (counts - 1).sum()
    between = (means.var(ddof=1) if len(groups) > 1 else 0.0) - (pooled / counts).mean()
    location_clips = min(pooled / between, MAX_LOCATION_CLIPS) if between > 0.0 else MAX_LOCATION_CLIPS
    prior = ScorePrior(
        float(means.mean()), float(location_clips), *fit_variance(within, counts - 1), None, int(counts.sum())
    )
    return ScorePrior(**{**vars(prior), "tail": fit_tail(groups, prior)})


def fit_tail(groups: Sequence[tuple[np.ndarray, np.ndarray]], prior: ScorePrior) -> StudentT | None:
    """The distribution of scores beside their prediction from the machine's other folds; `None` where there are few."""
    if len(groups) < MIN_MACHINES or prior.count < MIN_SCORES:
        return None
    from scipy import stats

    parts = []
    for own, folds in groups:
        for fold in np.unique(folds):
            location, scale, _ = predict(own[folds != fold], prior)
            parts.append((own[folds == fold] - location) / scale)
    studentized = np.concatenate(parts)
    degrees, location, scale = stats.t.fit(studentized, floc=np.median(studentized))
    return StudentT(float(np.clip(degrees, 1.0, MAX_DEGREES)), float(location), float(scale))


def fit_variance(variances: np.ndarray, degrees: np.ndarray) -> tuple[float, float]:
    """The variance that groups have in common, and the degrees of freedom that it is worth beside a group's own.

    The more the groups differ, the fewer (Smyth 2004, Section 6.2).

    Args:
        variances: each group's variance `(groups,)`.
        degrees: each group's degrees of freedom `(groups,)`.
    """
    half = torch.from_numpy(degrees) / 2.0
    logs = torch.from_numpy(variances).log() - torch.digamma(half) + half.log()
    spread = logs.var().item() if len(logs) > 1 else 0.0
    excess = spread - torch.special.polygamma(1, half).mean().item()
    if excess <= 0.0:
        return logs.mean().exp().item(), float(degrees.sum())
    y = torch.tensor(0.5 + 1.0 / excess, dtype=torch.float64)
    for _ in range(30):  # Newton's method for trigamma(y) = excess, from Smyth's appendix
        trigamma = torch.special.polygamma(1, y)
        y = y + trigamma * (1.0 - trigamma / excess) / torch.special.polygamma(2, y)
    variance = (logs.mean() + torch.digamma(y) - y.log()).exp().item()
    return variance, min(2.0 * y.item(), float(degrees.sum()))


# The scale of the tail


def to_tail_scale(backend: str, scores: torch.Tensor) -> torch.Tensor:
    """Scores on a scale on which those of normal clips are close to Gaussian.

    That is a distance's logarithm, and for a cross-entropy the logits' distance that it is the softplus of.
    """
    if backend == "arcface":
        scores = scores.clamp_min(1e-300)
        return scores + (-torch.expm1(-scores)).log()
    return scores.clamp_min(1e-12).log()


def from_tail_scale(backend: str, value: float) -> float:
    """The score that [`to_tail_scale`] makes `value` of."""
    return float(np.logaddexp(value, 0.0) if backend == "arcface" else np.exp(value))


def checked_rate(rate: float) -> float:
    """The false-alarm rate, if it is a possible one.

    Raises:
        ValueError: where it is not above 0 and at most 0.5.
    """
    if not isinstance(rate, Real) or not 0.0 < rate <= 0.5:
        raise ValueError(
            f"false_alarm_rate={rate!r}: expected a number above 0 and at most 0.5, such as 0.01 for 1 clip in 100."
        )
    return float(rate)


__all__ = ["Calibration", "ScorePrior", "StudentT", "benjamini_hochberg", "checked_rate", "fit_prior"]
