"""One update of each way to train, on waveforms that are mixed already."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel
from modeling.gradients_attention_asd import AttentionAsdConv2d, AttentionAsdPReLU
from research.benchmarks.published_network import PublishedLogMel, published_forward, random_checkpoint, trainable
from training.batches import draw_mixup

from .loops import Loop


LEARNING_RATE = 1e-4
MIXUP_ALPHA = 0.2
# (mixed waveforms, labels, mixup's share, mixup's partners) -> loss.
Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def mix(waveforms: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mix waveforms as both projects do, and return them with mixup's share and partners.

    The share is a tensor because torch.compile would compile anew for every number.
    """
    share, partner = draw_mixup(len(waveforms), MIXUP_ALPHA, 0, step)
    share, partner = torch.tensor(share, dtype=torch.float32).to(waveforms.device), partner.to(waveforms.device)
    return share * waveforms + (1.0 - share) * waveforms[partner], share, partner


def check_loss(loss: float) -> None:
    """Raise a RuntimeError where the loss is not finite: what was timed is then no training."""
    if not np.isfinite(loss):
        raise RuntimeError(f"the loss is {loss}: what was timed is no training.")


def published_step(config: AttentionAsdConfig) -> Step:
    """Return the authors' update: log-mel inside the network, Noisy-ArcMix, plain AdamW."""
    state = random_checkpoint(0, config.num_labels, config.num_frames)["state_dict"]
    optimizer = torch.optim.AdamW(trainable(state), lr=LEARNING_RATE)
    log_mel = PublishedLogMel()

    def step(waveforms: torch.Tensor, labels: torch.Tensor, share: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        logits = published_forward(state, waveforms, log_mel(waveforms), labels, training=True)["logits"]
        loss = share * F.cross_entropy(logits, labels) + (1.0 - share) * F.cross_entropy(logits, labels[partner])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def our_step(
    loop: Loop, config: AttentionAsdConfig, extractor: AttentionAsdFeatureExtractor, device: str = "cpu"
) -> Step:
    """Return this project's update with what `loop` has of it.

    Where `loop` lacks one of this project's gradients, PyTorch's takes its place for as long as the process lives.
    """
    if not loop.vectorised_prelu:
        AttentionAsdPReLU.forward = nn.PReLU.forward  # pyright: ignore[reportAttributeAccessIssue]  # another name alone
    if not loop.halving_by_stride_1:
        AttentionAsdConv2d.forward = nn.Conv2d.forward  # pyright: ignore[reportAttributeAccessIssue]  # another name alone
    torch.manual_seed(0)
    memory_format = torch.channels_last if loop.channels_last else torch.contiguous_format
    model = AttentionAsdModel(config).train().to(device, memory_format=memory_format)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    network = model
    if loop.compile_mode:
        # Each batch size is compiled for itself, as train.py has one alone. After a row with several sizes PyTorch compiles for
        # any size: batch 64 then took 1.3 times as long on an H200, with CUDA graphs.
        torch.compiler.reset()
        network = torch.compile(model, mode=loop.compile_mode, dynamic=False)

    def step(waveforms: torch.Tensor, labels: torch.Tensor, share: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        inputs = {"input_values": waveforms, "input_features": extractor.log_mel(waveforms)}
        with torch.autocast(device, torch.bfloat16, enabled=loop.bfloat16):
            loss = network(**inputs, labels=labels, mixup_partner=partner, mixup_lambda=share).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step
