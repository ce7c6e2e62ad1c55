"""How the machines of a detector are made: fitted together on normal clips, or enrolled one by one.

Both ways end alike: a machine is described by all its normal clips, and calibrated by the scores of these clips, each scored
by a detector that has not seen it. Then a self-test says what the recordings are worth.
"""

from collections.abc import Hashable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch

from .alterations_attention_asd import ALTERATIONS
from .backends_attention_asd import NETWORK_BACKENDS, SCORERS, usable_backends
from .calibration_attention_asd import Calibration, ScorePrior, fit_prior
from .configuration_attention_asd import AttentionAsdConfig
from .hearing_attention_asd import together
from .levels_attention_asd import NormalLevel
from .machines_attention_asd import ClipVectors, KnownMachines, Machine, SharedKnowledge
from .outputs_attention_asd import ClipOutputs
from .power_attention_asd import LeftOut, self_test
from .reference_attention_asd import EmbeddingSpace, describe_embeddings, directions_of, fit_whitening
from .spectrum_attention_asd import SpectrumSpace, anomaly_score, compared, describe, fit_space, log_distance


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
        recordings (`np.ndarray` of shape `(clips,)`):
            The recording of each clip: its name, or its number within the machine's.
    """

    outputs: ClipOutputs
    names: np.ndarray
    is_held_out: np.ndarray
    folds: np.ndarray
    recordings: np.ndarray

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
        keys = list(range(len(outputs)) if recordings is None else recordings)
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
        folds, labels = np.empty(len(outputs), dtype=int), np.empty(len(outputs), dtype=object)
        for name in np.unique(names):
            own = np.flatnonzero(names == name)
            of_machine = [keys[clip] for clip in own]
            folds[own] = folds_of(of_machine)
            labels[own] = numbered(of_machine) if recordings is None else of_machine
        clips = cls(outputs, names, is_held_out, folds, labels)
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


def numbered(clips: Sequence[Hashable]) -> list[int]:
    """Numbers for the clips of a machine whose recordings have no names, from 1."""
    return list(range(1, len(clips) + 1))


# The fit


def fit_machines(
    config: AttentionAsdConfig,
    clips: NormalClips,
    *,
    noise: torch.Tensor | None,
    seed: int,
    backend: str,
    false_alarm_rate: float,
) -> KnownMachines:
    """All machines of the clips, described, calibrated and tested.

    Args:
        config: the network's.
        clips: normal clips of the machines.
        noise: spectra of clips of each of `NOISES`, `(2, noise clips, 6, num_mel_bins)`.
        seed: key of the mixtures' starting points.
        backend: the default back end, which is tested where the clips' spectra are not known.
        false_alarm_rate: the default rate.
    """
    fitted_on = [clips.of(name) & ~clips.is_held_out for name in clips.machines]
    whitening = fit_whitening([directions_of(clips.outputs.embeddings[torch.from_numpy(own)]) for own in fitted_on])
    shared = SharedKnowledge(
        embeddings=EmbeddingSpace(whitening, config.scale, config.margin),
        spectra=None if clips.outputs.spectra is None else fit_space(compared(clips.outputs.spectra), clips.names),
        fitted={},
        enrolled={},
        noise=None if noise is None else noise[0, :, 0].mean(0),
        noise_clips=None if noise is None else noise[:, 0],
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
    left_out = network_scores(machines, clips, shared)
    fitted = {name: fit_prior(name, *scores_and_folds(of)) for name, of in left_out.items()}
    # The network has pulled together the embeddings of the machines that it was trained on: where their scores lie says
    # nothing of an enrolled one.
    enrolled = {name: prior and replace(prior, location_clips=0.0) for name, prior in fitted.items()}
    if shared.spectra is not None:
        left_out["spectrum"], fitted["spectrum"], enrolled["spectrum"] = fit_spectra(clips)
        backend = "spectrum"
    shared = replace(shared, fitted=without_unknown(fitted), enrolled=without_unknown(enrolled))
    machines = [
        calibrated(machine, {name: of[place] for name, of in left_out.items()}, shared)
        for place, machine in enumerate(machines)
    ]
    known = KnownMachines.of(shared, machines)
    return KnownMachines.of(
        shared,
        [
            replace(machine, self_test=self_test(machine, known, heard, backend, false_alarm_rate))
            for machine, heard in zip(machines, left_out[backend], strict=True)
        ],
    )


def scores_and_folds(left_out: Sequence[LeftOut]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [of.scores for of in left_out], [of.folds for of in left_out]


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


def calibrated(machine: Machine, left_out: dict[str, LeftOut], shared: SharedKnowledge) -> Machine:
    """A machine with its calibrations, from its normal clips as each back end heard them."""
    priors = shared.priors(machine.is_enrolled, machine.is_copy)
    calibrations = {
        backend: Calibration.of(backend, left_out[backend].scores, priors.get(backend))
        for backend in usable_backends(shared)
    }
    return replace(machine, calibrations=calibrations)


def network_scores(
    machines: Sequence[Machine], clips: NormalClips, shared: SharedKnowledge
) -> dict[str, list[LeftOut]]:
    """The scores of each machine's held-out clips, by the back ends that need the network."""
    left_out: dict[str, list[LeftOut]] = {backend: [] for backend in NETWORK_BACKENDS}
    for machine in machines:
        own = clips.of(machine.name) & clips.is_held_out
        held_out = ClipVectors(clips.outputs[own], None)
        for backend, of in left_out.items():
            scores = SCORERS[backend](held_out, machine, shared).numpy()
            of.append(LeftOut(scores, np.arange(len(scores)), clips.recordings[own].tolist()))
    return left_out


# The fit by spectra


def fit_spectra(clips: NormalClips) -> tuple[list[LeftOut], ScorePrior, ScorePrior]:
    """Each machine's clips, left out fold by fold, and what they say of fitted and of enrolled machines.

    Raises:
        ValueError: no machine has recordings enough.
    """
    if clips.outputs.spectra is None:
        raise ValueError("outputs have no spectra: expected those of the network.")
    left_out = left_out_clips(clips.outputs.spectra, clips)
    fitted = fit_prior("spectrum", *scores_and_folds(left_out))
    if fitted is None:
        raise ValueError(
            "too few recordings of normal operation: expected 3 or more of one machine at least, and ten or more are "
            "better. Nothing else says how much normal recordings vary."
        )
    enrolled = None
    if len(clips.machines) > 2:
        enrolled = fit_prior("spectrum", *scores_and_folds(enrolled_clips(clips.outputs.spectra, clips)))
    return left_out, fitted, enrolled or fitted


def left_out_clips(spectra: torch.Tensor, clips: NormalClips) -> list[LeftOut]:
    """For each machine, its clips as heard by a fit without their fold."""
    heard = np.full((2, 1 + len(ALTERATIONS), len(spectra)), np.nan)
    statistics = compared(spectra)
    for fold in np.unique(clips.folds):
        kept = clips.folds != fold
        if not kept.any():
            continue
        space = fit_space(statistics[torch.from_numpy(kept)], clips.names[kept])
        for name in np.unique(clips.names[~kept]):
            own, left_out = clips.of(name) & kept, clips.of(name) & ~kept
            if own.any():
                heard[..., left_out] = hear_left_out(space, spectra, own, left_out, is_enrolled=False)
    known = [clips.of(name) & np.isfinite(heard[0, 0]) for name in clips.machines]
    return [left_out_of(heard[..., own], clips.folds[own], clips.recordings[own].tolist()) for own in known]


def left_out_of(heard: np.ndarray, folds: np.ndarray, recordings: Sequence[Hashable]) -> LeftOut:
    """A machine's clips, from what [`hear_left_out`] says of each fold."""
    return LeftOut(heard[0, 0], folds, recordings, heard[:, 1:])


def enrolled_clips(spectra: torch.Tensor, clips: NormalClips) -> list[LeftOut]:
    """For each machine, its clips, had it been enrolled on a fit without it."""
    left_out = []
    groups = min(MACHINE_FOLDS, len(clips.machines))
    statistics = compared(spectra)
    for group in range(groups):
        names = clips.machines[group::groups]
        kept = ~np.isin(clips.names, names)
        space = fit_space(statistics[torch.from_numpy(kept)], clips.names[kept])
        for name in names:
            own = clips.of(name)
            of_machine = spectra[torch.from_numpy(own)]
            left_out.append(cross_clips(space, of_machine, clips.folds[own], clips.recordings[own].tolist()))
    return left_out


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


# Enrollment


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


__all__ = ["NormalClips", "enroll_machine", "fit_machines", "folds_of"]
