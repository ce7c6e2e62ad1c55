"""The normal clips that a model is made of: the network learns from most of them, the held-out ones calibrate."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from evaluation.splits import machine_of
from feature_extraction import AttentionAsdFeatureExtractor
from modeling.clip_checks_attention_asd import sort_out

from .batches import hold_out
from .waveform_bank import WaveformBank


class Bank(Protocol):
    """Clips that are fetched by number, with their labels `(clips,)` int64."""

    labels: np.ndarray

    def __len__(self) -> int: ...

    def fetch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch as the bank stores it, and its labels `(batch,)`."""
        ...

    def inputs(
        self,
        samples: torch.Tensor,
        feature_extractor: AttentionAsdFeatureExtractor,
        share: float = 1.0,
        partner: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the network's inputs of a fetched batch, mixed where `partner` is given."""
        ...


@dataclass(frozen=True)
class TrainingClips:
    """Normal clips, split once: training, calibration and evaluation of a run rest on this one split.

    Attributes:
        bank: the clips.
        machines: `(clips,)`, the name of each clip's machine, such as `fan_id_00`.
        train_indices: the clips that the network learns from, and that the detector is fitted on.
        held_out_indices: the clips that choose the epoch, and that calibrate the back ends that need the network.
        errors: one message for each file that could not be read.
        recordings: the file of each clip; `None` where clips have no files.
    """

    bank: Bank
    machines: np.ndarray
    train_indices: np.ndarray
    held_out_indices: np.ndarray
    errors: Sequence[str] = ()
    recordings: Sequence[str] | None = None

    @classmethod
    def split(
        cls,
        bank: Bank,
        machines: Sequence[str],
        fraction: float,
        seed: int,
        errors: Sequence[str] = (),
        recordings: Sequence[str] | None = None,
    ) -> "TrainingClips":
        """Hold out a share of each machine ID's clips; see [`hold_out`]."""
        return cls(bank, np.asarray(machines), *hold_out(bank.labels, fraction, seed), errors, recordings)

    def __len__(self) -> int:
        return len(self.bank)

    @property
    def is_held_out(self) -> np.ndarray:
        """`(clips,)`, true for the held-out clips."""
        return np.isin(np.arange(len(self)), self.held_out_indices)


def read_clips(
    rows: Sequence[dict[str, Any]],
    label2id: dict[str, int],
    feature_extractor: AttentionAsdFeatureExtractor,
    fraction: float,
    seed: int,
    progress: bool = True,
) -> TrainingClips:
    """Read the training clips `rows` and hold out the share `fraction` of each machine ID's.

    Files that cannot be read are left out, and named in `errors`. Silent clips and copies are left out as well.
    """
    machines = [machine_of(row) for row in rows]
    labels = [label2id[machine] for machine in machines]
    bank = WaveformBank([row["path"] for row in rows], labels, feature_extractor, progress=progress)
    errors = list(bank.errors.values())
    paths = [rows[row]["path"] for row in bank.rows]
    kept, remarks = sort_out([bank.looks[path] for path in paths], paths, [machines[row] for row in bank.rows])
    bank.keep(kept)
    if progress:
        for line in [*(f"left out: {error}" for error in errors), *remarks]:
            print(line, file=sys.stderr)
    names = [machines[row] for row in bank.rows]
    return TrainingClips.split(bank, names, fraction, seed, errors, [paths[clip] for clip in kept])
