"""
The back ends: functions that score a clip against what is known of a machine.

The higher the score, the less the clip is like the machine's normal clips. [`SCORERS`] is the table of them.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .modeling_attention_asd import arcface_logits
from .reference_attention_asd import MIN_VARIANCE, ClipVectors, MachineReference, SharedReference, Whitening


# Nearest normal clips that a clip is compared with.
NEIGHBORS = 4


def arcface_scores(clips: ClipVectors, machine: MachineReference, shared: SharedReference) -> torch.Tensor:
    """The paper's score (Section II.D): cross-entropy of the claimed machine ID, margin included.

    An enrolled machine has no center in the network: the direction of its centroid is added as one more.
    """
    label, cosines = machine.label, clips.cosines.double()
    if label is None:
        own = 1.0 - centroid_scores(clips, machine, shared)
        cosines, label = torch.cat([cosines, own.unsqueeze(1)], dim=1), cosines.shape[1]
    labels = torch.full((len(cosines),), label)
    logits = arcface_logits(cosines, labels, shared.scale, shared.margin)
    target = logits[:, label].clone()
    logits[:, label] = -torch.inf
    # The softplus of the gap is the cross-entropy, exact where a confident network's would round to zero. ONNX Runtime
    # has no softplus of doubles.
    gap = logits.logsumexp(dim=1) - target
    return torch.logaddexp(gap, torch.zeros_like(gap))


def centroid_scores(clips: ClipVectors, machine: MachineReference, shared: SharedReference) -> torch.Tensor:
    """Cosine distance to the centroid of the machine's normal clips."""
    return (1.0 - clips.directions @ F.normalize(machine.centroid.double(), dim=0)).clamp_min(0.0)


def knn_scores(clips: ClipVectors, machine: MachineReference, shared: SharedReference) -> torch.Tensor:
    """Mean cosine distance to the nearest normal clips of the machine."""
    distances = (1.0 - clips.directions @ machine.embeddings.double().T).clamp_min(0.0)
    return distances.topk(min(NEIGHBORS, distances.shape[1]), dim=1, largest=False).values.mean(1)


def mahalanobis_scores(clips: ClipVectors, machine: MachineReference, shared: SharedReference) -> torch.Tensor:
    """Squared Mahalanobis distance of the embedding to the centroid, with one shrunk covariance for all machines."""
    from_centroid = clips.directions - machine.centroid.double()
    return (from_centroid @ shared.whitening.embeddings.T).square().sum(1)


def gmm_scores(clips: ClipVectors, machine: MachineReference, shared: SharedReference) -> torch.Tensor:
    """Negative log-likelihood under the machine's Gaussian mixture, less the value that it cannot fall below."""
    whitened = clips.directions @ shared.whitening.embeddings.T
    weights, means, variances = (tensor.double() for tensor in machine.mixture)
    distances = ((whitened.unsqueeze(1) - means).square() / variances).sum(2)
    peaks = weights.log() - 0.5 * variances.log().sum(1)
    return (peaks.logsumexp(0) - (peaks - 0.5 * distances).logsumexp(1)).clamp_min(0.0)


def spectrum_scores(clips: ClipVectors, machine: MachineReference, shared: SharedReference) -> torch.Tensor:
    """Squared Mahalanobis distance of the clip's spectra to the machine's mean, with one covariance for all machines.

    Spectra are the level of every mel bin, how much it fluctuates and how fast. The network, which learns to tell
    machines apart, is free to ignore them. How the bins vary together in normal operation is much the same for machines
    of a kind: a machine known from a few clips profits from all the others.
    """
    if machine.whitened_spectrum is None:
        raise ValueError(
            f"backend='spectrum' or 'combined': {machine.name} is known without spectra. Fit a detector with them, "
            "or take another back end."
        )
    if clips.whitened_spectra is None:
        raise ValueError("backend='spectrum' or 'combined' needs spectra: give outputs that have them.")
    return (clips.whitened_spectra - machine.whitened_spectrum).square().sum(1)


def combined_scores(clips: ClipVectors, machine: MachineReference, shared: SharedReference) -> torch.Tensor:
    """What spectra and embedding say together: the sum of two logarithms.

    They are the logarithms of `spectrum` and of `centroid`, each over its standard deviation among a machine's normal
    clips.
    """
    total = torch.zeros(len(clips), dtype=torch.float64)
    for backend in ("spectrum", "centroid"):
        deviation = math.sqrt(max(shared.priors[backend].variance, MIN_VARIANCE))
        total = total + SCORERS[backend](clips, machine, shared).clamp_min(1e-12).log() / deviation
    return total


# Vectors of n clips, a machine, what all machines share -> scores (n,), float64.
SCORERS: dict[str, Callable[[ClipVectors, MachineReference, SharedReference], torch.Tensor]] = {
    "arcface": arcface_scores,
    "centroid": centroid_scores,
    "knn": knn_scores,
    "mahalanobis": mahalanobis_scores,
    "gmm": gmm_scores,
    "spectrum": spectrum_scores,
    "combined": combined_scores,
}
BACKENDS = tuple(SCORERS)
BACKENDS_WITHOUT_SPECTRA = tuple(name for name in BACKENDS if name not in ("spectrum", "combined"))


def usable_backends(whitening: Whitening) -> tuple[str, ...]:
    """The back ends of a detector: those that need spectra only where it was fitted with spectra."""
    return BACKENDS_WITHOUT_SPECTRA if whitening.spectra is None else BACKENDS


def all_scores(clips: ClipVectors, machine: MachineReference, shared: SharedReference) -> dict[str, torch.Tensor]:
    """The scores of every usable back end, `(clips,)` each."""
    return {backend: SCORERS[backend](clips, machine, shared) for backend in usable_backends(shared.whitening)}


def checked_backend(backend: str) -> str:
    """The back end's name, if there is such a back end.

    Raises:
        ValueError: where there is not.
    """
    if backend not in SCORERS:
        raise ValueError(f"backend={backend!r}: expected one of {', '.join(BACKENDS)}.")
    return backend


__all__ = ["BACKENDS", "SCORERS", "all_scores", "checked_backend", "usable_backends"]
