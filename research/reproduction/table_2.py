"""The paper's Table 2: one figure for all machine types, and which computation gives it."""

from typing import Any

from evaluation.markdown import markdown_table

from . import published
from .cells import columns, pair_columns, pair_text
from .dot_plot import dot_plot
from .measured import Measured
from .merit import Estimate
from .report import Report
from .study import Study
from .systems import FULL_NETWORK
from .wording import INTERVAL, PUBLISHED_ON, preamble


# The three ways to one figure for all machine types: their names in `asd_auc`, and in words.
MEANS = {
    "official": "mean over types of the mean over machine IDs (the challenge's rule)",
    "pooled": "mean over types, each type's clips pooled (the mean of a row of Table 1)",
    "all_clips_pooled": "all clips of all types pooled (what the paper's Table 2 prints for its own system)",
}
OWN = published.TABLE_1[FULL_NETWORK]
# What Table 2 prints for each system.
PRINTED = {key: published.TABLE_2_OWN if row is OWN else row.mean for key, row in published.TABLE_1.items()}

# Name of the computation -> AUC and pAUC.
Figures = dict[str, tuple[Estimate | None, Estimate | None]]


def table_2(study: Study, data: str, network: Measured) -> Report:
    """Return Table 2; `data` is the data in words, `network` the full network of the paper."""
    figures = {name: (network.figure("auc", name), network.figure("pauc", name)) for name in MEANS}
    parts = [
        preamble(study, "Table 2: one figure for all machine types", data, study.protocol),
        f"## Measured: {network.title}",
        f"The same scores, three computations. {INTERVAL}",
        markdown_table(["computation", "AUC", "pAUC"], [[MEANS[name], *pair] for name, pair in figures.items()]),
        "## Published",
        f"{PUBLISHED_ON} The paper's own figure is not the mean of its row: {pair_text(OWN.mean_of_row)} against "
        f"{pair_text(published.TABLE_2_OWN)}, which is all clips of all types pooled. Its peers' printed means are those of "
        "their rows, or within 0.7 of them: the printed comparison is one of two different things.",
        published_table(),
    ]
    figure = dot_plot(
        {f"measured on {study.data_name}": {name.replace("_", " "): pair[0] for name, pair in figures.items()}},
        {
            **{row.title: row.mean_of_row[0] for row in published.TABLE_1.values() if row.mean_of_row},
            f"{OWN.title}, as printed in Table 2": published.TABLE_2_OWN[0],
        },
        "mean AUC [%]",
    )
    values = measured_lines(network, figures) + published_lines()
    return Report("table2", "\n\n".join(parts), values, figure, "The same scores under three computations of the mean")


def published_table() -> str:
    """Return the printed mean of every system beside the mean of its row."""
    return markdown_table(
        ["system", "mean of its row of Table 1 (computed here)", "printed as its mean", "printed less computed"],
        [
            [row.title, pair_text(row.mean_of_row), pair_text(PRINTED[key]), printed_less_computed(row, PRINTED[key])]
            for key, row in published.TABLE_1.items()
        ],
    )


def printed_less_computed(row: published.PublishedSystem, printed: published.Pair) -> str:
    """Return by how much the printed mean exceeds the mean of the row, and nothing without a row."""
    if row.mean_of_row is None:
        return ""
    # Adding zero takes the sign off a rounded -0.
    return "/".join(
        f"{round(value - computed, 2) + 0.0:+.2f}" for value, computed in zip(printed, row.mean_of_row, strict=True)
    )


def measured_lines(network: Measured, figures: Figures) -> list[dict[str, Any]]:
    """Return the lines of the CSV file for what was measured."""
    return [
        {"source": "measured", "system": network.title, "computation": MEANS[name]}
        | columns("auc", auc)
        | columns("pauc", pauc)
        for name, (auc, pauc) in figures.items()
    ]


def published_lines() -> list[dict[str, Any]]:
    """Return the lines of the CSV file for what was published."""
    return [
        {"source": "published", "system": row.title, "computation": computation} | pair_columns(pair)
        for key, row in published.TABLE_1.items()
        for computation, pair in (("mean of its row of Table 1", row.mean_of_row), ("printed", PRINTED[key]))
    ]
