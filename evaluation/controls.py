"""The trivial control: what a detector gets without a network, and must beat to have learnt anything."""

from collections.abc import Iterable, Sequence

import numpy as np


class LogMelStatistics:
    """Anomaly score = distance to the nearest normal training clip of the same machine ID.

    A clip is described by the mean and the standard deviation over time of each log-mel bin (256 values for
    128 bins). Each value is standardized by all normal training clips together; the distance is Euclidean.
    Nothing is tuned: one neighbour, one scale for all machine types, no weights.

    >>> import numpy as np
    >>> normal = np.random.default_rng(0).normal(size=(5, 128, 313))
    >>> control = LogMelStatistics().fit(normal, ["fan_id_00"] * 5)
    >>> control.score(normal[0], "fan_id_00")
    0.0
    >>> control.score(normal[0] + 3, "fan_id_00") > 10
    True
    """

    def fit(self, log_mels: Iterable[np.ndarray], machine_ids: Sequence[str]) -> "LogMelStatistics":
        """Keep the statistics of the normal training clips.

        Args:
            log_mels: an array (n, bins, frames), or any iterable of (bins, frames), in dB. It is read once: a
                generator need not hold all clips at a time.
            machine_ids: (n,) such as "fan_id_00".

        Raises:
            ValueError: a log-mel is not two-dimensional or finite, or the numbers of clips and IDs differ.
        """
        statistics = np.stack([_statistics(log_mel) for log_mel in log_mels])
        if len(statistics) != len(machine_ids):
            raise ValueError(
                f"{len(statistics)} log-mels but {len(machine_ids)} machine IDs; expected one ID a log-mel."
            )
        self.mean = statistics.mean(axis=0)
        # A bin that never changes, such as one above a recorder's cut-off, is left unscaled.
        deviation = statistics.std(axis=0)
        self.deviation = np.where(deviation > 0, deviation, 1)
        standardized = (statistics - self.mean) / self.deviation
        owners = np.asarray(machine_ids)
        self.normal_clips = {name: standardized[owners == name] for name in sorted(set(owners.tolist()))}
        return self

    def score(self, log_mel: np.ndarray, machine_id: str) -> float:
        """Anomaly score of one clip, 0 for a training clip itself and larger for the more anomalous.

        Args:
            log_mel: (bins, frames) in dB.
            machine_id: the ID that the clip is claimed to be of.

        Raises:
            ValueError: no training clip of the ID, or a log-mel that is not two-dimensional or finite.
        """
        if machine_id not in self.normal_clips:
            raise ValueError(f"No training clip of machine ID {machine_id!r}; fit() saw {list(self.normal_clips)}.")
        standardized = (_statistics(log_mel) - self.mean) / self.deviation
        return float(np.linalg.norm(self.normal_clips[machine_id] - standardized, axis=1).min())


def _statistics(log_mel: np.ndarray) -> np.ndarray:
    """Mean and standard deviation over time of each bin: (2 * bins,) in float64."""
    log_mel = np.asarray(log_mel, dtype=np.float64)
    if log_mel.ndim != 2 or not log_mel.size:
        raise ValueError(f"A log-mel has shape {log_mel.shape}; expected (bins, frames).")
    statistics = np.concatenate([log_mel.mean(axis=1), log_mel.std(axis=1)])
    if not np.isfinite(statistics).all():
        raise ValueError("A log-mel holds NaN or infinite values; expected finite decibels.")
    return statistics
