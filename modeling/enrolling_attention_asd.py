"""Enrollment: a machine that joins a detector, made of its normal clips alone.

Like in the fit, each clip is scored by the machine without the clip, and a self-test says what the recordings are worth.
"""

from collections.abc import Hashable, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch

from .backends_attention_asd import NETWORK_BACKENDS, SCORERS
from .hearing_attention_asd import together
from .left_out_attention_asd import calibrated, cross_clips, describe_machine
from .machines_attention_asd import ClipVectors, KnownMachines, Machine, SharedKnowledge
from .normal_clips_attention_asd import folds_of, numbered
from .outputs_attention_asd import ClipOutputs
from .power_attention_asd import LeftOut, self_test
from .reference_attention_asd import describe_embeddings


MAX_NAME_LENGTH = 200
# Clips that the fit has seen lie nearer to their machine than nearly all others, because the shared covariance was fitted to
# them: their p-values were 0.999 and more, those of 54 new clips of the same 16 real machines 0.97 and less.
SEEN = 0.95


def enroll_machine(
    name: str,
    clips: ClipOutputs,
    recordings: Sequence[Hashable] | np.ndarray | None,
    known: KnownMachines,
    *,
    backend: str,
    false_alarm_rate: float,
    remarks: Sequence[str] = (),
) -> Machine:
    """A machine described by its normal clips, calibrated by their scores, each left out in turn, and tested.

    Args:
        name: what the machine is to be called.
        clips: its normal clips in the order in which they were recorded, one or more.
        recordings: the recording of each clip; by default each clip is one.
        known: the machines that the detector knows already.
        backend: the default back end, which is tested where the clips' spectra are not known.
        false_alarm_rate: the default rate.
        remarks: what was seen of the recordings, a sentence each.

    Raises:
        ValueError: for a name that cannot be used, or clips that cannot.
    """
    check_name(name, known)
    keys = numbered(range(len(clips))) if recordings is None else list(recordings)
    check_clips(name, clips, len(keys))
    seen = machine_fitted_on(clips, known)
    if seen is not None:
        return copied(seen, name, remarks)
    machine = describe_machine(name, clips, known.shared, is_enrolled=True)
    folds = folds_of(keys)
    left_out = enrolled_network_scores(machine, clips, folds, keys, known.shared)
    if known.shared.spectra is not None and clips.spectra is not None:  # describe_machine has refused clips without
        left_out["spectrum"] = cross_clips(known.shared.spectra, clips.spectra, folds, keys)
        backend = "spectrum"
    machine = calibrated(machine, left_out, known.shared)
    tested = self_test(machine, known, left_out[backend], backend, false_alarm_rate, remarks)
    return replace(machine, self_test=tested)


def machine_fitted_on(clips: ClipOutputs, known: KnownMachines) -> Machine | None:
    """The machine that most of these clips helped to fit; `None` where the fit has not seen them.

    Enrolled as another machine, such clips would vary far too little: every new recording would raise an alarm.
    """
    if known.shared.spectra is None or not known.by_name:
        return None
    vectors = known.shared.vectors(clips)
    machine = known.nearest(known.shared.vectors(together(clips)))
    p_values = machine.calibration("spectrum").p_value(SCORERS["spectrum"](vectors, machine, known.shared))
    is_fitted = machine.is_copy or not machine.is_enrolled
    is_seen = is_fitted and (p_values > SEEN).double().mean() > 0.5
    return machine if is_seen else None


def copied(fitted: Machine, name: str, remarks: Sequence[str]) -> Machine:
    """A fitted machine under the name that its recordings are enrolled under."""
    known = f"These recordings are known: {fitted.name} was fitted on them, and is used as it was fitted."
    tested = fitted.self_test and replace(fitted.self_test, remarks=(known, *remarks))
    # Tensors that two machines share could not be saved.
    return replace(deepcopy(fitted), name=name, is_enrolled=True, is_copy=True, self_test=tested)


def enrolled_network_scores(
    machine: Machine, clips: ClipOutputs, folds: np.ndarray, recordings: Sequence[Hashable], shared: SharedKnowledge
) -> dict[str, LeftOut]:
    """A machine's clips, each as heard by the machine without the clip's fold, by the back ends of the network."""
    is_single = len(np.unique(folds)) < 2
    scores = {backend: np.empty(0 if is_single else len(clips)) for backend in NETWORK_BACKENDS}
    for fold in [] if is_single else np.unique(folds):
        embedding = describe_embeddings(shared.embeddings, clips.embeddings[torch.from_numpy(folds != fold)])
        left_out = ClipVectors(clips[folds == fold], None)
        for backend, of in scores.items():
            of[folds == fold] = SCORERS[backend](left_out, replace(machine, embedding=embedding), shared).numpy()
    kept = slice(0 if is_single else len(folds))
    return {backend: LeftOut(of, folds[kept], recordings[kept]) for backend, of in scores.items()}


def check_name(name: str, known: KnownMachines) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ValueError(f"name={name!r}: expected a printable name of 1 to {MAX_NAME_LENGTH} characters.")
    if name in known.by_name and not known.by_name[name].is_enrolled:
        raise ValueError(f"{name} was fitted with the detector: enroll under another name, such as {name + '_new'!r}.")


def check_clips(name: str, clips: ClipOutputs, recordings: int) -> None:
    if not len(clips) or not clips.is_finite.all():
        raise ValueError(
            f"{name}: {len(clips)} clips, some not finite or none at all: expected one normal clip or more."
        )
    if recordings != len(clips):
        raise ValueError(
            f"{name}: recordings has {recordings} values: expected one for each of the {len(clips)} clips."
        )


__all__ = ["enroll_machine"]
