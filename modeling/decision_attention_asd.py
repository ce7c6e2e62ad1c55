"""
From a recording's windows to a verdict: the one place where a verdict is made.

Begin with [`decide_recording`], whose four steps follow it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .calibration_attention_asd import ROUNDING, FittedTail, Ranks, benjamini_hochberg
from .machines_attention_asd import KnownMachines
from .outputs_attention_asd import ClipOutputs
from .reference_attention_asd import ClipVectors


NORMAL, ANOMALOUS, CANNOT_TELL = "normal", "anomalous", "cannot tell"

SILENT = "it is silent"
NOT_FINITE = "the network's output is not finite"


@dataclass(frozen=True)
class Decision:
    """
    What the detector says about a recording or about one of its windows.

    Args:
        verdict (`str`):
            `"normal"`, `"anomalous"` or `"cannot tell"`.
        score (`float`, *optional*):
            Anomaly score of the back end, the highest of a recording's windows; the higher, the more anomalous.
        threshold (`float`, *optional*):
            The score above which the verdict is anomalous.
        p_value (`float`, *optional*):
            How often a normal recording of this machine would look as anomalous as this one or more so. Adjusted for
            the number of windows: anomalous where it does not exceed `false_alarm_rate`.
        false_alarm_rate (`float`):
            The share of normal recordings that may be called anomalous.
        machine (`str`, *optional*):
            The machine that the recording was judged as: the claimed one, else the closest one, or `None`.
        predicted_machine (`str`, *optional*):
            The closest enrolled machine, or `None` where the sound may well be none of them.
        similarity (`float`, *optional*):
            Cosine between the clip and the centroid of the closest machine, in [-1, 1]. By their spectra,
            whitened and seen from the mean of all machines; by their embeddings where there are no spectra.
        method (`str`, *optional*):
            What the p-value rests on: `"conformal"` (ranks among held-out clips, a guarantee), `"cross-conformal"`
            (ranks among an enrolled machine's own clips, each left out in turn), `"fitted tail"` (a distribution fitted
            to too few clips for ranks) or `"other machines"` (no clip of this machine was left to calibrate with).
        calibration_clips (`int`):
            The number of normal clips of this machine that the p-value rests on.
        backend (`str`):
            The back end that gave the score.
        note (`str`, *optional*):
            Why the detector cannot tell, or what makes its verdict doubtful.
    """

    verdict: str
    score: float | None
    threshold: float | None
    p_value: float | None
    false_alarm_rate: float
    machine: str | None
    predicted_machine: str | None
    similarity: float | None
    method: str | None
    calibration_clips: int
    backend: str
    note: str | None = None

    def to_dict(self) -> dict[str, str | float | int | None]:
        """The fields, ready for JSON."""
        return dict(vars(self))


def decide_recording(
    known: KnownMachines,
    outputs: ClipOutputs,
    *,
    machine: str | None,
    false_alarm_rate: float,
    backend: str,
    silent: Sequence[bool] | np.ndarray | torch.Tensor | None,
) -> tuple[Decision, list[Decision]]:
    """The decision about a recording, and those about its windows.

    Args:
        known: the machines that the recording may be of.
        outputs: the network's for the recording's windows.
        machine: the machine that the recording is claimed to be of; without it, the closest one.
        false_alarm_rate: the share of normal recordings that may be called anomalous.
        backend: the back end that gives the scores.
        silent: `(windows,)`, true for the windows that hold no sound.

    Raises:
        ValueError: for a machine that is not known, or a back end that lacks its spectra.
    """
    claimed = None if machine is None else known[machine].name
    decision = Decision(CANNOT_TELL, None, None, None, false_alarm_rate, claimed, None, None, None, 0, backend)

    obstacles = find_obstacles(outputs, silent)
    is_judged = [obstacle is None for obstacle in obstacles]
    if not any(is_judged):
        return refuse(decision, len(outputs), note=SILENT if SILENT in obstacles else NOT_FINITE)

    clips = known.vectors(outputs if all(is_judged) else outputs[is_judged])
    decision = recognize(known, clips, decision)
    if decision.machine is None:
        return refuse(decision, len(outputs))

    evidence = measure(known, clips, decision.machine, false_alarm_rate, backend)
    if any(map(math.isnan, evidence.p_values)):
        note = f"too few normal clips to calibrate {decision.machine} with: enroll it again with more"
        return refuse(decision, len(outputs), note=note, calibration_clips=evidence.calibration_clips)

    return judge(decision, evidence, obstacles)


def refuse(decision: Decision, windows: int, **because: Any) -> tuple[Decision, list[Decision]]:
    """No verdict, neither about the recording nor about any window."""
    refused = replace(decision, **because)
    return refused, [refused] * windows


# Step 1: which windows can be judged


def find_obstacles(outputs: ClipOutputs, silent: Sequence[bool] | np.ndarray | torch.Tensor | None) -> list[str | None]:
    """What keeps each window from being judged; `None` where nothing does."""
    is_silent = [False] * len(outputs) if silent is None else torch.as_tensor(silent).tolist()
    return [
        SILENT if quiet else None if finite else NOT_FINITE
        for quiet, finite in zip(is_silent, outputs.is_finite.tolist(), strict=True)
    ]


# Step 2: which machine the recording is of


def recognize(known: KnownMachines, clips: ClipVectors, decision: Decision) -> Decision:
    """The decision with the closest machine, and with the one that the recording is judged as.

    That is the claimed one, else the closest one; none where nothing is close enough.
    """
    closest, similarity, is_close = known.closest(clips)
    decision = replace(decision, predicted_machine=closest if is_close else None, similarity=similarity)
    if decision.machine is not None:
        return decision
    # A faulty machine sounds less like itself. Not to miss it, it is judged as long as it is closer to itself than
    # other machines are. A fault moves the spectra further: by them it is judged as long as it is more like itself than
    # like the mean of all machines.
    refused_below = known.shared.other_similarity if known.shared.origin is None else 0.0
    if not is_close and refused_below is not None and similarity < refused_below:
        return replace(decision, note=f"it sounds like none of the enrolled machines (the closest is {closest})")
    note = None if is_close else "it may be none of the enrolled machines: tell which one it is"
    return replace(decision, machine=closest, note=note)


# Step 3: scores and p-values


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for an anomaly in the windows that can be judged.

    Args:
        scores, p_values (`list[float]`):
            Of each window; the p-values are adjusted for the number of windows.
        normal_scores ([`Ranks`] or [`FittedTail`]):
            The distribution that they come from.
        calibration_clips (`int`):
            The number of normal clips that it rests on.
    """

    scores: list[float]
    p_values: list[float]
    normal_scores: Ranks | FittedTail
    calibration_clips: int


def measure(known: KnownMachines, clips: ClipVectors, machine: str, rate: float, backend: str) -> Evidence:
    """Scores and p-values of the windows, judged as one machine."""
    scores = known.scores(clips, machine, backend).numpy()
    calibration = known[machine].calibrations[backend]
    normal_scores = calibration.normal_scores(rate / len(clips))
    p_values = benjamini_hochberg(normal_scores.p_value(scores))
    return Evidence(scores.tolist(), p_values.tolist(), normal_scores, len(calibration.scores))


# Step 4: verdicts


def judge(decision: Decision, evidence: Evidence, obstacles: Sequence[str | None]) -> tuple[Decision, list[Decision]]:
    """The verdict on every window that could be judged; the recording gets that of the highest score."""
    rate, normal_scores = decision.false_alarm_rate, evidence.normal_scores
    is_anomalous = [p_value <= rate * (1.0 + ROUNDING) for p_value in evidence.p_values]
    because = {
        "method": normal_scores.method,
        # The step of Benjamini and Hochberg's procedure at which it stopped.
        "threshold": normal_scores.threshold(rate * max(sum(is_anomalous), 1) / len(is_anomalous)),
        "calibration_clips": evidence.calibration_clips,
    }
    judged = [
        replace(decision, verdict=ANOMALOUS if anomalous else NORMAL, score=score, p_value=p_value, **because)
        for score, p_value, anomalous in zip(evidence.scores, evidence.p_values, is_anomalous, strict=True)
    ]
    remaining = iter(judged)
    windows = [
        next(remaining) if obstacle is None else replace(decision, note=obstacle, **because) for obstacle in obstacles
    ]
    return judged[evidence.scores.index(max(evidence.scores))], windows
