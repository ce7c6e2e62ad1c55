"""The fit: the machines of a detector, made together of their normal clips.

Each machine is described by all its normal clips, and calibrated by the scores of these clips, each scored by a detector
that has not seen it. Then a self-test says what the recordings are worth. `enrolling_attention_asd` adds a machine alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from .alterations_attention_asd import ALTERATIONS
from .backends_attention_asd import NETWORK_BACKENDS, SCORERS
from .calibration_attention_asd import ScorePrior, fit_prior
from .configuration_attention_asd import AttentionAsdConfig
from .left_out_attention_asd import calibrated, cross_clips, describe_machine, hear_left_out, left_out_of
from .machines_attention_asd import ClipVectors, KnownMachines, Machine, SharedKnowledge
from .normal_clips_attention_asd import NormalClips
from .power_attention_asd import LeftOut, self_test
from .reference_attention_asd import EmbeddingSpace, directions_of, fit_whitening
from .spectrum_attention_asd import compared, fit_space


# Parts of the machines that are left out in turn, to learn how the scores of enrolled machines vary.
MACHINE_FOLDS = 10


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


__all__ = ["fit_machines"]
