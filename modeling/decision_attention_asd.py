"""
From a recording's windows to a verdict: the one place where a verdict is made.

A recording is judged once, by the statistics of all its windows together. Begin with [`decide_recording`].
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .backends_attention_asd import SCORERS
from .levels_attention_asd import LEVEL_DB, roughness, roughness_limit
from .machines_attention_asd import FARTHEST, ClipVectors, KnownMachines, Machine
from .outputs_attention_asd import ClipOutputs
from .reference_attention_asd import directions_of
from .spectrum_attention_asd import log_distance, pooled


NORMAL, ANOMALOUS, CANNOT_TELL = "normal", "anomalous", "cannot tell"

SILENT = "it is silent"
NOT_FINITE = "the network's output is not finite"
NOISE = "it is noise, with nothing of a machine in it"
# A sound that is by so much nearer to another machine (difference of the distances' logarithms) is that machine's: 2 % of
# normal clips, nearly all claims of a wrong machine.
WRONG_MACHINE = 0.2


@dataclass(frozen=True)
class Decision:
    """
    What the detector says about a recording or about one of its windows.

    Args:
        verdict (`str`):
            `"normal"`, `"anomalous"` or `"cannot tell"`. Without a machine named it is never `"anomalous"`.
        score (`float`, *optional*):
            Anomaly score of the back end; the higher, the more anomalous.
        threshold (`float`, *optional*):
            The score from which on the p-value does not exceed `false_alarm_rate`; `None` where none has such a p-value.
        p_value (`float`, *optional*):
            How often a normal recording of this machine scores as high or higher. It is the same function of the score
            whatever the false-alarm rate: anomalous where it does not exceed `false_alarm_rate`.
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
    silent: Sequence[bool] | np.ndarray | torch.Tensor | None,
) -> tuple[Decision, list[Decision]]:
    """The decision about a recording, and those about its windows.

    A window is anomalous where the recording is and its own p-value does not exceed the rate: windows point at the place,
    the recording as a whole decides.

    Args:
        known: the machines that the recording may be of.
        outputs: the network's for the recording's windows.
        machine: the machine that the recording is claimed to be of; without it, the nearest one.
        false_alarm_rate: the share of normal recordings that may be called anomalous.
        backend: the back end that gives the scores.
        silent: `(windows,)`, true for the windows that hold no sound.

    Raises:
        ValueError: for a machine that is not known, or a back end that lacks its spectra.
    """
    claimed = None if machine is None else known[machine].name
    blank = Decision(CANNOT_TELL, None, None, None, false_alarm_rate, claimed, None, None, None, 0, backend)
    obstacles = find_obstacles(outputs, silent)
    is_judged = [obstacle is None for obstacle in obstacles]
    if not any(is_judged):
        refused = replace(blank, note=SILENT if SILENT in obstacles else NOT_FINITE)
        return refused, [refused] * len(outputs)
    judged = outputs if all(is_judged) else outputs[is_judged]
    decision = decide_clip(known, together(judged), len(judged), blank)
    remaining = iter(decide_windows(known, judged, decision))
    windows = [
        next(remaining) if obstacle is None else replace(blank, machine=decision.machine, note=obstacle)
        for obstacle in obstacles
    ]
    return decision, windows


# Step 1: which windows can be judged


def find_obstacles(outputs: ClipOutputs, silent: Sequence[bool] | np.ndarray | torch.Tensor | None) -> list[str | None]:
    """What keeps each window from being judged; `None` where nothing does."""
    is_silent = [False] * len(outputs) if silent is None else torch.as_tensor(silent).tolist()
    return [
        SILENT if quiet else None if finite else NOT_FINITE
        for quiet, finite in zip(is_silent, outputs.is_finite.tolist(), strict=True)
    ]


def together(windows: ClipOutputs) -> ClipOutputs:
    """A recording as one clip, from its windows: pooled spectra, the mean direction of the embeddings, mean cosines.

    In windows of 2 s the official AUC was 0.76 for one, 0.82 for the highest of five, and 0.95 for all as one clip.
    """
    if len(windows) == 1:
        return windows
    return ClipOutputs(
        directions_of(windows.embeddings).mean(0, keepdim=True),
        windows.cosines.mean(0, keepdim=True),
        None if windows.spectra is None else pooled(windows.spectra),
    )


# Step 2: what the sound is, and how it scores


@dataclass(frozen=True)
class Sound:
    """What a recording sounds like, beside the machine that it is judged as.

    Args:
        nearest (`str`):
            The machine that it is nearest to.
        is_noise (`bool`):
            Whether it has nothing of a machine in it.
        is_close (`bool`):
            Whether it is near enough to a machine to be any of them.
        is_other (`bool`):
            Whether it is nearer to another machine than a sound of the judged one is.
        level_db (`float`):
            How much louder it is than all normal clips of the judged machine; 0 within their range.
    """

    nearest: str
    is_noise: bool
    is_close: bool
    is_other: bool
    level_db: float


def decide_clip(known: KnownMachines, clip: ClipOutputs, windows: int, blank: Decision) -> Decision:
    """The decision about one clip, which may stand for many windows."""
    vectors = known.shared.vectors(clip)
    nearest, distance = known.nearest(vectors)
    machine = nearest if blank.machine is None else known[blank.machine]
    sound = hear(known, vectors, windows, machine, nearest, distance)
    decision = replace(blank, similarity=known.similarity(vectors, machine))
    if blank.machine is not None or (sound.is_close and not sound.is_noise):
        is_named = sound.is_close and not sound.is_noise
        decision = measure(known, vectors, machine, decision)
        decision = replace(decision, machine=machine.name, predicted_machine=nearest.name if is_named else None)
    verdict, notes = judge(decision, sound, is_machine_named=blank.machine is not None)
    if verdict != CANNOT_TELL:
        lowest_rate = machine.calibration(decision.backend).lowest_rate
        notes += [] if lowest_rate <= decision.false_alarm_rate else [unsupported_rate(lowest_rate)]
    return replace(decision, verdict=verdict, note="; ".join(notes) or None)


def hear(
    known: KnownMachines, clip: ClipVectors, windows: int, machine: Machine, nearest: Machine, distance: float | None
) -> Sound:
    """What one clip sounds like. By embeddings alone nothing is refused.

    Args:
        known: the machines.
        clip: the clip, which may stand for many windows.
        windows: how many.
        machine: the machine that it is judged as.
        nearest: the one that it is nearest to, and its distance there.
        distance: the logarithm of the distance.
    """
    shared, spectra = known.shared, clip.outputs.spectra
    is_noise, is_other, level_db = False, False, 0.0
    if spectra is not None and machine.level is not None:
        level_db = machine.level.excess_db(spectra)
        if shared.noise is not None and machine.level.roughness is not None:
            # A machine that is as smooth as noise in normal operation is not refused for that.
            limit = min(roughness_limit(windows * shared.num_frames), machine.level.roughness)
            is_noise = roughness(spectra[:, 0].double(), shared.noise).item() < limit
    if (
        distance is not None
        and machine is not nearest
        and shared.spectra
        and machine.spectrum
        and clip.coordinates is not None
    ):
        own = log_distance(shared.spectra, machine.spectrum, clip.coordinates).item()
        is_other = own - distance > WRONG_MACHINE
    return Sound(nearest.name, is_noise, distance is None or distance <= FARTHEST, is_other, level_db)


def measure(known: KnownMachines, clip: ClipVectors, machine: Machine, decision: Decision) -> Decision:
    """The decision with the score of one clip, judged as one machine, and what follows from it."""
    calibration = machine.calibration(decision.backend)
    score = SCORERS[decision.backend](clip, machine, known.shared)
    p_value = calibration.p_value(score).item()
    return replace(
        decision,
        score=score.item(),
        p_value=None if np.isnan(p_value) else p_value,
        threshold=calibration.threshold(decision.false_alarm_rate),
        method=calibration.method,
        calibration_clips=len(calibration.scores),
    )


# Step 3: the verdict


def judge(decision: Decision, sound: Sound, is_machine_named: bool) -> tuple[str, list[str]]:
    """The verdict, and the notes on it."""
    is_loud = abs(sound.level_db) >= LEVEL_DB
    notes = [level_note(sound.level_db)] if is_loud and decision.machine is not None else []
    if sound.is_noise:
        return CANNOT_TELL, [NOISE]
    if not sound.is_close:
        return CANNOT_TELL, [f"it is like none of the known machines (the closest is {sound.nearest})", *notes]
    if decision.p_value is None:
        return CANNOT_TELL, [f"too few normal clips to calibrate {decision.machine} with: enroll it again with more"]
    is_alarm = decision.p_value <= decision.false_alarm_rate
    if is_machine_named and sound.is_other:
        notes = [f"it sounds like {sound.nearest}, not like {decision.machine}", *notes]
        return (ANOMALOUS if is_alarm else CANNOT_TELL), notes
    if is_alarm and not is_machine_named:
        unknown = (
            f"it is like none of the known machines in normal operation (the closest is {sound.nearest}): name the machine "
            "to have it judged as that one"
        )
        return CANNOT_TELL, [unknown, *notes]
    return (ANOMALOUS if is_alarm else NORMAL), notes


def level_note(level_db: float) -> str:
    return (
        f"the whole recording is {abs(level_db):.0f} dB {'louder' if level_db > 0 else 'softer'} than this machine's normal "
        "ones: check the gain and the place of the microphone"
    )


def unsupported_rate(lowest_rate: float) -> str:
    return (
        f"the normal clips support no false-alarm rate below {100 * lowest_rate:.2g} %: at a lower one nothing raises an "
        "alarm. Ask for a higher rate, or fit on more clips"
    )


# Step 4: the windows


def decide_windows(known: KnownMachines, windows: ClipOutputs, recording: Decision) -> list[Decision]:
    """The decisions about the windows of a recording that has been judged, each with its own score and p-value."""
    if len(windows) == 1 or recording.machine is None:
        return [recording] * len(windows)
    machine, decisions = known[recording.machine], []
    for place in range(len(windows)):
        vectors = known.shared.vectors(windows[place])
        decision = replace(recording, similarity=known.similarity(vectors, machine), note=None)
        decision = measure(known, vectors, machine, decision)
        is_alarm = decision.p_value is not None and decision.p_value <= decision.false_alarm_rate
        if recording.verdict == ANOMALOUS and not is_alarm:
            decision = replace(decision, verdict=NORMAL)
        decisions.append(decision)
    return decisions


__all__ = ["ANOMALOUS", "CANNOT_TELL", "NORMAL", "Decision", "decide_recording", "together"]
