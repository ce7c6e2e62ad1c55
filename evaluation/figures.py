"""Pictures of an evaluation and of single clips, after Figures 2 to 4 of the paper and for reports.

Every function returns a `matplotlib.figure.Figure` of its own: no window, no pyplot, no figure left open in a
server. Color-blind readers can tell the colors apart (Okabe-Ito; viridis and cividis).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dcase2020_task2 import label_name


Numbers = Sequence[float] | np.ndarray
Labels = Sequence[int] | np.ndarray
Names = Sequence[str] | np.ndarray

# Okabe and Ito, "Color Universal Design", 2008.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY_BLUE, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#767676"
ID_COLORS = (SKY_BLUE, ORANGE, GREEN, PURPLE, BLUE, VERMILION, GREY)

FREQUENCY_TICKS_HZ = (125, 250, 500, 1000, 2000, 4000, 8000)
REPORT_TICKS_HZ = (125, 500, 1000, 2000, 4000, 8000)  # its rows are too low for 250 beside 125
DISPLAY_NAMES = {"log_mel": "log-mel", "wavegram": "Wavegram"}

# Section IV of the paper: the frequencies in which its Figure 4 shows the attention to matter.
PAPER_BANDS_HZ = ((0.0, 71.0), (1700.0, 8000.0))

# The attention map is the sigmoid of a ReLU: no value lies below 0.5 (shut) or reaches 1.
ATTENTION_LIMITS = (0.5, 1.0)


def save(figure: Figure, path: str | Path) -> None:
    """Write a PNG; the same figure gives the same bytes, as it carries no version or date."""
    figure.savefig(path, format="png", dpi=150, metadata={"Software": None})


def score_histograms(scores: Numbers, labels: Labels, machine_types: Names) -> Figure:
    """Histograms of the anomaly scores of normal (0) and anomalous (1) clips, a panel per machine type.

    Each class is drawn in per cent of its own clips: test sets hold up to four times more anomalous clips.
    """
    scores, labels, machine_types = np.asarray(scores), np.asarray(labels), np.asarray(machine_types)
    types = sorted(set(machine_types.tolist()))
    figure, panels = _grid(len(types), width=4.2, height=3.1)
    for ax, machine_type in zip(panels, types, strict=False):
        own = machine_types == machine_type
        edges = np.histogram_bin_edges(scores[own], bins=int(np.clip(np.sqrt(own.sum()), 8, 30)))
        for label, name, color in ((0, "normal", BLUE), (1, "anomalous", VERMILION)):
            values = scores[own & (labels == label)]
            share = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
            ax.stairs(share, edges, fill=True, color=color, alpha=0.35)
            ax.stairs(share, edges, color=color, linewidth=1.5, label=f"{name}, {len(values)} clips")
        ax.set(title=machine_type, xlabel="anomaly score", ylabel="share of the class [%]")
        ax.set_ylim(0, ax.get_ylim()[1] * 1.25)  # room for the legend
        ax.set_yticks([tick for tick in ax.get_yticks() if tick <= 100])
        ax.legend(loc="upper right", fontsize="small", frameon=False)
        _plain(ax)
    return figure


def roc_curves(
    scores: Numbers,
    labels: Labels,
    machine_types: Names,
    machine_ids: Names,
    max_fpr: float = 0.1,
) -> Figure:
    """ROC curves, a panel per machine type: thin, one per machine ID; thick, all its clips pooled.

    The region of pAUC (false positive rates up to max_fpr) is shaded. The legend's AUC and pAUC are those of
    `metrics.asd_auc`; a machine ID without both classes has no curve, and the legend says so.
    """
    # Imported here: score.py draws clips where neither scikit-learn nor evaluate need be installed.
    from metrics.asd_auc import asd_auc

    figures = asd_auc(scores, labels, machine_types, machine_ids, max_fpr=max_fpr, n_bootstrap=0)
    scores, labels, machine_types = np.asarray(scores), np.asarray(labels), np.asarray(machine_types)
    numbers = np.asarray([str(machine_id).rpartition("id_")[2].zfill(2) for machine_id in machine_ids])
    types = list(figures["auc"]["per_type"])
    figure, panels = _grid(len(types), width=4.8, height=5.2)
    for ax, machine_type in zip(panels, types, strict=False):
        own = machine_types == machine_type
        region = f"pAUC region, FPR ≤ {max_fpr:g}"
        ax.axvspan(0, max_fpr, color=ORANGE, alpha=0.2, linewidth=0, label=region)
        ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        for position, number in enumerate(sorted(set(numbers[own].tolist()))):
            name = label_name(machine_type, number)
            color = ID_COLORS[position % len(ID_COLORS)]
            if name in figures["undefined"]:
                ax.plot([], [], " ", label=f"id_{number}: {figures['undefined'][name]}")
                continue
            areas = [figures[metric]["per_id"][name] for metric in ("auc", "pauc")]
            clips = own & (numbers == number)
            _draw_roc(ax, labels[clips], scores[clips], f"id_{number}", areas, color=color, linewidth=1.2)
        pooled = [figures[metric]["per_type"][machine_type]["pooled"] for metric in ("auc", "pauc")]
        if None not in pooled:
            _draw_roc(ax, labels[own], scores[own], "pooled", pooled, color=BLACK, linewidth=2.6)
        ax.set(
            title=machine_type, xlabel="false positive rate", ylabel="true positive rate",
            xlim=(-0.01, 1.01), ylim=(-0.01, 1.02),
        )  # fmt: skip
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize="small", frameon=False)
        _plain(ax)
    return figure


def paper_figure_2(
    log_mel: np.ndarray,
    wavegram: np.ndarray,
    frequencies_hz: np.ndarray,
    clip_seconds: float,
    title: str | None = None,
) -> Figure:
    """The two representations of one clip (Figure 2 of the paper).

    Args:
        log_mel: (n_mels, frames) in dB.
        wavegram: (filters, frames), after the ReLU, without a unit.
        frequencies_hz: (n_mels,) center of each mel bin in Hz, rising.
        clip_seconds: what the frames span.
        title: such as the clip's name.
    """
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_log_mel(left, None, log_mel, frequencies_hz, clip_seconds)
    _draw_wavegram(right, None, wavegram, clip_seconds)
    for ax in (left, right):
        ax.set_xlabel("time [s]")
    if title:
        figure.suptitle(title, parse_math=False)
    return figure


def paper_figure_3(
    attention_maps: np.ndarray,
    frequencies_hz: np.ndarray,
    clip_seconds: float,
    channel_names: Sequence[str],
) -> Figure:
    """The attention maps of one clip (Figure 3 of the paper), on the axes of Figure 2.

    Args:
        attention_maps: (channels, 128, frames), values in [0.5, 1).
        frequencies_hz: (128,) center of each mel bin in Hz, rising.
        clip_seconds: what the frames span.
        channel_names: of each channel, as in the configuration's `input_representations`.
    """
    figure = Figure(figsize=(5.5 * len(attention_maps), 4), layout="constrained")
    panels = figure.subplots(1, len(attention_maps), squeeze=False)[0]
    for ax, attention_map, name in zip(panels, attention_maps, channel_names, strict=True):
        _draw_attention(ax, None, attention_map, name, frequencies_hz, clip_seconds)
        ax.set_xlabel("time [s]")
    return figure


def paper_figure_4(mean_by_frequency: np.ndarray, std_by_frequency: np.ndarray, frequencies_hz: np.ndarray) -> Figure:
    """Mean and standard deviation of the log-mel attention map over a test set (Figure 4 of the paper).

    All three are (128,), per mel bin. The bands in which the paper finds the attention to matter are shaded.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    ax = figure.subplots()
    bins = np.arange(len(frequencies_hz))
    for low, high in PAPER_BANDS_HZ:
        ax.axvspan(*_bins_of((low, high), frequencies_hz), color=ORANGE, alpha=0.16, linewidth=0)
    low, high = mean_by_frequency - std_by_frequency, mean_by_frequency + std_by_frequency
    ax.fill_between(bins, low, high, color=BLUE, alpha=0.25, linewidth=0, label="mean ± standard deviation")
    ax.plot(bins, mean_by_frequency, color=BLUE, linewidth=2, label="mean")
    ax.set(
        title="log-mel attention over the test set", xlabel="frequency [Hz], mel-spaced", ylabel="attention",
        xlim=(-0.5, len(bins) - 0.5), ylim=(0.48, 1.08),
    )  # fmt: skip
    _frequency_ticks(ax.xaxis, frequencies_hz, FREQUENCY_TICKS_HZ)
    for low, high in PAPER_BANDS_HZ:
        start, end = _bins_of((low, high), frequencies_hz)
        band = f"{low:g}–{high:g} Hz" if high < 1000 else f"{low / 1000:g}–{high / 1000:g} kHz"
        # A band too narrow for its label has it at its right.
        where, side = (end + 1, "left") if end - start < 20 else ((start + end) / 2, "center")
        ax.text(where, 1.04, f"paper: {band}", ha=side, va="center", fontsize="small")
    ax.legend(loc="center left", bbox_to_anchor=(0.12, 0.7), frameon=False)
    _plain(ax)
    return figure


def clip_report(
    waveform: np.ndarray,
    log_mel: np.ndarray,
    attention_maps: np.ndarray | None,
    frequencies_hz: np.ndarray,
    sampling_rate: int,
    title: str,
    verdict_line: str,
    wavegram: np.ndarray | None = None,
    channel_names: Sequence[str] = ("log_mel", "wavegram"),
) -> Figure:
    """One picture of one clip for the person who has to act: verdict, sound and attention maps.

    Args:
        waveform: (samples,).
        log_mel: (n_mels, frames) in dB, over the same time as the waveform.
        attention_maps: (channels, n_mels, frames), or None for a model without attention.
        frequencies_hz: (n_mels,) center of each mel bin in Hz, rising.
        sampling_rate: of the waveform, in Hz.
        title: such as the clip's name.
        verdict_line: the headline.
        wavegram: (filters, frames), drawn where given.
        channel_names: of the attention maps' channels, as in the configuration's `input_representations`.
    """
    seconds = len(waveform) / sampling_rate
    maps = [] if attention_maps is None else list(zip(attention_maps, channel_names, strict=True))
    heights = [1.1] + [2] * (1 + (wavegram is not None) + len(maps))
    figure = Figure(figsize=(10, 1.1 + 0.95 * sum(heights)), layout="constrained")
    # File names may hold dollar signs, which are not mathematics here.
    figure.suptitle(verdict_line, fontsize=14, fontweight="bold", parse_math=False)
    # The color bars have a column of their own, so that all rows share one time axis.
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights, width_ratios=(50, 1))
    rows = [figure.add_subplot(grid[0, 0])]
    rows += [figure.add_subplot(grid[row, 0], sharex=rows[0]) for row in range(1, len(heights))]
    bars = [figure.add_subplot(grid[row, 1], label="<colorbar>") for row in range(1, len(heights))]
    below = zip(rows[1:], bars, strict=False)

    rows[0].plot(np.arange(len(waveform)) / sampling_rate, waveform, color=BLUE, linewidth=0.5)
    rows[0].set(ylabel="amplitude", xlim=(0, seconds))
    rows[0].set_title(title, fontsize="medium", parse_math=False)
    _draw_log_mel(*next(below), log_mel, frequencies_hz, seconds, REPORT_TICKS_HZ)
    if wavegram is not None:
        _draw_wavegram(*next(below), wavegram, seconds)
    for attention_map, name in maps:
        _draw_attention(*next(below), attention_map, name, frequencies_hz, seconds, REPORT_TICKS_HZ)
    for ax in rows[:-1]:
        ax.tick_params(labelbottom=False)
    rows[-1].set_xlabel("time [s]")
    return figure


def training_curves(history: Sequence[dict]) -> Figure:
    """Losses and learning rate of a training run.

    `history` has an entry a log line, each with "step" and any of "loss", "eval_loss" (on the held-out normal
    clips) and "learning_rate"; other keys are passed over.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for ax, key, name, color in (
        (losses, "loss", "training", BLUE),
        (losses, "eval_loss", "held-out normal clips", VERMILION),
        (rates, "learning_rate", "learning rate", BLACK),
    ):
        points = [(entry["step"], entry[key]) for entry in history if entry.get(key) is not None]
        if points:
            marker = "o" if len(points) < 30 else None
            ax.plot(*zip(*points, strict=False), color=color, marker=marker, markersize=3.5, linewidth=1.5, label=name)
    losses.set_ylabel("loss")
    if losses.lines:
        losses.legend(frameon=False)
    rates.set(xlabel="optimiser step", ylabel="learning rate")
    rates.set_ylim(bottom=0)
    rates.ticklabel_format(axis="y", scilimits=(0, 0))
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (losses, rates):
        _plain(ax)
    return figure


def _grid(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels of a size in inches, at most three in a row; four are two by two."""
    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)


def _draw_roc(ax: Axes, labels, scores, name: str, areas: list[float], **style) -> None:
    from sklearn.metrics import roc_curve

    false_positive_rate, true_positive_rate, _ = roc_curve(labels, scores)
    text = f"{name}: AUC {areas[0]:.3f}, pAUC {areas[1]:.3f}"
    ax.plot(false_positive_rate, true_positive_rate, label=text, **style)


def _draw_log_mel(
    ax: Axes,
    bar: Axes | None,
    log_mel: np.ndarray,
    frequencies_hz: np.ndarray,
    seconds: float,
    ticks_hz: Sequence[int] = FREQUENCY_TICKS_HZ,
) -> None:
    """With the color bar in the axes `bar`; None cuts it off `ax`. So in the next two functions."""
    # Digital silence is -80 dB and would take most of the colors: they go to the upper 99 % of the values.
    image = _draw_map(ax, log_mel, seconds, cmap="viridis", vmin=np.quantile(log_mel, 0.01))
    ax.figure.colorbar(image, cax=bar, ax=ax, label="power [dB]", extend="min")
    ax.set(title="log-mel", ylabel="frequency [Hz]")
    _frequency_ticks(ax.yaxis, frequencies_hz, ticks_hz)


def _draw_wavegram(ax: Axes, bar: Axes | None, wavegram: np.ndarray, seconds: float) -> None:
    image = _draw_map(ax, wavegram, seconds, cmap="viridis", vmin=0)
    ax.figure.colorbar(image, cax=bar, ax=ax, label="activation")
    ax.set(title="Wavegram", ylabel="filter index")


def _draw_attention(
    ax: Axes,
    bar: Axes | None,
    attention_map: np.ndarray,
    channel: str,
    frequencies_hz: np.ndarray,
    seconds: float,
    ticks_hz: Sequence[int] = FREQUENCY_TICKS_HZ,
) -> None:
    low, high = ATTENTION_LIMITS
    image = _draw_map(ax, attention_map, seconds, cmap="cividis", vmin=low, vmax=high)
    ax.figure.colorbar(image, cax=bar, ax=ax, label="attention")
    ax.set_title(f"attention on the {DISPLAY_NAMES.get(channel, channel)}")
    if channel.lower() == "wavegram":
        ax.set_ylabel("filter index")
    else:
        ax.set_ylabel("frequency [Hz]")
        _frequency_ticks(ax.yaxis, frequencies_hz, ticks_hz)


def _draw_map(ax: Axes, values: np.ndarray, seconds: float, **colors):
    """Rows from the bottom up, columns over time."""
    extent = (0, seconds, -0.5, len(values) - 0.5)
    return ax.imshow(values, origin="lower", aspect="auto", interpolation="nearest", extent=extent, **colors)


def _bins_of(hz: Sequence[float], frequencies_hz: np.ndarray) -> np.ndarray:
    """Positions of frequencies on an axis of mel bins, kept within the axis."""
    first, last = 0, len(frequencies_hz) - 1
    # The outer filters reach one bin further than their centers: the last one ends at 8000 Hz.
    beyond = 2 * frequencies_hz[[first, last]] - frequencies_hz[[first + 1, last - 1]]
    known = np.concatenate([beyond[:1], frequencies_hz, beyond[1:]])
    return np.interp(hz, known, np.arange(first - 1, last + 2)).clip(first - 0.5, last + 0.5)


def _frequency_ticks(axis: Axis, frequencies_hz: np.ndarray, ticks_hz: Sequence[int]) -> None:
    highest = frequencies_hz[-1] + 1.5 * (frequencies_hz[-1] - frequencies_hz[-2])
    shown = [hz for hz in ticks_hz if hz <= highest]
    names = [f"{hz // 1000}k" if hz >= 1000 else str(hz) for hz in shown]
    axis.set_ticks(_bins_of(shown, frequencies_hz), names)
