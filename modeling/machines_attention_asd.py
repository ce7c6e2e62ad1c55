"""The machines that a clip can be judged as, one by one and all together."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import torch

from .backends_attention_asd import SCORERS
from .calibration_attention_asd import Calibration
from .outputs_attention_asd import ClipOutputs
from .reference_attention_asd import ClipVectors, MachineReference, SharedReference, unit_length


@dataclass(frozen=True, eq=False)
class Machine:
    """A machine that clips can be judged as. Made by `fit_machines` or `enroll_machine` in `fitting_attention_asd`.

    Args:
        reference ([`MachineReference`]):
            What is known of its normal operation.
        calibrations (`dict[str, Calibration]`):
            For each back end, what its normal clips say about the scores.
        is_enrolled (`bool`):
            Whether it was added after the fit.
        unknown_below (`float`, *optional*):
            A sound with a lower similarity is not taken to be this machine. `None`: every sound may be.
        one_clip_log_distance (`float`, *optional*):
            Mean logarithm of the `spectrum` score of its other clips, had it been enrolled from the first one.
    """

    reference: MachineReference
    calibrations: dict[str, Calibration]
    is_enrolled: bool
    unknown_below: float | None
    one_clip_log_distance: float | None = None

    @property
    def name(self) -> str:
        return self.reference.name


class Closest(NamedTuple):
    """The closest machine to a recording, its similarity, and whether that is enough to be this machine at all."""

    machine: str
    similarity: float
    is_close: bool


@dataclass(frozen=True, eq=False)
class KnownMachines:
    """All machines of a detector, and what they share. An enrollment makes a new one of these."""

    shared: SharedReference
    by_name: dict[str, Machine]

    @classmethod
    def of(cls, shared: SharedReference, machines: Iterable[Machine]) -> "KnownMachines":
        return cls(shared, {machine.name: machine for machine in machines})

    def with_machine(self, machine: Machine) -> "KnownMachines":
        """These machines and one more, which replaces one of the same name."""
        return KnownMachines(self.shared, {**self.by_name, machine.name: machine})

    def __getitem__(self, name: str) -> Machine:
        if name not in self.by_name:
            raise ValueError(
                f"machine={name!r} is not known: expected one of {', '.join(self.by_name)}; or enroll it first."
            )
        return self.by_name[name]

    def vectors(self, outputs: ClipOutputs) -> ClipVectors:
        """The vectors of clips that are compared with the machines."""
        return self.shared.whitening.vectors(outputs)

    def scores(self, clips: ClipVectors, name: str, backend: str) -> torch.Tensor:
        """Anomaly scores of clips that are claimed to be of one machine, `(clips,)` in float64."""
        return SCORERS[backend](clips, self[name].reference, self.shared)

    # Worked out when it is first needed: with ten thousand machines that takes seconds, too long for every clip.
    @cached_property
    def centroids(self) -> torch.Tensor:
        """What each machine is recognized by, `(machines, ...)` of unit length."""
        references = [machine.reference for machine in self.by_name.values()]
        # At unit length here and again as directions: the measured similarities, to the bit.
        centroids = unit_length(torch.stack([reference.centroid for reference in references]))
        spectra = [reference.spectrum for reference in references if reference.spectrum is not None]
        whitened = None if self.shared.origin is None else self.shared.whitening.whitened(torch.stack(spectra))
        return self.shared.recognizable(ClipVectors(centroids, centroids, whitened))

    def similarities(self, clips: ClipVectors) -> torch.Tensor:
        """Cosines between clips and all machines' centroids, `(clips, machines)`."""
        return self.shared.recognizable(clips) @ self.centroids.T

    def closest(self, clips: ClipVectors) -> Closest:
        """The machine whose normal clips a recording's windows are closest to."""
        similarity, best = (found.item() for found in self.similarities(clips).mean(0).max(0))
        machine = next(islice(self.by_name.values(), int(best), None))
        is_close = machine.unknown_below is None or similarity >= machine.unknown_below
        return Closest(machine.name, similarity, is_close)
