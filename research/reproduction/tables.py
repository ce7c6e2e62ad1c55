"""The paper's Tables 1 to 4: what was measured here and what was published, in tables of their own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures import BLUE, GREY, VERMILION

from . import published
from .merit import Estimate, Rows, difference, estimate, official_replicates, read_scores
from .protocol import figures_of_merit
from .report import Report, markdown_table
from .study import Study
from .systems import FULL_NETWORK, NETWORKS


HEADLINE = {"honest": "official", "paper": "pooled"}
MEANING = {
    "official": "AUC and pAUC (false positive rates up to 0.1, standardised: chance is 50) in per cent; a machine type's "
    "figure is the mean over its machine IDs",
    "pooled": "AUC and pAUC (false positive rates up to 0.1, standardised: chance is 50) in per cent; a machine type's clips "
    "are ranked together, whatever their machine ID, as in the paper",
}
INTERVAL = (
    "In brackets the 95 % interval of a stratified bootstrap over the test clips (mean of the seeds' intervals); ± is the "
    "standard deviation over seeds."
)
DIFFERENCE = (
    "A difference, of means over seeds, has the interval of paired bootstrap samples, the same for both systems: where it "
    "holds 0, these test clips do not tell them apart."
)
PUBLISHED_ON = "Quoted: AUC/pAUC in per cent on the DCASE 2020 Task 2 development test set, not measured here."


@dataclass
class Measured:
    """A system's runs: scored clips and `asd_auc` results seed by seed, and its costs, mean over seeds."""

    key: str
    title: str
    scored: list[Rows]
    results: list[dict[str, Any]]
    costs: dict[str, float]

    def figure(self, metric: str, name: str, machine_type: str | None = None) -> Estimate | None:
        return estimate(self.results, metric, name, machine_type)


def measured(key: str, title: str, runs: Sequence[Path], scores: str, protocol: str) -> Measured:
    """Read finished runs; `scores` is the path of the scores in each."""
    scored = [read_scores(run / scores) for run in runs]
    costs = [json.loads((run / "measured.json").read_text()) for run in runs]
    return Measured(
        key,
        title,
        scored,
        [figures_of_merit(rows, protocol) for rows in scored],
        {name: fmean(cost[name] for cost in costs) for name in costs[0]},
    )


def preamble(study: Study, title: str, data: str, protocol: str) -> str:
    """What was measured, on what and how: the same lines before every table and figure."""
    epochs, batch, rate = (
        study.recipe[name] for name in ("num_train_epochs", "per_device_train_batch_size", "learning_rate")
    )
    rules = {
        "honest": "one class per machine ID, the epoch chosen on held-out normal clips, AUC averaged over machine IDs",
        "paper": "the published evaluation with its faults: classes that collide, the epoch chosen on the test set, AUC pooled",
    }[protocol]
    recipe = (
        f"clips of {study.recipe['clip_seconds']} s, {epochs} epochs, batches of {batch}, learning rate {rate}, "
        f"{study.recipe['mixed_precision'].replace('no', 'full')} precision"
    )
    return (
        f"# {title}\n\n"
        f"- **Data**: {data}.\n"
        f"- **Size**: {study.size}: {recipe}; seeds {', '.join(map(str, study.seeds))}, "
        f"peers {', '.join(map(str, study.peer_seeds))}.\n"
        f"- **Protocol**: {protocol}: {rules}."
    )


def table_1(study: Study, data: dict[str, tuple[str, Sequence[Measured]]]) -> Report:
    """Systems by machine types. `data` is, by the name of each data set, its description and systems."""
    headline = HEADLINE[study.protocol]
    descriptions = "; ".join(description for description, _ in data.values())
    parts = [preamble(study, "Table 1: systems by machine types", descriptions, study.protocol)]
    parts += [
        f"{MEANING[headline]}. {INTERVAL} {DIFFERENCE}",
        "All systems get the same normal training clips and are scored on the same test clips by the same evaluator; peers "
        "make as many updates as this project's network. A time is that of one clip from waveform to score on one CPU thread; "
        "× compares it with this project's default network, timed in turns with it.",
    ]
    values = []
    for name, (_, systems) in data.items():
        parts += [f"## Measured on {name}", measured_figures(systems, headline), measured_costs(systems, headline)]
        values += [line for system in systems for line in table_1_values(name, system)]
    parts += ["## Published", PUBLISHED_ON, published_table_1()]
    figure = dot_plot(
        {
            f"measured on {name}": {system.title: system.figure("auc", headline) for system in systems}
            for name, (_, systems) in data.items()
        },
        {system.title: system.mean[0] for system in published.TABLE_1.values()},
        f"mean AUC [%], {headline}",
    )
    return Report("table1", "\n\n".join(parts), values, figure, "Mean AUC of every system with its interval")


def measured_figures(systems: Sequence[Measured], headline: str) -> str:
    types = list(systems[0].results[0]["auc"]["per_type"])
    replicates = [official_replicates(system.scored) for system in systems]

    def cells(system: Measured) -> list[str]:
        pairs = [[system.figure(metric, headline, name) for metric in ("auc", "pauc")] for name in types]
        return [f"{auc.mean:.1f}/{pauc.mean:.1f}" if auc else "undefined" for auc, pauc in pairs]

    lines = []
    for system, own in zip(systems, replicates, strict=True):
        behind = "" if system is systems[-1] else signed(difference(own, replicates[-1]))
        means = [system.figure(metric, headline) for metric in ("auc", "pauc")]
        lines.append([system.title, *cells(system), *means, behind])
    header = ["system", *types, f"mean AUC, {headline}", f"mean pAUC, {headline}", "AUC less the last row's, official"]
    return markdown_table(header, lines)


def signed(change: Estimate) -> str:
    return f"{change.mean:+.1f} [{change.low:+.1f}, {change.high:+.1f}]"


def measured_costs(systems: Sequence[Measured], headline: str) -> str:
    other = "pooled" if headline == "official" else "official"
    return markdown_table(
        ["system", f"AUC, {other}", f"pAUC, {other}", "AUC, worst ID", "parameters", "ms a clip", "×", "training [s]"],
        [
            [
                system.title,
                system.figure("auc", other),
                system.figure("pauc", other),
                system.figure("auc", "worst_id"),
                f"{system.costs['parameters']:,.0f}" if system.costs["parameters"] else "none",
                f"{system.costs['milliseconds_per_clip']:.1f}",
                f"{system.costs['times_reference']:.2f}",
                f"{system.costs['train_seconds']:,.0f}",
            ]
            for system in systems
        ],
    )


def table_1_values(data_name: str, system: Measured) -> list[dict[str, Any]]:
    quoted = published.TABLE_1.get(system.key)
    lines = []
    for machine_type in [*system.results[0]["auc"]["per_type"], None]:
        line: dict[str, Any] = {
            "data": data_name,
            "system": system.title,
            "seeds": len(system.results),
            "machine_type": machine_type or "mean",
        }
        for name in ("official", "pooled", "worst_id"):
            for metric in ("auc", "pauc"):
                line |= columns(f"{metric}_{name}", system.figure(metric, name, machine_type))
        line |= system.costs
        pair = (None, None) if quoted is None else quoted.per_type.get(machine_type or "", (None, None))
        if quoted is not None and machine_type is None:
            pair = quoted.mean
        lines.append(line | {"published_auc_dcase2020": pair[0], "published_pauc_dcase2020": pair[1]})
    return lines


def columns(name: str, figure: Estimate | None) -> dict[str, float | None]:
    if figure is None:
        return {f"{name}{part}": None for part in ("", "_sd", "_low", "_high")}
    return {name: figure.mean, f"{name}_sd": figure.deviation, f"{name}_low": figure.low, f"{name}_high": figure.high}


def published_table_1() -> str:
    def cells(system: published.PublishedSystem) -> list[str]:
        return [pair_text(system.per_type.get(name)) for name in published.MACHINE_TYPES]

    return markdown_table(
        ["system", *published.MACHINE_TYPES, "mean", "parameters"],
        [[row.title, *cells(row), pair_text(row.mean), row.parameters] for row in published.TABLE_1.values()],
    )


def pair_text(pair: published.Pair | None) -> str:
    return "" if pair is None else f"{pair[0]:.2f}/{pair[1]:.2f}"


# The three ways to one figure for all machine types: their names in `asd_auc`, and in words.
MEANS = {
    "official": "mean over types of the mean over machine IDs (the challenge's rule)",
    "pooled": "mean over types, each type's clips pooled (the mean of a row of Table 1)",
    "all_clips_pooled": "all clips of all types pooled (what the paper's Table 2 prints for its own system)",
}


def table_2(study: Study, data: str, network: Measured) -> Report:
    """One figure for all machine types, and which computation it is."""
    own = published.TABLE_1[FULL_NETWORK]
    figures = {name: [network.figure(metric, name) for metric in ("auc", "pauc")] for name in MEANS}
    measured_part = markdown_table(
        ["computation", "AUC", "pAUC"], [[MEANS[name], *pair] for name, pair in figures.items()]
    )

    def gap(row: published.PublishedSystem, value: published.Pair) -> str:
        if row.mean_of_row is None:
            return ""
        # Adding zero takes the sign off a rounded -0.
        return "/".join(
            f"{round(one - computed, 2) + 0.0:+.2f}" for one, computed in zip(value, row.mean_of_row, strict=True)
        )

    printed = {key: published.TABLE_2_OWN if row is own else row.mean for key, row in published.TABLE_1.items()}
    published_part = markdown_table(
        ["system", "mean of its row of Table 1 (computed here)", "printed as its mean", "printed less computed"],
        [
            [row.title, pair_text(row.mean_of_row), pair_text(printed[key]), gap(row, printed[key])]
            for key, row in published.TABLE_1.items()
        ],
    )
    parts = [
        preamble(study, "Table 2: one figure for all machine types", data, study.protocol),
        f"## Measured: {network.title}",
        f"The same scores, three computations. {INTERVAL}",
        measured_part,
        "## Published",
        f"{PUBLISHED_ON} The paper's own figure is not the mean of its row: {pair_text(own.mean_of_row)} against "
        f"{pair_text(published.TABLE_2_OWN)}, which is all clips of all types pooled. Its peers' printed means are those of "
        "their rows, or within 0.7 of them: the printed comparison is one of two different things.",
        published_part,
    ]
    values = [
        {"source": "measured", "system": network.title, "computation": MEANS[name]}
        | columns("auc", pair[0])
        | columns("pauc", pair[1])
        for name, pair in figures.items()
    ]
    for key, row in published.TABLE_1.items():
        for computation, pair in (("mean of its row of Table 1", row.mean_of_row), ("printed", printed[key])):
            point = [None if pair is None else Estimate(value, None, None, None) for value in pair or (None, None)]
            values.append(
                {"source": "published", "system": row.title, "computation": computation}
                | columns("auc", point[0])
                | columns("pauc", point[1])
            )
    figure = dot_plot(
        {f"measured on {study.data_name}": {name.replace("_", " "): pair[0] for name, pair in figures.items()}},
        {
            **{row.title: row.mean_of_row[0] for row in published.TABLE_1.values() if row.mean_of_row},
            f"{own.title}, as printed in Table 2": published.TABLE_2_OWN[0],
        },
        "mean AUC [%]",
    )
    return Report("table2", "\n\n".join(parts), values, figure, "The same scores under three computations of the mean")


def ablation(study: Study, name: str, title: str, data: str, networks: Sequence[Measured], quoted) -> Report:
    """Tables 3 and 4: configurations of the network, each against the full one, which is the last of `networks`.

    `quoted` is the published table: key -> (AUC, pAUC).
    """
    headline = HEADLINE[study.protocol]
    replicates = [official_replicates(network.scored) for network in networks]
    lines, values = [], []
    for network, own in zip(networks, replicates, strict=True):
        is_full = network.key == FULL_NETWORK
        change = None if is_full else difference(own, replicates[-1])
        auc, pauc = network.figure("auc", headline), network.figure("pauc", headline)
        pair = quoted[network.key]
        lines.append(
            [
                network.title,
                auc,
                pauc,
                "" if change is None else signed(change),
                f"{network.costs['parameters']:,.0f}",
                f"{network.costs['times_reference']:.2f}",
                pair_text(pair),
                "" if is_full else f"{pair[0] - quoted[FULL_NETWORK][0]:+.2f}",
            ]
        )
        values.append(
            {"system": network.title, "seeds": len(network.results)}
            | columns(f"auc_{headline}", auc)
            | columns(f"pauc_{headline}", pauc)
            | columns("auc_official_less_full_network", change)
            | network.costs
            | {"published_auc_dcase2020": pair[0], "published_pauc_dcase2020": pair[1]}
        )
    header = ["configuration", f"mean AUC, {headline}", f"mean pAUC, {headline}", "AUC less the full network's, official",
              "parameters", "× time", "published AUC/pAUC", "published: less the full network's"]  # fmt: skip
    parts = [
        preamble(study, title, data, study.protocol),
        f"{MEANING[headline]}. {INTERVAL} {DIFFERENCE}",
        markdown_table(header, lines),
        f"The last two columns are published figures. {PUBLISHED_ON}",
    ]
    figure = dot_plot(
        {f"measured on {study.data_name}": {network.title: network.figure("auc", headline) for network in networks}},
        {NETWORKS[key].title: pair[0] for key, pair in quoted.items()},
        f"mean AUC [%], {headline}",
        {network.title: [100 * seed["auc"]["mean"][headline] for seed in network.results] for network in networks},
    )
    return Report(
        name, "\n\n".join(parts), values, figure, "Mean AUC of every configuration, a small dot for every seed"
    )


def dot_plot(
    measured_panels: dict[str, dict[str, Estimate | None]],
    quoted: dict[str, float],
    label: str,
    seeds: dict[str, list[float]] | None = None,
) -> Figure:
    """A panel per data set with what was measured and its 95 % interval, and a last one, in grey, with what was published."""
    rows = max(len(quoted), *(len(panel) for panel in measured_panels.values()))
    count = len(measured_panels) + 1
    figure = Figure(figsize=(6 * count, 1.3 + 0.33 * rows), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    for ax, (title, values) in zip(panels, measured_panels.items(), strict=False):
        for position, (name, value) in enumerate(values.items()):
            if value is None:
                continue
            if value.low is not None:
                ax.plot([value.low, value.high], [position] * 2, color=BLUE, linewidth=1.5)
            if seeds:
                ax.plot(seeds[name], [position] * len(seeds[name]), ".", color=VERMILION, markersize=7)
            ax.plot(value.mean, position, "o", color=BLUE, markersize=6, fillstyle="none" if seeds else "full")
        ax.axvline(50, color=GREY, linestyle=":", linewidth=1)
        _name_rows(ax, list(values), title, label)
    for position, value in enumerate(quoted.values()):
        panels[-1].plot(value, position, "D", color=GREY, markersize=5)
    _name_rows(panels[-1], list(quoted), "published, on DCASE 2020", "mean AUC [%], as published")
    return figure


def _name_rows(ax: Axes, names: list[str], title: str, label: str) -> None:
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_title(title, fontsize="medium", loc="left")
    ax.set_xlabel(label)
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
