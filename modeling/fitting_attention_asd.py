"""How the machines of a detector are made: fitted together on normal clips, or enrolled one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .backends_attention_asd import BACKENDS, all_scores, usable_backends
from .calibration_attention_asd import Calibration, fit_calibration, fit_prior, tail_mean
from .configuration_attention_asd import AttentionAsdConfig
from .machines_attention_asd import KnownMachines, Machine
from .outputs_attention_asd import ClipOutputs
from .reference_attention_asd import (
    MachineReference,
    ScorePrior,
    SharedReference,
    Whitening,
    fit_machine,
    fit_whitening,
    flat_spectra,
    spectral_origin,
)


# Clips of a fitted machine that tell how a machine would look that is enrolled from one clip.
ONE_CLIP_CLIPS = 8
# Clips that a machine's enrollment scores against the others, one share after the other; all of them up to this number.
FOLDS = 10
MAX_NAME_LENGTH = 200


@dataclass(frozen=True, eq=False)
class NormalClips:
    """Normal clips to fit a detector on. Made by [`NormalClips.checked`].

    Args:
        outputs ([`ClipOutputs`]):
            Those of the network.
        names (`np.ndarray` of shape `(clips,)`):
            Each clip's machine.
        is_held_out (`np.ndarray` of shape `(clips,)`):
            True for the clips to calibrate with.
    """

    outputs: ClipOutputs
    names: np.ndarray
    is_held_out: np.ndarray

    @classmethod
    def checked(
        cls,
        config: AttentionAsdConfig,
        outputs: ClipOutputs,
        machines: Sequence[str],
        held_out: Sequence[bool] | np.ndarray,
    ) -> "NormalClips":
        """Clips that can be fitted on.

        Raises:
            ValueError: for arrays that do not match, values that are not finite, or a machine without a clip to fit on.
        """
        clips = cls(outputs, np.asarray(machines), np.asarray(held_out, dtype=bool))
        if clips.names.shape != (len(outputs),) or clips.is_held_out.shape != (len(outputs),):
            raise ValueError(
                f"machines has shape {clips.names.shape} and held_out {clips.is_held_out.shape}: expected one value "
                f"for each of the {len(outputs)} clips."
            )
        if outputs.cosines.shape[1] != config.num_labels:
            raise ValueError(
                f"cosines are about {outputs.cosines.shape[1]} machine IDs, the configuration about "
                f"{config.num_labels}."
            )
        if not outputs.is_finite.all():
            raise ValueError("embeddings, cosines or spectra are not finite (NaN or infinite): leave those clips out.")
        empty = [name for name in clips.machines if not len(clips.fitted(name))]
        if empty:
            raise ValueError(f"no clip of {empty} is left to fit on: hold out fewer, or leave the machine out.")
        return clips

    @property
    def machines(self) -> list[str]:
        return np.unique(self.names).tolist()

    def of(self, name: str) -> ClipOutputs:
        return self.outputs[self.names == name]

    def fitted(self, name: str) -> ClipOutputs:
        return self.outputs[(self.names == name) & ~self.is_held_out]

    def held_out(self, name: str) -> ClipOutputs:
        return self.outputs[(self.names == name) & self.is_held_out]


# The fit


def fit_machines(config: AttentionAsdConfig, clips: NormalClips, seed: int) -> KnownMachines:
    """All machines of the clips, described, then scored and calibrated by their held-out clips.

    Args:
        config: the network's.
        clips: normal clips of the machines.
        seed: key of the mixtures' starting points.
    """
    whitening = fit_whitening([clips.fitted(name) for name in clips.machines])
    labels = {name: int(label) for name, label in (config.label2id or {}).items()}
    references = [
        fit_machine(
            name,
            clips.fitted(name),
            whitening,
            label=labels.get(name),
            # Nobody trains on the levels: those of the held-out clips count as well.
            level_clips=clips.of(name),
            seed=seed,
        )
        for name in clips.machines
    ]
    shared = fit_shared(config, whitening, references, clips)
    scores = held_out_scores(references, shared, clips)
    other_means = {
        backend: [tail_mean(backend, own[backend]) for own in scores if len(own[backend])]
        for backend in usable_backends(whitening)
    }
    machines = []
    for reference, own in zip(references, scores, strict=True):
        independent = len(clips.held_out(reference.name))
        calibrations = fit_calibrations(own, shared, independent, other_means)
        one_clip = one_clip_log_distance(clips.fitted(reference.name), whitening)
        unknown_below = fit_unknown_below(calibrations["centroid"], shared)
        machines.append(Machine(reference, calibrations, False, unknown_below, one_clip))
    return KnownMachines.of(shared, machines)


def fit_shared(
    config: AttentionAsdConfig, whitening: Whitening, references: Sequence[MachineReference], clips: NormalClips
) -> SharedReference:
    """What all machines share, from the scores and similarities of their held-out clips."""
    shared = SharedReference(
        whitening=whitening,
        scale=config.scale,
        margin=config.margin,
        priors={backend: ScorePrior(1.0, 1.0) for backend in BACKENDS},
        origin=spectral_origin(references, whitening),
    )
    # Twice, because the combined score is made of the others by what they vary.
    for _ in range(2):
        scores = held_out_scores(references, shared, clips)
        priors = {
            backend: fit_prior(backend, [own[backend] for own in scores])
            for backend in usable_backends(shared.whitening)
        }
        shared = replace(shared, priors=priors)
    own_similarity, other_similarity = fit_similarities(references, shared, clips)
    return replace(shared, own_similarity=own_similarity, other_similarity=other_similarity)


def held_out_scores(
    references: Sequence[MachineReference], shared: SharedReference, clips: NormalClips
) -> list[dict[str, np.ndarray]]:
    """For each machine, the scores of its held-out clips by back end, ascending."""
    return [
        ascending(all_scores(shared.whitening.vectors(clips.held_out(reference.name)), reference, shared))
        for reference in references
    ]


def ascending(scores: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {backend: values.sort().values.numpy() for backend, values in scores.items()}


def fit_similarities(
    references: Sequence[MachineReference], shared: SharedReference, clips: NormalClips
) -> tuple[float | None, float | None]:
    """The similarities that 95 % of held-out clips keep to their own machine, and do not exceed to others.

    `None` where there are no held-out clips, or no other machines.
    """
    if not clips.is_held_out.any():
        return None, None
    # Nothing of a machine but its reference decides how similar a clip is.
    known = KnownMachines.of(shared, [Machine(reference, {}, False, None) for reference in references])
    similarity = known.similarities(known.vectors(clips.outputs[clips.is_held_out]))
    owners = clips.names[clips.is_held_out]
    is_own = torch.from_numpy(owners[:, None] == np.array([reference.name for reference in references]))
    own = similarity[is_own].quantile(0.05).item()
    if len(references) < 2:
        return own, None
    return own, similarity.masked_fill(is_own, -torch.inf).amax(1).quantile(0.95).item()


def fit_calibrations(
    scores: dict[str, np.ndarray],
    shared: SharedReference,
    independent: int,
    other_means: dict[str, list[float]],
    is_cross: bool = False,
) -> dict[str, Calibration]:
    """A machine's calibration for every back end; one that knows nothing for those that cannot be used.

    Args:
        scores: of its normal clips by back end, ascending.
        shared: what all machines share.
        independent: how many of the scores are independent.
        other_means: the [`tail_mean`] of other machines' scores by back end, for a machine without scores.
        is_cross: whether each clip was scored against the machine's other clips.
    """
    calibrations = {backend: Calibration(backend, np.empty(0), None, is_cross) for backend in BACKENDS}
    for backend in usable_backends(shared.whitening):
        calibrations[backend] = fit_calibration(
            backend,
            scores[backend],
            shared.priors[backend],
            independent=independent,
            other_means=other_means.get(backend, ()),
            is_cross=is_cross,
        )
    return calibrations


def fit_unknown_below(centroid: Calibration, shared: SharedReference) -> float | None:
    """The similarity below which a sound is not taken to be a machine.

    It lies half-way between the similarity that normal clips keep to their own machine and the one that clips of other
    machines reach. By spectra the former is that of all machines' clips; by embeddings it is that of 99 % of this
    machine's clips, and the limit never lies above it.

    Args:
        centroid: the machine's calibration of the `centroid` back end.
        shared: what all machines share.
    """
    other = shared.other_similarity
    if other is None:
        return None
    if shared.origin is not None and shared.own_similarity is not None:
        return (shared.own_similarity + other) / 2.0
    farthest = centroid.threshold(0.01)
    if farthest is None:
        return other
    own = 1.0 - farthest
    return own - max(own - other, 0.0) / 2.0


def one_clip_log_distance(clips: ClipOutputs, whitening: Whitening) -> float | None:
    """Mean logarithm of the `spectrum` score of a machine's other clips, had it been enrolled from the first one.

    Of the spectra alone: the network has pulled the embeddings of a machine's training clips together, and those of a
    machine that it was not trained on would all be far apart by that measure. On real clips all of its normal ones were
    then called anomalous.
    """
    spectra = flat_spectra(clips[:ONE_CLIP_CLIPS])
    if spectra is None or len(spectra) < 2:
        return None
    # In float32, as an enrolled machine's spectrum is kept.
    first, others = whitening.whitened(spectra[0].float()), whitening.whitened(spectra[1:].float())
    if first is None or others is None:
        return None
    return tail_mean("spectrum", (others - first).square().sum(1).numpy())


# Enrollment


def enroll_machine(name: str, clips: ClipOutputs, known: KnownMachines) -> Machine:
    """A machine described by its normal clips, each scored against the others to calibrate with.

    Args:
        name: what the machine is to be called.
        clips: its normal clips, one or more.
        known: the machines that the detector knows already.

    Raises:
        ValueError: for a name that cannot be used, or clips that cannot.
    """
    check_name(name, known)
    check_clips(name, clips, known)
    reference = fit_machine(name, clips, known.shared.whitening)
    scores, other_means = cross_scores(name, clips, known.shared), {}
    if len(clips) == 1:
        means = [machine.one_clip_log_distance for machine in known.by_name.values()]
        other_means["spectrum"] = [mean for mean in means if mean is not None]
    # Two clips give one distance, however often it is counted.
    calibrations = fit_calibrations(scores, known.shared, len(clips) - 1, other_means, is_cross=True)
    return Machine(reference, calibrations, True, fit_unknown_below(calibrations["centroid"], known.shared))


def cross_scores(name: str, clips: ClipOutputs, shared: SharedReference) -> dict[str, np.ndarray]:
    """The scores of a machine's clips against its other clips, by back end, ascending; none of a single clip."""
    if len(clips) == 1:
        return {backend: np.empty(0) for backend in usable_backends(shared.whitening)}
    fold = torch.arange(len(clips)) % FOLDS
    parts = []
    for left_out in fold.unique():
        reference = fit_machine(name, clips[fold != left_out], shared.whitening)
        parts.append(all_scores(shared.whitening.vectors(clips[fold == left_out]), reference, shared))
    return ascending(
        {backend: torch.cat([part[backend] for part in parts]) for backend in usable_backends(shared.whitening)}
    )


def check_name(name: str, known: KnownMachines) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ValueError(f"name={name!r}: expected a printable name of 1 to {MAX_NAME_LENGTH} characters.")
    if name in known.by_name and not known.by_name[name].is_enrolled:
        raise ValueError(f"{name} was fitted with the detector: enroll under another name, such as {name + '_new'!r}.")


def check_clips(name: str, clips: ClipOutputs, known: KnownMachines) -> None:
    if not len(clips) or not clips.is_finite.all():
        raise ValueError(
            f"{name}: {len(clips)} clips, some not finite or none at all: expected one normal clip or more."
        )
    if known.shared.whitening.spectra is not None and clips.spectra is None:
        raise ValueError(f"{name}: this detector was fitted with spectra: give those of its clips as well.")
