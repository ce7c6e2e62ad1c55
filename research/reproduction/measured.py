"""What the runs of one system gave."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from .merit import Estimate, Rows, estimate, read_scores
from .protocol import figures_of_merit


@dataclass
class Measured:
    """The runs of one system.

    Args:
        key: key of the system, as in `published.TABLE_1`.
        title: name of the system in the tables.
        scored: scored test clips, one list a seed.
        results: results of `asd_auc`, one a seed.
        costs: parameters, milliseconds a clip and so on, mean over seeds.
    """

    key: str
    title: str
    scored: list[Rows]
    results: list[dict[str, Any]]
    costs: dict[str, float]

    @property
    def machine_types(self) -> list[str]:
        """The machine types of the test clips."""
        return list(self.results[0]["auc"]["per_type"])

    def figure(self, metric: str, name: str, machine_type: str | None = None) -> Estimate | None:
        """Return one figure over the seeds: see `merit.estimate`."""
        return estimate(self.results, metric, name, machine_type)


def measured(key: str, title: str, runs: Sequence[Path], scores: str, protocol: str) -> Measured:
    """Read the finished runs of one system.

    Args:
        key: key of the system.
        title: name of the system in the tables.
        runs: folders of the runs, one a seed.
        scores: path of the scores in each folder.
        protocol: `"honest"` or `"paper"`.
    """
    scored = [read_scores(run / scores) for run in runs]
    costs = [json.loads((run / "measured.json").read_text(encoding="utf-8")) for run in runs]
    return Measured(
        key,
        title,
        scored,
        [figures_of_merit(rows, protocol) for rows in scored],
        {name: fmean(cost[name] for cost in costs) for name in costs[0]},
    )
