"""What the fitted detector makes of labelled clips: every back end's figures of merit, and alarms against false alarms."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector, ClipOutputs


FALSE_ALARM_RATES = (0.01, 0.05, 0.1)


def evaluate_decisions(
    detector: AnomalyDetector, outputs: ClipOutputs, rows: Sequence[dict[str, Any]], num_bootstrap: int
) -> dict[str, Any]:
    """Figures of merit by back end, and shares of normal and anomalous clips that are called anomalous.

    Args:
        detector: that knows the machine IDs that the rows name.
        outputs: the network's for the rows.
        rows: with `machine_type`, `machine_id` and `is_anomaly`.
        num_bootstrap: replicates behind the confidence intervals.
    """
    machines = np.array([f"{row['machine_type']}_id_{row['machine_id']}" for row in rows])
    is_anomaly = np.array([bool(row["is_anomaly"]) for row in rows])
    types, ids = ([row[name] for row in rows] for name in ("machine_type", "machine_id"))
    back_ends, alarms = {}, {}
    for backend in detector.backends:
        scores = np.full(len(rows), np.nan)
        p_values = np.full((len(FALSE_ALARM_RATES), len(rows)), np.nan)
        for machine in np.unique(machines).tolist():
            own = np.flatnonzero(machines == machine)
            of_machine = detector.scores(outputs[own], machine, backend)
            scores[own] = of_machine.numpy()
            for row, rate in enumerate(FALSE_ALARM_RATES):
                p_values[row, own] = detector.p_value(of_machine, machine, rate, backend).numpy()
        merit = asd_auc(scores, is_anomaly.astype(int), types, ids, n_bootstrap=num_bootstrap)
        back_ends[backend] = {"auc": merit["auc"], "pauc": merit["pauc"]}
        alarms[backend] = [
            {
                "requested": rate,
                "false_alarms": share(p <= rate, ~is_anomaly),
                "hits": share(p <= rate, is_anomaly),
                "undecided": int(np.isnan(p).sum()),
            }
            for rate, p in zip(FALSE_ALARM_RATES, p_values, strict=True)
        ]
    return {"default": detector.backend, "back_ends": back_ends, "alarms": alarms}


def share(is_alarm: np.ndarray, among: np.ndarray) -> dict[str, float | int | list[float]] | None:
    """How many of some clips raised an alarm, with a 95 % interval (Wilson 1927)."""
    clips = int(among.sum())
    if not clips:
        return None
    rate, z = float(is_alarm[among].mean()), 1.96
    centre, half = rate + z**2 / (2 * clips), z * np.sqrt(rate * (1 - rate) / clips + z**2 / (4 * clips**2))
    low, high = ((centre + sign * half) / (1 + z**2 / clips) for sign in (-1, 1))
    return {"share": rate, "clips": clips, "ci95": [max(float(low), 0.0), min(float(high), 1.0)]}


def decisions_tables(decisions: dict[str, Any]) -> str:
    """The same in Markdown: back ends by rows, then alarms of the default back end."""
    lines = [
        "| back end | AUC official [95 %] | AUC pooled [95 %] | AUC worst ID | pAUC official [95 %] |",
        "|---|---|---|---|---|",
    ]
    for backend, merit in decisions["back_ends"].items():
        name = f"**{backend}**" if backend == decisions["default"] else backend
        auc, pauc = merit["auc"]["mean"], merit["pauc"]["mean"]
        cells = [with_interval(auc, "official"), with_interval(auc, "pooled"), percent(auc["worst_id"])]
        lines.append("| " + " | ".join([name, *cells, with_interval(pauc, "official")]) + " |")
    lines += ["", "| false alarms asked for | false alarms [95 %] | hits [95 %] |", "|---|---|---|"]
    for alarm in decisions["alarms"][decisions["default"]]:
        cells = [
            "no such clips"
            if alarm[name] is None
            else f"{percent(alarm[name]['share'])} [{', '.join(map(percent, alarm[name]['ci95']))}]"
            for name in ("false_alarms", "hits")
        ]
        lines.append("| " + " | ".join([f"{100 * alarm['requested']:g} %", *cells]) + " |")
    return "\n".join(lines)


def with_interval(merit: dict[str, Any], name: str) -> str:
    interval = merit[f"{name}_ci95"]
    return percent(merit[name]) + (f" [{percent(interval[0])}, {percent(interval[1])}]" if interval else "")


def percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f}"
