"""Training clips that are log-mels alone: arrays instead of recordings, for a network without the Wavegram."""

from collections.abc import Sequence

import numpy as np
import torch

from feature_extraction import AttentionAsdFeatureExtractor


class LogMelBank:
    """Log-mels `(clips, num_mel_bins, num_frames)` in dB and their labels: a `training.clips.Bank`."""

    def __init__(self, log_mels: np.ndarray, labels: Sequence[int]):
        self.log_mels = log_mels
        self.labels = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.log_mels)

    def fetch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch: `(batch, num_mel_bins, num_frames)` and `(batch,)` labels."""
        return torch.from_numpy(self.log_mels[list(indices)]), torch.from_numpy(self.labels[list(indices)])

    def inputs(
        self,
        samples: torch.Tensor,
        feature_extractor: AttentionAsdFeatureExtractor,
        share: float = 1.0,
        partner: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the network's inputs of fetched clips, mixed by power.

        That is what the log-mel of the mixed waveforms would be if the sounds did not correlate.
        """
        log_mels = samples.float()
        if partner is not None:
            power = 10.0 ** (log_mels / 10.0)
            log_mels = 10.0 * torch.log10(share**2 * power + (1.0 - share) ** 2 * power[partner] + 1e-10)
        return {"input_features": log_mels}
