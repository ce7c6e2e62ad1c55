"""Which clips make a batch and how they are mixed: a function of the seed and the step, of nothing else.

A run that was killed therefore goes on with the very batches it would have seen, without any generator's state.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from . import random_streams


def hold_out(labels: Sequence[int] | np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split clips into training and held-out ones, machine ID by machine ID: `(train_indices, held_out_indices)`.

    Of every ID with two clips or more, at least one is held out and at least one kept.
    """
    labels = np.asarray(labels)
    held_out = []
    for label in np.unique(labels):
        clips = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(clips))), len(clips) - 1) if fraction > 0 else 0
        order = random_streams.hold_out(seed, int(label)).permutation(len(clips))
        held_out.append(clips[order[:count]])
    held_out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


@dataclass
class KeyedBatches:
    """Batch sampler of one process: every epoch a new order, shared out over updates, micro-batches and processes.

    An update is `accumulation * num_processes * batch_size` clips. The last one of an epoch is filled from the epoch's
    start, so that all processes take the same number of steps. Batches shrink where there are fewer clips than that.
    """

    num_clips: int
    batch_size: int
    accumulation: int = 1
    num_processes: int = 1
    process_index: int = 0
    seed: int = 0
    epoch: int = 0
    first_update: int = 0

    def __post_init__(self):
        shares = self.accumulation * self.num_processes
        self.batch_size = min(self.batch_size, -(-self.num_clips // shares))
        self.updates_per_epoch = -(-self.num_clips // (shares * self.batch_size))

    def __len__(self) -> int:
        return (self.updates_per_epoch - self.first_update) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        order = random_streams.epoch_order(self.seed, self.epoch).permutation(self.num_clips)
        shape = (self.updates_per_epoch, self.accumulation, self.num_processes, self.batch_size)
        batches = np.resize(order, shape)[self.first_update :, :, self.process_index]
        yield from batches.reshape(-1, self.batch_size).tolist()


def draw_mixup(size: int, alpha: float, *key: int) -> tuple[float, torch.Tensor]:
    """Mixup's draw for a batch of `size` clips: one share lambda from Beta(alpha, alpha) and a permutation as partners.

    `key` is the seed, the step and the process.
    """
    generator = random_streams.mixup(*key)
    return float(generator.beta(alpha, alpha)), torch.from_numpy(generator.permutation(size))
