"""The clips that every peer is fitted to and scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


# Samples between two frames of this project's log-mel.
HOP_LENGTH = 512


@dataclass
class Clips:
    """Clips of one length, of one or several machine IDs.

    Args:
        log_mels: (n, 128, frames) float32 in dB, 10 log10 of the mel power as `AttentionAsdFeatureExtractor.log_mel`
            gives it.
        waveforms: (n, samples) float32 at 16 kHz with `frames == 1 + samples // 512`; None where there are only log-mels.
        machines: (n,) the machine IDs that the clips claim, such as `"fan_id_00"`. The machine type stands before `_id_`.

    Raises:
        ValueError: shapes or numbers of clips do not fit together, or a log-mel is not finite.
    """

    log_mels: np.ndarray
    waveforms: np.ndarray | None
    machines: list[str]

    def __post_init__(self):
        if self.log_mels.ndim != 3 or len(self.log_mels) != len(self.machines):
            raise ValueError(
                f"log_mels have shape {self.log_mels.shape} for {len(self.machines)} machines; expected "
                "(clips, bins, frames), one machine ID a clip."
            )
        if not np.isfinite(self.log_mels).all():
            raise ValueError("log_mels hold NaN or infinite values; expected finite decibels.")
        if self.waveforms is not None:
            frames = self.log_mels.shape[2]
            if len(self.waveforms) != len(self) or 1 + self.waveforms.shape[1] // HOP_LENGTH != frames:
                raise ValueError(
                    f"waveforms have shape {self.waveforms.shape} beside log_mels {self.log_mels.shape}; expected as many "
                    f"clips, and 1 + samples // {HOP_LENGTH} == frames."
                )

    def __len__(self) -> int:
        return len(self.machines)

    @property
    def machine_types(self) -> list[str]:
        """The machine type of each clip."""
        return [machine_type(name) for name in self.machines]

    def known_waveforms(self) -> np.ndarray:
        """Return `waveforms`.

        Raises:
            ValueError: the clips are log-mels only.
        """
        if self.waveforms is None:
            raise ValueError("these clips are log-mels only, and waveforms are needed; give Clips(..., waveforms=...).")
        return self.waveforms

    def take(self, indices: Sequence[int] | np.ndarray) -> "Clips":
        """Return the clips at `indices`, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        waveforms = None if self.waveforms is None else self.waveforms[rows]
        return Clips(self.log_mels[rows], waveforms, [self.machines[row] for row in rows])


def machine_type(machine: str) -> str:
    """Return the machine type of a machine ID: `"fan_id_00"` -> `"fan"`."""
    return machine.split("_id_")[0]


def excerpts(clips: Clips, starts: np.ndarray, frames: int) -> Clips:
    """Return `frames` frames of each clip from its start on, and the samples that the frames are centered on.

    Args:
        clips: the clips.
        starts: first frame of each excerpt `(clips,)`.
        frames: length of an excerpt.
    """
    log_mels = np.stack([clip[:, start : start + frames] for clip, start in zip(clips.log_mels, starts, strict=True)])
    waveforms = None
    if clips.waveforms is not None:
        firsts, samples = starts * HOP_LENGTH, (frames - 1) * HOP_LENGTH
        waveforms = np.stack([clip[i : i + samples] for clip, i in zip(clips.waveforms, firsts, strict=True)])
    return Clips(log_mels, waveforms, clips.machines)
