"""What the fitted detector makes of labelled clips: every back end's figures of merit, detections and false alarms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector, ClipOutputs

from .splits import Row, machine_of


FALSE_ALARM_RATES = (0.01, 0.05, 0.1)


def evaluate_decisions(
    detector: AnomalyDetector, outputs: ClipOutputs, rows: Sequence[Row], num_bootstrap: int
) -> dict[str, Any]:
    """Return figures of merit by back end, and shares of normal and anomalous clips that are called anomalous.

    Args:
        detector: knows the machines that the rows name.
        outputs: the network's, for the clips of the rows.
        rows: with `machine_type`, `machine_id` and `is_anomaly`.
        num_bootstrap: replicates behind the confidence intervals.
    """
    machines = np.array([machine_of(row) for row in rows])
    is_anomaly = np.array([bool(row["is_anomaly"]) for row in rows])
    types, ids = ([row[name] for row in rows] for name in ("machine_type", "machine_id"))
    back_ends, alarms = {}, {}
    for backend in detector.backends:
        scores, p_values = judged(detector, outputs, machines, backend)
        merit = asd_auc(scores, is_anomaly.astype(int), types, ids, n_bootstrap=num_bootstrap)
        back_ends[backend] = {"auc": merit["auc"], "pauc": merit["pauc"]}
        alarms[backend] = [
            {
                "requested": rate,
                "false_alarms": share(p_values <= rate, ~is_anomaly),
                "detected": share(p_values <= rate, is_anomaly),
                "undecided": int(np.isnan(p_values).sum()),
            }
            for rate in FALSE_ALARM_RATES
        ]
    return {"default": detector.backend, "back_ends": back_ends, "alarms": alarms}


def judged(
    detector: AnomalyDetector, outputs: ClipOutputs, machines: np.ndarray, backend: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and p-values `(clips,)` of clips as those of their machines."""
    scores, p_values = np.full((2, len(machines)), np.nan)
    for machine in np.unique(machines).tolist():
        own = np.flatnonzero(machines == machine)
        of_machine = detector.scores(outputs[own], machine, backend)
        scores[own] = of_machine.numpy()
        p_values[own] = detector.p_value(of_machine, machine, backend).numpy()
    return scores, p_values


def share(is_alarm: np.ndarray, among: np.ndarray) -> dict[str, Any] | None:
    """Return the share of some clips that raised an alarm, with Wilson's 95 % interval; `None` where there are no clips.

    Args:
        is_alarm: `(clips,)`, true for the clips that raised an alarm.
        among: `(clips,)`, true for the clips that count.
    """
    clips = int(among.sum())
    if not clips:
        return None
    raised = int(is_alarm[among].sum())
    interval = binomtest(raised, clips).proportion_ci(0.95, method="wilson")
    return {"share": raised / clips, "clips": clips, "ci95": [float(interval.low), float(interval.high)]}
