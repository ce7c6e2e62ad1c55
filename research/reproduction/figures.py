"""The paper's Figures 2 to 4 from a trained network, with what can be measured on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from evaluation.figures import ATTENTION_LIMITS, paper_figure_2, paper_figure_3, paper_figure_4
from evaluation.score_clips import score_clips

from .bands import BANDS_HZ, band_bins, score_without_bands
from .measure import load_network
from .merit import difference, official_replicates
from .report import Report, markdown_table
from .study import Study
from .tables import preamble, signed


# Above the floor of the attention map by more than rounding in bfloat16 or float32.
FLOOR_TOLERANCE = 1e-4


class ShownClip:
    """The first anomalous test clip through a trained network: what Figures 2 and 3 show."""

    def __init__(self, model_dir: Path, rows: Sequence[dict[str, Any]]):
        row = next(row for row in rows if row["is_anomaly"])
        model, extractor = load_network(model_dir)
        model.to("cpu")
        inputs = extractor(torch.from_numpy(extractor.read_audio(row["path"])), sampling_rate=extractor.sampling_rate)
        before_relu = []
        hook = model.wavegram.filters.pointwise_norm.register_forward_hook(
            lambda module, arguments, output: before_relu.append(output[0])
        )
        with torch.no_grad():
            output = model(**inputs)
        hook.remove()
        self.name = f"{row['machine_type']} id_{row['machine_id']}, {Path(row['path']).name}"
        self.channels = model.config.input_representations
        self.log_mel, self.wavegram = output.representations[0].numpy()
        self.wavegram_before_relu = before_relu[0].numpy()
        self.attention = output.attention_maps[0].numpy()
        self.hertz = extractor.mel_frequencies
        self.seconds = extractor.clip_length / extractor.sampling_rate


def first_component(wavegram: np.ndarray) -> float:
    """Share of the variation over time of `(filters, frames)` that one signal explains, in per cent."""
    singular = np.linalg.svd(wavegram - wavegram.mean(axis=1, keepdims=True), compute_uv=False)
    return 100 * float(singular[0] ** 2 / np.square(singular).sum())


def figure_2(study: Study, data: str, clip: ShownClip) -> Report:
    """The representations, and how much there is in the Wavegram."""
    title = f"Figure 2: the two representations of one clip ({clip.name})"
    before, after = first_component(clip.wavegram_before_relu), first_component(clip.wavegram)
    silent = int((clip.wavegram.max(axis=1) <= 0).sum())
    parts = [
        preamble(study, title, data, "honest"),
        "The Wavegram's 128 rows are affine images of the output of one learned filter, each cut at zero by a ReLU.",
        markdown_table(
            ["Wavegram of this clip", "measured"],
            [
                ["variation over time that one signal explains, before the ReLU", f"{before:.2f} %"],
                ["the same after the ReLU", f"{after:.2f} %"],
                ["rows that are zero throughout", f"{silent} of {len(clip.wavegram)}"],
            ],
        ),
    ]
    names = ("log_mel_mean_db", "log_mel_sd_db", "wavegram_mean", "wavegram_sd")
    columns = [part for rows in (clip.log_mel, clip.wavegram) for part in (rows.mean(axis=1), rows.std(axis=1))]
    values = lines_by_frequency(clip.hertz, dict(zip(names, columns, strict=True)))
    figure = paper_figure_2(clip.log_mel, clip.wavegram, clip.hertz, clip.seconds, clip.name)
    return Report("figure2", "\n\n".join(parts), values, figure, "Log-mel and Wavegram of one clip")


def figure_3(study: Study, data: str, clip: ShownClip) -> Report:
    """The attention maps, and how much of them lies on the floor."""
    low, _ = ATTENTION_LIMITS
    parts = [
        preamble(study, f"Figure 3: the attention maps of one clip ({clip.name})", data, "honest"),
        f"The map is the sigmoid of a ReLU: it cannot fall below {low}, and a cell there says only that the last layer's "
        "output was not positive.",
        markdown_table(
            ["channel", "mean", "highest", "cells on the floor"],
            [
                [name, f"{of_channel.mean():.3f}", f"{of_channel.max():.3f}",
                 f"{100 * (of_channel <= low + FLOOR_TOLERANCE).mean():.1f} %"]
                for name, of_channel in zip(clip.channels, clip.attention, strict=True)
            ],
        ),
    ]  # fmt: skip
    columns = {}
    for name, of_channel in zip(clip.channels, clip.attention, strict=True):
        columns |= {f"{name}_mean": of_channel.mean(axis=1), f"{name}_sd": of_channel.std(axis=1)}
    figure = paper_figure_3(clip.attention, clip.hertz, clip.seconds, clip.channels)
    values = lines_by_frequency(clip.hertz, columns)
    return Report("figure3", "\n\n".join(parts), values, figure, "Attention maps of one clip")


def figure_4(study: Study, data: str, model_dirs: Sequence[Path], rows: Sequence[dict[str, Any]]) -> Report:
    """Attention by frequency over the test clips, beside what each band is worth: means over seeds."""
    means, deviations, without = [], [], []
    for model_dir in tqdm(model_dirs, desc="Figure 4", unit="seed"):
        model, extractor = load_network(model_dir)
        channel = model.config.input_representations.index("log_mel")
        scored = score_clips(model, extractor, rows, progress=False)
        means.append(scored.attention_mean[channel])
        deviations.append(scored.attention_std[channel])
        without.append(score_without_bands(model_dir, rows))
    bins = band_bins(extractor)
    low, _ = ATTENTION_LIMITS
    mean, deviation = np.mean(means, axis=0), np.mean(deviations, axis=0)
    flat = np.mean([m <= low + FLOOR_TOLERANCE for m in means], axis=0)
    replicates = {name: official_replicates([seed[name] for seed in without]) for name in BANDS_HZ}
    lines = [["none", "", "", "", f"{100 * replicates['none'][0]:.1f}", ""]]
    for name in list(BANDS_HZ)[1:]:
        inside = bins[name].numpy()
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
    header = ["band", "mean attention", "standard deviation", "bins flat on the floor", "AUC with the band at its normal level",
              "change of AUC"]  # fmt: skip
    parts = [
        preamble(study, "Figure 4: attention to the log-mel by frequency, over the test clips", data, "honest"),
        "The paper concludes from this figure that [1.7, 8] kHz and [0, 71] Hz matter. The left half of the table is what the "
        f"figure shows, mean of {len(means)} seeds. The right half is a test of the conclusion: what is unusual in the band is "
        "brought back to the normal level of the machine, in the waveform and the log-mel, and the clips are scored again. "
        "Mean official AUC in per cent; the interval is that of paired bootstrap samples of the test clips.",
        markdown_table(header, lines),
    ]
    of_seeds = {f"mean_seed{seed}": own for seed, own in zip(study.seeds, means, strict=True)}
    values = lines_by_frequency(extractor.mel_frequencies, {"mean": mean, "sd": deviation, **of_seeds})
    figure = paper_figure_4(mean, deviation, extractor.mel_frequencies)
    return Report(
        "figure4", "\n\n".join(parts), values, figure, "Mean and standard deviation of the attention by frequency"
    )


def lines_by_frequency(hertz: np.ndarray, columns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {"mel_bin": index, "frequency_hz": float(frequency)}
        | {name: float(column[index]) for name, column in columns.items()}
        for index, frequency in enumerate(hertz)
    ]
