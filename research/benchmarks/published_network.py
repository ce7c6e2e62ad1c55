"""The authors' network as published, written a second time over the key names of their checkpoint.

This file shares nothing with modeling/, so that the two networks can be compared: the tests compare their numbers, the
benchmarks their speed. The network here has float32, both representations, the same operations one after the other in
eager PyTorch, and the linear head that nothing uses.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from transformers.audio_utils import mel_filter_bank


State = dict[str, torch.Tensor]


def random_checkpoint(seed: int, num_labels: int = 41, num_frames: int = 313) -> dict[str, Any]:
    """Return a Lightning-style checkpoint with the authors' key names and random weights.

    The authors' network is for 10 s: four strides leave 20 of 313 frames. Other lengths are for small comparisons.
    """
    weights = RandomWeights(seed)
    weights.add_wavegram()
    weights.add_attention()
    weights.add_classifier(num_labels, num_frames)
    weights.state["model.transform_tf.spectrogram.window"] = torch.hann_window(1024)
    weights.state["model.transform_tf.mel_scale.fb"] = torch.rand(513, 128, generator=weights.generator)
    versions = {"epoch": 299, "global_step": 1, "pytorch-lightning_version": "2.1.0"}
    return {**versions, "state_dict": weights.state, "loops": {}}


class RandomWeights:
    """Random weights by the authors' key names, all drawn from one generator."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def weight(self, key: str, *shape: int) -> None:
        """Add the weight of a convolution or linear layer."""
        fan_in = max(1, math.prod(shape[1:]))
        self.state[key] = torch.randn(shape, generator=self.generator) * math.sqrt(2.0 / fan_in)

    def bias(self, key: str, size: int) -> None:
        """Add a bias."""
        self.state[key] = 0.1 * torch.randn(size, generator=self.generator)

    def norm(self, key: str, size: int) -> None:
        """Add a batch normalization."""
        self.state[key + ".weight"] = 0.5 + torch.rand(size, generator=self.generator)
        self.bias(key + ".bias", size)
        self.bias(key + ".running_mean", size)
        self.state[key + ".running_var"] = 0.5 + torch.rand(size, generator=self.generator)
        self.state[key + ".num_batches_tracked"] = torch.tensor(7)

    def prelu(self, key: str, size: int) -> None:
        """Add a PReLU."""
        self.state[key + ".weight"] = torch.rand(size, generator=self.generator)

    def add_wavegram(self) -> None:
        """Add the learned filters of the Wavegram."""
        self.weight("model.wavegram.dwconv.weight", 1, 1, 1024)
        self.bias("model.wavegram.dwconv.bias", 1)
        self.norm("model.wavegram.dwconv_normalization", 1)
        self.weight("model.wavegram.pwconv.weight", 128, 1, 1)
        self.bias("model.wavegram.pwconv.bias", 128)
        self.norm("model.wavegram.pwconv_normalization", 128)

    def add_attention(self) -> None:
        """Add the attention's three separable convolutions."""
        for index, (size_in, size_out, kernel) in ((0, (2, 16, 3)), (3, (16, 64, 3)), (6, (64, 2, 1))):
            key = f"model.heatmap.{index}"
            self.weight(key + ".dwconv.weight", size_in, 1, kernel, kernel)
            self.norm(key + ".dwconv_normalization", size_in)
            self.weight(key + ".pwconv.weight", size_out, size_in, 1, 1)
            self.norm(key + ".pwconv_normalization", size_out)
            if index == 6:
                self.bias(key + ".dwconv.bias", size_in)
                self.bias(key + ".pwconv.bias", size_out)
            else:
                self.norm(f"model.heatmap.{index + 1}", size_out)

    def add_classifier(self, num_labels: int, num_frames: int) -> None:
        """Add MobileFaceNet, the head that nothing uses, and ArcFace."""
        self.layer("conv1", 64, 2, 3, 3)
        self.layer("dw_conv1", 64, 1, 3, 3)
        size_in = 64
        for index, expansion in enumerate((2, 2, 4, 4, 4, 4)):
            self.bottleneck(f"model.classifier.blocks.{index}.conv", size_in, expansion * size_in)
            size_in = 128
        self.layer("conv2", 512, 128, 1, 1)
        self.layer("linear7", 512, 1, 8, -(-num_frames // 16), linear=True)
        self.layer("linear1", 128, 512, 1, 1, linear=True)
        self.weight("model.classifier.fc_out.weight", num_labels, 128)
        self.bias("model.classifier.fc_out.bias", num_labels)
        self.weight("model.arcface.weight", num_labels, 128)

    def layer(self, name: str, size_out: int, size_in: int, *kernel: int, linear: bool = False) -> None:
        """Add a convolution with its normalization and, unless it is linear, its PReLU."""
        self.weight(f"model.classifier.{name}.conv.weight", size_out, size_in, *kernel)
        self.norm(f"model.classifier.{name}.bn", size_out)
        if not linear:
            self.prelu(f"model.classifier.{name}.prelu", size_out)

    def bottleneck(self, key: str, size_in: int, hidden: int) -> None:
        """Add an inverted bottleneck with 128 channels at its end."""
        self.weight(key + ".0.weight", hidden, size_in, 1, 1)
        self.norm(key + ".1", hidden)
        self.prelu(key + ".2", hidden)
        self.weight(key + ".3.weight", hidden, 1, 3, 3)
        self.norm(key + ".4", hidden)
        self.prelu(key + ".5", hidden)
        self.weight(key + ".6.weight", 128, hidden, 1, 1)
        self.norm(key + ".7", 128)


class PublishedLogMel:
    """The log-mel with the operations of torchaudio's `MelSpectrogram`, which the authors use.

    For this PyTorch on a CPU there is no build of torchaudio. The operations are STFT, magnitude, square, and the product
    with the filters from the right.
    """

    def __init__(self):
        self.window = torch.hann_window(1024)
        filters = mel_filter_bank(513, 128, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="htk")
        self.filters = torch.from_numpy(filters).float()

    def __call__(self, waveform: torch.Tensor) -> torch.Tensor:
        """`(batch, samples)` -> `(batch, 128, frames)` in dB."""
        spectrum = torch.stft(waveform, 1024, 512, window=self.window, pad_mode="reflect", return_complex=True)
        mel = torch.matmul(spectrum.abs().pow(2.0).transpose(-1, -2), self.filters).transpose(-1, -2)
        return 10.0 * torch.log10(mel + 1e-8)


def trainable(state: State) -> list[torch.Tensor]:
    """Return the tensors of a checkpoint that the authors' optimizer gets, switched to gradients."""
    constants = ("running_mean", "running_var", "num_batches_tracked", "window", "fb")
    return [tensor.requires_grad_() for key, tensor in state.items() if not key.endswith(constants)]


def published_forward(
    state: State, waveform: torch.Tensor, log_mel: torch.Tensor, label: torch.Tensor, training: bool = False
) -> State:
    """Return what the authors' network computes.

    Args:
        state: weights by the authors' key names.
        waveform: `(batch, samples)`.
        log_mel: `(batch, 128, frames)` in dB.
        label: claimed labels `(batch,)`.
        training: normalize by the batch in place of the running statistics.

    Returns:
        Tensors under the names of the arrays in the authors' fixture, without the log-mel, which is an input here.
    """
    layers = Layers(state, training)
    wavegram = layers.wavegram(waveform)
    stacked = torch.stack((log_mel, wavegram), 1)
    attention = layers.attention(stacked)
    embedding = layers.embedding(attention * stacked)
    cosine = F.normalize(embedding) @ F.normalize(state["model.arcface.weight"]).T
    logits, score = arcface(cosine, label)
    return {
        "wavegram": wavegram,
        "attention": attention,
        "embedding": embedding,
        "cosine": cosine,
        "logits": logits,
        "anomaly_score": score,
    }


class Layers:
    """The authors' layers as functions of their weights."""

    def __init__(self, state: State, training: bool):
        self.state, self.training = state, training

    def norm(self, hidden: torch.Tensor, key: str) -> torch.Tensor:
        """Normalize a batch."""
        state = self.state
        mean, variance = state[key + ".running_mean"], state[key + ".running_var"]
        return F.batch_norm(hidden, mean, variance, state[key + ".weight"], state[key + ".bias"], self.training)

    def prelu(self, hidden: torch.Tensor, key: str) -> torch.Tensor:
        """Apply a PReLU."""
        return F.prelu(hidden, self.state[key + ".weight"])

    def wavegram(self, waveform: torch.Tensor) -> torch.Tensor:
        """`(batch, samples)` -> `(batch, 128, frames)`."""
        key, state = "model.wavegram", self.state
        hidden = F.conv1d(
            waveform[:, None], state[key + ".dwconv.weight"], state[key + ".dwconv.bias"], stride=512, padding=512
        )
        hidden = F.relu(self.norm(hidden, key + ".dwconv_normalization"))
        hidden = F.conv1d(hidden, state[key + ".pwconv.weight"], state[key + ".pwconv.bias"])
        return F.relu(self.norm(hidden, key + ".pwconv_normalization"))

    def attention(self, hidden: torch.Tensor) -> torch.Tensor:
        """Representations `(batch, 2, 128, frames)` -> attention maps of the same shape."""
        state = self.state
        for index in (0, 3, 6):
            key = f"model.heatmap.{index}"
            weight, bias = state[key + ".dwconv.weight"], state.get(key + ".dwconv.bias")
            hidden = F.conv2d(hidden, weight, bias, padding="same", groups=hidden.shape[1])
            hidden = F.relu(self.norm(hidden, key + ".dwconv_normalization"))
            hidden = F.conv2d(hidden, state[key + ".pwconv.weight"], state.get(key + ".pwconv.bias"))
            hidden = F.relu(self.norm(hidden, key + ".pwconv_normalization"))
            if index < 6:
                hidden = F.elu(self.norm(hidden, f"model.heatmap.{index + 1}"))
        return torch.sigmoid(hidden)

    def embedding(self, hidden: torch.Tensor) -> torch.Tensor:
        """Weighed representations `(batch, 2, 128, frames)` -> `(batch, 128)`, through MobileFaceNet."""
        hidden = self.layer(hidden, "conv1", stride=2, padding=1)
        hidden = self.layer(hidden, "dw_conv1", padding=1, groups=64)
        for index, stride in enumerate((2, 1, 2, 1, 2, 1)):
            hidden = self.bottleneck(hidden, f"model.classifier.blocks.{index}.conv", stride)
        hidden = self.layer(hidden, "conv2")
        hidden = self.layer(hidden, "linear7", linear=True, groups=512)
        embedding = self.layer(hidden, "linear1", linear=True).flatten(1)
        # Computed and dropped, as in the authors' code.
        F.linear(embedding, self.state["model.classifier.fc_out.weight"], self.state["model.classifier.fc_out.bias"])
        return embedding

    def layer(
        self, hidden: torch.Tensor, name: str, linear: bool = False, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> torch.Tensor:
        """Apply a convolution with its normalization and, unless it is linear, its PReLU."""
        key = f"model.classifier.{name}"
        weight = self.state[key + ".conv.weight"]
        hidden = self.norm(F.conv2d(hidden, weight, stride=stride, padding=padding, groups=groups), key + ".bn")
        return hidden if linear else self.prelu(hidden, key + ".prelu")

    def bottleneck(self, hidden: torch.Tensor, key: str, stride: int) -> torch.Tensor:
        """Apply an inverted bottleneck, with its shortcut where the stride is 1."""
        inner = self.prelu(self.norm(F.conv2d(hidden, self.state[key + ".0.weight"]), key + ".1"), key + ".2")
        inner = F.conv2d(inner, self.state[key + ".3.weight"], stride=stride, padding=1, groups=inner.shape[1])
        inner = self.prelu(self.norm(inner, key + ".4"), key + ".5")
        inner = self.norm(F.conv2d(inner, self.state[key + ".6.weight"]), key + ".7")
        return hidden + inner if stride == 1 else inner


def arcface(cosine: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits `(batch, labels)` with a margin of 0.7 and a scale of 40, and the anomaly scores `(batch,)`."""
    angle = torch.acos(cosine.clamp(-1, 1))
    with_margin = torch.where(
        cosine > math.cos(math.pi - 0.7), torch.cos(angle + 0.7), cosine - 0.7 * math.sin(math.pi - 0.7)
    )
    is_label = F.one_hot(label, cosine.shape[1]).bool()
    logits = 40.0 * torch.where(is_label, with_margin, cosine)
    return logits, torch.logsumexp(logits, 1) - logits[is_label]
