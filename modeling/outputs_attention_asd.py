"""What the network says about clips: all of it, and the part that the detector needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.utils.generic import ModelOutput

from .configuration_attention_asd import LAGS


# Statistics of the log-mel over time, in the order of the spectra's rows.
SPECTRA_ROWS = ("mean", "std", *(f"lag{lag}" for lag in LAGS))


@dataclass
class AttentionAsdOutput(ModelOutput):
    """
    Output of [`AttentionAsdModel`].

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` is provided):
            The angular loss, averaged over the batch.
        logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`):
            Scaled cosines to the machine IDs' centers, s cos(theta), with and without `labels`.
        anomaly_scores (`torch.FloatTensor` of shape `(batch_size,)`):
            Cross-entropy of the scored machine ID, its margin included; the higher, the more anomalous.
        scored_labels (`torch.LongTensor` of shape `(batch_size,)`):
            The machine ID that each score is about: the claimed one where `labels` is provided, else the one with the
            smallest score.
        cosines (`torch.FloatTensor` of shape `(batch_size, num_labels)`):
            Cosines between the embedding and the machine IDs' centers, without scale and margin.
        embeddings (`torch.FloatTensor` of shape `(batch_size, embedding_size)`):
            The embedding, not normalized.
        attention_maps (`torch.FloatTensor` of shape `(batch_size, channels, num_mel_bins, num_frames)`, *optional*):
            One map per representation (channel 0 the log-mel, channel 1 the Wavegram by default). In [0.5, 1), because
            the published code's sigmoid sits on a ReLU. `None` for a model without attention.
        representations (`torch.FloatTensor` of shape `(batch_size, channels, num_mel_bins, num_frames)`):
            The log-mel and the Wavegram before the attention map.
        spectra (`torch.FloatTensor` of shape `(batch_size, 6, num_mel_bins)`, *optional*):
            Statistics of the log-mel over time in dB, one row for each name in `SPECTRA_ROWS`, see
            [`spectral_statistics`]. Given where `input_features` are, and not in training.
        margin_logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`, *optional*, returned with `labels`):
            The logits of loss and score. The claimed ID's has ArcFace's margin, s cos(theta + m). The published code
            returns these.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    anomaly_scores: torch.Tensor | None = None
    scored_labels: torch.Tensor | None = None
    cosines: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None
    attention_maps: torch.Tensor | None = None
    representations: torch.Tensor | None = None
    spectra: torch.Tensor | None = None
    margin_logits: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class ClipOutputs:
    """What the detector needs of clips, on the CPU. Make one with [`ClipOutputs.of`].

    Args:
        embeddings (`torch.Tensor` of shape `(clips, embedding_size)`):
            The network's embeddings, not normalized.
        cosines (`torch.Tensor` of shape `(clips, num_labels)`):
            Cosines between the embeddings and the machine IDs' centers in the network.
        spectra (`torch.Tensor` of shape `(clips, 6, num_mel_bins)`, *optional*):
            Statistics of the log-mel over time, one row for each name in `SPECTRA_ROWS`; `None` where they are not known.
        frames (`torch.Tensor` of shape `(clips,)`, *optional*):
            The number of the log-mel's frames that the spectra are of; `None` where every clip fills the network's.

    Raises:
        ValueError: for shapes that do not match.

    Example:

    ```python
    >>> clips = ClipOutputs.concatenate([ClipOutputs.of(model(**batch)) for batch in batches])
    >>> len(clips), len(clips[:10])
    (64, 10)
    ```
    """

    embeddings: torch.Tensor
    cosines: torch.Tensor
    spectra: torch.Tensor | None = None
    frames: torch.Tensor | None = None

    def __post_init__(self):
        embeddings, cosines, spectra = self.embeddings, self.cosines, self.spectra
        is_paired = embeddings.ndim == cosines.ndim == 2 and len(embeddings) == len(cosines)
        if is_paired and spectra is not None:
            is_paired = spectra.ndim == 3 and spectra.shape[:2] == (len(embeddings), len(SPECTRA_ROWS))
        if not is_paired:
            arrays = (embeddings, cosines, spectra)
            shapes = ", ".join("none" if array is None else str(tuple(array.shape)) for array in arrays)
            raise ValueError(
                f"embeddings, cosines and spectra have the shapes {shapes}: expected (clips, embedding_size), (clips, "
                f"num_labels) and (clips, {len(SPECTRA_ROWS)}, num_mel_bins), as the network gives them."
            )

    @classmethod
    def of(cls, outputs: Any) -> "ClipOutputs":
        """The detector's part of an [`AttentionAsdOutput`], or of anything with its attributes.

        Args:
            outputs: has `embeddings`, `cosines` and `spectra`, each a tensor on any device or an array; `spectra` may
                be `None`. Gradients are kept, half precision becomes float32.

        Raises:
            ValueError: for shapes that do not match.
        """
        if isinstance(outputs, cls):
            return outputs
        return cls(
            on_cpu(outputs.embeddings),
            on_cpu(outputs.cosines),
            None if outputs.spectra is None else on_cpu(outputs.spectra),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["ClipOutputs"]) -> "ClipOutputs":
        """All clips of all parts, in their order. Spectra are known only where every part has them."""
        spectra = [part.spectra for part in parts if part.spectra is not None]
        frames = [part.frames for part in parts if part.frames is not None]
        return cls(
            torch.cat([part.embeddings for part in parts]),
            torch.cat([part.cosines for part in parts]),
            torch.cat(spectra) if len(spectra) == len(parts) else None,
            torch.cat(frames) if len(frames) == len(parts) else None,
        )

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, clips: int | slice | Sequence[int] | np.ndarray | torch.Tensor) -> "ClipOutputs":
        """Some of the clips, by number, numbers, slice or mask; one number gives one clip."""
        index = clips if isinstance(clips, slice) else torch.as_tensor(clips).reshape(-1)
        spectra = None if self.spectra is None else self.spectra[index]
        frames = None if self.frames is None else self.frames[index]
        return ClipOutputs(self.embeddings[index], self.cosines[index], spectra, frames)

    @property
    def is_finite(self) -> torch.Tensor:
        """Which clips have neither NaN nor infinity anywhere, `(clips,)`."""
        arrays = [self.embeddings, self.cosines] + ([] if self.spectra is None else [self.spectra.flatten(1)])
        return torch.cat(arrays, dim=1).isfinite().all(1)


def on_cpu(array: torch.Tensor | np.ndarray) -> torch.Tensor:
    array = torch.as_tensor(array).cpu()
    return array if array.dtype in (torch.float32, torch.float64) else array.float()


__all__ = ["SPECTRA_ROWS", "AttentionAsdOutput", "ClipOutputs"]
