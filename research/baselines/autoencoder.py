"""The DCASE 2020 Task 2 baseline: a dense autoencoder of five frames (Koizumi et al., DCASE Workshop 2020)."""

import itertools

import torch
from torch import nn

from .reconstruction import WINDOW, Reconstruction


class Autoencoder(Reconstruction):
    """640 - 4 x 128 - 8 - 4 x 128 - 640 with BatchNorm and ReLU after every hidden layer, one a machine type.

    267,928 trainable parameters; the published 270 k count BatchNorm's 2,064 running statistics too.
    """

    title = "DCASE baseline AE"

    def build(self, num_bins: int) -> nn.Module:
        widths = [WINDOW * num_bins, *[128] * 4, 8, *[128] * 4]
        hidden = [
            layer
            for narrow, wide in itertools.pairwise(widths)
            for layer in (nn.Linear(narrow, wide), nn.BatchNorm1d(wide), nn.ReLU())
        ]
        return nn.Sequential(*hidden, nn.Linear(widths[-1], widths[0]))

    def inputs_of(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.flatten(1)

    def targets_of(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.flatten(1)
