"""The control without a network: `evaluation.controls.LogMelStatistics` behind the peers' interface."""

import numpy as np

from evaluation.controls import LogMelStatistics

from .baseline import Baseline
from .clips import Clips


class LogMelStatisticsBaseline(Baseline):
    """The distance to the nearest normal clip of the same machine ID, by mean and deviation of each log-mel bin.

    Nothing is trained: `updates`, `seed` and `batch_size` change nothing.
    """

    title = "log-mel statistics + nearest neighbour"

    def _fit(self, clips: Clips, progress: bool) -> None:
        self.control = LogMelStatistics().fit(clips.log_mels, clips.machines)

    def _score(self, clips: Clips) -> np.ndarray:
        pairs = zip(clips.log_mels, clips.machines, strict=True)
        return np.asarray([self.control.score(log_mel, machine) for log_mel, machine in pairs])
