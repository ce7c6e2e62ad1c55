"""The picture of a table: every system's figure as a dot."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures import BLUE, GREY, VERMILION

from .merit import Estimate


def dot_plot(
    measured_panels: dict[str, dict[str, Estimate | None]],
    published: dict[str, float],
    label: str,
    seeds: dict[str, list[float]] | None = None,
) -> Figure:
    """Draw one panel for each data set and a last one, in grey, for the published figures.

    Args:
        measured_panels: title of the panel -> name of the row -> figure, drawn with its 95 % interval.
        published: name of the row -> published figure.
        label: axis of the measured panels.
        seeds: name of the row -> figure of each seed, as small dots.
    """
    rows = max(len(published), *(len(panel) for panel in measured_panels.values()))
    count = len(measured_panels) + 1
    figure = Figure(figsize=(6 * count, 1.3 + 0.33 * rows), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    for ax, (title, values) in zip(panels, measured_panels.items(), strict=False):
        draw_measured(ax, values, seeds)
        name_rows(ax, list(values), title, label)
    for position, value in enumerate(published.values()):
        panels[-1].plot(value, position, "D", color=GREY, markersize=5)
    name_rows(panels[-1], list(published), "published, on DCASE 2020", "mean AUC [%], as published")
    return figure


def draw_measured(ax: Axes, values: dict[str, Estimate | None], seeds: dict[str, list[float]] | None) -> None:
    """Draw the measured figures of one data set, one below the other, and the level of chance."""
    for position, (name, value) in enumerate(values.items()):
        if value is None:
            continue
        if value.low is not None and value.high is not None:
            ax.plot([value.low, value.high], [position] * 2, color=BLUE, linewidth=1.5)
        if seeds:
            ax.plot(seeds[name], [position] * len(seeds[name]), ".", color=VERMILION, markersize=7)
        ax.plot(value.mean, position, "o", color=BLUE, markersize=6, fillstyle="none" if seeds else "full")
    ax.axvline(50, color=GREY, linestyle=":", linewidth=1)


def name_rows(ax: Axes, names: list[str], title: str, label: str) -> None:
    """Write the names of the rows beside a panel, the first on top."""
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_title(title, fontsize="medium", loc="left")
    ax.set_xlabel(label)
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
