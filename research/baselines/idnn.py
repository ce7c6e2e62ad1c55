"""IDNN: the center of five frames from its four neighbours (Suefusa et al., ICASSP 2020).

A frame is anomalous where its neighbours do not foretell it. The edges of the window do not count: an autoencoder
reconstructs them badly even in normal sound that is not stationary.
"""

import itertools

import torch
from torch import nn

from .reconstruction import WINDOW, Reconstruction


class Idnn(Reconstruction):
    """512 - 64 - 32 - 16 - 32 - 64 - 128 with ReLU, one a machine type: 46,416 parameters (46 k published)."""

    title = "IDNN"

    def build(self, num_bins: int) -> nn.Module:
        widths = [(WINDOW - 1) * num_bins, 64, 32, 16, 32, 64]
        hidden = [
            layer for narrow, wide in itertools.pairwise(widths) for layer in (nn.Linear(narrow, wide), nn.ReLU())
        ]
        return nn.Sequential(*hidden, nn.Linear(widths[-1], num_bins))

    def inputs_of(self, windows: torch.Tensor) -> torch.Tensor:
        center = WINDOW // 2
        return torch.cat([windows[:, :center], windows[:, center + 1 :]], dim=1).flatten(1)

    def targets_of(self, windows: torch.Tensor) -> torch.Tensor:
        return windows[:, WINDOW // 2]
