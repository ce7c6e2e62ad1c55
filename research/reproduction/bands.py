"""Do high frequencies matter? Bands of the test clips are brought to the machine's normal level, and AUC is measured again.

The paper reads from its Figure 4 that [1.7, 8] kHz and [0, 71] Hz matter, because the attention is high there. Attention
says where the network looks; what a band is worth shows when it holds nothing unusual any more.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation.figures import PAPER_BANDS_HZ
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector
from modeling.relevance_attention_asd import CellReplacement, at_normal_level

from .measure import load_network
from .merit import Rows


LOW_BAND, HIGH_BAND = PAPER_BANDS_HZ
BANDS_HZ = {
    "none": None,
    "0-71 Hz": LOW_BAND,
    "71 Hz-1.7 kHz": (LOW_BAND[1], HIGH_BAND[0]),
    "1.7-8 kHz": HIGH_BAND,
}


def band_bins(feature_extractor: AttentionAsdFeatureExtractor) -> dict[str, torch.Tensor]:
    """Which mel bins (bins,) have their centre in each of `BANDS_HZ`; none of them in "none"."""
    hertz = torch.from_numpy(feature_extractor.mel_frequencies)
    return {
        name: torch.zeros(len(hertz), dtype=torch.bool)
        if limits is None
        else (hertz >= limits[0]) & (hertz < limits[1])
        for name, limits in BANDS_HZ.items()
    }


@torch.no_grad()
def score_without_bands(model_dir: Path, rows: Sequence[dict[str, Any]]) -> dict[str, Rows]:
    """The paper's score of each test clip with each of `BANDS_HZ` at its machine's normal level, waveform and log-mel alike.

    Normal level is the mean of the normal training clips give or take a standard deviation, bin by bin; what lies inside
    is not touched.
    """
    model, feature_extractor = load_network(model_dir)
    detector = AnomalyDetector.from_pretrained(model_dir)
    bins = band_bins(feature_extractor)
    scored: dict[str, Rows] = {name: [] for name in bins}
    for row in rows:
        waveform = feature_extractor.fit_length(torch.from_numpy(feature_extractor.read_audio(row["path"]))).to(
            model.device
        )
        mean, deviation = (torch.from_numpy(level).to(model.device) for level in detector.normal_level(row["label"]))
        cells = CellReplacement(
            waveform, at_normal_level(waveform, mean, deviation, feature_extractor), feature_extractor
        )
        replaced = torch.stack(list(bins.values())).to(model.device, torch.float32)
        replaced = replaced[:, :, None].expand(-1, -1, cells.shape[1])
        values, features = cells(replaced)
        labels = torch.full((len(bins),), model.config.label2id[row["label"]], device=model.device)
        output = model(input_values=values, input_features=features, labels=labels)
        for name, score in zip(bins, output.anomaly_scores.tolist(), strict=True):
            scored[name].append({**row, "file": row["path"], "score": score})
    return scored
