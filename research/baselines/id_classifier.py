"""Peers that learn to tell machine IDs apart, as this project's network does."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch

from training.batches import draw_mixup

from .baseline import Baseline
from .clips import Clips, excerpts
from .training_loop import excerpt_starts, initialised_with, train


class IdClassifier(Baseline):
    """One network over all machine IDs. The anomaly score is the cross-entropy of the claimed ID, its margin included.

    `build` returns a network that is called as `network(*network_inputs(clips), labels=...)`, with `mixup_partner` and
    `mixup_lambda` where `mixup_alpha` is set. The network returns an output with `loss` and `anomaly_scores`.
    """

    # The papers have 1e-4 and a hundred times as many updates; this is the rate of this project's own short runs.
    learning_rate: ClassVar[float] = 1e-3
    # Mixup draws from Beta(alpha, alpha); 0 for none.
    mixup_alpha: ClassVar[float] = 0.0
    # Frames of a clip in an update, at a random place; None for whole clips.
    train_frames: ClassVar[int | None] = None

    @abstractmethod
    def build(self, clips: Clips, id2label: dict[int, str]) -> torch.nn.Module:
        """Return the network for clips of this size; `id2label` names its classes."""

    def network_inputs(self, clips: Clips) -> tuple[torch.Tensor, ...]:
        log_mels = self._on_device(clips.log_mels)
        return (self._on_device(clips.known_waveforms()), log_mels) if self.needs_waveforms else (log_mels,)

    def _fit(self, clips: Clips, progress: bool) -> None:
        if len(self.machines) < 2:
            raise ValueError(
                f"{self.title} learns by telling machine IDs apart and got clips of {self.machines[0]} alone; give it "
                "clips of two or more."
            )
        num_frames = clips.log_mels.shape[2]
        with initialised_with(self.seed):
            network = self.build(clips, dict(enumerate(self.machines)))
        network.to(  # pyright: ignore[reportCallIssue]  # PyTorch's types of `to` have no memory_format alone
            self.device, memory_format=torch.channels_last
        )
        self.network = network
        excerpt = min(self.train_frames or num_frames, num_frames)

        def loss_of(batch: list[int], update: int) -> torch.Tensor:
            own = clips.take(batch)
            if excerpt < num_frames:
                own = excerpts(own, excerpt_starts(num_frames, excerpt, (len(own),), self.seed, update), excerpt)
            inputs, mixing = self.network_inputs(own), {}
            if self.mixup_alpha:
                share, partner = draw_mixup(len(own), self.mixup_alpha, self.seed, update)
                partner = partner.to(self.device)
                inputs = tuple(share * tensor + (1.0 - share) * tensor[partner] for tensor in inputs)
                mixing = {"mixup_partner": partner, "mixup_lambda": share}
            return network(*inputs, labels=self._labels(own), **mixing).loss

        train(
            network,
            loss_of,
            len(clips),
            self.updates,
            self.batch_size,
            self.learning_rate,
            self.seed,
            self.title,
            progress,
        )

    def _score(self, clips: Clips) -> np.ndarray:
        output = self.fitted_network()(*self.network_inputs(clips), labels=self._labels(clips))
        return output.anomaly_scores.cpu().numpy()

    def _labels(self, clips: Clips) -> torch.Tensor:
        return torch.tensor([self.machines.index(name) for name in clips.machines], device=self.device)
