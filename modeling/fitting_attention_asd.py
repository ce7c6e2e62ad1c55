"""How the machines of a detector are made: fitted together on normal clips, or enrolled one by one.

Both ways end alike: a machine is described by all its normal clips, and calibrated by the scores of these clips, each scored
by a detector that has not seen it.
"""

from collections.abc import Hashable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch

from .backends_attention_asd import NETWORK_BACKENDS, SCORERS, usable_backends
from .calibration_attention_asd import Calibration, ScorePrior, fit_prior
from .configuration_attention_asd import AttentionAsdConfig
from .levels_attention_asd import NormalLevel
from .machines_attention_asd import ClipVectors, KnownMachines, Machine, SharedKnowledge
from .outputs_attention_asd import ClipOutputs
from .reference_attention_asd import EmbeddingSpace, describe_embeddings, directions_of, fit_whitening
from .spectrum_attention_asd import SpectrumSpace, anomaly_score, compared, describe, fit_space


# Parts of a machine's recordings that are left out in turn, each a run of recordings that follow one another.
FOLDS = 10
# Parts of the machines that are left out in turn, to learn how the scores of enrolled machines vary.
MACHINE_FOLDS = 10
MAX_NAME_LENGTH = 200
# Clips that the fit has seen lie nearer to their machine than nearly all others, because the shared covariance was fitted to
# them: their p-values were 0.999 and more, those of 54 new clips of the same 16 real machines 0.97 and less.
SEEN = 0.95


# Normal clips


@dataclass(frozen=True, eq=False)
class NormalClips:
    """Normal clips to fit a detector on. Made by [`NormalClips.checked`].

    Args:
        outputs ([`ClipOutputs`]):
            Those of the network.
        names (`np.ndarray` of shape `(clips,)`):
            Each clip's machine.
        is_held_out (`np.ndarray` of shape `(clips,)`):
            True for the clips that the network was not trained on.
        folds (`np.ndarray` of shape `(clips,)`):
            Which clips are left out together.
    """

    outputs: ClipOutputs
    names: np.ndarray
    is_held_out: np.ndarray
    folds: np.ndarray

    @classmethod
    def checked(
        cls,
        config: AttentionAsdConfig,
        outputs: ClipOutputs,
        machines: Sequence[str],
        held_out: Sequence[bool] | np.ndarray | None,
        recordings: Sequence[Hashable] | np.ndarray | None,
    ) -> "NormalClips":
        """Clips that can be fitted on.

        Raises:
            ValueError: for arrays that do not match, values that are not finite, or a machine without a clip to fit on.
        """
        names = np.asarray(machines)
        is_held_out = np.zeros(len(outputs), dtype=bool) if held_out is None else np.asarray(held_out, dtype=bool)
        keys = range(len(outputs)) if recordings is None else list(recordings)
        if names.shape != (len(outputs),) or is_held_out.shape != (len(outputs),) or len(keys) != len(outputs):
            raise ValueError(
                f"machines has shape {names.shape}, held_out {is_held_out.shape} and recordings {(len(keys),)}: expected "
                f"one value for each of the {len(outputs)} clips."
            )
        if outputs.cosines.shape[1] != config.num_labels:
            raise ValueError(
                f"cosines are about {outputs.cosines.shape[1]} machine IDs, the configuration about {config.num_labels}."
            )
        if not outputs.is_finite.all():
            raise ValueError("embeddings, cosines or spectra are not finite (NaN or infinite): leave those clips out.")
        folds = np.empty(len(outputs), dtype=int)
        for name in np.unique(names):
            own = np.flatnonzero(names == name)
            folds[own] = folds_of([keys[clip] for clip in own])
        clips = cls(outputs, names, is_held_out, folds)
        empty = [name for name in clips.machines if not (clips.of(name) & ~is_held_out).any()]
        if empty:
            raise ValueError(f"no clip of {empty} is left to fit on: hold out fewer, or leave the machine out.")
        return clips

    @property
    def machines(self) -> list[str]:
        return np.unique(self.names).tolist()

    def of(self, name: str) -> np.ndarray:
        """`(clips,)`, true for the clips of one machine."""
        return self.names == name


def folds_of(recordings: Sequence[Hashable]) -> np.ndarray:
    """The fold of each clip of one machine, `(clips,)`: runs of recordings in the order in which they come.

    Neighbors in time are alike: apart, they would vouch for each other. Clips of one recording stay together.
    """
    order: dict[Hashable, int] = {}
    ranks = np.array([order.setdefault(recording, len(order)) for recording in recordings])
    return ranks * min(FOLDS, len(order)) // max(len(order), 1)


# The fit


def fit_machines(
    config: AttentionAsdConfig, clips: NormalClips, noise: torch.Tensor | None, seed: int
) -> KnownMachines:
    """All machines of the clips, described and calibrated.

    Args:
        config: the network's.
        clips: normal clips of the machines.
        noise: the mean log-mel of white noise, `(num_mel_bins,)`.
        seed: key of the mixtures' starting points.
    """
    fitted_on = [clips.of(name) & ~clips.is_held_out for name in clips.machines]
    whitening = fit_whitening([directions_of(clips.outputs.embeddings[torch.from_numpy(own)]) for own in fitted_on])
    shared = SharedKnowledge(
        embeddings=EmbeddingSpace(whitening, config.scale, config.margin),
        spectra=None if clips.outputs.spectra is None else fit_space(compared(clips.outputs.spectra), clips.names),
        fitted={},
        enrolled={},
        noise=noise,
        num_frames=config.num_frames,
    )
    machines = [
        describe_machine(
            name,
            clips.outputs[clips.of(name)],
            shared,
            network_clips=clips.outputs[own],
            label=config.label2id.get(name),
            seed=seed,
        )
        for name, own in zip(clips.machines, fitted_on, strict=True)
    ]
    scores = network_scores(machines, clips, shared)
    fitted = {backend: fit_prior(backend, of, [np.arange(len(own)) for own in of]) for backend, of in scores.items()}
    # The network has pulled together the embeddings of the machines that it was trained on: where their scores lie says
    # nothing of an enrolled one.
    enrolled = {name: prior and replace(prior, location_clips=0.0) for name, prior in fitted.items()}
    if shared.spectra is not None:
        scores["spectrum"], fitted["spectrum"], enrolled["spectrum"] = fit_spectra(clips)
    shared = replace(shared, fitted=without_unknown(fitted), enrolled=without_unknown(enrolled))
    return KnownMachines.of(
        shared,
        [
            calibrated(machine, {backend: of[place] for backend, of in scores.items()}, shared)
            for place, machine in enumerate(machines)
        ],
    )


def without_unknown(priors: dict[str, ScorePrior | None]) -> dict[str, ScorePrior]:
    return {backend: prior for backend, prior in priors.items() if prior is not None}


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


def calibrated(machine: Machine, scores: dict[str, np.ndarray], shared: SharedKnowledge) -> Machine:
    """A machine with its calibrations, from the scores of its normal clips by back end."""
    priors = shared.enrolled if machine.is_enrolled else shared.fitted
    calibrations = {
        backend: Calibration.of(backend, scores[backend], priors.get(backend)) for backend in usable_backends(shared)
    }
    return replace(machine, calibrations=calibrations)


def network_scores(
    machines: Sequence[Machine], clips: NormalClips, shared: SharedKnowledge
) -> dict[str, list[np.ndarray]]:
    """The scores of each machine's held-out clips, by the back ends that need the network."""
    scores: dict[str, list[np.ndarray]] = {backend: [] for backend in NETWORK_BACKENDS}
    for machine in machines:
        held_out = ClipVectors(clips.outputs[clips.of(machine.name) & clips.is_held_out], None)
        for backend, of in scores.items():
            of.append(SCORERS[backend](held_out, machine, shared).numpy())
    return scores


# The fit by spectra


def fit_spectra(clips: NormalClips) -> tuple[list[np.ndarray], ScorePrior, ScorePrior]:
    """The scores of each machine's clips, left out fold by fold, and what they say of fitted and of enrolled machines.

    Raises:
        ValueError: no machine has recordings enough.
    """
    if clips.outputs.spectra is None:
        raise ValueError("outputs have no spectra: expected those of the network.")
    statistics = compared(clips.outputs.spectra)
    scores, folds = left_out_scores(statistics, clips)
    fitted = fit_prior("spectrum", scores, folds)
    if fitted is None:
        raise ValueError(
            "too few recordings of normal operation: expected 3 or more of one machine at least, and ten or more are "
            "better. Nothing else says how much normal recordings vary."
        )
    enrolled = fit_prior("spectrum", *enrolled_scores(statistics, clips)) if len(clips.machines) > 2 else None
    return scores, fitted, enrolled or fitted


def left_out_scores(statistics: torch.Tensor, clips: NormalClips) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each machine, the scores and folds of its clips, scored by a fit without their fold."""
    scores = np.full(len(statistics), np.nan)
    for fold in np.unique(clips.folds):
        kept = clips.folds != fold
        if not kept.any():
            continue
        space = fit_space(statistics[torch.from_numpy(kept)], clips.names[kept])
        for name in np.unique(clips.names[~kept]):
            own, left_out = clips.of(name) & kept, clips.of(name) & ~kept
            if own.any():
                scores[left_out] = scored(space, statistics, own, left_out, is_enrolled=False)
    known = [clips.of(name) & np.isfinite(scores) for name in clips.machines]
    return [scores[own] for own in known], [clips.folds[own] for own in known]


def enrolled_scores(statistics: torch.Tensor, clips: NormalClips) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each machine, the scores and folds of its clips, had it been enrolled on a fit without it."""
    scores, folds = [], []
    groups = min(MACHINE_FOLDS, len(clips.machines))
    for group in range(groups):
        names = clips.machines[group::groups]
        kept = ~np.isin(clips.names, names)
        space = fit_space(statistics[torch.from_numpy(kept)], clips.names[kept])
        for name in names:
            own = clips.of(name)
            scores.append(cross_scores(space, statistics[torch.from_numpy(own)], clips.folds[own]))
            folds.append(clips.folds[own])
    return scores, folds


def cross_scores(space: SpectrumSpace, statistics: torch.Tensor, folds: np.ndarray) -> np.ndarray:
    """The scores of a machine's clips, each by the machine enrolled without the clip's fold; none of a single fold."""
    if len(np.unique(folds)) < 2:
        return np.empty(0)
    scores = np.empty(len(folds))
    for fold in np.unique(folds):
        scores[folds == fold] = scored(space, statistics, folds != fold, folds == fold, is_enrolled=True)
    return scores


def scored(
    space: SpectrumSpace, statistics: torch.Tensor, own: np.ndarray, left_out: np.ndarray, is_enrolled: bool
) -> np.ndarray:
    """The scores of the clips `left_out` by the machine that the clips `own` describe."""
    own_clips, others = (statistics[torch.from_numpy(chosen)] @ space.matrix for chosen in (own, left_out))
    return anomaly_score(space, describe(space, own_clips, is_enrolled), others).numpy()


# Enrollment


def enroll_machine(
    name: str, clips: ClipOutputs, recordings: Sequence[Hashable] | np.ndarray | None, known: KnownMachines
) -> Machine:
    """A machine described by its normal clips, and calibrated by their scores, each left out in turn.

    Args:
        name: what the machine is to be called.
        clips: its normal clips in the order in which they were recorded, one or more.
        recordings: the recording of each clip; by default each clip is one.
        known: the machines that the detector knows already.

    Raises:
        ValueError: for a name that cannot be used, or clips that cannot.
    """
    check_name(name, known)
    keys = range(len(clips)) if recordings is None else list(recordings)
    check_clips(name, clips, len(keys))
    seen = machine_fitted_on(clips, known)
    if seen is not None:
        # A copy: tensors that two machines share could not be saved.
        return replace(deepcopy(seen), name=name)
    machine = describe_machine(name, clips, known.shared, is_enrolled=True)
    folds = folds_of(keys)
    scores = enrolled_network_scores(machine, clips, folds, known.shared)
    if known.shared.spectra is not None and clips.spectra is not None:  # describe_machine has refused clips without
        scores["spectrum"] = cross_scores(known.shared.spectra, compared(clips.spectra), folds)
    return calibrated(machine, scores, known.shared)


def machine_fitted_on(clips: ClipOutputs, known: KnownMachines) -> Machine | None:
    """The machine that most of these clips helped to fit; `None` where the fit has not seen them.

    Enrolled as another machine, such clips would vary far too little: every new recording would raise an alarm.
    """
    if known.shared.spectra is None or not known.by_name:
        return None
    vectors = known.shared.vectors(clips)
    machine = known.nearest(known.shared.vectors(clips[:1]))
    p_values = machine.calibration("spectrum").p_value(SCORERS["spectrum"](vectors, machine, known.shared))
    is_seen = not machine.is_enrolled and (p_values > SEEN).double().mean() > 0.5
    return machine if is_seen else None


def enrolled_network_scores(
    machine: Machine, clips: ClipOutputs, folds: np.ndarray, shared: SharedKnowledge
) -> dict[str, np.ndarray]:
    """The scores of a machine's clips, each by the machine without the clip's fold, by the back ends of the network."""
    is_single = len(np.unique(folds)) < 2
    scores = {backend: np.empty(0 if is_single else len(clips)) for backend in NETWORK_BACKENDS}
    for fold in [] if is_single else np.unique(folds):
        embedding = describe_embeddings(shared.embeddings, clips.embeddings[torch.from_numpy(folds != fold)])
        left_out = ClipVectors(clips[folds == fold], None)
        for backend, of in scores.items():
            of[folds == fold] = SCORERS[backend](left_out, replace(machine, embedding=embedding), shared).numpy()
    return scores


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


__all__ = ["NormalClips", "enroll_machine", "fit_machines", "folds_of"]
