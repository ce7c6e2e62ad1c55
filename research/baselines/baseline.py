"""What all peers share: how they are fitted to normal clips and score others."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
import torch
from torch import nn

from .clips import Clips


SCORE_BATCH = 16


class Baseline(ABC):
    """A peer: `Peer(updates=300, seed=0).fit(normal_clips).score(clips)`.

    Args:
        updates: optimizer steps of the network, or of each network where a peer fits one for each machine type. 0 leaves
            random weights, which is enough to count parameters and to time the network.
        seed: key of initial weights, batches and everything else that is drawn. The same seed gives the same scores.
        batch_size: clips in an update.
    """

    title: ClassVar[str]
    needs_waveforms: ClassVar[bool] = False
    # The network that computes the score, in eval mode after `fit`; None for a peer without a network, the first of several.
    network: nn.Module | None = None

    def __init__(self, updates: int, seed: int = 0, batch_size: int = 16):
        self.updates, self.seed, self.batch_size = updates, seed, batch_size
        self.machines: list[str] = []
        # Without the check the answer would be a GPU wherever PyTorch was built for one.
        self.device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")

    def fit(self, clips: Clips, progress: bool = True) -> Self:
        """Learn from normal clips alone, and return the peer itself.

        Args:
            clips: normal clips of every machine ID.
            progress: show a bar of the updates.

        Raises:
            ValueError: there is no clip at all, or waveforms are missing.
        """
        if not len(clips):
            raise ValueError(f"{self.title}: no clip to fit to; expected normal clips of every machine ID.")
        self._check_waveforms(clips)
        self.machines = sorted(set(clips.machines))
        self._fit(clips, progress)
        return self

    def score(self, clips: Clips) -> np.ndarray:
        """Return the anomaly score `(n,)` float64 of each clip for the machine ID that it claims.

        The higher the score, the more anomalous is the clip.

        Raises:
            ValueError: the peer is not fitted yet or not to a clip's machine ID, or waveforms are missing.
        """
        if not self.machines:
            raise ValueError(f"{self.title}: not fitted; call fit(normal clips) first.")
        self._check_waveforms(clips)
        unknown = sorted(set(clips.machines) - set(self.machines))
        if unknown:
            raise ValueError(
                f"{self.title}: {', '.join(unknown)} unknown; fitted to {', '.join(self.machines)}. Fit again with normal "
                "clips of all machine IDs that are to be scored."
            )
        batches = [range(start, min(start + SCORE_BATCH, len(clips))) for start in range(0, len(clips), SCORE_BATCH)]
        with torch.inference_mode():
            scores = [self._score(clips.take(batch)) for batch in batches]
        return np.concatenate([np.zeros(0), *(np.asarray(score, dtype=np.float64) for score in scores)])

    def to(self, device: str | torch.device) -> Self:
        """Move what computes the score to a device, and return the peer itself."""
        self.device = torch.device(device)
        if self.network is not None:
            self.network.to(self.device)
        return self

    def fitted_network(self) -> nn.Module:
        """Return `network`.

        Raises:
            ValueError: there is none: the peer is not fitted yet, or computes its score without a network.
        """
        if self.network is None:
            raise ValueError(f"{self.title}: no network; only some peers have one, after fit(normal clips).")
        return self.network

    def num_parameters(self) -> int:
        """Return the trainable parameters of one network, as the papers count them; 0 without a network."""
        return 0 if self.network is None else sum(parameter.numel() for parameter in self.network.parameters())

    def network_inputs(self, clips: Clips) -> tuple[torch.Tensor, ...]:
        """Return what `network` is called with to score these clips, all windows where it takes windows."""
        raise NotImplementedError(f"{self.title} has no network.")

    @abstractmethod
    def _fit(self, clips: Clips, progress: bool) -> None: ...

    @abstractmethod
    def _score(self, clips: Clips) -> np.ndarray: ...

    def _check_waveforms(self, clips: Clips) -> None:
        if self.needs_waveforms and clips.waveforms is None:
            raise ValueError(
                f"{self.title} needs waveforms and these clips are log-mels only; give Clips(..., waveforms=...), or choose "
                "a peer whose needs_waveforms is False."
            )

    def _on_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)
