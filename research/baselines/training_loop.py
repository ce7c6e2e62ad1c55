"""The one training loop of all peers: AdamW, a cosine schedule, bfloat16 where it is safe, batches keyed on the seed."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from training import random_streams
from training.allocator import keep_freed_memory
from training.batches import KeyedBatches


def train(
    network: nn.Module,
    loss_of: Callable[[list[int], int], torch.Tensor],
    num_clips: int,
    updates: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    name: str,
    progress: bool = True,
) -> None:
    """Take `updates` steps on `loss_of(clip_indices, update)`; the network is left in eval mode.

    The learning rate falls from `learning_rate` to a tenth of it along a cosine, as in this project's own training.

    Raises:
        ValueError: the loss is no longer finite.
    """
    keep_freed_memory()
    batches = KeyedBatches(num_clips, batch_size, seed=seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, fused=True)
    device = next(network.parameters()).device
    network.train()
    for update in tqdm(range(updates), desc=name, unit="update", disable=not progress):
        if update % batches.updates_per_epoch == 0:
            batches.epoch = update // batches.updates_per_epoch
            epoch = iter(batches)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (0.55 + 0.45 * math.cos(math.pi * update / updates))
        # Twice the float32 rate of matrix products on a CPU with AVX-512 BF16.
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(next(epoch), update)
        if not torch.isfinite(loss):
            raise ValueError(
                f"{name}: the loss of update {update + 1} is {loss.item()}: training has diverged. Look for clips of "
                "constant or extreme level in the data."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    network.eval()


def excerpt_starts(frames: int, excerpt: int, size: tuple[int, ...], seed: int, update: int) -> np.ndarray:
    """Return first frames, of shape `size`, of random excerpts that lie within a clip of `frames`."""
    return random_streams.excerpts(seed, update).integers(0, frames - excerpt + 1, size=size)


@contextmanager
def initialised_with(seed: int) -> Iterator[None]:
    """Networks made within draw their weights from `seed`; the global generator is as before on leaving."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
