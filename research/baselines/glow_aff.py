"""Glow-Aff: the likelihood of log-mel patches under a normalising flow with affine coupling (Dohi et al., ICASSP 2021).

Sounds of the claimed machine ID are to be likely, sounds of other IDs of the same machine type less so. The flow is Glow
(Kingma and Dhariwal, NeurIPS 2018): ActNorm, an invertible 1x1 convolution and an affine coupling make a step.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .baseline import Baseline
from .clips import Clips, excerpts, machine_type
from .training_loop import excerpt_starts, initialised_with, train


# A patch is (bins, FRAMES). Cells are folded into channels by these (bins, frames) before each level.
FRAMES, FOLDS = 8, ((8, 2), (2, 2), (2, 2))
# Steps of flow in a level and channels of a coupling's network, for the published number of parameters.
STEPS, HIDDEN = 19, 512
# Nats a latent dimension by which another ID of the type is to be less likely.
MARGIN = 0.1
# Smallest deviation of a latent, in the training clips' deviations: the density of a cell that never changes has no bound.
MIN_DEVIATION = 1e-2
# Clips of each machine ID that the Gaussians begin with.
CLIPS_TO_BEGIN = 32


class Step(nn.Module):
    """ActNorm -> 1x1 convolution -> affine coupling. Returns the output and, clip by clip, the log-determinant."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.mix = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])
        self.coupling = nn.Sequential(
            nn.Conv2d(channels // 2, HIDDEN, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, channels, 3, padding=1),
        )
        # Every step begins as a rotation.
        for parameter in self.coupling[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, coupled: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        # The couplings' networks may run in bfloat16; what enters the likelihood may not.
        with torch.autocast(x.device.type, enabled=False):
            x = F.conv2d((x + self.shift) * self.scale.exp(), self.mix[:, :, None, None])
            volume = self.scale.sum() + torch.linalg.slogdet(self.mix)[1]
        log_determinant = volume * (x.shape[2] * x.shape[3])
        if not coupled:
            return x, log_determinant
        kept, moved = x.chunk(2, dim=1)
        shift, scale = self.coupling(kept).float().chunk(2, dim=1)
        # Between 1/e and e: nothing explodes in a short training.
        scale = torch.tanh(scale)
        moved = (moved + shift) * scale.exp()
        return torch.cat([kept, moved], dim=1), log_determinant + scale.sum((1, 2, 3))


class Glow(nn.Module):
    """`(patches, bins, FRAMES)`, standardised -> `(patches, labels)`: minus log-likelihood, in nats a dimension.

    Each machine ID has its own diagonal Gaussian over the latents.
    """

    def __init__(self, num_bins: int, num_labels: int):
        super().__init__()
        self.levels = nn.ModuleList()
        channels = 1
        for level, (bins, frames) in enumerate(FOLDS):
            channels *= bins * frames
            self.levels.append(nn.ModuleList(Step(channels) for _ in range(STEPS)))
            if level < len(FOLDS) - 1:
                channels //= 2
        self.means = nn.Parameter(torch.zeros(num_labels, num_bins * FRAMES))
        self.log_deviations = nn.Parameter(torch.zeros(num_labels, num_bins * FRAMES))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        z, log_determinant = self.latents(patches)
        errors = (z.unsqueeze(1) - self.means) * torch.exp(-self.log_deviations)
        prior = 0.5 * errors.square() + self.log_deviations + 0.5 * math.log(2.0 * math.pi)
        return (prior.sum(2) - log_determinant.unsqueeze(1)) / z.shape[1]

    def latents(self, patches: torch.Tensor, coupled: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latents `(patches, bins * FRAMES)` and log-determinants; a level hands half of its channels to the next."""
        x, done = patches.unsqueeze(1), []
        log_determinant = torch.zeros(len(patches), device=patches.device)
        for level, ((bins, frames), steps) in enumerate(zip(FOLDS, self.levels, strict=True)):
            x = fold(x, bins, frames)
            for step in steps.children():
                x, own = step(x, coupled)
                log_determinant = log_determinant + own
            if level < len(FOLDS) - 1:
                x, half = x.chunk(2, dim=1)
                done.append(half.flatten(1))
        return torch.cat([*done, x.flatten(1)], dim=1), log_determinant

    @torch.no_grad()
    def initialise_latents(self, patches: torch.Tensor, labels: torch.Tensor) -> None:
        """Set the Gaussians to the latents of `patches`, each ID at its own mean and all with the deviation around it.

        The flow must be fresh: its couplings still do nothing, and are passed over.
        """
        z = self.latents(patches, coupled=False)[0]
        for label in labels.unique():
            self.means[label] = z[labels == label].mean(0)
        self.log_deviations.copy_((z - self.means[labels]).std(0).clamp_min(MIN_DEVIATION).log())


def fold(x: torch.Tensor, bins: int, frames: int) -> torch.Tensor:
    """Blocks of `(bins, frames)` cells become channels: Glow's squeeze."""
    x = x.unflatten(3, (-1, frames)).unflatten(2, (-1, bins))
    return x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


class GlowAff(Baseline):
    """The log-likelihood under the claimed machine ID, with its sign changed and averaged over the patches of a clip.

    29.9 M parameters with 41 machine IDs (30 M published). The paper fits a flow for each machine ID and lowers the
    likelihood of the type's other IDs under it. Here one flow serves all IDs, with a Gaussian of latents for each of them
    (Glow's own conditioning on a class). Training keeps a clip likelier under the claimed ID's Gaussian than under the
    others'. A CPU can train one flow of this size in place of 16 or 41, and all clips teach it.

    Length of the patches, folds, depth and margin are this project's choice. Glow's 32 steps on patches of 32 frames, with
    2 x 2 folds, have as many parameters and twenty times the arithmetic. A random patch of each clip makes a batch.
    """

    title = "Glow-Aff"

    def network_inputs(self, clips: Clips) -> tuple[torch.Tensor, ...]:
        standardised = (self._on_device(clips.log_mels) - self.mean) / self.deviation
        return (standardised.unfold(2, FRAMES, FRAMES).transpose(1, 2).flatten(0, 1),)

    def _fit(self, clips: Clips, progress: bool) -> None:
        _, num_bins, num_frames = clips.log_mels.shape
        if num_frames < FRAMES or num_bins % math.prod(bins for bins, _ in FOLDS):
            raise ValueError(
                f"{self.title}: log-mels of {num_bins} bins and {num_frames} frames; expected {FRAMES} frames or more, and a "
                f"number of bins that {math.prod(bins for bins, _ in FOLDS)} divides."
            )
        self.mean, self.deviation = float(clips.log_mels.mean()), float(clips.log_mels.std()) or 1.0
        types = np.asarray([machine_type(name) for name in self.machines])
        # (labels, labels): which other IDs are of the same type.
        rivals = torch.from_numpy((types[:, None] == types) & ~np.eye(len(types), dtype=bool)).to(self.device)
        with initialised_with(self.seed):
            network = Glow(num_bins, len(self.machines)).to(self.device)
        self.network = network
        owners = np.asarray(clips.machines)
        few = clips.take(np.concatenate([np.flatnonzero(owners == name)[:CLIPS_TO_BEGIN] for name in self.machines]))
        (patches,) = self.network_inputs(few)
        network.initialise_latents(patches, self._labels(few).repeat_interleave(len(patches) // len(few)))

        def loss_of(batch: list[int], update: int) -> torch.Tensor:
            own = clips.take(batch)
            starts = excerpt_starts(num_frames, FRAMES, (len(own),), self.seed, update)
            losses, labels = network(*self.network_inputs(excerpts(own, starts, FRAMES))), self._labels(own)
            claimed = losses.gather(1, labels.unsqueeze(1))
            excess = F.relu(MARGIN - (losses - claimed)) * rivals[labels]
            return claimed.mean() + excess.sum() / len(own) / max(rivals.sum(1).max().item(), 1)

        train(network, loss_of, len(clips), self.updates, self.batch_size, 3e-4, self.seed, self.title, progress)

    def _score(self, clips: Clips) -> np.ndarray:
        # In the precision that the flow was trained in, and in half the time.
        with torch.autocast(self.device.type, torch.bfloat16):
            losses = self.fitted_network()(*self.network_inputs(clips)).unflatten(0, (len(clips), -1)).mean(1)
        return losses.gather(1, self._labels(clips).unsqueeze(1)).squeeze(1).cpu().numpy()

    def _labels(self, clips: Clips) -> torch.Tensor:
        return torch.tensor([self.machines.index(name) for name in clips.machines], device=self.device)
