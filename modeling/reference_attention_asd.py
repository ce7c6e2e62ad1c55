"""
What the detector knows of normal operation: of one machine, and of all machines together.

Begin with [`MachineReference`], made by [`fit_machine`]. All tensors are on the CPU; h is the embedding's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .outputs_attention_asd import ClipOutputs


# A Gaussian mixture gets one more component for so many clips, up to a limit.
CLIPS_PER_COMPONENT = 25
MAX_COMPONENTS = 4
# A mixture's variances are drawn towards those of all machines together as if those had been seen on so many clips.
PRIOR_CLIPS = 10
MIN_VARIANCE = 1e-12


# Vectors to compare


@dataclass(frozen=True, eq=False)
class ClipVectors:
    """Clips as the vectors that the back ends compare. Made by [`Whitening.vectors`].

    Args:
        embeddings (`torch.Tensor` of shape `(clips, h)`):
            The network's embeddings.
        cosines (`torch.Tensor` of shape `(clips, num_labels)`):
            Cosines to the machine IDs' centers in the network.
        whitened_spectra (`torch.Tensor` of shape `(clips, 3 * num_mel_bins)`, *optional*):
            The spectra, whitened, in float64. A decision needs them twice, and they are most of its work.
    """

    embeddings: torch.Tensor
    cosines: torch.Tensor
    whitened_spectra: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.embeddings)

    # Not kept: a decision by the spectra needs none, others need them once.
    @property
    def directions(self) -> torch.Tensor:
        """The embeddings at unit length in float64, `(clips, h)`: the angular loss leaves their length free."""
        return F.normalize(self.embeddings.double(), dim=1)


@dataclass(frozen=True, eq=False)
class Whitening:
    """Matrices that make the covariance of clips around their machine's mean unity, for all machines together.

    Args:
        embeddings (`torch.Tensor` of shape `(h, h)`):
            For the embeddings' directions.
        spectra (`torch.Tensor` of shape `(3 * num_mel_bins, 3 * num_mel_bins)`, *optional*):
            For the spectra, or `None` where these are not known.
    """

    # In the scores' precision, float64: to convert them for every clip took a tenth of a decision.
    embeddings: torch.Tensor
    spectra: torch.Tensor | None

    def vectors(self, outputs: ClipOutputs) -> ClipVectors:
        """The vectors of clips that the back ends compare."""
        return ClipVectors(outputs.embeddings, outputs.cosines, self.whitened(flat_spectra(outputs)))

    def whitened(self, spectra: torch.Tensor | None) -> torch.Tensor | None:
        """Spectra `(..., 3 * num_mel_bins)`, whitened; `None` where they or the matrix are not known."""
        return None if spectra is None or self.spectra is None else spectra.double() @ self.spectra.T


def flat_spectra(outputs: ClipOutputs) -> torch.Tensor | None:
    """The clips' mean, std and lag1 as one row each, `(clips, 3 * num_mel_bins)` in float64."""
    # TODO: the new detector reads all rows of the spectra.
    return None if outputs.spectra is None else outputs.spectra[:, :3].flatten(1).double()


def fit_whitening(groups: Sequence[ClipOutputs]) -> Whitening:
    """Fit both matrices to normal clips, one group for each machine."""
    embeddings = whitening_matrix([F.normalize(clips.embeddings.double(), dim=1) for clips in groups])
    spectra = [flat for clips in groups if (flat := flat_spectra(clips)) is not None]
    return Whitening(embeddings, whitening_matrix(spectra) if spectra else None)


def whitening_matrix(groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(h, h)`, from the covariance of clips around their group's mean, shrunk (Ledoit and Wolf 2004).

    Rounded to float32, as the matrix is saved.
    """
    try:
        from sklearn.covariance import LedoitWolf
    except ImportError:
        raise ImportError("Fitting an AnomalyDetector needs scikit-learn: pip install scikit-learn") from None
    centered = torch.cat([group - group.mean(0) for group in groups])
    covariance = LedoitWolf(assume_centered=True).fit(centered.numpy()).covariance_
    variances, axes = torch.linalg.eigh(torch.from_numpy(covariance))
    return ((axes / variances.clamp_min(MIN_VARIANCE).sqrt()) @ axes.T).float().double()


# One machine


class Mixture(NamedTuple):
    """Gaussians in the space of whitened embeddings: `weights` (k,), `means` and `variances` (k, h)."""

    weights: torch.Tensor
    means: torch.Tensor
    variances: torch.Tensor


@dataclass(frozen=True, eq=False)
class MachineReference:
    """What is known of one machine in normal operation. Made by [`fit_machine`].

    Args:
        name (`str`):
            The machine's name, such as `fan_id_00`.
        label (`int`, *optional*):
            Its place among the network's machine IDs, if it has one.
        embeddings (`torch.Tensor` of shape `(clips, h)`):
            Directions of its clips' embeddings.
        centroid (`torch.Tensor` of shape `(h,)`):
            Their mean.
        mixture ([`Mixture`]):
            Gaussians fitted to its whitened embeddings.
        spectrum (`torch.Tensor` of shape `(3 * num_mel_bins,)`, *optional*):
            The mean of its clips' spectra.
        whitened_spectrum (`torch.Tensor` of shape `(3 * num_mel_bins,)`, *optional*):
            That mean, whitened; in float64.
        level (`torch.Tensor` of shape `(2, num_mel_bins)`, *optional*):
            Mean and standard deviation of its log-mel in dB.
    """

    name: str
    label: int | None
    embeddings: torch.Tensor
    centroid: torch.Tensor
    mixture: Mixture
    spectrum: torch.Tensor | None
    whitened_spectrum: torch.Tensor | None
    level: torch.Tensor | None


def fit_machine(
    name: str,
    clips: ClipOutputs,
    whitening: Whitening,
    *,
    label: int | None = None,
    level_clips: ClipOutputs | None = None,
    seed: int = 0,
) -> MachineReference:
    """Describe a machine by its normal clips.

    Args:
        name: the machine's name.
        clips: its normal clips, one or more.
        whitening: the detector's.
        label: its place among the network's machine IDs, if it has one.
        level_clips: the clips that its level is measured on; by default `clips`.
        seed: key of the mixture's starting point.
    """
    directions, spectra = whitening.vectors(clips).directions, flat_spectra(clips)
    spectrum = None if spectra is None else spectra.mean(0).float()
    levels = flat_spectra(clips if level_clips is None else level_clips)
    return MachineReference(
        name=name,
        label=label,
        embeddings=directions.float(),
        centroid=directions.mean(0).float(),
        mixture=fit_mixture(directions @ whitening.embeddings.T, seed),
        spectrum=spectrum,
        whitened_spectrum=whitening.whitened(spectrum),
        level=None if levels is None else level_statistics(levels),
    )


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


def level_statistics(spectra: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of the log-mel over clips and frames, `(2, num_mel_bins)`.

    Args:
        spectra: of the clips, `(clips, 3 * num_mel_bins)`.
    """
    mean, std, _ = spectra.unflatten(1, (3, -1)).unbind(1)
    return torch.stack([mean.mean(0), (std.square().mean(0) + mean.var(0, correction=0)).sqrt()]).float()


# All machines


class ScorePrior(NamedTuple):
    """How a back end's normal scores vary within a machine: a `variance`, and the `degrees` of freedom it is worth."""

    variance: float
    degrees: float


@dataclass(frozen=True, eq=False)
class SharedReference:
    """What all machines of a detector share. Made by `fit_shared` in `fitting_attention_asd`.

    Args:
        whitening ([`Whitening`]):
            For embeddings and spectra.
        scale, margin (`float`):
            Those of the network's ArcFace.
        priors (`dict[str, ScorePrior]`):
            For each back end, how normal scores vary within a machine, on the tail's scale.
        origin (`torch.Tensor` of shape `(3 * num_mel_bins,)`, *optional*):
            The whitened mean of the fitted machines' spectra, see [`spectral_origin`]. Where there is one, machines are
            recognized by their spectra, else by their embeddings.
        own_similarity (`float`, *optional*):
            The similarity to their own machine that 95 % of held-out clips keep.
        other_similarity (`float`, *optional*):
            The similarity to other machines that 95 % of held-out clips do not exceed.
    """

    whitening: Whitening
    scale: float
    margin: float
    priors: dict[str, ScorePrior]
    origin: torch.Tensor | None
    own_similarity: float | None = None
    other_similarity: float | None = None

    def recognizable(self, clips: ClipVectors) -> torch.Tensor:
        """The vectors that clips are recognized by, `(clips, ...)` of unit length: their spectra or their embeddings.

        Spectra count as seen from the mean of all fitted machines.

        Raises:
            ValueError: where spectra are needed and not given.
        """
        if self.origin is None:
            return clips.directions
        if clips.whitened_spectra is None:
            raise ValueError("this detector was fitted with spectra: give outputs that have them.")
        from_origin = clips.whitened_spectra - self.origin
        return from_origin / torch.linalg.vector_norm(from_origin, dim=1, keepdim=True).clamp_min(1e-12)


def spectral_origin(fitted: Sequence[MachineReference], whitening: Whitening) -> torch.Tensor | None:
    """The whitened mean of the fitted machines' spectra, `(3 * num_mel_bins,)`.

    `None` without spectra, and with a single machine: there is no direction from a mean to itself.
    """
    spectra = [machine.spectrum for machine in fitted if machine.spectrum is not None]
    return whitening.whitened(torch.stack(spectra).double().mean(0)) if len(spectra) > 1 else None
