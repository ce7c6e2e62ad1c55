"""The paper's Figures 2 and 3: one clip through a trained network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.figures import ATTENTION_LIMITS, paper_figure_2, paper_figure_3
from evaluation.loading import load_network
from evaluation.markdown import markdown_table
from modeling import AttentionAsdModel

from .frequencies import FLOOR_TOLERANCE, lines_by_frequency
from .report import Report
from .study import Study
from .wording import preamble


class ShownClip:
    """The first anomalous test clip through a trained network: what Figures 2 and 3 show.

    Args:
        model_dir: directory of a model with both representations.
        rows: test clips.
    """

    def __init__(self, model_dir: Path, rows: Sequence[dict[str, Any]]):
        row = next(row for row in rows if row["is_anomaly"])
        loaded = load_network(model_dir)
        extractor = loaded.feature_extractor
        inputs = extractor(extractor.read_clip(row["path"]), sampling_rate=extractor.sampling_rate)
        output, before_relu = forward_with_wavegram(loaded.model, inputs)
        self.name = f"{row['machine_type']} id_{row['machine_id']}, {Path(row['path']).name}"
        self.channels = loaded.model.config.input_representations
        self.log_mel, self.wavegram = output.representations[0].numpy()
        self.wavegram_before_relu = before_relu[0].numpy()
        self.attention = output.attention_maps[0].numpy()
        self.hertz = extractor.mel_frequencies
        self.seconds = extractor.clip_length / extractor.sampling_rate


@torch.no_grad()
def forward_with_wavegram(model: AttentionAsdModel, inputs) -> tuple[Any, torch.Tensor]:
    """Return the network's output and its Wavegram `(clips, filters, frames)` before the last ReLU."""
    before_relu = []
    hook = model.get_submodule("wavegram.filters.pointwise_norm").register_forward_hook(
        lambda module, arguments, output: before_relu.append(output)
    )
    output = model(**inputs)
    hook.remove()
    return output, before_relu[0]


def first_component(wavegram: np.ndarray) -> float:
    """Return the share of the variation over time of `(filters, frames)` that one signal explains, in per cent."""
    singular = np.linalg.svd(wavegram - wavegram.mean(axis=1, keepdims=True), compute_uv=False)
    return 100 * float(singular[0] ** 2 / np.square(singular).sum())


def figure_2(study: Study, data: str, clip: ShownClip) -> Report:
    """Return Figure 2: the two representations, and how much there is in the Wavegram."""
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
    """Return Figure 3: the attention maps, and how much of them lies on the floor."""
    low, _ = ATTENTION_LIMITS
    channels = dict(zip(clip.channels, clip.attention, strict=True))
    parts = [
        preamble(study, f"Figure 3: the attention maps of one clip ({clip.name})", data, "honest"),
        f"The map is the sigmoid of a ReLU: it cannot fall below {low}, and a cell there says only that the last layer's "
        "output was not positive.",
        markdown_table(
            ["channel", "mean", "highest", "cells on the floor"],
            [
                [name, f"{cells.mean():.3f}", f"{cells.max():.3f}",
                 f"{100 * (cells <= low + FLOOR_TOLERANCE).mean():.1f} %"]
                for name, cells in channels.items()
            ],
        ),
    ]  # fmt: skip
    columns = {}
    for name, cells in channels.items():
        columns |= {f"{name}_mean": cells.mean(axis=1), f"{name}_sd": cells.std(axis=1)}
    figure = paper_figure_3(clip.attention, clip.hertz, clip.seconds, clip.channels)
    values = lines_by_frequency(clip.hertz, columns)
    return Report("figure3", "\n\n".join(parts), values, figure, "Attention maps of one clip")
