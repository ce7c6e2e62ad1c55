"""A machine described by its normal clips, and its clips as heard by the machine that has not seen them.

What the clips left out score is what the machine is calibrated by: a fit and an enrollment both end here.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
import torch

from .alterations_attention_asd import ALTERATIONS
from .backends_attention_asd import usable_backends
from .calibration_attention_asd import Calibration
from .levels_attention_asd import NormalLevel
from .machines_attention_asd import Machine, SharedKnowledge
from .outputs_attention_asd import ClipOutputs
from .power_attention_asd import LeftOut
from .reference_attention_asd import describe_embeddings
from .spectrum_attention_asd import SpectrumSpace, anomaly_score, describe, log_distance


def describe_machine(
    name: str,
    clips: ClipOutputs,
    shared: SharedKnowledge,
    *,
    network_clips: ClipOutputs | None = None,
    label: int | None = None,
    is_enrolled: bool = False,
    seed: int = 0,
) -> Machine:
    """Describe a machine by its normal clips; its calibrations are still to come.

    Args:
        name: the machine's name.
        clips: its normal clips, one or more.
        shared: what all machines share.
        network_clips: those of them that its embeddings are described by; by default all.
        label: its place among the network's machine IDs, if it has one.
        is_enrolled: whether the clips are no part of the fit of `shared`.
        seed: key of the mixture's starting point.
    """
    embeddings = (clips if network_clips is None else network_clips).embeddings
    spectrum = None
    if shared.spectra is not None:
        coordinates = shared.vectors(clips).coordinates
        spectrum = None if coordinates is None else describe(shared.spectra, coordinates, is_enrolled)
    return Machine(
        name=name,
        is_enrolled=is_enrolled,
        embedding=describe_embeddings(shared.embeddings, embeddings, label=label, seed=seed),
        spectrum=spectrum,
        level=None if clips.spectra is None else NormalLevel.of(clips.spectra, shared.noise, clips.frames),
        calibrations={},
    )


def calibrated(machine: Machine, left_out: dict[str, LeftOut], shared: SharedKnowledge) -> Machine:
    """A machine with its calibrations, from its normal clips as each back end heard them."""
    priors = shared.priors(machine.is_enrolled, machine.is_copy)
    calibrations = {
        backend: Calibration.of(backend, left_out[backend].scores, priors.get(backend))
        for backend in usable_backends(shared)
    }
    return replace(machine, calibrations=calibrations)


def cross_clips(
    space: SpectrumSpace, spectra: torch.Tensor, folds: np.ndarray, recordings: Sequence[Hashable]
) -> LeftOut:
    """A machine's clips, each as heard by the machine enrolled without the clip's fold; none of a single fold."""
    if len(np.unique(folds)) < 2:
        return left_out_of(np.empty((2, 1 + len(ALTERATIONS), 0)), folds[:0], [])
    heard = np.empty((2, 1 + len(ALTERATIONS), len(folds)))
    for fold in np.unique(folds):
        heard[..., folds == fold] = hear_left_out(space, spectra, folds != fold, folds == fold, is_enrolled=True)
    return left_out_of(heard, folds, recordings)


def hear_left_out(
    space: SpectrumSpace, spectra: torch.Tensor, own: np.ndarray, left_out: np.ndarray, is_enrolled: bool
) -> np.ndarray:
    """Scores and distances of the clips `left_out`, as they are and altered, by the machine that the clips `own` describe.

    `(2, 1 + alterations, clips)`.
    """
    own_clips, clips = (spectra[torch.from_numpy(chosen)] for chosen in (own, left_out))
    machine = describe(space, space.coordinates(own_clips), is_enrolled)
    versions = [space.coordinates(version) for version in (clips, *(alter(clips) for alter in ALTERATIONS.values()))]
    return np.stack(
        [
            np.stack([of(space, machine, version).numpy() for version in versions])
            for of in (anomaly_score, log_distance)
        ]
    )


def left_out_of(heard: np.ndarray, folds: np.ndarray, recordings: Sequence[Hashable]) -> LeftOut:
    """A machine's clips, from what [`hear_left_out`] says of each fold."""
    return LeftOut(heard[0, 0], folds, recordings, heard[:, 1:])


__all__ = ["calibrated", "cross_clips", "describe_machine", "hear_left_out", "left_out_of"]
