"""
What is known of a machine in normal operation, and the back ends that score a clip against it.

A back end is one function of [`SCORERS`]: the higher the score of a clip, the less it is like the machine's normal
clips. scikit-learn helps to fit; scoring needs torch alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from .modeling_attention_asd import arcface_logits


# Nearest normal clips that a clip is compared with, and clips that it takes to tell one more mode of operation apart.
NEIGHBOURS = 4
CLIPS_PER_COMPONENT = 25
MAX_COMPONENTS = 4
# A mixture's variances are drawn towards those of all machines together as if those had been seen on so many clips.
PRIOR_CLIPS = 10
MIN_VARIANCE = 1e-12
# Clips of a fitted machine whose spectra are kept: others are enrolled by them, see `AnomalyDetector.enroll`.
KEPT_SPECTRA = 8

Array = torch.Tensor | np.ndarray


@dataclass
class NormalMachine:
    """What is known of one machine in normal operation. h is the embedding's size, B the number of back ends.

    `embeddings` (clips, h) of unit length and their `mean` (h,); a mixture of k Gaussians in the whitened space;
    `spectrum` (3 * bins,), the mean of its clips' spectra, and `spectra` (clips, 3 * bins) of the first of them, none of an
    enrolled machine's, both empty where these are not known;
    `calibration` (B, clips), sorted scores of clips that were not fitted on; `tails` (B, 3), the distribution fitted to
    them as location, scale and degrees of freedom; `level` (2, bins), mean and standard deviation of the log-mel in dB.
    `label` is its place among the network's machine IDs, if it has one. A sound whose closeness lies below
    `unknown_below` is not taken to be this machine.
    """

    name: str
    label: int | None
    is_enrolled: bool
    unknown_below: float
    embeddings: torch.Tensor
    mean: torch.Tensor
    mixture_weights: torch.Tensor
    mixture_means: torch.Tensor
    mixture_variances: torch.Tensor
    spectrum: torch.Tensor
    spectra: torch.Tensor
    calibration: torch.Tensor
    tails: torch.Tensor
    level: torch.Tensor

    def whitened_spectrum(self, whitening: torch.Tensor) -> torch.Tensor:
        """The mean of its clips' spectra as [`Clips.whitened_spectra`] are, `(3 * bins,)`. There is one whitening in a
        machine's life; what it makes of the mean is kept beside the fields, which are what is saved."""
        if "_whitened_spectrum" not in vars(self):
            self._whitened_spectrum = self.spectrum.double() @ whitening.T
        return self._whitened_spectrum

    @classmethod
    def tensor_names(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.type is torch.Tensor]


@dataclass
class Clips:
    """Clips as the network gives them, on the CPU: `embeddings` (clips, h), `cosines` (clips, num_labels) to its centres; and
    `spectra` (clips, 3 * bins), in float64, or none where these are not known. Scores are computed in float64."""

    embeddings: torch.Tensor
    cosines: torch.Tensor
    spectra: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def unit(self) -> torch.Tensor:
        """The embeddings' directions, `(clips, h)`, worked out once: the angular loss leaves their length free."""
        # Not a cached_property, whose lock cannot be part of an exported graph.
        if "_unit" not in vars(self):
            self._unit = F.normalize(self.embeddings.double(), dim=1)
        return self._unit

    def whitened_spectra(self, whitening: torch.Tensor) -> torch.Tensor:
        """`(clips, 3 * bins)`, worked out once: for a clip that has to be told from others and then scored, reading the matrix
        is most of the work."""
        if "_whitened_spectra" not in vars(self):
            self._whitened_spectra = self.spectra @ whitening.T
        return self._whitened_spectra

    def take(self, clips) -> "Clips":
        return Clips(self.embeddings[clips], self.cosines[clips], None if self.spectra is None else self.spectra[clips])


class SharedStatistics(Protocol):
    """What all machines of a detector share: `whitening` (h, h) and `spectrum_whitening` (3 * bins, 3 * bins), which make
    the covariance of clips around their machine's mean unity; ArcFace's `scale` and `margin`; and `priors` (B, 2), the
    variance of normal clips' scores within a machine and the degrees of freedom that it is worth."""

    whitening: torch.Tensor
    spectrum_whitening: torch.Tensor
    arcface: dict[str, float]
    priors: torch.Tensor


def arcface_scores(shared: SharedStatistics, machine: NormalMachine, clips: Clips) -> torch.Tensor:
    """The paper's score (Section II.D): cross-entropy of the claimed machine ID, margin included.

    An enrolled machine has no centre in the network: the mean direction of its clips is added as one more.
    """
    label, cosines = machine.label, clips.cosines.double()
    if label is None:
        own = 1.0 - centre_scores(shared, machine, clips)
        cosines, label = torch.cat([cosines, own.unsqueeze(1)], dim=1), cosines.shape[1]
    labels = torch.full((len(cosines),), label)
    logits = arcface_logits(cosines, labels, **shared.arcface)
    target = logits[:, label].clone()
    logits[:, label] = -torch.inf
    # The softplus of the gap is the cross-entropy, exact where a confident network's would round to zero. ONNX Runtime has no
    # softplus of doubles.
    gap = logits.logsumexp(dim=1) - target
    return torch.logaddexp(gap, torch.zeros_like(gap))


def centre_scores(shared: SharedStatistics, machine: NormalMachine, clips: Clips) -> torch.Tensor:
    """Cosine distance to the mean direction of the machine's normal clips."""
    return (1.0 - clips.unit @ F.normalize(machine.mean.double(), dim=0)).clamp_min(0.0)


def knn_scores(shared: SharedStatistics, machine: NormalMachine, clips: Clips) -> torch.Tensor:
    """Mean cosine distance to the nearest normal clips of the machine."""
    distances = (1.0 - clips.unit @ machine.embeddings.double().T).clamp_min(0.0)
    return distances.topk(min(NEIGHBOURS, distances.shape[1]), dim=1, largest=False).values.mean(1)


def mahalanobis_scores(shared: SharedStatistics, machine: NormalMachine, clips: Clips) -> torch.Tensor:
    """Squared Mahalanobis distance of the embedding to the machine's mean, with one shrunk covariance for all machines."""
    return ((clips.unit - machine.mean.double()) @ shared.whitening.T).square().sum(1)


def gmm_scores(shared: SharedStatistics, machine: NormalMachine, clips: Clips) -> torch.Tensor:
    """Negative log-likelihood under the machine's Gaussian mixture, less the value that it cannot fall below."""
    whitened = clips.unit @ shared.whitening.T
    variances = machine.mixture_variances.double()
    distances = ((whitened.unsqueeze(1) - machine.mixture_means.double()).square() / variances).sum(2)
    peaks = machine.mixture_weights.double().log() - 0.5 * variances.log().sum(1)
    return (peaks.logsumexp(0) - (peaks - 0.5 * distances).logsumexp(1)).clamp_min(0.0)


def spectrum_scores(shared: SharedStatistics, machine: NormalMachine, clips: Clips) -> torch.Tensor:
    """Squared Mahalanobis distance of the clip's spectra to the machine's mean, with one shrunk covariance for all
    machines; NaN where the spectra are not known.

    The level of every mel bin, how much it fluctuates and how fast: what the network, which learns to tell machines
    apart, is free to ignore. How the bins vary together in normal operation is much the same for machines of a kind,
    so that a machine known from a few clips profits from all the others.
    """
    if clips.spectra is None or not machine.spectrum.numel():
        return torch.full((len(clips),), torch.nan, dtype=torch.float64)
    whitening = shared.spectrum_whitening
    return (clips.whitened_spectra(whitening) - machine.whitened_spectrum(whitening)).square().sum(1)


def combined_scores(shared: SharedStatistics, machine: NormalMachine, clips: Clips) -> torch.Tensor:
    """What the spectra and the embedding say together: the logarithms of `spectrum` and `centre`, each over its standard
    deviation among a machine's normal clips."""
    together = torch.zeros(len(clips), dtype=torch.float64)
    for backend in ("spectrum", "centre"):
        deviation = shared.priors[BACKENDS.index(backend), 0].clamp_min(MIN_VARIANCE).sqrt()
        together = together + SCORERS[backend](shared, machine, clips).clamp_min(1e-12).log() / deviation
    return together


SCORERS: dict[str, Callable[..., torch.Tensor]] = {
    "arcface": arcface_scores,
    "centre": centre_scores,
    "knn": knn_scores,
    "mahalanobis": mahalanobis_scores,
    "gmm": gmm_scores,
    "spectrum": spectrum_scores,
    "combined": combined_scores,
}
BACKENDS = tuple(SCORERS)


def all_scores(shared: SharedStatistics, machine: NormalMachine, clips: Clips) -> torch.Tensor:
    """The scores of every back end, `(B, clips)`."""
    return torch.stack([scorer(shared, machine, clips) for scorer in SCORERS.values()])


def checked_backend(backend: str) -> str:
    if backend not in SCORERS:
        raise ValueError(f"backend={backend!r}: expected one of {', '.join(BACKENDS)}.")
    return backend


# Fitting


def describe_machine(
    shared: SharedStatistics, name: str, clips: Clips, label: int | None, seed: int = 0
) -> NormalMachine:
    """A machine as its clips show it, not calibrated yet."""
    weights, means, variances = fit_mixture(clips.unit @ shared.whitening.T, seed)
    return NormalMachine(
        name=name,
        label=label,
        is_enrolled=False,
        unknown_below=-1.0,
        embeddings=clips.unit.float(),
        mean=clips.unit.mean(0).float(),
        mixture_weights=weights.float(),
        mixture_means=means.float(),
        mixture_variances=variances.float(),
        spectrum=torch.zeros(0) if clips.spectra is None else clips.spectra.mean(0).float(),
        spectra=torch.zeros(0) if clips.spectra is None else clips.spectra[:KEPT_SPECTRA].float(),
        calibration=torch.zeros(len(BACKENDS), 0, dtype=torch.float64),
        tails=torch.full((len(BACKENDS), 3), torch.nan, dtype=torch.float64),
        level=torch.zeros(2, 0) if clips.spectra is None else level_statistics(clips.spectra),
    )


def fit_whitening(groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(h, h)` that makes the covariance of clips around their machine's mean, shrunk (Ledoit and Wolf 2004), unity."""
    try:
        from sklearn.covariance import LedoitWolf
    except ImportError:
        raise ImportError("Fitting an AnomalyDetector needs scikit-learn: pip install scikit-learn") from None
    centred = torch.cat([group - group.mean(0) for group in groups])
    covariance = LedoitWolf(assume_centered=True).fit(centred.numpy()).covariance_
    variances, directions = torch.linalg.eigh(torch.from_numpy(covariance))
    return ((directions / variances.clamp_min(MIN_VARIANCE).sqrt()) @ directions.T).float()


def fit_mixture(whitened: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights (k,), means and diagonal variances (k, h) of a Gaussian mixture, more than one component where there are
    clips enough."""
    components = min(max(len(whitened) // CLIPS_PER_COMPONENT, 1), MAX_COMPONENTS)
    weights, means = torch.ones(1, dtype=torch.float64), whitened.mean(0, keepdim=True)
    variances = whitened.var(0, correction=0, keepdim=True)
    if components > 1:
        try:
            from sklearn.mixture import GaussianMixture
        except ImportError:
            raise ImportError("Fitting to so many clips needs scikit-learn: pip install scikit-learn") from None
        mixture = GaussianMixture(components, covariance_type="diag", reg_covar=1e-3, random_state=seed)
        mixture.fit(whitened.numpy())
        weights, means, variances = map(torch.from_numpy, (mixture.weights_, mixture.means_, mixture.covariances_))
    seen = (weights * len(whitened)).unsqueeze(1)
    return weights, means, (seen * variances + PRIOR_CLIPS) / (seen + PRIOR_CLIPS)


def level_statistics(spectra: torch.Tensor) -> torch.Tensor:
    """`(2, bins)`: mean and standard deviation over clips and frames, from clips' spectra `(clips, 3 * bins)`."""
    mean, std, _ = spectra.unflatten(1, (3, -1)).unbind(1)
    return torch.stack([mean.mean(0), (std.square().mean(0) + mean.var(0, correction=0)).sqrt()]).float()
