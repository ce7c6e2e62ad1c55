"""Peers that predict frames of the log-mel from frames around them, one network a machine type."""

from abc import abstractmethod
from typing import Self

import numpy as np
import torch
from torch import nn

from .baseline import Baseline
from .clips import Clips
from .training_loop import excerpt_starts, initialised_with, train


# Frames that a window covers, in the DCASE 2020 baseline and in IDNN alike.
WINDOW = 5
# Windows of a clip in an update: 16 clips make the DCASE baseline's batch of 512.
WINDOWS_PER_CLIP = 32


class Reconstruction(Baseline):
    """A network that predicts frames. The anomaly score is its mean squared error over a clip's windows.

    The error is in units of the training clips' variance. Each machine type's network takes all the `updates`: an update
    costs a fiftieth of another peer's. The networks get each bin's difference from its mean over the type's training
    clips. All bins keep one scale, so that the error is still one in decibels. The papers feed decibels themselves; a short
    training is then spent on learning the mean.
    """

    @abstractmethod
    def build(self, num_bins: int) -> nn.Module:
        """Return the network, from `inputs_of`'s `(windows, inputs)` to `targets_of`'s `(windows, outputs)`."""

    @abstractmethod
    def inputs_of(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the network's inputs of windows `(windows, WINDOW, bins)`."""

    @abstractmethod
    def targets_of(self, windows: torch.Tensor) -> torch.Tensor:
        """Return what the network is to predict of windows `(windows, WINDOW, bins)`."""

    def network_inputs(self, clips: Clips) -> tuple[torch.Tensor, ...]:
        return (self.inputs_of(self._windows(clips).flatten(0, 1)),)

    def _fit(self, clips: Clips, progress: bool) -> None:
        frames = clips.log_mels.shape[2]
        if frames < WINDOW:
            raise ValueError(f"{self.title}: clips of {frames} frames; expected {WINDOW} or more.")
        self.deviation = float(clips.log_mels.std()) or 1.0
        self.means: dict[str, np.ndarray] = {}
        self.networks: dict[str, nn.Module] = {}
        for name in sorted(set(clips.machine_types)):
            own = clips.take([index for index, of in enumerate(clips.machine_types) if of == name])
            self.means[name] = own.log_mels.mean((0, 2))
            with initialised_with(self.seed):
                network = self.build(clips.log_mels.shape[1]).to(self.device)

            def loss_of(batch: list[int], update: int, own: Clips = own, network: nn.Module = network) -> torch.Tensor:
                count = min(WINDOWS_PER_CLIP, frames - WINDOW + 1)
                starts = excerpt_starts(frames, WINDOW, (len(batch), count), self.seed, update)
                rows = torch.arange(len(batch), device=self.device).unsqueeze(1)
                windows = self._windows(own.take(batch))[rows, torch.from_numpy(starts).to(self.device)].flatten(0, 1)
                return (network(self.inputs_of(windows)).float() - self.targets_of(windows)).square().mean()

            label = f"{self.title}, {name}"
            train(network, loss_of, len(own), self.updates, self.batch_size, 1e-3, self.seed, label, progress)
            self.networks[name] = network
        self.network = next(iter(self.networks.values()))

    def to(self, device: str | torch.device) -> Self:
        for network in self.networks.values():
            network.to(device)
        return super().to(device)

    def _score(self, clips: Clips) -> np.ndarray:
        scores = []
        for index, name in enumerate(clips.machine_types):
            windows = self._windows(clips.take([index]))[0]
            scores.append(
                (self.networks[name](self.inputs_of(windows)) - self.targets_of(windows)).square().mean().item()
            )
        return np.asarray(scores)

    def _windows(self, clips: Clips) -> torch.Tensor:
        """Return `(clips, windows, WINDOW, bins)`, a view of the standardized frames."""
        means = np.stack([self.means[name] for name in clips.machine_types])
        standardized = self._on_device((clips.log_mels - means[:, :, None]) / self.deviation)
        return standardized.transpose(1, 2).unfold(1, WINDOW, 1).transpose(2, 3)
