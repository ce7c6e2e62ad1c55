"""
What is normal of a machine's embeddings: for the back ends that score what the network says, as the paper does.

All tensors are on the CPU; h is the embedding's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F


# A Gaussian mixture gets one more component for so many clips, up to a limit.
CLIPS_PER_COMPONENT = 25
MAX_COMPONENTS = 4
# A mixture's variances are drawn towards those of all machines together as if those had been seen on so many clips.
PRIOR_CLIPS = 10
MIN_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class EmbeddingSpace:
    """What the embeddings of all machines share.

    Args:
        whitening (`torch.Tensor` of shape `(h, h)`):
            Makes the covariance of clips around their machine's mean direction unity.
        scale, margin (`float`):
            Those of the network's ArcFace.
    """

    whitening: torch.Tensor
    scale: float
    margin: float


class Mixture(NamedTuple):
    """Gaussians in the space of whitened embeddings: `weights` (k,), `means` and `variances` (k, h)."""

    weights: torch.Tensor
    means: torch.Tensor
    variances: torch.Tensor


@dataclass(frozen=True, eq=False)
class MachineEmbedding:
    """A machine in normal operation as the network hears it. Made by [`describe_embeddings`].

    Args:
        label (`int`, *optional*):
            Its place among the network's machine IDs, if it has one.
        centroid (`torch.Tensor` of shape `(h,)`):
            The mean direction of its clips' embeddings.
        mixture ([`Mixture`]):
            Gaussians fitted to its whitened embeddings.
    """

    label: int | None
    centroid: torch.Tensor
    mixture: Mixture


def directions_of(embeddings: torch.Tensor) -> torch.Tensor:
    """Embeddings `(clips, h)` at unit length in float64: the angular loss leaves their length free."""
    return F.normalize(embeddings.double(), dim=1)


def fit_whitening(groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(h, h)`, from the covariance of directions around their machine's mean, shrunk (Ledoit and Wolf 2004).

    Args:
        groups: each machine's directions `(clips, h)`.
    """
    try:
        from sklearn.covariance import LedoitWolf
    except ImportError:
        raise ImportError("Fitting an AnomalyDetector needs scikit-learn: pip install scikit-learn") from None
    centered = torch.cat([group - group.mean(0) for group in groups])
    covariance = LedoitWolf(assume_centered=True).fit(centered.numpy()).covariance_
    variances, axes = torch.linalg.eigh(torch.from_numpy(covariance))
    # Rounded to float32, as the matrix is saved.
    return ((axes / variances.clamp_min(MIN_VARIANCE).sqrt()) @ axes.T).float().double()


def describe_embeddings(
    space: EmbeddingSpace, embeddings: torch.Tensor, *, label: int | None = None, seed: int = 0
) -> MachineEmbedding:
    """Describe a machine by its normal clips.

    Args:
        space: the detector's.
        embeddings: of its normal clips, `(clips, h)`, one or more.
        label: its place among the network's machine IDs, if it has one.
        seed: key of the mixture's starting point.
    """
    directions = directions_of(embeddings)
    return MachineEmbedding(label, directions.mean(0).float(), fit_mixture(directions @ space.whitening.T, seed))


def fit_mixture(whitened: torch.Tensor, seed: int) -> Mixture:
    """A Gaussian mixture of whitened embeddings `(clips, h)`, with several components where there are clips enough."""
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
    clips = (weights * len(whitened)).unsqueeze(1)
    variances = (clips * variances + PRIOR_CLIPS) / (clips + PRIOR_CLIPS)
    return Mixture(weights.float(), means.float(), variances.float())


__all__ = ["EmbeddingSpace", "MachineEmbedding", "Mixture", "describe_embeddings", "directions_of", "fit_whitening"]
