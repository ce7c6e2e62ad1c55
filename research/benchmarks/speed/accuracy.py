"""What each system changes in scores, verdicts and AUC of labelled test clips, compared with eager PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from dcase2020_task2 import label_name, load_clips
from evaluation.loading import load_model
from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector
from research.benchmarks.processes import available_cores
from research.detectors import detector_of

from .systems import EAGER, Network, Task, clip_reader, load_published, load_systems


@dataclass
class Verdicts:
    """What a system says of the test clips: the paper's score, the detector's score and its verdict, clip by clip."""

    paper_scores: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)


@torch.no_grad()
def measure_accuracy(task: Task) -> list[dict[str, Any]]:
    """Return a row for each system that gives outputs, eager first.

    Raises:
        ValueError: there are no labelled test clips of the detector's machines.
    """
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(len(available_cores()))
    loaded = load_model(task.model)
    detector, decode = detector_of(loaded), clip_reader(loaded.feature_extractor)
    rows = labelled_clips(task, detector)
    systems = [*load_systems(task), load_published(task)]
    networks = {system.name: system.network for system in systems if system.network is not None}
    found = {name: Verdicts() for name in networks}
    for row in tqdm(rows, desc="Test clips", unit="clip"):
        machine, waveforms = label_name(row["machine_type"], row["machine_id"]), decode([row["path"]])
        for name, network in networks.items():
            judge(network, waveforms, machine, detector, found[name])
    return [
        {"system": name, **compare(verdicts, found[EAGER], rows, detector.backend)} for name, verdicts in found.items()
    ]


def labelled_clips(task: Task, detector: AnomalyDetector) -> list[dict[str, Any]]:
    """Return the labelled test clips of machines that the detector knows."""
    test: list[Any] = list(load_clips(task.data_dir)["test"])
    rows = [
        row
        for row in test
        if row["is_anomaly"] is not None and label_name(row["machine_type"], row["machine_id"]) in detector.machines
    ]
    if not rows:
        raise ValueError(f"{task.data_dir}: no labelled test clips of the machines {', '.join(detector.machines)}.")
    return rows


def judge(
    network: Network, waveforms: torch.Tensor, machine: str, detector: AnomalyDetector, verdicts: Verdicts
) -> None:
    """Add what is said of the network's outputs for one clip `(1, clip_length)` to `verdicts`."""
    outputs = network(waveforms)
    decision = detector.decide(outputs, machine)[0]
    if decision.score is None:
        raise ValueError(f"a clip of {machine} has no score: {decision.verdict}.")
    verdicts.paper_scores.append(detector.scores(outputs, machine, "arcface").item())
    verdicts.scores.append(decision.score)
    verdicts.verdicts.append(decision.verdict)


def compare(own: Verdicts, reference: Verdicts, rows: Sequence[dict[str, Any]], backend: str) -> dict[str, Any]:
    """Return what a system changes; `backend` is the detector's."""
    paper_auc = official_auc(own.paper_scores, rows)
    return {
        "clips": len(rows),
        "verdict changes": sum(a != b for a, b in zip(own.verdicts, reference.verdicts, strict=True)),
        "largest score difference, paper's score": largest_difference(own.paper_scores, reference.paper_scores),
        f"the same, {backend}": largest_difference(own.scores, reference.scores),
        "AUC, paper's score": paper_auc,
        "AUC difference": paper_auc - official_auc(reference.paper_scores, rows),
        f"AUC difference, {backend}": official_auc(own.scores, rows) - official_auc(reference.scores, rows),
    }


def largest_difference(scores: Sequence[float], reference: Sequence[float]) -> float:
    """Return the largest absolute difference of two systems' scores."""
    return float(np.abs(np.subtract(scores, reference)).max())


def official_auc(scores: Sequence[float], rows: Sequence[dict[str, Any]]) -> float:
    """Return the mean official AUC of the clips `rows`."""
    figures = asd_auc(
        scores,
        [int(row["is_anomaly"]) for row in rows],
        [row["machine_type"] for row in rows],
        [row["machine_id"] for row in rows],
        n_bootstrap=0,
    )
    return figures["auc"]["mean"]["official"]
