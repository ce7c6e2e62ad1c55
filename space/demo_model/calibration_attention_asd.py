"""
From scores of held-out normal clips to p-values and thresholds.

Where a machine has calibration clips enough, ranks among them give a p-value with a guarantee; where it has fewer, the
tail of a distribution fitted to them and to those of the other machines does.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np
import torch

from .backends_attention_asd import BACKENDS, MIN_VARIANCE, NormalMachine, checked_backend


# Below this a tail says nothing, and machines whose scores are all the same would count as known exactly.
MIN_DEGREES = 2.0
MIN_CLIPS_FOR_OUTLIERS = 10
# A rate that is reached exactly counts as reached.
ROUNDING = 1e-9


# P-values and thresholds


def ranks_suffice(machine: NormalMachine, rate: float) -> bool:
    """Whether the machine has calibration clips enough for a rank among them to be as rare as `rate`."""
    return rate * (machine.calibration.shape[1] + 1) >= 1.0 - ROUNDING


def method_name(machine: NormalMachine, by_ranks: bool) -> str:
    if by_ranks:
        return "cross-conformal" if machine.is_enrolled else "conformal"
    return "fitted tail" if machine.calibration.shape[1] else "other machines"


def tail_probability(machine: NormalMachine, scores: np.ndarray, backend: str, by_ranks: bool) -> np.ndarray:
    """How often a normal clip of the machine scores as high or higher: by its rank among the n calibration clips, (1 +
    #{calibration >= score}) / (n + 1), or by the fitted tail, which is believed only beyond the calibration clips: no score is
    rarer than it was among them. `(batch,)`, NaN where nothing is known."""
    # In NumPy: for the few scores of a recording each of PyTorch's operations takes three times as long.
    row = BACKENDS.index(checked_backend(backend))
    calibration = machine.calibration.numpy()[row]
    at_least = len(calibration) - np.searchsorted(calibration, scores, side="left")
    if by_ranks:
        return (1.0 + at_least) / (len(calibration) + 1.0)
    location, scale, degrees = machine.tails.numpy()[row].tolist()
    tail = student_tail((to_tail_scale(backend, scores) - location) / scale, degrees)
    return np.maximum(tail, at_least / (len(calibration) + 1.0))


def tail_quantile(machine: NormalMachine, rate: float, backend: str, by_ranks: bool) -> float | None:
    """The score above which [`tail_probability`] does not exceed `rate`; `None` where nothing is known."""
    row = BACKENDS.index(checked_backend(backend))
    calibration = machine.calibration.numpy()[row]
    if by_ranks:
        return calibration[len(calibration) - math.floor(rate * (len(calibration) + 1) + ROUNDING)].item()
    location, scale, degrees = machine.tails.numpy()[row].tolist()
    if math.isnan(degrees):
        return None
    beyond = from_tail_scale(backend, location + scale * student_quantile(rate, degrees))
    # As many calibration clips as this may lie above.
    clips = math.floor(rate * (len(calibration) + 1) + ROUNDING)
    return max([beyond, *calibration[len(calibration) - 1 - clips : len(calibration) - clips].tolist()])


# Fitting


def fit_priors(machines: Iterable[NormalMachine]) -> torch.Tensor:
    """For each back end, how calibration scores vary within a machine, from all machines: `(B, 2)`, a variance and the
    degrees of freedom that it is worth."""
    groups = [machine.calibration for machine in machines if machine.calibration.shape[1] > 1]
    priors = torch.zeros(len(BACKENDS), 2, dtype=torch.float64)
    for row, backend in enumerate(BACKENDS):
        values = [without_low_outliers(to_tail_scale(backend, group[row].numpy())) for group in groups]
        priors[row] = torch.tensor(variance_prior([v.var(ddof=1) for v in values], [len(v) - 1 for v in values]))
    return priors


def tail_means(groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean of each group of scores `(B, clips)` on the tail's scale: `(B, groups)`."""
    means = [
        [to_tail_scale(backend, group[row].numpy()).mean() for group in groups] for row, backend in enumerate(BACKENDS)
    ]
    return torch.tensor(means, dtype=torch.float64)


def fit_tails(machine: NormalMachine, priors: torch.Tensor, clips: int, others: torch.Tensor) -> None:
    """Fit the tail of the machine's normal scores, `clips` of them independent.

    On the tail's scale normal scores are close to Gaussian, so that the next one follows Student's t around their
    mean: few clips give a wide tail, as they should. The variance is the machine's own and that of the other
    machines, weighed by how much machines differ in it (Smyth 2004). With no clip to calibrate with, the mean too
    is taken from `others`, the [`tail_means`] of other machines' normal clips.

    A distance's logarithm rather than the cube root that makes a gamma distribution Gaussian (Wilson and Hilferty
    1931; the DCASE baselines fit a gamma): for nearest-neighbour distances in simulation the latter raised 1.5 %
    false alarms where 1 % were asked for, the former 1.0 %, and 0.5 % for scores that do follow a gamma
    distribution.
    """
    for row, backend in enumerate(BACKENDS):
        variance, degrees = priors[row].tolist()
        if clips:
            values = without_low_outliers(to_tail_scale(backend, machine.calibration[row].numpy()))
            location = values.mean().item()
            own = values.var(ddof=1).item() if clips > 1 else 0.0
            variance = (degrees * variance + (clips - 1) * own) / max(degrees + clips - 1, 1.0)
            variance, degrees = variance * (1.0 + 1.0 / clips), degrees + clips - 1
        else:
            means = others[row]
            location = means.mean().item()
            variance += means.var().item() * (1.0 + 1.0 / len(means)) if len(means) > 1 else 0.0
            degrees = min(degrees, len(means) - 1)
        if degrees >= MIN_DEGREES and math.isfinite(location):
            tail = (location, math.sqrt(max(variance, MIN_VARIANCE)), degrees)
            machine.tails[row] = torch.tensor(tail, dtype=torch.float64)


def own_and_stranger_closeness(closeness: torch.Tensor, is_own: torch.Tensor) -> tuple[float, float]:
    """Of held-out clips' closeness to all machines, `(clips, machines)`: what 95 % of the clips keep to their own, and do not
    exceed to others; -1 where there are none of either. `is_own` is of the same shape."""
    if not len(closeness):
        return -1.0, -1.0
    own = closeness[is_own].quantile(0.05).item()
    if closeness.shape[1] < 2:
        return own, -1.0
    return own, closeness.masked_fill(is_own, -torch.inf).amax(1).quantile(0.95).item()


def embedding_unknown_below(machine: NormalMachine, strangers: float) -> float:
    """Half-way between the closeness of embeddings that 99 % of this machine's normal clips keep and the one that clips of
    other machines reach, `strangers`; never more than the former."""
    farthest = tail_quantile(machine, 0.01, "centre", ranks_suffice(machine, 0.01))
    if farthest is None or strangers <= -1.0:
        return strangers
    own = 1.0 - farthest
    return own - max(own - strangers, 0.0) / 2.0


# Statistics


def to_tail_scale(backend: str, scores: np.ndarray) -> np.ndarray:
    """Scores -> a scale on which those of normal clips are close to Gaussian: a distance's logarithm, and for a
    cross-entropy the logits' distance that it is the softplus of; the combined score is on it already."""
    if backend == "combined":
        return scores
    if backend == "arcface":
        scores = np.maximum(scores, 1e-300)
        return scores + np.log(-np.expm1(-scores))
    return np.log(np.maximum(scores, 1e-12))


def from_tail_scale(backend: str, value: float) -> float:
    if backend == "combined":
        return value
    return float(np.logaddexp(value, 0.0) if backend == "arcface" else np.exp(value))


def without_low_outliers(values: np.ndarray) -> np.ndarray:
    """The same with nothing three times farther below the median than the highest is above it: a clip that is all but a
    copy of a fitted one has a logarithm far below the others', and says nothing about the tail above."""
    if len(values) < MIN_CLIPS_FOR_OUTLIERS:
        return values
    return np.maximum(values, 4.0 * np.quantile(values, 0.5, method="lower") - 3.0 * values.max())


def student_tail(t: np.ndarray, degrees: float) -> np.ndarray:
    """P(T > t) of Student's t, from Wallace's (1959) Gaussian approximation; it errs on the large side: by 0.1 % of the
    value at 10 degrees of freedom and a probability of 0.01, by 15 % at 2."""
    z = np.sqrt(degrees * np.log1p(np.square(t) / degrees)) * ((8.0 * degrees + 1.0) / (8.0 * degrees + 3.0))
    return np.array([0.5 * math.erfc(value) for value in (np.copysign(z, t) / math.sqrt(2.0)).tolist()])


def student_quantile(rate: float, degrees: float) -> float:
    """The t for which [`student_tail`] is `rate`."""
    z = -NormalDist().inv_cdf(rate)
    widened = z * (8.0 * degrees + 3.0) / (8.0 * degrees + 1.0)
    return math.copysign(math.sqrt(degrees * math.expm1(widened**2 / degrees)), z)


def variance_prior(variances: Sequence[float], degrees: Sequence[float]) -> tuple[float, float]:
    """Of groups' variances with their degrees of freedom: the common variance, and how many degrees of freedom it is
    worth beside a group's own (Smyth 2004, Section 6.2). The more the groups differ, the fewer."""
    if not variances:
        return 0.0, 0.0
    if len(variances) == 1:
        return variances[0], 0.0
    half = torch.tensor(degrees, dtype=torch.float64) / 2.0
    logs = torch.tensor(variances, dtype=torch.float64).clamp_min(MIN_VARIANCE).log() - torch.digamma(half) + half.log()
    excess = (logs.var() - torch.special.polygamma(1, half).mean()).item()
    if excess <= 0.0:
        return math.exp(logs.mean()), float(sum(degrees))
    y = torch.tensor(0.5 + 1.0 / excess, dtype=torch.float64)
    for _ in range(20):  # Newton's method for trigamma(y) = excess, from Smyth's appendix
        trigamma = torch.special.polygamma(1, y)
        y = y + trigamma * (1.0 - trigamma / excess) / torch.special.polygamma(2, y)
    return math.exp(logs.mean() + torch.digamma(y) - y.log()), min(2.0 * y.item(), float(sum(degrees)))


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
    if not 0.0 < rate <= 0.5:
        raise ValueError(
            f"false_alarm_rate={rate}: expected more than 0 and at most 0.5, such as 0.01 for 1 clip in 100."
        )
    return float(rate)
