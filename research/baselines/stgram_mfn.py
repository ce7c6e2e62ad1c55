"""STgram-MFN: log-mel and a learned temporal feature side by side, MobileFaceNet, ArcFace (Liu et al., ICASSP 2022).

The network is this project's without attention, and with TgramNet in the Wavegram's place.
"""

import torch
from torch import nn

from modeling import AttentionAsdConfig, AttentionAsdModel

from .clips import Clips
from .id_classifier import IdClassifier


TGRAM_LAYERS = 3


class TgramNet(nn.Module):
    """`(clips, samples)` -> `(clips, bins, frames)`: a learned filter bank, then three convolutions over time.

    LayerNorm runs over the frames, as in the authors' code: it ties the network to one clip length.
    """

    def __init__(self, config: AttentionAsdConfig):
        super().__init__()
        bins, taps = config.num_mel_bins, config.wavegram_kernel_size
        self.filters = nn.Conv1d(1, bins, taps, config.hop_length, taps // 2, bias=False)
        layers = []
        for _ in range(TGRAM_LAYERS):
            convolution = nn.Conv1d(bins, bins, 3, padding=1, bias=False)
            layers += [nn.LayerNorm(config.num_frames), nn.LeakyReLU(0.2), convolution]
        self.layers = nn.Sequential(*layers)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        return self.layers(self.filters(waveforms.unsqueeze(1)))


class STgramNetwork(AttentionAsdModel):
    def __init__(self, config: AttentionAsdConfig):
        super().__init__(config)
        self.wavegram = TgramNet(config)


class STgramMfn(IdClassifier):
    """ArcFace with s = 30 and m = 0.7 over all machine IDs, no mixup.

    It has 1,155,990 parameters with 41 machine IDs and clips of 10 s; the paper says 1.1 M, where rounding
    gives 1.2 M. MobileFaceNet has the stages that Liu's later system, Noisy-ArcMix and this project share. The stages of
    the authors' first code make 1.35 M.
    """

    title = "STgram-MFN"
    needs_waveforms = True

    def build(self, clips: Clips, id2label: dict[int, str]) -> nn.Module:
        return STgramNetwork(spectral_temporal_config(clips, id2label, angular_loss="arcface"))


def spectral_temporal_config(clips: Clips, id2label: dict[int, str], angular_loss: str) -> AttentionAsdConfig:
    """This project's network for such clips without its attention, with the scale that its forerunners have."""
    return AttentionAsdConfig(
        clip_length=clips.known_waveforms().shape[1],
        num_mel_bins=clips.log_mels.shape[1],
        use_attention=False,
        angular_loss=angular_loss,
        scale=30.0,
        id2label=id2label,
    )
