#!/usr/bin/env python
"""How faithful are the reasons? Relevance maps held against faults whose place in time and frequency is known.

    python -m machine_room ROOM
    python -m research.benchmarks.faithfulness --model OUT --data_dir ROOM --output_dir R

The clips are the machine room's anomalous test clips that the detector calls anomalous while it passes their healthy
twins: the same clips without the fault, otherwise equal to the sample. Deletion gives back the twin's time-frequency
cells, the most relevant first, and insertion gives the fault's cells to the twin; both ends, and all that is changed,
are natural sound of that machine, and no map knows the twin. R gets faithfulness.md, faithfulness.csv (a row per clip
and map), reasons.csv and reasons.png.
"""

import argparse
import csv
import json
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.figures import save  # noqa: E402
from feature_extraction import AttentionAsdFeatureExtractor  # noqa: E402
from machine_room import planned_fault, render_clip  # noqa: E402
from modeling import AttentionAsdModel  # noqa: E402
from modeling.detector_attention_asd import AnomalyDetector  # noqa: E402
from modeling.reasons_attention_asd import sentence  # noqa: E402
from modeling.regions_attention_asd import Region, find_regions  # noqa: E402
from modeling.relevance_attention_asd import (  # noqa: E402
    CellReplacement,
    Score,
    at_normal_level,
    distance_from_normal,
    equal_parts,
    integrated_gradients,
    level_difference,
    occlusion,
)
from training.allocator import keep_freed_memory  # noqa: E402


try:
    from captum.attr import IntegratedGradients
except ImportError:  # a cross-check of our own few lines
    IntegratedGradients = None


# Shares of the cells that are replaced, and where clips count as detected.
FRACTIONS = torch.tensor([0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.6, 1.0])
FALSE_ALARM_RATE = 0.1
# What the tables show: measure, heading.
MAP_MEASURES = {
    "deletion": "deletion AUC (low)",
    "insertion": "insertion AUC (high)",
    "pointing": "pointing game",
    "energy_share": "energy inside",
}
REGION_MEASURES = {
    "regions_area": "area of the regions",
    "regions_precision": "of it inside the truth",
    "regions_deletion": "score left without them (low)",
    "regions_insertion": "score with them alone (high)",
}
REASONS_MAP = "integrated gradients"


@dataclass
class Example:
    """A detected clip, its healthy twin, its ground truth, and what the maps need to know."""

    name: str
    truth: dict
    waveform: torch.Tensor
    twin: torch.Tensor
    normal_mean: torch.Tensor
    normal_std: torch.Tensor
    score: Score
    attention: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    p_value: float


def examples(model, feature_extractor, detector: AnomalyDetector, room: Path, backend: str, seed: int):
    """The detected clips of a machine room in random order, as a generator of [`Example`]."""
    settings = json.loads((room / "machine_room.json").read_text())["settings"]
    truths = json.loads((room / "ground_truth.json").read_text())
    if round(settings["clip_seconds"] * feature_extractor.sampling_rate) != feature_extractor.clip_length:
        raise ValueError(
            f"{room} has clips of {settings['clip_seconds']} s, the model takes "
            f"{feature_extractor.clip_length / feature_extractor.sampling_rate} s: make one with "
            "`python -m machine_room ROOM --clip_seconds S`."
        )
    names = sorted(truths)
    channel = model.config.input_representations.index("log_mel")

    def render(name: str, fault) -> torch.Tensor:
        rendered = render_clip(name, fault=fault, seed=settings["seed"], clip_seconds=settings["clip_seconds"])
        return torch.from_numpy(rendered[0]).float()

    for index in np.random.default_rng([seed, 0]).permutation(len(names)):
        name = names[index]
        machine = f"{name.split('/')[0]}_id_{name.split('_id_')[1][:2]}"
        waveform = torch.from_numpy(feature_extractor.read_audio(room / name))
        if (waveform - render(name, planned_fault(name, settings["seed"]))).abs().max() > 2**-15:
            raise ValueError(f"{room / name} was made by another version of machine_room: make the folder again.")
        twin = render(name, None)

        def score(values: torch.Tensor, features: torch.Tensor, machine: str = machine) -> torch.Tensor:
            outputs = model(input_values=values, input_features=features)
            return detector.scores(outputs, machine, backend)

        def attention(values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
            return model(input_values=values, input_features=features).attention_maps[:, channel]

        with torch.no_grad():
            both = torch.stack([waveform, twin])
            p_values = detector.p_value(score(both, feature_extractor.log_mel(both)), machine, backend=backend)
        if p_values[0] <= FALSE_ALARM_RATE < p_values[1]:
            mean, std = (torch.from_numpy(level) for level in detector.normal_level(machine))
            yield Example(name, truths[name], waveform, twin, mean, std, score, attention, p_values[0].item())


def relevance_maps(example: Example, feature_extractor, seed: int) -> dict[str, Callable[[], torch.Tensor]]:
    """The maps that are compared, each a function that computes `(bins, frames)`."""
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
    """The usual occlusion: one patch of a grid after the other."""
    rows, columns = equal_parts(cells.shape[0], bands, "cpu"), equal_parts(cells.shape[1], segments, "cpu")
    patches = (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1)
    after = torch.cat([score(*cells(batch)) for batch in patches.split(8)])
    before = score(*cells(torch.zeros_like(patches[:1])))
    return torch.einsum("n,nbt->bt", (before - after).float(), patches)


def captum_gradients(score: Score, cells: CellReplacement) -> torch.Tensor:
    kept = torch.ones((1, *cells.shape))
    method = IntegratedGradients(lambda kept: score(*cells(1 - kept)))
    return method.attribute(kept, torch.zeros_like(kept), n_steps=8, internal_batch_size=1)[0].float()


@torch.no_grad()
def measure(
    example: Example, relevance: torch.Tensor, regions: list[Region], feature_extractor, seed: int
) -> dict[str, float]:
    """The measures of one map and of the regions made of it.

    Scores are counted from the twin's (0) to the clip's (1) and no further: a change that brings the score below the
    healthy twin's finds a weakness of the network, not more of the fault.
    """
    cells = CellReplacement(example.waveform, example.twin, feature_extractor)
    # Equal values, such as the zeros of occlusion, in random order.
    shuffled = torch.from_numpy(np.random.default_rng([seed, 2]).permutation(relevance.numel()))
    order = shuffled[relevance.flatten()[shuffled].argsort(descending=True, stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = (rank / len(order)).reshape(relevance.shape)
    most_relevant = (rank < FRACTIONS[1:-1, None, None]).float()
    in_regions = region_mask(regions, relevance.shape, feature_extractor)
    deleted = torch.cat([torch.zeros_like(most_relevant[:1]), most_relevant, in_regions[None].float()])
    scores = torch.cat([example.score(*cells(batch)) for batch in torch.cat([deleted, 1 - deleted]).split(8)]).float()
    scores = ((scores - scores[len(deleted)]) / (scores[0] - scores[len(deleted)])).clamp(0, 1)
    deletion, insertion = scores.chunk(2)
    areas = [
        torch.trapezoid(torch.cat([curve[:-1], torch.tensor([end])]), FRACTIONS).item()
        for curve, end in ((deletion, 0.0), (insertion, 1.0))
    ]
    inside = truth_mask(example.truth, relevance.shape, feature_extractor)
    # Sigmoids and random numbers begin at their lowest value, signed maps at 0.
    weights = relevance.clamp_min(0) - relevance.clamp_min(0).min()
    return {
        "deletion": areas[0],
        "insertion": areas[1],
        "pointing": float(inside.flatten()[relevance.argmax()]),
        "energy_share": (weights[inside].sum() / weights.sum().clamp_min(1e-12)).item(),
        "area_share": inside.float().mean().item(),
        "regions_area": in_regions.float().mean().item(),
        "regions_precision": inside[in_regions].float().mean().item() if in_regions.any() else 0.0,
        "regions_deletion": deletion[-1].item(),
        "regions_insertion": insertion[-1].item(),
    }


def region_mask(regions: list[Region], shape: tuple[int, int], feature_extractor) -> torch.Tensor:
    """The cells `(bins, frames)` of the regions that were found."""
    seconds = np.arange(shape[1]) * feature_extractor.hop_length / feature_extractor.sampling_rate
    hertz = feature_extractor.mel_frequencies
    inside = np.zeros(shape, bool)
    for region in regions:
        rows = (hertz >= region.low_hz) & (hertz <= region.high_hz)
        for start, end in region.intervals_s or [(region.start_s, region.end_s)]:
            inside |= rows[:, None] & (seconds >= start) & (seconds <= end)
    return torch.from_numpy(inside)


def truth_mask(truth: dict, shape: tuple[int, int], feature_extractor) -> torch.Tensor:
    """The cells `(bins, frames)` inside the true regions, a frame to either side included."""
    hop_seconds = feature_extractor.hop_length / feature_extractor.sampling_rate
    hertz, seconds = feature_extractor.mel_frequencies, np.arange(shape[1]) * hop_seconds
    inside = np.zeros(shape, bool)
    for region in truth["regions"]:
        rows = (hertz >= region["low_hz"]) & (hertz <= region["high_hz"])
        columns = (seconds >= region["start_s"] - hop_seconds) & (seconds <= region["end_s"] + hop_seconds)
        inside |= rows[:, None] & columns
    return torch.from_numpy(inside)


def mean_with_interval(values: np.ndarray, seed: int, replicates: int = 2000) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval over clips."""
    draws = np.random.default_rng([seed, 3]).integers(len(values), size=(replicates, len(values)))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def markdown(rows: list[dict], columns: dict[str, str], seed: int) -> str:
    """A table: maps by rows, measures by columns."""
    lines = [f"| relevance map | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(row["map"] for row in rows):
        cells = []
        for column in columns:
            values = np.array([row[column] for row in rows if row["map"] == name])
            mean, low, high = mean_with_interval(values, seed)
            cells.append(f"{mean:.2f}" if column == "seconds" else f"{mean:.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def report(rows: list[dict], clips: int, backend: str, seed: int) -> str:
    area = np.mean([row["area_share"] for row in rows])
    return f"""# Faithfulness of the reasons

{clips} clips of the synthetic machine room that the detector ({backend} back end) calls anomalous while it passes
their healthy twins. Mean and 95 % bootstrap interval over clips. The true regions take {area:.2f} of the area, which is
chance for the pointing game, the energy inside and the regions' part inside the truth.

{markdown(rows, {**MAP_MEASURES, "seconds": "s a clip"}, seed)}
The regions that `find_regions` makes of each map, at most three a clip; 0 is the healthy twin's score, 1 the clip's:

{markdown(rows, REGION_MEASURES, seed)}"""


def five_examples(explained: list[tuple[Example, list[Region]]]) -> list[tuple[Example, list[Region]]]:
    """The clips that the detector is surest of: one of each fault before a second of any."""
    by_certainty = sorted(explained, key=lambda pair: pair[0].p_value)
    faults = [example.truth["fault"] for example, _ in by_certainty]
    turns = [faults[:place].count(fault) for place, fault in enumerate(faults)]
    return [by_certainty[place] for place in np.argsort(turns, kind="stable")[:5]]


def reasons_figure(chosen: list[tuple[Example, list[Region]]], feature_extractor) -> Figure:
    """Clips as level above or below this machine's normal; what was found in black, the truth in green."""
    figure = Figure(figsize=(11, 2.8 * len(chosen)), layout="constrained")
    hertz = feature_extractor.mel_frequencies
    ticks = [125, 500, 1000, 2000, 4000, 7900]
    panels = figure.subplots(len(chosen), 1, squeeze=False)[:, 0]
    for ax, (example, regions) in zip(panels, chosen, strict=True):
        level = feature_extractor.log_mel(example.waveform) - example.normal_mean[:, None]
        seconds = len(example.waveform) / feature_extractor.sampling_rate
        image = ax.imshow(level.numpy(), origin="lower", aspect="auto", cmap="RdBu_r", vmin=-20, vmax=20,
                          extent=(0, seconds, -0.5, len(hertz) - 0.5), interpolation="nearest")  # fmt: skip
        figure.colorbar(image, ax=ax, label="dB from normal", pad=0.01)
        for truth in example.truth["regions"]:
            draw(ax, truth["start_s"], truth["end_s"], truth["low_hz"], truth["high_hz"], hertz,
                 edgecolor="#009E73", linewidth=2.5)  # fmt: skip
        for region in regions:
            for start, end in region.intervals_s or [(region.start_s, region.end_s)]:
                draw(ax, start, end, region.low_hz, region.high_hz, hertz, edgecolor="black", linewidth=1.2,
                     linestyle="--")  # fmt: skip
        ax.set_yticks(np.interp(ticks, hertz, np.arange(len(hertz))), [f"{tick / 1000:g}" for tick in ticks])
        ax.set(ylabel="kHz", xlim=(0, seconds), ylim=(-0.5, len(hertz) - 0.5))
        period = example.truth["period_s"]
        truth = f"{example.truth['fault']}, severity {example.truth['severity']:.2f}"
        truth += f", every {1000 * period:.0f} ms" if period else ""
        found = textwrap.fill(f"found (black): {sentence(regions)}", 150)
        ax.set_title(f"{example.name}   truth (green): {truth}\n{found}", fontsize="small", loc="left")
    ax.set_xlabel("time [s]")
    return figure


def draw(ax, start: float, end: float, low: float, high: float, hertz: np.ndarray, **style) -> None:
    bottom, top = np.interp([low, high], hertz, np.arange(len(hertz)))
    ax.add_patch(Rectangle((start, bottom), end - start, top - bottom, fill=False, **style))


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory that train.py wrote, or a repository on the Hub")
    parser.add_argument("--data_dir", required=True, type=Path, help="folder that machine_room made")
    parser.add_argument("--output_dir", required=True, type=Path, help="where the results go")
    parser.add_argument("--clips", type=int, default=48, help="detected clips to use (default 48)")
    parser.add_argument("--backend", help="back end that gives the score (default: the detector's)")
    parser.add_argument("--seed", type=int, default=0, help="key of the clips' order and of the random map")
    options = parser.parse_args(arguments)

    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    model = AttentionAsdModel.from_pretrained(options.model).eval().requires_grad_(False)
    feature_extractor = AttentionAsdFeatureExtractor.from_pretrained(options.model)
    detector = AnomalyDetector.from_pretrained(options.model)
    backend = options.backend or detector.backend

    rows, reasons, explained = [], [], []
    found = examples(model, feature_extractor, detector, options.data_dir, backend, options.seed)
    for example in tqdm(islice(found, options.clips), "clips", options.clips):
        for name, compute in relevance_maps(example, feature_extractor, options.seed).items():
            started = time.perf_counter()
            relevance = compute().detach().float()
            seconds = time.perf_counter() - started
            regions = find_regions(
                example.waveform, example.normal_mean, example.normal_std, feature_extractor, relevance
            )
            figures = measure(example, relevance, regions, feature_extractor, options.seed)
            clip = {"file": example.name, "fault": example.truth["fault"], "map": name}
            rows.append({**clip, **figures, "seconds": seconds})
            if name == REASONS_MAP:
                reason = regions
        truth = {key: example.truth[key] for key in ("fault", "severity", "period_s")}
        reasons.append({"file": example.name, **truth, "reason": sentence(reason)})
        explained.append((example, reason))
    if not rows:
        parser.error(
            f"{options.model} detects no fault of {options.data_dir} at a false-alarm rate of {FALSE_ALARM_RATE}: "
            "train for longer, or make a room with more clips."
        )

    options.output_dir.mkdir(parents=True, exist_ok=True)
    table = report(rows, len(reasons), backend, options.seed)
    (options.output_dir / "faithfulness.md").write_text(table, encoding="utf-8")
    write_csv(options.output_dir / "faithfulness.csv", rows)
    write_csv(options.output_dir / "reasons.csv", reasons)
    save(reasons_figure(five_examples(explained), feature_extractor), options.output_dir / "reasons.png")
    print(table)


if __name__ == "__main__":
    main()
