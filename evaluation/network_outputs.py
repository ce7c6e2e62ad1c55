"""The part of the network's outputs that the detector decides by, for many clips."""

from collections.abc import Sequence

import numpy as np
import torch

from modeling import AttentionAsdOutput


DECIDING = ("embeddings", "cosines", "spectra")


def joined(batches: Sequence[AttentionAsdOutput]) -> AttentionAsdOutput:
    """`embeddings`, `cosines` and `spectra` of all batches, float32 on the CPU."""
    return AttentionAsdOutput(
        **{name: torch.cat([batch[name].float().cpu() for batch in batches]) for name in DECIDING}
    )


def taken(outputs: AttentionAsdOutput, clips: np.ndarray | torch.Tensor | slice) -> AttentionAsdOutput:
    """Those of some clips."""
    return AttentionAsdOutput(**{name: outputs[name][clips] for name in DECIDING})


def deciding_only(output: AttentionAsdOutput) -> AttentionAsdOutput:
    """Without the maps, which are larger by far."""
    return taken(output, slice(None))
