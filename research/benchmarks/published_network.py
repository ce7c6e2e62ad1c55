"""The authors' network as published, written a second time as plain functions over the key names of their checkpoint.

It shares nothing with modeling/, so that the two can be compared, in the tests by their numbers and in the benchmarks by
their speed: float32, both representations, the same operations one after the other in eager PyTorch, the linear head
that nothing uses included.
"""

import math

import torch
import torch.nn.functional as F
from transformers.audio_utils import mel_filter_bank


State = dict[str, torch.Tensor]


def random_checkpoint(seed: int, num_labels: int = 41, num_frames: int = 313) -> dict:
    """A Lightning-style checkpoint with the authors' key names and random weights.

    Their network is for 10 s, 313 frames of which four strides leave 20; other lengths are for small comparisons.
    """
    generator = torch.Generator().manual_seed(seed)
    state: State = {}

    def weights(key: str, *shape: int):
        fan_in = max(1, math.prod(shape[1:]))
        state[key] = torch.randn(shape, generator=generator) * math.sqrt(2.0 / fan_in)

    def bias(key: str, size: int):
        state[key] = 0.1 * torch.randn(size, generator=generator)

    def norm(key: str, size: int):
        state[key + ".weight"] = 0.5 + torch.rand(size, generator=generator)
        bias(key + ".bias", size)
        bias(key + ".running_mean", size)
        state[key + ".running_var"] = 0.5 + torch.rand(size, generator=generator)
        state[key + ".num_batches_tracked"] = torch.tensor(7)

    def prelu(key: str, size: int):
        state[key + ".weight"] = torch.rand(size, generator=generator)

    weights("model.wavegram.dwconv.weight", 1, 1, 1024)
    bias("model.wavegram.dwconv.bias", 1)
    norm("model.wavegram.dwconv_normalization", 1)
    weights("model.wavegram.pwconv.weight", 128, 1, 1)
    bias("model.wavegram.pwconv.bias", 128)
    norm("model.wavegram.pwconv_normalization", 128)
    for index, (size_in, size_out, kernel) in ((0, (2, 16, 3)), (3, (16, 64, 3)), (6, (64, 2, 1))):
        key = f"model.heatmap.{index}"
        weights(key + ".dwconv.weight", size_in, 1, kernel, kernel)
        norm(key + ".dwconv_normalization", size_in)
        weights(key + ".pwconv.weight", size_out, size_in, 1, 1)
        norm(key + ".pwconv_normalization", size_out)
        if index == 6:
            bias(key + ".dwconv.bias", size_in)
            bias(key + ".pwconv.bias", size_out)
        else:
            norm(f"model.heatmap.{index + 1}", size_out)

    def layer(name: str, size_out: int, size_in: int, *kernel: int, linear: bool = False):
        weights(f"model.classifier.{name}.conv.weight", size_out, size_in, *kernel)
        norm(f"model.classifier.{name}.bn", size_out)
        if not linear:
            prelu(f"model.classifier.{name}.prelu", size_out)

    layer("conv1", 64, 2, 3, 3)
    layer("dw_conv1", 64, 1, 3, 3)
    size_in = 64
    for index, expansion in enumerate((2, 2, 4, 4, 4, 4)):
        key = f"model.classifier.blocks.{index}.conv"
        hidden = expansion * size_in
        weights(key + ".0.weight", hidden, size_in, 1, 1)
        norm(key + ".1", hidden)
        prelu(key + ".2", hidden)
        weights(key + ".3.weight", hidden, 1, 3, 3)
        norm(key + ".4", hidden)
        prelu(key + ".5", hidden)
        weights(key + ".6.weight", 128, hidden, 1, 1)
        norm(key + ".7", 128)
        size_in = 128
    layer("conv2", 512, 128, 1, 1)
    layer("linear7", 512, 1, 8, -(-num_frames // 16), linear=True)
    layer("linear1", 128, 512, 1, 1, linear=True)
    weights("model.classifier.fc_out.weight", num_labels, 128)
    bias("model.classifier.fc_out.bias", num_labels)
    weights("model.arcface.weight", num_labels, 128)
    state["model.transform_tf.spectrogram.window"] = torch.hann_window(1024)
    state["model.transform_tf.mel_scale.fb"] = torch.rand(513, 128, generator=generator)
    return {"epoch": 299, "global_step": 1, "pytorch-lightning_version": "2.1.0", "state_dict": state, "loops": {}}


class PublishedLogMel:
    """The log-mel with the operations of torchaudio's `MelSpectrogram`, which the authors use and for which there is no
    build to go with this PyTorch on a CPU: STFT, magnitude, square, product with the filters from the right."""

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
    """The tensors of a checkpoint that the authors' optimiser sees, switched to gradients."""
    constants = ("running_mean", "running_var", "num_batches_tracked", "window", "fb")
    return [tensor.requires_grad_() for key, tensor in state.items() if not key.endswith(constants)]


def published_forward(
    state: State, waveform: torch.Tensor, log_mel: torch.Tensor, label: torch.Tensor, training: bool = False
) -> State:
    """What the authors' network computes of waveforms `(batch, samples)`, their log-mel and the claimed labels.

    The names are those of the arrays in the authors' fixture, but for the log-mel, which is an input here.
    """

    def norm(hidden: torch.Tensor, key: str) -> torch.Tensor:
        mean, variance = state[key + ".running_mean"], state[key + ".running_var"]
        return F.batch_norm(hidden, mean, variance, state[key + ".weight"], state[key + ".bias"], training)

    def prelu(hidden: torch.Tensor, key: str) -> torch.Tensor:
        return F.prelu(hidden, state[key + ".weight"])

    hidden = F.conv1d(
        waveform[:, None],
        state["model.wavegram.dwconv.weight"],
        state["model.wavegram.dwconv.bias"],
        stride=512,
        padding=512,
    )
    hidden = F.relu(norm(hidden, "model.wavegram.dwconv_normalization"))
    hidden = F.conv1d(hidden, state["model.wavegram.pwconv.weight"], state["model.wavegram.pwconv.bias"])
    wavegram = F.relu(norm(hidden, "model.wavegram.pwconv_normalization"))

    stacked = hidden = torch.stack((log_mel, wavegram), 1)
    for index in (0, 3, 6):
        key = f"model.heatmap.{index}"
        hidden = F.conv2d(
            hidden,
            state[key + ".dwconv.weight"],
            state.get(key + ".dwconv.bias"),
            padding="same",
            groups=hidden.shape[1],
        )
        hidden = F.relu(norm(hidden, key + ".dwconv_normalization"))
        hidden = F.conv2d(hidden, state[key + ".pwconv.weight"], state.get(key + ".pwconv.bias"))
        hidden = F.relu(norm(hidden, key + ".pwconv_normalization"))
        if index < 6:
            hidden = F.elu(norm(hidden, f"model.heatmap.{index + 1}"))
    attention = torch.sigmoid(hidden)

    def layer(hidden: torch.Tensor, name: str, linear: bool = False, **kwargs) -> torch.Tensor:
        key = f"model.classifier.{name}"
        hidden = norm(F.conv2d(hidden, state[key + ".conv.weight"], **kwargs), key + ".bn")
        return hidden if linear else prelu(hidden, key + ".prelu")

    hidden = layer(attention * stacked, "conv1", stride=2, padding=1)
    hidden = layer(hidden, "dw_conv1", padding=1, groups=64)
    for index, stride in enumerate((2, 1, 2, 1, 2, 1)):
        key = f"model.classifier.blocks.{index}.conv"
        inner = prelu(norm(F.conv2d(hidden, state[key + ".0.weight"]), key + ".1"), key + ".2")
        inner = F.conv2d(inner, state[key + ".3.weight"], stride=stride, padding=1, groups=inner.shape[1])
        inner = prelu(norm(inner, key + ".4"), key + ".5")
        inner = norm(F.conv2d(inner, state[key + ".6.weight"]), key + ".7")
        hidden = hidden + inner if stride == 1 else inner
    hidden = layer(hidden, "conv2")
    hidden = layer(hidden, "linear7", linear=True, groups=512)
    embedding = layer(hidden, "linear1", linear=True).flatten(1)
    # Computed and dropped, as in the authors' code.
    F.linear(embedding, state["model.classifier.fc_out.weight"], state["model.classifier.fc_out.bias"])

    cosine = F.normalize(embedding) @ F.normalize(state["model.arcface.weight"]).T
    angle = torch.acos(cosine.clamp(-1, 1))
    with_margin = torch.where(
        cosine > math.cos(math.pi - 0.7), torch.cos(angle + 0.7), cosine - 0.7 * math.sin(math.pi - 0.7)
    )
    is_label = F.one_hot(label, cosine.shape[1]).bool()
    logits = 40.0 * torch.where(is_label, with_margin, cosine)
    score = torch.logsumexp(logits, 1) - logits[is_label]
    return {
        "wavegram": wavegram,
        "attention": attention,
        "embedding": embedding,
        "cosine": cosine,
        "logits": logits,
        "anomaly_score": score,
    }
