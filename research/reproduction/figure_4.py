"""The paper's Figure 4: attention by frequency over the test clips, beside what each band is worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from evaluation.figures import ATTENTION_LIMITS, paper_figure_4
from evaluation.loading import best_device, load_model
from evaluation.markdown import markdown_table
from evaluation.score_clips import score_clips

from .bands import BANDS_HZ, band_bins, score_without_bands
from .cells import signed
from .frequencies import FLOOR_TOLERANCE, lines_by_frequency
from .merit import Rows, difference, official_replicates
from .report import Report
from .study import Study
from .wording import preamble


@dataclass
class Attention:
    """Attention to the log-mel over all test clips, one array `(bins,)` a seed.

    Args:
        means: mean over clips and frames.
        deviations: standard deviation over clips and frames.
        without_bands: scores of the clips with each band at its normal level, as `score_without_bands` returns them.
        hertz: center frequencies `(bins,)`.
        bins: which mel bins `(bins,)` lie in each band.
    """

    means: list[np.ndarray]
    deviations: list[np.ndarray]
    without_bands: list[dict[str, Rows]]
    hertz: np.ndarray
    bins: dict[str, torch.Tensor]


def measure_attention(model_dirs: Sequence[Path], rows: Sequence[dict[str, Any]]) -> Attention:
    """Score the test clips with every seed's network, as they are and with each band at its normal level.

    Raises:
        ValueError: a network has no attention, or no clip could be read.
    """
    means, deviations, without_bands = [], [], []
    for model_dir in tqdm(model_dirs, desc="Figure 4", unit="seed"):
        loaded = load_model(model_dir, best_device())
        channel = loaded.model.config.input_representations.index("log_mel")
        scored = score_clips(loaded.model, loaded.feature_extractor, rows, progress=False)
        if scored.attention_mean is None or scored.attention_std is None:
            raise ValueError(
                f"{model_dir}: no attention to draw; expected a network with attention and readable clips."
            )
        means.append(scored.attention_mean[channel])
        deviations.append(scored.attention_std[channel])
        without_bands.append(score_without_bands(loaded, rows))
    extractor = loaded.feature_extractor
    return Attention(means, deviations, without_bands, extractor.mel_frequencies, band_bins(extractor))


def figure_4(study: Study, data: str, model_dirs: Sequence[Path], rows: Sequence[dict[str, Any]]) -> Report:
    """Return Figure 4: means over seeds of the attention, and AUC without each band."""
    attention = measure_attention(model_dirs, rows)
    parts = [
        preamble(study, "Figure 4: attention to the log-mel by frequency, over the test clips", data, "honest"),
        "The paper concludes from this figure that [1.7, 8] kHz and [0, 71] Hz matter. The left half of the table is what the "
        f"figure shows, mean of {len(attention.means)} seeds. The right half is a test of the conclusion: what is unusual in "
        "the band is brought back to the normal level of the machine, in the waveform and the log-mel, and the clips are "
        "scored again. Mean official AUC in per cent; the interval is that of paired bootstrap samples of the test clips.",
        bands_table(attention),
    ]
    mean, deviation = np.mean(attention.means, axis=0), np.mean(attention.deviations, axis=0)
    of_seeds = {f"mean_seed{seed}": own for seed, own in zip(study.seeds, attention.means, strict=True)}
    values = lines_by_frequency(attention.hertz, {"mean": mean, "sd": deviation, **of_seeds})
    figure = paper_figure_4(mean, deviation, attention.hertz)
    return Report(
        "figure4", "\n\n".join(parts), values, figure, "Mean and standard deviation of the attention by frequency"
    )


def bands_table(attention: Attention) -> str:
    """Return each band's attention beside the AUC of the clips with the band at its normal level."""
    low, _ = ATTENTION_LIMITS
    mean, deviation = np.mean(attention.means, axis=0), np.mean(attention.deviations, axis=0)
    flat = np.mean([of_seed <= low + FLOOR_TOLERANCE for of_seed in attention.means], axis=0)
    replicates = {name: official_replicates([seed[name] for seed in attention.without_bands]) for name in BANDS_HZ}
    lines = [["none", "", "", "", f"{100 * replicates['none'][0]:.1f}", ""]]
    for name in list(BANDS_HZ)[1:]:
        inside = attention.bins[name].numpy()
        lines.append(
            [
                name,
                f"{mean[inside].mean():.3f}",
                f"{deviation[inside].mean():.3f}",
                f"{100 * flat[inside].mean():.0f} %",
                f"{100 * replicates[name][0]:.1f}",
                signed(difference(replicates[name], replicates["none"])),
            ]
        )
    header = ["band", "mean attention", "standard deviation", "bins flat on the floor"]
    return markdown_table([*header, "AUC with the band at its normal level", "change of AUC"], lines)
