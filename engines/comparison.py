"""What an export changes: the network's outputs, and the scores, verdicts and AUC that the detector makes of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from dcase2020_task2 import label_name
from evaluation.markdown import markdown_table
from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector
from modeling.outputs_attention_asd import ClipOutputs

from .engine_attention_asd import OUTPUTS, ExportedModel, ExportedOutput, Infer
from .table import FittedModel


# An AUC that moves by more is another one.
AUC_TOLERANCE = 0.002

# A row of the data set, or `None` for noise.
Row = dict[str, Any] | None


@dataclass(frozen=True)
class Judgment:
    """Scores `(clips,)`, verdicts, which p-values raise an alarm, and the mean official AUC where clips are labelled."""

    scores: np.ndarray
    verdicts: list[str]
    alarms: list[bool]
    auc: float | None


def compare(
    fitted: FittedModel,
    exported: ExportedModel,
    graph_verdicts: Infer | None,
    clips: torch.Tensor,
    rows: Sequence[Row],
) -> dict[str, Any]:
    """Compare a network and its export, and the decisions that follow.

    Args:
        graph_verdicts: gives `is_anomalous` of the export's graph, where the graph decides.
        clips: `(clips, clip_length)`.
        rows: one for each clip. A clip without a row is judged as a recording of the detector's first machine.

    Returns:
        `outputs`, the largest difference of each; `back_ends`, the decisions by each back end; and
        `graph_verdicts_changed`, how many alarms of the graph the detector's p-values do not confirm. Refusals are the
        detector's alone.
    """
    detector = fitted.detector

    def eager_network(clip: torch.Tensor) -> Any:
        return fitted.model(input_values=clip, input_features=fitted.feature_extractor.log_mel(clip))

    machines = [label_name(row["machine_type"], row["machine_id"]) if row else detector.machines[0] for row in rows]
    eager = outputs_of(eager_network, clips, "Computing with PyTorch")
    other = outputs_of(exported, clips, f"Computing with {exported.engine}")
    back_ends, changed = {}, None
    for backend in detector.backends:
        before, after = (judged(detector, outputs, machines, rows, backend) for outputs in (eager, other))
        back_ends[backend] = differences(before, after)
        if backend == detector.backend and graph_verdicts is not None:
            columns = [detector.machines.index(machine) for machine in machines]
            changed = disagreements(graph_verdicts, clips, columns, after.alarms)
    return {
        "clips": len(clips),
        "outputs": {
            name: (getattr(eager, name) - getattr(other, name)).abs().max().item()
            for name in OUTPUTS
            if getattr(other, name) is not None
        },
        "back_ends": back_ends,
        "graph_verdicts_changed": changed,
    }


@torch.no_grad()
def outputs_of(network: Callable[[torch.Tensor], Any], clips: torch.Tensor, what: str) -> ExportedOutput:
    """A network's outputs for clips, one by one."""
    parts = [network(clip) for clip in tqdm(clips.split(1), desc=what, unit="clip")]
    names = [name for name in ("logits", *OUTPUTS) if getattr(parts[0], name) is not None]
    return ExportedOutput(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def judged(
    detector: AnomalyDetector, outputs: ExportedOutput, machines: list[str], rows: Sequence[Row], backend: str
) -> Judgment:
    """Judge clips of known machines by a back end."""
    clips = ClipOutputs.of(outputs)
    decisions = [detector.decide(clips[i : i + 1], machine, backend=backend)[0] for i, machine in enumerate(machines)]
    scores = np.array([math.nan if decision.score is None else decision.score for decision in decisions])
    alarms = [d.p_value is not None and d.p_value <= d.false_alarm_rate for d in decisions]
    return Judgment(scores, [decision.verdict for decision in decisions], alarms, mean_auc(scores, rows))


def mean_auc(scores: np.ndarray, rows: Sequence[Row]) -> float | None:
    """The mean official AUC, or `None` where clips have no labels, all the same one, or a score that is not finite."""
    labelled = [row for row in rows if row]
    if len(labelled) < len(rows) or not np.isfinite(scores).all() or len({row["is_anomaly"] for row in labelled}) < 2:
        return None
    types, ids = ([row[name] for row in labelled] for name in ("machine_type", "machine_id"))
    labels = [int(row["is_anomaly"]) for row in labelled]
    return asd_auc(scores.tolist(), labels, types, ids, n_bootstrap=0)["auc"]["mean"]["official"]


def differences(before: Judgment, after: Judgment) -> dict[str, Any]:
    """What the export changes for one back end."""
    return {
        "largest_score": float(np.abs(before.scores).max()),
        "largest_score_difference": float(np.abs(before.scores - after.scores).max()),
        "verdicts_changed": sum(a != b for a, b in zip(before.verdicts, after.verdicts, strict=True)),
        "auc": before.auc,
        "exported_auc": after.auc,
    }


def disagreements(graph_verdicts: Infer, clips: torch.Tensor, columns: list[int], alarms: list[bool]) -> int:
    """How many alarms of the graph, each in its machine's column, are other ones than the detector's."""
    is_anomalous = [graph_verdicts(clip.numpy())["is_anomalous"][0] for clip in clips.split(1)]
    said = [bool(row[column]) for row, column in zip(is_anomalous, columns, strict=True)]
    return sum(a != b for a, b in zip(said, alarms, strict=True))


# For people


def as_table(checks: dict[str, Any], default: str) -> str:
    """The comparison as two Markdown tables, with the detector's own back end in bold."""
    outputs = markdown_table(
        ["output", "largest difference"], [[name, f"{value:.2g}"] for name, value in checks["outputs"].items()]
    )
    rows = []
    for name, row in checks["back_ends"].items():
        auc = ["-" if row[key] is None else f"{row[key]:.4f}" for key in ("auc", "exported_auc")]
        numbers = [f"{row['largest_score']:.4g}", f"{row['largest_score_difference']:.2g}"]
        changed = f"{row['verdicts_changed']} of {checks['clips']}"
        rows.append([f"**{name}**" if name == default else name, *numbers, changed, *auc])
    header = ["back end", "largest score", "largest difference", "verdicts changed", "AUC", "exported"]
    return f"{outputs}\n\n{markdown_table(header, rows)}"


def what_to_mind(checks: dict[str, Any], default: str) -> str | None:
    """A sentence where the export decides otherwise than the network did, or ranks the checked clips otherwise."""
    row, found = checks["back_ends"][default], []
    if row["verdicts_changed"]:
        found.append(f"{row['verdicts_changed']} of {checks['clips']} verdicts have changed")
    if row["auc"] is not None and abs(row["exported_auc"] - row["auc"]) >= AUC_TOLERANCE:
        found.append(f"the AUC has gone from {row['auc']:.4f} to {row['exported_auc']:.4f}")
    if not found:
        return None
    return f"Mind: by {default}, {' and '.join(found)}. The fewer bits an engine has, the less it keeps to the network."
