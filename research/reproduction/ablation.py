"""The paper's Tables 3 and 4: configurations of the network, each against the full one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.markdown import markdown_table

from .cells import columns, pair_text, published_columns, signed
from .dot_plot import dot_plot
from .measured import Measured
from .merit import Estimate, difference, official_replicates
from .published import Pair
from .report import Report
from .study import Study
from .systems import FULL_NETWORK, NETWORKS
from .wording import DIFFERENCE, HEADLINE, INTERVAL, MEANING, PUBLISHED_ON, preamble


@dataclass
class Configuration:
    """A row of the table: a network, its AUC less the full network's (`None` for the full one), its published figures."""

    network: Measured
    change: Estimate | None
    published: Pair


def ablation(
    study: Study, name: str, title: str, data: str, networks: Sequence[Measured], published: dict[str, Pair]
) -> Report:
    """Return Table 3 or 4.

    Args:
        study: settings of this call.
        name: name of the report's files.
        title: heading of the report.
        data: the data in words.
        networks: the configurations, the full network last.
        published: the published table, key -> (AUC, pAUC).
    """
    headline = HEADLINE[study.protocol]
    configurations = compared(networks, published)
    parts = [
        preamble(study, title, data, study.protocol),
        f"{MEANING[headline]}. {INTERVAL} {DIFFERENCE}",
        configurations_table(configurations, headline, published[FULL_NETWORK]),
        f"The last two columns are published figures. {PUBLISHED_ON}",
    ]
    values = [configuration_line(configuration, headline) for configuration in configurations]
    figure = dot_plot(
        {f"measured on {study.data_name}": {network.title: network.figure("auc", headline) for network in networks}},
        {NETWORKS[key].title: pair[0] for key, pair in published.items()},
        f"mean AUC [%], {headline}",
        {network.title: [100 * seed["auc"]["mean"][headline] for seed in network.results] for network in networks},
    )
    return Report(
        name, "\n\n".join(parts), values, figure, "Mean AUC of every configuration, a small dot for every seed"
    )


def compared(networks: Sequence[Measured], published: dict[str, Pair]) -> list[Configuration]:
    """Compare every network with the last one, the full network."""
    replicates = [official_replicates(network.scored) for network in networks]
    return [
        Configuration(
            network,
            None if network.key == FULL_NETWORK else difference(own, replicates[-1]),
            published[network.key],
        )
        for network, own in zip(networks, replicates, strict=True)
    ]


def configurations_table(configurations: Sequence[Configuration], headline: str, published_full: Pair) -> str:
    """Return the configurations as Markdown; `published_full` are the full network's published figures."""
    header = [
        "configuration", f"mean AUC, {headline}", f"mean pAUC, {headline}", "AUC less the full network's, official",
        "parameters", "× time", "published AUC/pAUC", "published: less the full network's",
    ]  # fmt: skip
    lines = []
    for configuration in configurations:
        network, change, published = configuration.network, configuration.change, configuration.published
        lines.append(
            [
                network.title,
                network.figure("auc", headline),
                network.figure("pauc", headline),
                "" if change is None else signed(change),
                f"{network.costs['parameters']:,.0f}",
                f"{network.costs['times_reference']:.2f}",
                pair_text(published),
                "" if change is None else f"{published[0] - published_full[0]:+.2f}",
            ]
        )
    return markdown_table(header, lines)


def configuration_line(configuration: Configuration, headline: str) -> dict[str, Any]:
    """Return a configuration's line of the CSV file."""
    network = configuration.network
    return (
        {"system": network.title, "seeds": len(network.results)}
        | columns(f"auc_{headline}", network.figure("auc", headline))
        | columns(f"pauc_{headline}", network.figure("pauc", headline))
        | columns("auc_official_less_full_network", configuration.change)
        | network.costs
        | published_columns(configuration.published)
    )
