"""The streams of random numbers: one function for each purpose.

Every generator is made anew from its key, never from global state. A killed run therefore goes on with the very draws
that it would have made.

The keys are those that the figures in README and docs were measured with: other numbers would change the figures.
"""

import numpy as np


def hold_out(seed: int, label: int) -> np.random.Generator:
    """Which clips of a machine ID are held out."""
    return np.random.default_rng([seed, 0, label])


def epoch_order(seed: int, epoch: int) -> np.random.Generator:
    """The order of the clips in an epoch."""
    return np.random.default_rng([seed, 1, epoch])


def mixup(*key: int) -> np.random.Generator:
    """Share and partners of a batch's mixup. The key is the seed, the step and, in training, the process."""
    return np.random.default_rng([2, *key])


def excerpts(seed: int, update: int) -> np.random.Generator:
    """Where an update's excerpts of the clips begin, in the peers of research/baselines."""
    return np.random.default_rng([seed, 3, update])
