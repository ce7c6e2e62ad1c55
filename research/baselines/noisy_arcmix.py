"""Noisy-ArcMix: TASTgram-MFN, trained with mixup (Choi and Choi, ICASSP 2024).

STgram-MFN with a third input, the log-mel weighed by a temporal attention that has no parameters, and with the loss that
this project took over.
"""

import torch
from torch import nn

from modeling import AttentionAsdConfig
from modeling.modeling_attention_asd import AttentionAsdConvLayer

from .clips import Clips
from .id_classifier import IdClassifier
from .stgram_mfn import STgramNetwork, spectral_temporal_config


class TASTgramNetwork(STgramNetwork):
    def __init__(self, config: AttentionAsdConfig):
        super().__init__(config)
        self.backbone.stem = AttentionAsdConvLayer(3, config.stem_channels, 3, stride=2, padding=1)
        # Draws the new layer's weights as MobileFaceNet's, and leaves the others.
        self.init_weights()

    def represent(self, input_values: torch.Tensor | None, input_features: torch.Tensor | None) -> torch.Tensor:
        representations = super().represent(input_values, input_features)
        log_mels = representations[:, :1]
        # A frame's weight is the sigmoid of its loudest bin plus its mean bin, in dB as in the authors' code. It nearly
        # cuts off frames whose sum is below some -5 dB.
        attention = torch.sigmoid(log_mels.amax(2, keepdim=True) + log_mels.mean(2, keepdim=True))
        return torch.cat([representations, attention * log_mels], dim=1)


class NoisyArcMix(IdClassifier):
    """Noisy-ArcMix with s = 30, m = 0.7 and mixup of Beta(0.5, 0.5) over all machine IDs.

    1,156,566 parameters with 41 machine IDs and clips of 10 s (1.1 M published, rounded as STgram-MFN's). Waveforms and
    log-mels are mixed each for itself, with one share, as in the authors' code.
    """

    title = "Noisy-ArcMix"
    needs_waveforms = True
    mixup_alpha = 0.5

    def build(self, clips: Clips, id2label: dict[int, str]) -> nn.Module:
        return TASTgramNetwork(spectral_temporal_config(clips, id2label, angular_loss="noisy_arcmix"))
