"""
The back ends: functions that score a clip against what is known of a machine.

The higher the score, the less the clip is like the machine's normal clips. [`SCORERS`] is the table of them.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .machines_attention_asd import ClipVectors, Machine, SharedKnowledge, known_space
from .modeling_attention_asd import arcface_logits
from .spectrum_attention_asd import anomaly_score


def arcface_scores(clips: ClipVectors, machine: Machine, shared: SharedKnowledge) -> torch.Tensor:
    """The paper's score (Section II.D): cross-entropy of the claimed machine ID, margin included.

    An enrolled machine has no center in the network: the direction of its centroid is added as one more.
    """
    label, cosines = machine.embedding.label, clips.outputs.cosines.double()
    if label is None:
        own = clips.directions @ F.normalize(machine.embedding.centroid.double(), dim=0)
        cosines, label = torch.cat([cosines, own.unsqueeze(1)], dim=1), cosines.shape[1]
    labels = torch.full((len(cosines),), label)
    logits = arcface_logits(cosines, labels, shared.embeddings.scale, shared.embeddings.margin)
    target = logits[:, label].clone()
    logits[:, label] = -torch.inf
    # The softplus of the gap is the cross-entropy, exact where a confident network's would round to zero. ONNX Runtime
    # has no softplus of doubles.
    gap = logits.logsumexp(dim=1) - target
    return torch.logaddexp(gap, torch.zeros_like(gap))


def gmm_scores(clips: ClipVectors, machine: Machine, shared: SharedKnowledge) -> torch.Tensor:
    """Negative log-likelihood under the machine's Gaussian mixture, less the value that it cannot fall below."""
    whitened = clips.directions @ shared.embeddings.whitening.T
    weights, means, variances = (tensor.double() for tensor in machine.embedding.mixture)
    distances = ((whitened.unsqueeze(1) - means).square() / variances).sum(2)
    peaks = weights.log() - 0.5 * variances.log().sum(1)
    return (peaks.logsumexp(0) - (peaks - 0.5 * distances).logsumexp(1)).clamp_min(0.0)


def spectrum_scores(clips: ClipVectors, machine: Machine, shared: SharedKnowledge) -> torch.Tensor:
    """How far the clip's spectra are from the machine's normal ones, see [`anomaly_score`].

    The network, which learns to tell machines apart, is free to ignore what a fault changes; this back end needs none.
    """
    space = known_space(shared)
    if clips.coordinates is None or machine.spectrum is None:
        raise ValueError("backend='spectrum' needs spectra: give outputs that have them, or take another back end.")
    return anomaly_score(space, machine.spectrum, clips.coordinates)


# Vectors of n clips, a machine, what all machines share -> scores (n,), float64.
SCORERS: dict[str, Callable[[ClipVectors, Machine, SharedKnowledge], torch.Tensor]] = {
    "arcface": arcface_scores,
    "gmm": gmm_scores,
    "spectrum": spectrum_scores,
}
BACKENDS = tuple(SCORERS)
# They score what the network learned, so that clips which it was trained on cannot calibrate them.
NETWORK_BACKENDS = ("arcface", "gmm")


def usable_backends(shared: SharedKnowledge) -> tuple[str, ...]:
    """The back ends of a detector: `spectrum` only where it was fitted with spectra."""
    return NETWORK_BACKENDS if shared.spectra is None else BACKENDS


def checked_backend(backend: str) -> str:
    """The back end's name, if there is such a back end.

    Raises:
        ValueError: where there is not.
    """
    if backend not in SCORERS:
        raise ValueError(f"backend={backend!r}: expected one of {', '.join(BACKENDS)}.")
    return backend


__all__ = ["BACKENDS", "NETWORK_BACKENDS", "SCORERS", "checked_backend", "usable_backends"]
