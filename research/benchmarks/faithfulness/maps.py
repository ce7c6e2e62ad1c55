"""The relevance maps that are compared."""

from collections.abc import Callable

import numpy as np
import torch

from modeling.relevance_attention_asd import (
    CellReplacement,
    Score,
    at_normal_level,
    distance_from_normal,
    equal_parts,
    integrated_gradients,
    level_difference,
    occlusion,
)

from .examples import Example


try:
    from captum.attr import IntegratedGradients  # pyright: ignore[reportMissingImports]  # optional package
except ImportError:
    IntegratedGradients = None


# The map that the detector's reasons are made of.
REASONS_MAP = "integrated gradients"


def relevance_maps(example: Example, feature_extractor, seed: int) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the maps that are compared, each a function that computes `(bins, frames)`."""
    log_mel = feature_extractor.log_mel(example.waveform)
    normal = at_normal_level(example.waveform, example.normal_mean, example.normal_std, feature_extractor)
    cells = CellReplacement(example.waveform, normal, feature_extractor)
    level = (log_mel, example.normal_mean, example.normal_std)
    key = [seed, 1, *example.name.encode()]
    maps = {
        "random": lambda: torch.from_numpy(np.random.default_rng(key).random(log_mel.shape)),
        "attention map (paper)": lambda: example.attention(example.waveform[None], log_mel[None])[0],
        "level difference": lambda: level_difference(*level).abs(),
        "gradient x difference": lambda: integrated_gradients(example.score, cells, steps=1),
        REASONS_MAP: lambda: integrated_gradients(example.score, cells),
        "occlusion, 8 x 16 patches": lambda: patch_occlusion(example.score, cells),
        "occlusion, bands and segments": lambda: occlusion(example.score, cells, distance_from_normal(*level)),
    }
    if IntegratedGradients is not None:
        maps["integrated gradients (captum)"] = lambda: captum_gradients(example.score, cells)
    maps["the true change (bound)"] = lambda: (log_mel - feature_extractor.log_mel(example.twin)).abs()
    return maps


@torch.no_grad()
def patch_occlusion(score: Score, cells: CellReplacement, bands: int = 8, segments: int = 16) -> torch.Tensor:
    """Return the usual occlusion: one patch of a grid after the other is replaced."""
    cpu = torch.device("cpu")
    rows, columns = equal_parts(cells.shape[0], bands, cpu), equal_parts(cells.shape[1], segments, cpu)
    patches = (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1)
    after = torch.cat([score(*cells(batch)) for batch in patches.split(8)])
    before = score(*cells(torch.zeros_like(patches[:1])))
    return torch.einsum("n,nbt->bt", (before - after).float(), patches)


def captum_gradients(score: Score, cells: CellReplacement) -> torch.Tensor:
    """Return captum's integrated gradients, a cross-check of our own few lines."""
    if IntegratedGradients is None:
        raise ImportError("captum is not installed: pip install captum")
    kept = torch.ones((1, *cells.shape))
    method = IntegratedGradients(lambda kept: score(*cells(1 - kept)))
    return method.attribute(kept, torch.zeros_like(kept), n_steps=8, internal_batch_size=1)[0].float()
