"""MobileNetV2 that classifies machine IDs in windows of the log-mel (Giri et al., DCASE 2020 Task 2 and Workshop).

The network is transformers' `MobileNetV2Model` (Sandler et al., CVPR 2018) with random weights.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import MobileNetV2Config, MobileNetV2Model

from modeling import AttentionAsdOutput

from .clips import Clips
from .id_classifier import IdClassifier


# Frames of a window (2 s), and frames between two windows of a clip that is scored.
WINDOW, HOP = 64, 32
# A width of 0.65 makes the published number of parameters. The DCASE 2021 baseline's width of 0.5 makes 0.74 M.
WIDTH = 0.65


class MobileNetV2Classifier(nn.Module):
    """A softmax over machine IDs in every window of `WINDOW` frames, averaged over the windows of a clip.

    The input is log-mels `(clips, bins, frames)` in dB. A clip that is shorter than a window is one window.
    """

    def __init__(self, num_bins: int, num_labels: int):
        super().__init__()
        # TensorFlow's padding would depend on the window's size.
        config = MobileNetV2Config(num_channels=1, depth_multiplier=WIDTH, image_size=num_bins, tf_padding=False)
        self.backbone = MobileNetV2Model(config)
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                # transformers has TensorFlow's 0.997, which in PyTorch's convention keeps the last batch's statistics alone.
                module.momentum = 0.1
            elif isinstance(module, nn.Conv2d):
                module.reset_parameters()
        self.head = nn.Linear(self.backbone.conv_1x1.convolution.out_channels, num_labels)

    def forward(self, log_mels: torch.Tensor, labels: torch.Tensor | None = None) -> AttentionAsdOutput:
        windows = log_mels.unfold(2, min(WINDOW, log_mels.shape[2]), HOP).transpose(1, 2)
        pooled = self.backbone(windows.flatten(0, 1).unsqueeze(1)).pooler_output
        logits = self.head(pooled).float().unflatten(0, windows.shape[:2])
        if labels is None:
            return AttentionAsdOutput(logits=logits.mean(1))
        repeated = labels.unsqueeze(1).expand(windows.shape[:2])
        scores = F.cross_entropy(logits.transpose(1, 2), repeated, reduction="none").mean(1)
        return AttentionAsdOutput(loss=scores.mean(), logits=logits.mean(1), anomaly_scores=scores)


class MobileNetV2(IdClassifier):
    """1,118,041 parameters with 41 machine IDs (1.1 M published). An update takes two neighbouring windows of each clip."""

    title = "MobileNetV2"
    train_frames = WINDOW + HOP

    def build(self, clips: Clips, id2label: dict[int, str]) -> nn.Module:
        return MobileNetV2Classifier(clips.log_mels.shape[1], len(id2label))
