"""SW-WaveNet: WaveNets over the bands of the log-mel and of a Wavegram (Chen et al., ICASSP 2023).

Each row of the two time-frequency images is a signal of its own; a non-causal WaveNet (van den Oord et al. 2016, in the
manner of Rethage et al. 2018) reads them over time, and two such vectors make the embedding.
"""

import torch
from torch import nn

from modeling import AttentionAsdConfig, AttentionAsdModel

from .clips import Clips
from .id_classifier import IdClassifier


# Six blocks cover 127 frames (4 s). With these widths both WaveNets together make the published number of parameters.
CHANNELS, DILATIONS = 512, (1, 2, 4, 8, 16, 32)


class WaveNetBlock(nn.Module):
    """Gated dilated convolution; returns the residual stream and what it adds to the skip connection."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.dilated = nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.residual = nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        signal, gate = self.dilated(hidden_states).chunk(2, dim=1)
        gated = torch.tanh(signal) * torch.sigmoid(gate)
        return hidden_states + self.residual(gated), self.skip(gated)


class WaveNet(nn.Module):
    """`(clips, bands, frames)` -> `(clips, CHANNELS)`, the mean over time, for any number of frames."""

    def __init__(self, bands: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(bands)
        self.entry = nn.Conv1d(bands, CHANNELS, 1)
        self.blocks = nn.ModuleList(WaveNetBlock(CHANNELS, dilation) for dilation in DILATIONS)
        self.exit = nn.Sequential(
            nn.BatchNorm1d(CHANNELS),
            nn.ReLU(),
            nn.Conv1d(CHANNELS, CHANNELS, 1),
            nn.BatchNorm1d(CHANNELS),
            nn.ReLU(),
            nn.Conv1d(CHANNELS, CHANNELS, 1),
        )

    def forward(self, signals: torch.Tensor) -> torch.Tensor:
        hidden_states = self.entry(self.norm(signals))
        total = 0.0
        for block in self.blocks:
            hidden_states, skip = block(hidden_states)
            total = total + skip
        return self.exit(total).mean(2)


class TwoWaveNets(nn.Module):
    """`(clips, 2, bands, frames)` -> `(clips, embedding_size)`."""

    def __init__(self, config: AttentionAsdConfig):
        super().__init__()
        self.wavenets = nn.ModuleList(WaveNet(config.num_mel_bins) for _ in range(config.num_representations))
        self.embedding = nn.Linear(config.num_representations * CHANNELS, config.embedding_size)

    def forward(self, representations: torch.Tensor) -> torch.Tensor:
        vectors = [wavenet(image) for wavenet, image in zip(self.wavenets, representations.unbind(1), strict=True)]
        return self.embedding(torch.cat(vectors, dim=1))


class SwWaveNetNetwork(AttentionAsdModel):
    """This project's network with a Wavegram of full rank and two WaveNets in MobileFaceNet's place."""

    def __init__(self, config: AttentionAsdConfig):
        super().__init__(config)
        self.backbone = TwoWaveNets(config)

    def represent(self, input_values: torch.Tensor, input_features: torch.Tensor) -> torch.Tensor:
        if self.wavegram is None:
            raise ValueError("config.input_representations lacks wavegram, which SW-WaveNet reads.")
        # Without the check of the clip's length: excerpts train a network that scores whole clips.
        return torch.stack([input_features, self.wavegram(input_values).to(input_features.dtype)], dim=1)


class SwWaveNet(IdClassifier):
    """ArcFace with s = 30 and m = 0.7 over all machine IDs, no mixup.

    26.6 M parameters with 41 machine IDs (27 M published). The paper's abstract gives the two branches and the number of
    parameters. The widths, the number of blocks and the loss's constants are this project's choice. An update takes 1.5 s
    of each clip: a step over whole clips takes several times as long.
    """

    title = "SW-WaveNet"
    needs_waveforms = True
    learning_rate = 3e-4
    train_frames = 48

    def build(self, clips: Clips, id2label: dict[int, str]) -> nn.Module:
        config = AttentionAsdConfig(
            clip_length=clips.known_waveforms().shape[1],
            num_mel_bins=clips.log_mels.shape[1],
            use_attention=False,
            use_separable_convolutions=False,
            angular_loss="arcface",
            scale=30.0,
            id2label=id2label,
        )
        return SwWaveNetNetwork(config)
