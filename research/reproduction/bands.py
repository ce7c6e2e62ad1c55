"""Do high frequencies matter? Bands of the test clips are brought to the machine's normal level, and AUC is measured again.

The paper reads from its Figure 4 that [1.7, 8] kHz and [0, 71] Hz matter, because the attention is high there. But
attention shows where the network looks. What a band is worth shows when the band holds nothing unusual any more.
"""

from collections.abc import Sequence
from typing import Any

import torch

from evaluation.figures import PAPER_BANDS_HZ
from evaluation.loading import LoadedModel
from feature_extraction import AttentionAsdFeatureExtractor
from modeling.relevance_attention_asd import CellReplacement, at_normal_level
from research.detectors import normal_level_of

from .merit import Rows


LOW_BAND, HIGH_BAND = PAPER_BANDS_HZ
BANDS_HZ = {
    "none": None,
    "0-71 Hz": LOW_BAND,
    "71 Hz-1.7 kHz": (LOW_BAND[1], HIGH_BAND[0]),
    "1.7-8 kHz": HIGH_BAND,
}


def band_bins(feature_extractor: AttentionAsdFeatureExtractor) -> dict[str, torch.Tensor]:
    """Return which mel bins `(bins,)` have their center in each of `BANDS_HZ`; in "none" there is no bin."""
    hertz = torch.from_numpy(feature_extractor.mel_frequencies)
    return {
        name: torch.zeros(len(hertz), dtype=torch.bool)
        if limits is None
        else (hertz >= limits[0]) & (hertz < limits[1])
        for name, limits in BANDS_HZ.items()
    }


@torch.no_grad()
def score_without_bands(loaded: LoadedModel, rows: Sequence[dict[str, Any]]) -> dict[str, Rows]:
    """Score each test clip by the paper's score, with each of `BANDS_HZ` at its machine's normal level.

    Normal level is the mean of the normal training clips give or take a standard deviation, bin by bin. What lies inside
    is not touched. Waveform and log-mel are changed alike.

    Raises:
        ValueError: the model has no detector, or the detector does not know the normal level of a machine.
    """
    bins = band_bins(loaded.feature_extractor)
    scored: dict[str, Rows] = {name: [] for name in bins}
    replaced = torch.stack(list(bins.values())).to(loaded.model.device, torch.float32)
    labels = loaded.model.config.label2id
    for row in rows:
        cells = cells_at_normal_level(loaded, row)
        values, features = cells(replaced[:, :, None].expand(-1, -1, cells.shape[1]))
        claimed = torch.tensor([labels[row["label"]]] * len(bins), device=loaded.model.device)
        output = loaded.model(input_values=values, input_features=features, labels=claimed)
        for name, score in zip(bins, output.anomaly_scores.tolist(), strict=True):
            scored[name].append({**row, "file": row["path"], "score": score})
    return scored


def cells_at_normal_level(loaded: LoadedModel, row: dict[str, Any]) -> CellReplacement:
    """Return what replaces time-frequency cells of a clip by the clip at its machine's normal level."""
    level = normal_level_of(loaded, row["label"])
    device, extractor = loaded.model.device, loaded.feature_extractor
    waveform = extractor.read_clip(row["path"]).to(device)
    mean, deviation = (torch.from_numpy(values).to(device) for values in level)
    return CellReplacement(waveform, at_normal_level(waveform, mean, deviation, extractor), extractor)
