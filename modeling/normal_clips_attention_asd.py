"""Normal clips to make machines of, and which of them are left out together to see how much normal recordings vary."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .configuration_attention_asd import AttentionAsdConfig
from .outputs_attention_asd import ClipOutputs


# Parts of a machine's recordings that are left out in turn, each a run of recordings that follow one another.
FOLDS = 10


@dataclass(frozen=True, eq=False)
class NormalClips:
    """Normal clips to fit a detector on. Made by [`NormalClips.checked`].

    Args:
        outputs ([`ClipOutputs`]):
            Those of the network.
        names (`np.ndarray` of shape `(clips,)`):
            Each clip's machine.
        is_held_out (`np.ndarray` of shape `(clips,)`):
            True for the clips that the network was not trained on.
        folds (`np.ndarray` of shape `(clips,)`):
            Which clips are left out together.
        recordings (`np.ndarray` of shape `(clips,)`):
            The recording of each clip: its name, or its number within the machine's.
    """

    outputs: ClipOutputs
    names: np.ndarray
    is_held_out: np.ndarray
    folds: np.ndarray
    recordings: np.ndarray

    @classmethod
    def checked(
        cls,
        config: AttentionAsdConfig,
        outputs: ClipOutputs,
        machines: Sequence[str],
        held_out: Sequence[bool] | np.ndarray | None,
        recordings: Sequence[Hashable] | np.ndarray | None,
    ) -> "NormalClips":
        """Clips that can be fitted on.

        Raises:
            ValueError: for arrays that do not match, values that are not finite, or a machine without a clip to fit on.
        """
        names = np.asarray(machines)
        is_held_out = np.zeros(len(outputs), dtype=bool) if held_out is None else np.asarray(held_out, dtype=bool)
        keys = list(range(len(outputs)) if recordings is None else recordings)
        if names.shape != (len(outputs),) or is_held_out.shape != (len(outputs),) or len(keys) != len(outputs):
            raise ValueError(
                f"machines has shape {names.shape}, held_out {is_held_out.shape} and recordings {(len(keys),)}: expected "
                f"one value for each of the {len(outputs)} clips."
            )
        if outputs.cosines.shape[1] != config.num_labels:
            raise ValueError(
                f"cosines are about {outputs.cosines.shape[1]} machine IDs, the configuration about {config.num_labels}."
            )
        if not outputs.is_finite.all():
            raise ValueError("embeddings, cosines or spectra are not finite (NaN or infinite): leave those clips out.")
        folds, labels = np.empty(len(outputs), dtype=int), np.empty(len(outputs), dtype=object)
        for name in np.unique(names):
            own = np.flatnonzero(names == name)
            of_machine = [keys[clip] for clip in own]
            folds[own] = folds_of(of_machine)
            labels[own] = numbered(of_machine) if recordings is None else of_machine
        clips = cls(outputs, names, is_held_out, folds, labels)
        empty = [name for name in clips.machines if not (clips.of(name) & ~is_held_out).any()]
        if empty:
            raise ValueError(f"no clip of {empty} is left to fit on: hold out fewer, or leave the machine out.")
        return clips

    @property
    def machines(self) -> list[str]:
        return np.unique(self.names).tolist()

    def of(self, name: str) -> np.ndarray:
        """`(clips,)`, true for the clips of one machine."""
        return self.names == name


def folds_of(recordings: Sequence[Hashable]) -> np.ndarray:
    """The fold of each clip of one machine, `(clips,)`: runs of recordings in the order in which they come.

    Neighbors in time are alike: apart, they would vouch for each other. Clips of one recording stay together.
    """
    order: dict[Hashable, int] = {}
    ranks = np.array([order.setdefault(recording, len(order)) for recording in recordings])
    return ranks * min(FOLDS, len(order)) // max(len(order), 1)


def numbered(clips: Sequence[Hashable]) -> list[int]:
    """Numbers for the clips of a machine whose recordings have no names, from 1."""
    return list(range(1, len(clips) + 1))


__all__ = ["NormalClips", "folds_of", "numbered"]
