"""What one relevance map is worth, and the regions that are made of it."""

from typing import Any

import numpy as np
import torch

from modeling.regions_attention_asd import Region, find_regions
from modeling.relevance_attention_asd import CellReplacement

from .examples import Example


# Shares of the cells that are replaced.
FRACTIONS = torch.tensor([0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.6, 1.0])


@torch.no_grad()
def measure(
    example: Example, relevance: torch.Tensor, regions: list[Region], feature_extractor, seed: int
) -> dict[str, float]:
    """Return the measures of one map `(bins, frames)` and of the regions made of it.

    Deletion gives back the twin's cells, the most relevant first; insertion gives the fault's cells to the twin.

    Args:
        example: the clip.
        relevance: the map.
        regions: the regions that `regions_of_map` made of the map.
        feature_extractor: the model's.
        seed: key of the order of equal values.
    """
    most_relevant = most_relevant_cells(relevance, seed)
    in_regions = region_mask(regions, relevance.shape, feature_extractor)
    deleted = torch.cat([torch.zeros_like(most_relevant[:1]), most_relevant, in_regions[None].float()])
    deletion, insertion = replaced_scores(example, deleted, feature_extractor)
    inside = truth_mask(example.truth, relevance.shape, feature_extractor)
    # Sigmoids and random numbers begin at their lowest value, signed maps at 0.
    weights = relevance.clamp_min(0) - relevance.clamp_min(0).min()
    return {
        "deletion": area(deletion[:-1], end=0.0),
        "insertion": area(insertion[:-1], end=1.0),
        "pointing": float(inside.flatten()[relevance.argmax()]),
        "energy_share": (weights[inside].sum() / weights.sum().clamp_min(1e-12)).item(),
        "area_share": inside.float().mean().item(),
        "regions_area": in_regions.float().mean().item(),
        "regions_precision": inside[in_regions].float().mean().item() if in_regions.any() else 0.0,
        "regions_deletion": deletion[-1].item(),
        "regions_insertion": insertion[-1].item(),
    }


def most_relevant_cells(relevance: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the most relevant cells `(fractions, bins, frames)` as 0 and 1, for each of `FRACTIONS` but none and all."""
    # Equal values, such as the zeros of occlusion, in random order.
    shuffled = torch.from_numpy(np.random.default_rng([seed, 2]).permutation(relevance.numel()))
    order = shuffled[relevance.flatten()[shuffled].argsort(descending=True, stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = (rank / len(order)).reshape(relevance.shape)
    return (rank < FRACTIONS[1:-1, None, None]).float()


def replaced_scores(example: Example, deleted: torch.Tensor, feature_extractor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores `(masks,)` of the clip without the cells `deleted`, and of the twin with them.

    Scores are counted from the twin's (0) to the clip's (1) and no further. A change may bring the score below the
    healthy twin's: it then finds a weakness of the network, not more of the fault.

    Args:
        example: the clip.
        deleted: masks `(masks, bins, frames)` of 0 and 1; the first is empty.
        feature_extractor: the model's.
    """
    cells = CellReplacement(example.waveform, example.twin, feature_extractor)
    scores = torch.cat([example.score(*cells(batch)) for batch in torch.cat([deleted, 1 - deleted]).split(8)]).float()
    scores = ((scores - scores[len(deleted)]) / (scores[0] - scores[len(deleted)])).clamp(0, 1)
    deletion, insertion = scores.chunk(2)
    return deletion, insertion


def area(curve: torch.Tensor, end: float) -> float:
    """Return the area under a curve over `FRACTIONS`; `end` is its value where all cells are replaced."""
    return torch.trapezoid(torch.cat([curve, torch.tensor([end])]), FRACTIONS).item()


def regions_of_map(example: Example, relevance: torch.Tensor, feature_extractor) -> list[Region]:
    """Return the regions that the detector's reasons would be made of with this map."""
    return find_regions(example.waveform, example.normal_mean, example.normal_std, feature_extractor, relevance)


def region_mask(regions: list[Region], shape: torch.Size, feature_extractor) -> torch.Tensor:
    """Return the cells `(bins, frames)` of the regions that were found."""
    seconds = np.arange(shape[1]) * feature_extractor.hop_length / feature_extractor.sampling_rate
    hertz = feature_extractor.mel_frequencies
    inside = np.zeros(shape, bool)
    for region in regions:
        rows = (hertz >= region.low_hz) & (hertz <= region.high_hz)
        for start, end in region.intervals_s or [(region.start_s, region.end_s)]:
            inside |= rows[:, None] & (seconds >= start) & (seconds <= end)
    return torch.from_numpy(inside)


def truth_mask(truth: dict[str, Any], shape: torch.Size, feature_extractor) -> torch.Tensor:
    """Return the cells `(bins, frames)` inside the true regions, a frame to either side included."""
    hop_seconds = feature_extractor.hop_length / feature_extractor.sampling_rate
    hertz, seconds = feature_extractor.mel_frequencies, np.arange(shape[1]) * hop_seconds
    inside = np.zeros(shape, bool)
    for region in truth["regions"]:
        rows = (hertz >= region["low_hz"]) & (hertz <= region["high_hz"])
        columns = (seconds >= region["start_s"] - hop_seconds) & (seconds <= region["end_s"] + hop_seconds)
        inside |= rows[:, None] & columns
    return torch.from_numpy(inside)
