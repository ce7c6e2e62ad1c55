"""
Whether a machine's values change over time: a test that may be looked at after every recording.

As long as values are exchangeable (any order of them is as likely), the ranks of new values among the earlier ones are
uniform p-values (conformal prediction). A martingale bets against that (the Simple Jumper of Vovk et al. 2021, "Retrain or not
retrain"), and by Ville's inequality it ever reaches 1 / alpha with a probability of at most alpha. One bad clip multiplies it
by 1.5 at most; a lasting change lets it grow from clip to clip.

The bound does not hold for values that resemble the ones just before, such as clips cut from one recording.
"""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass

import numpy as np


# The probability that a false change is ever reported, for one machine and one kind of value.
ALPHA = 0.01
# The bets that p-values become larger, stay uniform, or become smaller, and how often they are mixed.
BETS = np.array([1.0, 0.0, -1.0])
JUMP = 0.01


@dataclass(frozen=True)
class Change:
    """A lasting change.

    Attributes:
        since: the label of the first value after it, by the largest difference between the ranks before and after.
        shift: by how much the median is higher after the change, below 0 for lower.
    """

    since: str
    shift: float


class DriftTest:
    """Tests whether values are exchangeable, one after the other. After a change it begins anew.

    Args:
        alpha: the probability of a false alarm, however many values come.
        seed: of the random numbers that break ties between ranks.
    """

    def __init__(self, alpha: float = ALPHA, seed: int = 0):
        self.alpha, self.seed = alpha, seed
        self.seen = 0
        self.begin()

    def begin(self) -> None:
        """Forget all values."""
        self.values: list[float] = []
        self.labels: list[str] = []
        self.ordered: list[float] = []
        self.capital = np.full(len(BETS), 1 / len(BETS))

    def update(self, value: float, label: str) -> Change | None:
        """Take the next value; return the change where the evidence is enough."""
        p_value = self.rank(value)
        self.values.append(value)
        self.labels.append(label)
        self.capital = (1 - JUMP) * self.capital + JUMP * self.capital.mean()
        self.capital *= 1 + BETS * (p_value - 0.5)
        if self.capital.sum() < 1 / self.alpha:
            return None
        change = self.find_change()
        self.begin()
        return change

    def rank(self, value: float) -> float:
        """Return the p-value of a value: the share of the values so far that are as high or higher, ties at random."""
        lower, equal_or_lower = bisect_left(self.ordered, value), bisect_right(self.ordered, value)
        higher, ties = len(self.ordered) - equal_or_lower, equal_or_lower - lower
        insort(self.ordered, value)
        self.seen += 1
        return (higher + np.random.default_rng([self.seed, self.seen]).uniform() * (1 + ties)) / len(self.ordered)

    def find_change(self) -> Change:
        """Find where the values changed: the cut with the largest standardized difference of ranks."""
        values = np.array(self.values)
        ranks = np.searchsorted(self.ordered, values, "left") + np.searchsorted(self.ordered, values, "right")
        before = np.arange(1, len(values))
        excess = np.abs(np.cumsum(ranks - ranks.mean())[:-1]) / np.sqrt(before * (len(values) - before))
        cut = int(before[excess.argmax()])
        return Change(self.labels[cut], float(np.median(values[cut:]) - np.median(values[:cut])))


__all__ = ["Change", "DriftTest"]
