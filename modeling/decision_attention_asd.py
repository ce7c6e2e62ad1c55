"""
From a recording's windows to a verdict: the one place where a verdict is made.

All windows together say what the sound is. Each gets a score and a p-value, adjusted for their number; the smallest decides.
Begin with [`decide_recording`], whose steps follow it. What the sound is, `hearing_attention_asd` says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .backends_attention_asd import SCORERS
from .calibration_attention_asd import benjamini_hochberg
from .conditions_attention_asd import Conditions
from .hearing_attention_asd import Sound, completed, hear
from .levels_attention_asd import LEVEL_DB
from .machines_attention_asd import KnownMachines
from .notes_attention_asd import NOTES, band_limit, band_note, level_note, note, unsupported_rate
from .outputs_attention_asd import ClipOutputs


NORMAL, ANOMALOUS, CANNOT_TELL = "normal", "anomalous", "cannot tell"

# A recording that is so many times shorter than the normal ones gets a note.
NOTED_SHORTENING = 1.5
SILENT, NOT_FINITE = NOTES["silent"], NOTES["not finite"]
# What is not known of a window that is not judged.
REFUSED = {"verdict": CANNOT_TELL, "score": None, "p_value": None}


@dataclass(frozen=True)
class Decision:
    """
    What the detector says about a recording or about one of its windows.

    Args:
        verdict (`str`):
            `"normal"`, `"anomalous"` or `"cannot tell"`. Without a machine named it is never `"anomalous"`.
        score (`float`, *optional*):
            Anomaly score of the back end, the highest of a recording's windows; the higher, the more anomalous.
        threshold (`float`, *optional*):
            The score from which on the p-value does not exceed `false_alarm_rate`; `None` where none has such a p-value.
        p_value (`float`, *optional*):
            How often a normal recording of this machine, of as many windows, looks as anomalous or more so, whatever the
            false-alarm rate: anomalous where it does not exceed `false_alarm_rate`.
        false_alarm_rate (`float`):
            The share of normal recordings that may be called anomalous.
        machine (`str`, *optional*):
            The machine that the recording was judged as: the named one, else the nearest one, or `None`.
        predicted_machine (`str`, *optional*):
            The nearest machine, or `None` where the sound is none of them.
        similarity (`float`, *optional*):
            Cosine between the recording and the normal clips of the machine in question, in [-1, 1]: of their spectra,
            whitened and seen from the center of all machines, or of their embeddings where there are no spectra. That
            machine is `machine`, or the nearest one where there is none.
        method (`str`, *optional*):
            What the p-value rests on: `"own and other machines"` or `"other machines"`, by normal clips.
        calibration_clips (`int`):
            The number of this machine's normal clips that the p-value rests on.
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
    silent: Sequence[bool] | np.ndarray | torch.Tensor | None = None,
    conditions: Conditions | None = None,
) -> tuple[Decision, list[Decision]]:
    """The decision about a recording, and those about its windows.

    Args:
        known: the machines that the recording may be of.
        outputs: the network's for the recording's windows.
        machine: the machine that the recording is claimed to be of; without it, the nearest one.
        false_alarm_rate: the share of normal recordings that may be called anomalous.
        backend: the back end that gives the scores.
        silent: `(windows,)`, true for the windows that hold no sound.
        conditions: how it was recorded, where that is known.

    Raises:
        ValueError: for a machine that is not known, or a back end that lacks its spectra.
    """
    claimed = None if machine is None else known[machine].name
    blank = Decision(CANNOT_TELL, None, None, None, false_alarm_rate, claimed, None, None, None, 0, backend)
    obstacles = find_obstacles(outputs, silent)
    is_judged = [obstacle is None for obstacle in obstacles]
    if not any(is_judged):
        return refused(blank, SILENT if SILENT in obstacles else NOT_FINITE, len(outputs))
    if conditions is not None and conditions.obstacle is not None:
        return refused(blank, conditions.obstacle, len(outputs))
    judged = outputs if all(is_judged) else outputs[is_judged]
    judged, first_missing = completed(known, judged, claimed)
    sound = hear(known, judged, claimed)
    decision = replace(blank, similarity=sound.similarity, predicted_machine=sound.nearest if sound.is_close else None)
    decisions = [decision] * len(judged)
    if claimed is not None or sound.is_close:
        decisions = measure(known, judged, replace(decision, machine=sound.judged_as), sound.shortening)
    recording = max(decisions, key=lambda window: -np.inf if window.score is None else window.score)
    recording = judge(recording, sound, known, is_machine_named=claimed is not None)
    if conditions is not None:
        recording = consider(recording, conditions)
    if first_missing is not None:
        frequencies = None if conditions is None else conditions.mel_frequencies
        recording = without_band(recording, band_limit(first_missing, frequencies), claimed is not None)
    remaining = iter(decisions)
    windows = [
        as_window(next(remaining), recording) if obstacle is None else replace(recording, **REFUSED, note=obstacle)
        for obstacle in obstacles
    ]
    return recording, windows


def refused(blank: Decision, note: str, windows: int) -> tuple[Decision, list[Decision]]:
    """The decision about a recording of so many windows none of which is judged."""
    decision = replace(blank, note=note)
    return decision, [decision] * windows


# Step 1: which windows can be judged


def find_obstacles(outputs: ClipOutputs, silent: Sequence[bool] | np.ndarray | torch.Tensor | None) -> list[str | None]:
    """What keeps each window from being judged; `None` where nothing does."""
    is_silent = [False] * len(outputs) if silent is None else torch.as_tensor(silent).tolist()
    return [
        SILENT if quiet else None if finite else NOT_FINITE
        for quiet, finite in zip(is_silent, outputs.is_finite.tolist(), strict=True)
    ]


# Step 2, after `hear`: scores and p-values


def measure(known: KnownMachines, windows: ClipOutputs, decision: Decision, shortening: float) -> list[Decision]:
    """The decision with the score of each window, judged as `decision.machine`, and what follows from it.

    The p-values are adjusted for their number (Benjamini and Hochberg 1995): of normal recordings, whatever their length,
    no more than the rate have one that does not exceed it. Real recordings in five windows of 2 s: 5 % false alarms asked
    for became 6 %, with 38 % of the faults found; judged once by the windows' pooled statistics, 0 % and 11 %, because few
    windows vary as much as one. A fault in one window of five: 22 % and none.
    """
    machine = known[str(decision.machine)]
    calibration, rate = machine.calibration(decision.backend).of_shorter_clips(shortening), decision.false_alarm_rate
    scores = SCORERS[decision.backend](known.shared.vectors(windows), machine, known.shared)
    p_values = benjamini_hochberg(calibration.tail(scores).numpy()).clip(min=calibration.lowest_rate)
    # The step of the procedure at which it stopped.
    alarms = max(int((p_values <= rate).sum()), 1)
    because = {
        "threshold": calibration.threshold(rate, alarms / len(scores)),
        "method": calibration.method,
        "calibration_clips": len(calibration.scores),
    }
    return [
        replace(decision, score=score, p_value=None if np.isnan(p_value) else p_value, **because)
        for score, p_value in zip(scores.tolist(), p_values.tolist(), strict=True)
    ]


# Step 3: the verdict


def judge(decision: Decision, sound: Sound, known: KnownMachines, is_machine_named: bool) -> Decision:
    """The decision with its verdict and the notes on it."""
    verdict, notes = verdict_and_notes(decision, sound, is_machine_named)
    if verdict != CANNOT_TELL:
        machine = known[sound.judged_as]
        lowest_rate = machine.calibration(decision.backend).lowest_rate
        if lowest_rate > decision.false_alarm_rate:
            # At the lowest p-value there is, it is beyond what the clips can tell of.
            is_beyond = decision.p_value is not None and decision.p_value <= lowest_rate
            verdict = CANNOT_TELL if is_beyond else verdict
            notes.append(unsupported_rate(lowest_rate, is_beyond))
        notes += [] if sound.shortening < NOTED_SHORTENING else [NOTES["shorter"]]
        tested = machine.self_test
        if verdict == NORMAL and tested is not None and tested.backend == decision.backend:
            notes += filter(None, [tested.warning(decision.false_alarm_rate)])
    return replace(decision, verdict=verdict, note="; ".join(notes) or None)


def verdict_and_notes(decision: Decision, sound: Sound, is_machine_named: bool) -> tuple[str, list[str]]:
    """The verdict, and the notes on it."""
    is_loud = abs(sound.level_db) >= LEVEL_DB
    notes = [level_note(sound.level_db)] if is_loud and decision.machine is not None else []
    if sound.is_noise:
        return CANNOT_TELL, [NOTES["noise"]]
    if not sound.is_close:
        return CANNOT_TELL, [note("like none", nearest=sound.nearest), *notes]
    if decision.p_value is None:
        return CANNOT_TELL, [note("too few clips", machine=decision.machine)]
    is_alarm = decision.p_value <= decision.false_alarm_rate
    if is_machine_named and sound.is_other:
        notes = [note("other machine", nearest=sound.nearest, machine=decision.machine), *notes]
        return (ANOMALOUS if is_alarm else CANNOT_TELL), notes
    if is_alarm and not is_machine_named:
        return CANNOT_TELL, [note("no machine named", nearest=sound.nearest), *notes]
    return (ANOMALOUS if is_alarm else NORMAL), notes


def consider(decision: Decision, conditions: Conditions) -> Decision:
    """The decision with what is to be said of the recorder. Clipping adds overtones, which are no fault of the machine."""
    is_alarm = decision.p_value is not None and decision.p_value <= decision.false_alarm_rate
    is_doubtful = decision.verdict == ANOMALOUS and conditions.is_clipped
    notes = [*([] if decision.note is None else [decision.note]), *conditions.notes(is_alarm)]
    return replace(decision, verdict=CANNOT_TELL if is_doubtful else decision.verdict, note="; ".join(notes) or None)


def without_band(decision: Decision, limit: str, is_machine_named: bool) -> Decision:
    """The decision about a recording that lacks the upper part of the band.

    An alarm is none: what is left of a recording of low rate is judged as well as before, but a codec that cuts the band off
    changes the rest, too. At 16 kHz MP3 of 64, 48, 32 and 24 kbit/s raised an alarm for 22, 26, 41 and 83 % of normal clips.
    """
    is_alarm = decision.verdict == ANOMALOUS
    notes = [band_note(limit, is_machine_named, is_alarm), *([] if decision.note is None else [decision.note])]
    is_normal = decision.verdict == NORMAL and is_machine_named
    return replace(decision, verdict=NORMAL if is_normal else CANNOT_TELL, note="; ".join(notes))


def as_window(window: Decision, recording: Decision) -> Decision:
    """The decision about a window: anomalous where the recording is and its own p-value does not exceed the rate."""
    if recording.verdict == ANOMALOUS and window.p_value is not None and window.p_value > window.false_alarm_rate:
        return replace(window, verdict=NORMAL)
    return replace(window, verdict=recording.verdict, note=recording.note)


__all__ = ["ANOMALOUS", "CANNOT_TELL", "NORMAL", "Decision", "decide_recording"]
