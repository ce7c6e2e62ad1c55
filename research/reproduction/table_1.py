"""The paper's Table 1: systems by machine types."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.markdown import markdown_table

from . import published
from .cells import columns, pair_text, published_columns, signed
from .dot_plot import dot_plot
from .measured import Measured
from .merit import difference, official_replicates
from .report import Report
from .study import Study
from .wording import DIFFERENCE, HEADLINE, INTERVAL, MEANING, PUBLISHED_ON, preamble


@dataclass
class MeasuredOnData:
    """All systems on one data set; `description` is the data in words."""

    description: str
    systems: list[Measured]


def table_1(study: Study, data: dict[str, MeasuredOnData]) -> Report:
    """Return Table 1; `data` is the name of each data set -> what was measured on it."""
    headline = HEADLINE[study.protocol]
    descriptions = "; ".join(measured_on.description for measured_on in data.values())
    parts = [
        preamble(study, "Table 1: systems by machine types", descriptions, study.protocol),
        f"{MEANING[headline]}. {INTERVAL} {DIFFERENCE}",
        "All systems get the same normal training clips and are scored on the same test clips by the same evaluator; peers "
        "make as many updates as this project's network. A time is that of one clip from waveform to score on one CPU thread; "
        "× compares it with this project's default network, timed in turns with it.",
    ]
    values = []
    for name, measured_on in data.items():
        systems = measured_on.systems
        parts += [f"## Measured on {name}", figures_table(systems, headline), costs_table(systems, headline)]
        values += [line for system in systems for line in lines_by_type(name, system)]
    parts += ["## Published", PUBLISHED_ON, published_table()]
    figure = dot_plot(
        {
            f"measured on {name}": {system.title: system.figure("auc", headline) for system in measured_on.systems}
            for name, measured_on in data.items()
        },
        {system.title: system.mean[0] for system in published.TABLE_1.values()},
        f"mean AUC [%], {headline}",
    )
    return Report("table1", "\n\n".join(parts), values, figure, "Mean AUC of every system with its interval")


def figures_table(systems: Sequence[Measured], headline: str) -> str:
    """Return AUC/pAUC of every system by machine types, their means, and the difference to the last system."""
    types = systems[0].machine_types
    replicates = [official_replicates(system.scored) for system in systems]

    def by_type(system: Measured) -> list[str]:
        pairs = [[system.figure(metric, headline, name) for metric in ("auc", "pauc")] for name in types]
        return [f"{auc.mean:.1f}/{pauc.mean:.1f}" if auc and pauc else "undefined" for auc, pauc in pairs]

    lines = []
    for system, own in zip(systems, replicates, strict=True):
        behind = "" if system is systems[-1] else signed(difference(own, replicates[-1]))
        means = [system.figure(metric, headline) for metric in ("auc", "pauc")]
        lines.append([system.title, *by_type(system), *means, behind])
    header = ["system", *types, f"mean AUC, {headline}", f"mean pAUC, {headline}", "AUC less the last row's, official"]
    return markdown_table(header, lines)


def costs_table(systems: Sequence[Measured], headline: str) -> str:
    """Return what every system costs, beside the means that are not the headline."""
    other = "pooled" if headline == "official" else "official"
    header = ["system", f"AUC, {other}", f"pAUC, {other}", "AUC, worst ID"]
    header += ["parameters", "ms a clip", "×", "training [s]"]
    return markdown_table(
        header,
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


def published_table() -> str:
    """Return the paper's Table 1 as it was printed."""
    header = ["system", *published.MACHINE_TYPES, "mean", "parameters"]
    lines = []
    for system in published.TABLE_1.values():
        by_type = [pair_text(system.per_type.get(name)) for name in published.MACHINE_TYPES]
        lines.append([system.title, *by_type, pair_text(system.mean), system.parameters])
    return markdown_table(header, lines)


def lines_by_type(data_name: str, system: Measured) -> list[dict[str, Any]]:
    """Return a system's lines of the CSV file: one for each machine type and one for their mean."""
    return [line_of_type(data_name, system, machine_type) for machine_type in [*system.machine_types, None]]


def line_of_type(data_name: str, system: Measured, machine_type: str | None) -> dict[str, Any]:
    """Return one line of the CSV file; `machine_type` `None` is the mean over types."""
    line: dict[str, Any] = {
        "data": data_name,
        "system": system.title,
        "seeds": len(system.results),
        "machine_type": machine_type or "mean",
    }
    for name in ("official", "pooled", "worst_id"):
        for metric in ("auc", "pauc"):
            line |= columns(f"{metric}_{name}", system.figure(metric, name, machine_type))
    return line | system.costs | published_columns(published_pair(system.key, machine_type))


def published_pair(key: str, machine_type: str | None) -> published.Pair | None:
    """Return AUC and pAUC that were published of a system; `machine_type` `None` is the mean over types."""
    system = published.TABLE_1.get(key)
    if system is None:
        return None
    return system.mean if machine_type is None else system.per_type.get(machine_type)
