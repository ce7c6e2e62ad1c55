"""The machines that a clip can be judged as, one by one and all together, and what they share."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .calibration_attention_asd import Calibration, ScorePrior
from .levels_attention_asd import NormalLevel
from .outputs_attention_asd import ClipOutputs
from .reference_attention_asd import EmbeddingSpace, MachineEmbedding, directions_of
from .self_test_attention_asd import SelfTest
from .spectrum_attention_asd import (
    MachineSpectrum,
    NearestMachine,
    SpectrumSpace,
    log_distance,
    similarity,
    unlikelihood,
)


# A sound farther away (logarithm of the distance) is none of the machines: normal clips reach 1.7, those of other machines
# 2.6, faults 2.5; speech begins at 5.
FARTHEST = 3.0
# A sound that is by so much more likely another machine's (difference of logarithms) is that machine's: 2 % of normal
# clips, nearly all claims of a wrong machine.
WRONG_MACHINE = 0.2
WITHOUT_SPECTRA = "backend='spectrum': this detector was fitted without spectra. Take another back end."


@dataclass(frozen=True, eq=False)
class ClipVectors:
    """Clips as the vectors that the back ends compare. Made by [`SharedKnowledge.vectors`].

    Args:
        outputs ([`ClipOutputs`]):
            The network's outputs.
        coordinates (`torch.Tensor` of shape `(clips, D)`, *optional*):
            Their spectra in the shared space. A decision needs them several times, and they are most of its work.
    """

    outputs: ClipOutputs
    coordinates: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def directions(self) -> torch.Tensor:
        """The embeddings at unit length in float64, `(clips, h)`."""
        return directions_of(self.outputs.embeddings)


@dataclass(frozen=True, eq=False)
class SharedKnowledge:
    """What all machines of a detector share. Made by `fit_machines` in `fitting_attention_asd`.

    Args:
        embeddings ([`EmbeddingSpace`]):
            For the back ends that need the network.
        spectra ([`SpectrumSpace`], *optional*):
            For `spectrum`; `None` where the clips' spectra are not known.
        fitted, enrolled (`dict[str, ScorePrior]`):
            For each back end, what is known of the normal scores of machines that were fitted together, and of machines
            that were enrolled later.
        noise (`torch.Tensor` of shape `(num_mel_bins,)`, *optional*):
            The mean log-mel of white noise in dB.
        noise_clips (`torch.Tensor` of shape `(2, 6, num_mel_bins)`, *optional*):
            The spectra of one clip of each of `NOISES`, for the self-test.
        num_frames (`int`):
            Frames of a clip's log-mel.
    """

    embeddings: EmbeddingSpace
    spectra: SpectrumSpace | None
    fitted: dict[str, ScorePrior]
    enrolled: dict[str, ScorePrior]
    noise: torch.Tensor | None
    noise_clips: torch.Tensor | None
    num_frames: int

    def priors(self, is_enrolled: bool, is_copy: bool) -> dict[str, ScorePrior]:
        """What is known of the normal scores of such a machine, by back end."""
        return self.enrolled if is_enrolled and not is_copy else self.fitted

    def vectors(self, outputs: ClipOutputs) -> ClipVectors:
        """The vectors of clips that are compared with the machines.

        Raises:
            ValueError: where spectra are needed and not given, or have another number of mel bins.
        """
        if self.spectra is None:
            return ClipVectors(outputs, None)
        if outputs.spectra is None:
            raise ValueError("this detector was fitted with spectra: give outputs that have them.")
        return ClipVectors(outputs, self.spectra.coordinates(outputs.spectra))


@dataclass(frozen=True, eq=False)
class Machine:
    """A machine that clips can be judged as. Made by `fit_machines` or `enroll_machine`.

    Args:
        name (`str`):
            The machine's name, such as `fan_id_00`.
        is_enrolled (`bool`):
            Whether it was added after the fit.
        embedding ([`MachineEmbedding`]):
            What is normal of its embeddings.
        spectrum ([`MachineSpectrum`], *optional*):
            What is normal of its spectra.
        level ([`NormalLevel`], *optional*):
            How loud it normally is.
        calibrations (`dict[str, Calibration]`):
            For each back end, what its normal clips say about the scores.
        self_test ([`SelfTest`], *optional*):
            What its recordings are worth; `None` until it is tested.
        is_copy (`bool`):
            Whether it was enrolled from recordings that the fit has heard, so that it is a fitted machine under another
            name.
    """

    name: str
    is_enrolled: bool
    embedding: MachineEmbedding
    spectrum: MachineSpectrum | None
    level: NormalLevel | None
    calibrations: dict[str, Calibration]
    self_test: SelfTest | None = None
    is_copy: bool = False

    def calibration(self, backend: str) -> Calibration:
        """The calibration of one back end.

        Raises:
            ValueError: the back end needs spectra, and the detector was fitted without.
        """
        if backend not in self.calibrations:
            raise ValueError(WITHOUT_SPECTRA)
        return self.calibrations[backend]


class Closest(NamedTuple):
    """The machine that a recording is nearest to, the recording's similarity to it, and whether it is near at all."""

    machine: str
    similarity: float
    is_close: bool


@dataclass(frozen=True, eq=False)
class KnownMachines:
    """All machines of a detector, and what they share. An enrollment makes a new one of these."""

    shared: SharedKnowledge
    by_name: dict[str, Machine]

    @classmethod
    def of(cls, shared: SharedKnowledge, machines: Iterable[Machine]) -> "KnownMachines":
        return cls(shared, {machine.name: machine for machine in machines})

    def with_machine(self, machine: Machine) -> "KnownMachines":
        """These machines and one more, which replaces one of the same name."""
        return KnownMachines(self.shared, {**self.by_name, machine.name: machine})

    def has_basis_of(self, other: "KnownMachines") -> bool:
        """Whether both rest on the same fitted machines and shared knowledge, to the bit."""
        fitted, others = ([name for name, one in of.by_name.items() if not one.is_enrolled] for of in (self, other))
        mine, theirs = self.shared, other.shared
        if fitted != others or (mine.spectra is None) != (theirs.spectra is None):
            return False
        pairs = [(mine.embeddings.whitening, theirs.embeddings.whitening)]
        if mine.spectra is not None and theirs.spectra is not None:
            names = ("matrix", "variances", "center")
            pairs += [(getattr(mine.spectra, name), getattr(theirs.spectra, name)) for name in names]
        return all(torch.equal(own, given) for own, given in pairs)

    def __getitem__(self, name: str) -> Machine:
        if not isinstance(name, str) or name not in self.by_name:
            raise ValueError(
                f"machine={name!r} is not known: expected one of {', '.join(self.by_name)}; or enroll it first."
            )
        return self.by_name[name]

    # Worked out when they are first needed: with ten thousand machines that takes a second, too long for every clip.
    @cached_property
    def nearest_by_spectrum(self) -> NearestMachine:
        spectra = [machine.spectrum for machine in self.by_name.values() if machine.spectrum is not None]
        return NearestMachine(known_space(self.shared), spectra)

    @cached_property
    def centroids(self) -> torch.Tensor:
        """The directions of all machines' centroids, `(machines, h)`."""
        centroids = torch.stack([machine.embedding.centroid for machine in self.by_name.values()])
        return F.normalize(centroids.double(), dim=1)

    def nearest(self, clip: ClipVectors) -> Machine:
        """The machine that one clip is most likely of."""
        if clip.coordinates is None:
            place = int((clip.directions @ self.centroids.T)[0].argmax())
        else:
            place = self.nearest_by_spectrum(clip.coordinates)
        return next(islice(self.by_name.values(), place, None))

    def is_far(self, clip: ClipVectors, machine: Machine) -> bool:
        """Whether one clip is too far from a machine to be of any; by embeddings nothing is."""
        if clip.coordinates is None or machine.spectrum is None:
            return False
        return log_distance(known_space(self.shared), machine.spectrum, clip.coordinates).item() > FARTHEST

    def is_rather(self, clip: ClipVectors, other: Machine, machine: Machine) -> bool:
        """Whether one clip is of another machine and not of the one that it is claimed to be of."""
        if clip.coordinates is None or machine.spectrum is None or other.spectrum is None:
            return False
        space = known_space(self.shared)
        own, others = (
            unlikelihood(space, spectrum, clip.coordinates).item() for spectrum in (machine.spectrum, other.spectrum)
        )
        return own - others > WRONG_MACHINE

    def similarity(self, clip: ClipVectors, machine: Machine) -> float:
        """The cosine between one clip and a machine's normal clips, by the spectra where they are known."""
        if clip.coordinates is None or machine.spectrum is None:
            return torch.cosine_similarity(clip.directions, machine.embedding.centroid.double(), dim=1).item()
        return similarity(known_space(self.shared), machine.spectrum, clip.coordinates).item()

    def closest(self, clip: ClipVectors) -> Closest:
        """The machine that one clip is nearest to, with its similarity."""
        machine = self.nearest(clip)
        return Closest(machine.name, self.similarity(clip, machine), not self.is_far(clip, machine))


def known_space(shared: SharedKnowledge) -> SpectrumSpace:
    """The space of the spectra.

    Raises:
        ValueError: the detector was fitted without spectra.
    """
    if shared.spectra is None:
        raise ValueError(WITHOUT_SPECTRA)
    return shared.spectra


__all__ = ["ClipVectors", "Closest", "KnownMachines", "Machine", "SharedKnowledge", "known_space"]
