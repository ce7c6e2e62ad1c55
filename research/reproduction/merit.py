"""From files of scores to figures of merit: over seeds, with the spread, and differences with their intervals."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcase2020_task2 import label_name


Rows = list[dict[str, Any]]


def read_scores(path: Path) -> Rows:
    """Read the labelled clips of a scores.csv (file, machine_type, machine_id, label, score)."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {**row, "is_anomaly": row["label"] == "1", "score": float(row["score"])}
            for row in csv.DictReader(file)
            if row["label"]
        ]


@dataclass(frozen=True)
class Estimate:
    """A figure over seeds, in per cent.

    Args:
        mean: mean over seeds.
        deviation: standard deviation over seeds; None for one seed.
        low: lower end of the 95 % interval over test clips, the mean of the seeds' bootstrap intervals. The interval says
            what other test clips would change, not what another training would.
        high: upper end of the interval.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.1f}"
        interval = "" if self.low is None else f" [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.mean:.1f}{spread}{interval}"


def estimate(
    seeds: Sequence[dict[str, Any]], metric: str, name: str, machine_type: str | None = None
) -> Estimate | None:
    """Return one figure of several seeds' `asd_auc` results, None where it is undefined.

    Args:
        seeds: results of `asd_auc`, one a seed.
        metric: `"auc"` or `"pauc"`.
        name: `"official"`, `"pooled"`, `"worst_id"` or `"all_clips_pooled"`.
        machine_type: the type; None is the mean over types.
    """
    tables = [
        seed[metric]["mean"] if machine_type is None else seed[metric]["per_type"][machine_type] for seed in seeds
    ]
    values = [table[name] for table in tables]
    if None in values:
        return None
    intervals = [table.get(f"{name}_ci95") for table in tables]
    low, high = (None, None) if None in intervals else 100 * np.mean(intervals, axis=0)
    deviation = 100 * float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Estimate(100 * float(np.mean(values)), deviation, low, high)


def official_replicates(seeds: Sequence[Rows], num_bootstrap: int = 1000, key: int = 0) -> np.ndarray:
    """Return the mean official AUC of the clips and of bootstrap samples of them.

    The samples are drawn by file name, so that two systems meet the same samples and their results may be subtracted. The
    interval of the difference is that of paired clips. AUC is the share of (anomalous, normal) pairs in the right order;
    ties count half.

    `metrics.asd_auc` has a bootstrap of its own. Its samples cannot be paired, because it sorts the clips of a system by
    score before it draws. It also draws by `integers`, and this function by `multinomial`. With one in place of the
    other, every measured interval of a difference would change.

    Args:
        seeds: scored clips, one list a seed. The AUC is averaged over the seeds.
        num_bootstrap: number of samples.
        key: key of the generator.

    Returns:
        `(1 + num_bootstrap,)`, the clips themselves first.

    Raises:
        ValueError: the seeds' scores are not of the same clips.
    """
    seeds = [sorted(rows, key=lambda row: row["file"]) for rows in seeds]
    first = seeds[0]
    if any([row["file"] for row in rows] != [row["file"] for row in first] for rows in seeds):
        raise ValueError("the seeds' scores are not of the same clips: evaluate all runs on the same data.")
    scores = np.array([[row["score"] for row in rows] for rows in seeds])
    is_anomaly = np.array([row["is_anomaly"] for row in first])
    machines = np.array([label_name(row["machine_type"], row["machine_id"]) for row in first])
    per_type: dict[str, list[np.ndarray]] = {}
    for machine in sorted(set(machines.tolist())):
        anomalous, normal = (scores[:, (machines == machine) & (is_anomaly == label)] for label in (True, False))
        if not anomalous.size or not normal.size:
            continue
        pairs = anomalous[:, :, None] - normal[:, None, :]
        in_order = (np.sign(pairs).mean(0) + 1) / 2
        counts = [_counts(in_order.shape[label], num_bootstrap, [key, label, *machine.encode()]) for label in (0, 1)]
        per_machine = np.einsum("ra,an,rn->r", counts[0], in_order, counts[1], optimize=True) / in_order.size
        per_type.setdefault(machine.partition("_id_")[0], []).append(per_machine)
    return np.mean([np.mean(of_type, axis=0) for of_type in per_type.values()], axis=0)


def _counts(clips: int, num_bootstrap: int, key: list[int]) -> np.ndarray:
    """Return how often each clip is in each sample; row 0 is the clips themselves."""
    drawn = np.random.default_rng(key).multinomial(clips, np.full(clips, 1 / clips), size=num_bootstrap)
    return np.concatenate([np.ones((1, clips)), drawn])


def difference(replicates: np.ndarray, reference: np.ndarray) -> Estimate:
    """Return the difference of two `official_replicates` with its 95 % interval, in percentage points."""
    points = 100 * (replicates - reference)
    low, high = np.quantile(points[1:], [0.025, 0.975])
    return Estimate(float(points[0]), None, float(low), float(high))
