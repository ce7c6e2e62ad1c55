"""Tables and picture of the faithfulness benchmark."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evaluation.markdown import markdown_table
from modeling.reasons_attention_asd import sentence
from modeling.regions_attention_asd import Region

from .examples import Example


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


def mean_with_interval(values: np.ndarray, seed: int, replicates: int = 2000) -> tuple[float, float, float]:
    """Return the mean and its 95 % bootstrap interval over clips."""
    draws = np.random.default_rng([seed, 3]).integers(len(values), size=(replicates, len(values)))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def measures_table(rows: list[dict], columns: dict[str, str], seed: int) -> str:
    """Return a table of maps by rows and measures by columns; `columns` is measure -> heading."""
    lines = []
    for name in dict.fromkeys(row["map"] for row in rows):
        cells = []
        for column in columns:
            values = np.array([row[column] for row in rows if row["map"] == name])
            mean, low, high = mean_with_interval(values, seed)
            cells.append(f"{mean:.2f}" if column == "seconds" else f"{mean:.2f} ({low:.2f} to {high:.2f})")
        lines.append([name, *cells])
    return markdown_table(["relevance map", *columns.values()], lines) + "\n"


def report(rows: list[dict], clips: int, backend: str, seed: int) -> str:
    """Return all measures as Markdown.

    Args:
        rows: a row for each clip and map.
        clips: number of clips.
        backend: the back end that gave the scores.
        seed: key of the bootstrap.
    """
    area = np.mean([row["area_share"] for row in rows])
    return f"""# Faithfulness of the reasons

{clips} clips of the synthetic machine room that the detector ({backend} back end) calls anomalous while it passes
their healthy twins. Mean and 95 % bootstrap interval over clips. The true regions take {area:.2f} of the area, which is
chance for the pointing game, the energy inside and the regions' part inside the truth.

{measures_table(rows, {**MAP_MEASURES, "seconds": "s a clip"}, seed)}
The regions that `find_regions` makes of each map, at most three a clip; 0 is the healthy twin's score, 1 the clip's:

{measures_table(rows, REGION_MEASURES, seed)}"""


def five_examples(explained: list[tuple[Example, list[Region]]]) -> list[tuple[Example, list[Region]]]:
    """Return the clips that the detector is surest of: one of each fault before a second of any."""
    by_certainty = sorted(explained, key=lambda pair: pair[0].p_value)
    faults = [example.truth["fault"] for example, _ in by_certainty]
    turns = [faults[:place].count(fault) for place, fault in enumerate(faults)]
    return [by_certainty[place] for place in np.argsort(turns, kind="stable")[:5]]


def reasons_figure(chosen: list[tuple[Example, list[Region]]], feature_extractor) -> Figure:
    """Draw clips as level above or below the machine's normal, with the regions found in black and the truth in green."""
    figure = Figure(figsize=(11, 2.8 * len(chosen)), layout="constrained")
    panels = figure.subplots(len(chosen), 1, squeeze=False)[:, 0]
    for ax, (example, regions) in zip(panels, chosen, strict=True):
        draw_level(ax, example, feature_extractor)
        hertz = feature_extractor.mel_frequencies
        for truth in example.truth["regions"]:
            draw_box(ax, truth["start_s"], truth["end_s"], truth["low_hz"], truth["high_hz"], hertz,
                     edgecolor="#009E73", linewidth=2.5)  # fmt: skip
        for region in regions:
            for start, end in region.intervals_s or [(region.start_s, region.end_s)]:
                draw_box(ax, start, end, region.low_hz, region.high_hz, hertz, edgecolor="black", linewidth=1.2,
                         linestyle="--")  # fmt: skip
        ax.set_title(panel_title(example, regions), fontsize="small", loc="left")
    panels[-1].set_xlabel("time [s]")
    return figure


def draw_level(ax: Axes, example: Example, feature_extractor) -> None:
    """Draw the clip's log-mel less the machine's normal mean."""
    hertz = feature_extractor.mel_frequencies
    level = feature_extractor.log_mel(example.waveform) - example.normal_mean[:, None]
    seconds = len(example.waveform) / feature_extractor.sampling_rate
    image = ax.imshow(level.numpy(), origin="lower", aspect="auto", cmap="RdBu_r", vmin=-20, vmax=20,
                      extent=(0, seconds, -0.5, len(hertz) - 0.5), interpolation="nearest")  # fmt: skip
    ax.figure.colorbar(image, ax=ax, label="dB from normal", pad=0.01)
    ticks = [125, 500, 1000, 2000, 4000, 7900]
    ax.set_yticks(np.interp(ticks, hertz, np.arange(len(hertz))), [f"{tick / 1000:g}" for tick in ticks])
    ax.set(ylabel="kHz", xlim=(0, seconds), ylim=(-0.5, len(hertz) - 0.5))


def draw_box(ax: Axes, start: float, end: float, low: float, high: float, hertz: np.ndarray, **style) -> None:
    """Draw a box between two times in seconds and two frequencies in hertz."""
    bottom, top = np.interp([low, high], hertz, np.arange(len(hertz)))
    ax.add_patch(Rectangle((start, bottom), end - start, top - bottom, fill=False, **style))


def panel_title(example: Example, regions: list[Region]) -> str:
    """Return the fault of a clip and the sentence that was found."""
    period = example.truth["period_s"]
    truth = f"{example.truth['fault']}, severity {example.truth['severity']:.2f}"
    truth += f", every {1000 * period:.0f} ms" if period else ""
    found = textwrap.fill(f"found (black): {sentence(regions)}", 150)
    return f"{example.name}   truth (green): {truth}\n{found}"
