"""Why a clip is anomalous: the regions that raised its score, and one sentence about them."""

import numpy as np
import torch

from .bands_attention_asd import MIN_STD_DB
from .regions_attention_asd import BURSTS, TONE, Region, find_regions
from .relevance_attention_asd import (
    CellReplacement,
    Score,
    at_normal_level,
    distance_from_normal,
    integrated_gradients,
    occlusion,
)


# Impacts with a shorter period are counted by the second.
FAST_IMPACTS_S = 0.1
# A band is called broad from this width, or from an octave.
BROAD_HZ = 1500.0
# More stretches than these are not counted.
MAX_COUNTED_STRETCHES = 4


def find_reasons(
    score: Score,
    waveform: torch.Tensor,
    normal_mean: np.ndarray | torch.Tensor,
    normal_std: np.ndarray | torch.Tensor,
    feature_extractor,
    max_regions: int = 3,
) -> list[Region]:
    """Find the regions that made a clip anomalous, by [`integrated_gradients`] from the clip at its normal level.

    This map was the most faithful one on clips with known faults. research/benchmarks/faithfulness.py deletes a fault's
    cells, the most relevant first. The area under the anomaly score was 0.06 (level difference 0.15, occlusion 0.12,
    random 0.44, the paper's attention map 0.57). A score without gradients, such as an exported network's, is explained
    by [`occlusion`], the second best.

    Args:
        score: anomaly scores from the network's inputs.
        waveform: the clip `(samples,)` in [-1, 1] at the model's sampling rate, of the length that `score` takes.
        normal_mean: this machine's normal log-mel `(bins,)` in dB, over clips and frames.
        normal_std: its standard deviation `(bins,)` in dB, over clips and frames.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.
        max_regions: the largest number of regions.

    Returns:
        The regions, the most relevant first; none where nothing stands out.
    """
    mean, std = (torch.as_tensor(level).to(waveform.device, torch.float32) for level in (normal_mean, normal_std))
    std = std.clamp_min(MIN_STD_DB)
    cells = CellReplacement(waveform, at_normal_level(waveform, mean, std, feature_extractor), feature_extractor)
    with torch.enable_grad():
        scored = score(*cells(torch.zeros((1, *cells.shape), device=cells.device, requires_grad=True)))
    if scored.requires_grad:
        relevance = integrated_gradients(score, cells)
    else:
        relevance = occlusion(score, cells, distance_from_normal(feature_extractor.log_mel(waveform), mean, std))
    return find_regions(waveform, mean, std, feature_extractor, relevance, max_regions)


def sentence(regions: list[Region]) -> str:
    """Describe regions in one sentence.

    Such as "Broadband impacts every 0.31 s from 2 to 6 kHz, 14 dB above this machine's normal.".
    """
    if not regions:
        return "Nothing in this clip stands out from this machine's normal level."
    clauses = []
    for region in regions:
        side = "above" if region.level_db > 0 else "below"
        normal = " this machine's normal" if not clauses else " it"
        level = f"{abs(region.level_db):.0f} dB {side}{normal}"
        clauses.append(f"{sound_words(region)} {band_words(region)}, {level}{time_words(region)}")
    words = "; ".join(clauses)
    return words[0].upper() + words[1:] + "."


def sound_words(region: Region) -> str:
    """Name the sound of a region: "broadband hiss", "impacts 87 times a second"."""
    is_broad = region.high_hz - region.low_hz > BROAD_HZ or region.high_hz > 2 * region.low_hz
    width = "broadband" if is_broad else "narrow-band"
    match region.kind, region.period_s:
        case "impacts", float(period_s) if period_s < FAST_IMPACTS_S:
            return f"{width} impacts {1 / period_s:.0f} times a second"
        case "impacts", period_s:
            return f"{width} impacts every {period_s:.2f} s"
        case "harmonics", None:
            return "tones"
        case "harmonics", float(period_s):
            return f"harmonics of {hertz_words(1 / period_s)}"
        case "hiss", _:
            return f"{width} hiss"
        case "bursts", _:
            return f"{len(region.intervals_s)} irregular bursts" if len(region.intervals_s) > 1 else "a burst"
    return region.kind


def band_words(region: Region) -> str:
    """Name the band of a region: "at 1.2 kHz", "below 150 Hz", "from 2 to 6 kHz"."""
    low, high = hertz_words(region.low_hz), hertz_words(region.high_hz)
    if region.kind == TONE or low == high:
        return f"at {hertz_words((region.low_hz + region.high_hz) / 2)}"
    if region.low_hz < 20:
        return f"below {high}"
    number, unit = low.split()
    return f"from {number if high.endswith(' ' + unit) else low} to {high}"


def hertz_words(hertz: float) -> str:
    """Write a frequency with two digits: 62 Hz, 850 Hz, 1.2 kHz."""
    hertz = float(f"{hertz:.2g}")
    return f"{hertz / 1000:g} kHz" if hertz >= 1000 else f"{hertz:g} Hz"


def time_words(region: Region) -> str:
    """Say when a region is there, after a comma; nothing where it lasts the whole clip."""
    if not region.intervals_s:
        return ""
    start, end = f"{region.start_s:.1f}", f"{region.end_s:.1f}"
    if len(region.intervals_s) == 1:
        return f", at {start} s" if start == end else f", from {start} to {end} s"
    if region.kind == BURSTS:
        return f", between {start} and {end} s"
    if len(region.intervals_s) > MAX_COUNTED_STRETCHES:
        return f", on and off between {start} and {end} s"
    return f", in {len(region.intervals_s)} stretches between {start} and {end} s"


__all__ = ["find_reasons", "sentence"]
