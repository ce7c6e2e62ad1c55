"""The weights of the compiled engine: folded, quantized, and in the shapes of `native_layout_attention_asd.py`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdModel

from .graph import folded
from .native_layout_attention_asd import BLOCK, HIDDEN, LANES, Description


# The C source has exponentials of base 1 / 2, and their arguments in parts of 2^-23.
EXPONENT_STEPS = -(2.0**23) / math.log(2.0)
# By `is_wide`: the smallest and largest integer that goes into a 1x1 convolution, and by how much their range is wider than
# the calibration clips'. Anomalous clips have values beyond; bytes have few integers to spare. Without a wider range, the
# embeddings of 168 real clips had a cosine of 0.989 at worst with the network's. With this one, the cosine is 0.995 in
# bytes and above 0.9999 in shorts.
RANGES = {False: (0, 255, 1.25), True: (-8192, 8191, 4.0)}
# The largest 16-bit integer in the attention module and the stem, where zero stays zero.
HIGHEST = 32767


def native_network(
    model: AttentionAsdModel,
    extractor: AttentionAsdFeatureExtractor,
    waveforms: torch.Tensor,
    is_wide: bool,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and the numbers of a network for the compiled engine, by the layout's names.

    Args:
        waveforms: `(clips, clip_length)`, normal clips. Quantized values get their ranges from them.
        is_wide: whether 1x1 convolutions take integers of 16 bits; otherwise of 8.

    Raises:
        ValueError: see [`check_supported`].
    """
    check_supported(model, extractor)
    network = folded(model)
    numbers = numbers_of(network, extractor, is_wide)
    calibration = Calibration.of(network, extractor, waveforms, is_wide)
    values = log_mel_tensors(extractor) | backbone_tensors(network, calibration)
    if network.wavegram is not None:
        values |= wavegram_tensors(network.wavegram.filters)
    if network.attention is not None:
        values |= attention_tensors(network.attention.layers, calibration)
    laid_out = Description(numbers).tensors()
    tensors = {name: padded(values[name], shape).to(getattr(torch, kind)) for name, (kind, shape) in laid_out.items()}
    return tensors, numbers


def check_supported(model: AttentionAsdModel, extractor: AttentionAsdFeatureExtractor) -> None:
    """Raise an error for an architecture that the C source has no code for.

    Raises:
        ValueError: the message names what is not supported, and says what to do.
    """
    config = model.config
    reasons = []
    if not config.use_separable_convolutions:
        reasons.append("use_separable_convolutions=False")
    if config.use_attention and (len(config.attention_channels) != 2 or config.attention_channels[0] > HIDDEN):
        reasons.append(f"attention_channels={config.attention_channels} (two, the first at most {HIDDEN}, would do)")
    blocks: Any = model.backbone.bottlenecks
    if blocks and blocks[0].is_residual or any(max(block.depthwise.conv.stride) > 2 for block in blocks):
        reasons.append(f"bottlenecks={config.bottlenecks} (strides of 1 and 2, the first 2, would do)")
    if extractor.n_fft < 16 or extractor.n_fft & (extractor.n_fft - 1):
        reasons.append(f"n_fft={extractor.n_fft} (a power of 2, 16 or more, would do)")
    if reasons:
        raise ValueError(
            f"The compiled engine has no code for {' and '.join(reasons)}. Export the model with --engine openvino or onnx."
        )


def padded_size(channels: int) -> int:
    """Channels with those that fill the last block."""
    return -(-channels // BLOCK) * BLOCK


def padded(tensor: torch.Tensor, shape: Sequence[int] | None) -> torch.Tensor:
    """Add zeros at the ends of the axes, up to a shape."""
    if shape is None:
        return tensor.contiguous()
    larger = tensor.new_zeros(tuple(shape))
    larger[tuple(slice(size) for size in tensor.shape)] = tensor
    return larger


# Numbers


def numbers_of(model: Any, extractor: AttentionAsdFeatureExtractor, is_wide: bool) -> dict[str, Any]:
    """The numbers of a folded network, by the layout's names."""
    config, backbone, positions = model.config, model.backbone, model.config.input_representations
    numbers = {
        "clip_length": config.clip_length,
        "n_fft": extractor.n_fft,
        "hop_length": config.hop_length,
        "num_mel_bins": config.num_mel_bins,
        "num_frames": config.num_frames,
        "num_representations": config.num_representations,
        "log_mel_position": positions.index("log_mel") if "log_mel" in positions else -1,
        "wavegram_position": positions.index("wavegram") if "wavegram" in positions else -1,
        "wavegram_kernel_size": config.wavegram_kernel_size,
        "wavegram_bias": 0.0 if model.wavegram is None else model.wavegram.filters.depthwise.bias.item(),
        "use_attention": int(config.use_attention),
        "attention_channels": 0 if model.attention is None else model.attention.layers[3].pointwise.out_channels,
        "stem_channels": padded_size(config.stem_channels),
        "num_bottlenecks": len(backbone.bottlenecks),
        "head_channels": padded_size(config.head_channels),
        "embedding_size": config.embedding_size,
        "num_labels": config.num_labels,
        "is_wide": int(is_wide),
        "mel_floor": extractor.mel_floor,
    }
    numbers |= depthwise_numbers("stem_depthwise", backbone.stem_depthwise.conv)
    for i, block in enumerate(backbone.bottlenecks):
        name = f"bottlenecks.{i}"
        numbers |= pointwise_numbers(f"{name}.expand", block.expand.conv)
        numbers |= depthwise_numbers(f"{name}.depthwise", block.depthwise.conv)
        numbers |= pointwise_numbers(f"{name}.project", block.project.conv)
        numbers[f"{name}.is_residual"] = int(block.is_residual)
    return numbers | pointwise_numbers("head", backbone.head.conv)


def depthwise_numbers(name: str, conv: nn.Conv2d) -> dict[str, int]:
    return {f"{name}.channels": padded_size(conv.out_channels), f"{name}.stride": conv.stride[0]}


def pointwise_numbers(name: str, conv: nn.Conv2d) -> dict[str, int]:
    return {
        f"{name}.in_channels": padded_size(conv.in_channels),
        f"{name}.out_channels": padded_size(conv.out_channels),
    }


# Calibration


class InputRange:
    """Smallest, largest and mean value of every channel that goes into a convolution.

    A pre-hook of the convolution: it takes note of what passes.
    """

    def __init__(self, channels: int):
        self.smallest, self.largest = torch.full((channels,), torch.inf), torch.full((channels,), -torch.inf)
        self.sum, self.count = torch.zeros(channels, dtype=torch.float64), 0

    def __call__(self, conv: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        self.smallest = torch.minimum(self.smallest, values.amin(1))
        self.largest = torch.maximum(self.largest, values.amax(1))
        self.sum += values.double().sum(1)
        self.count += values.shape[1]

    @property
    def mean(self) -> torch.Tensor:
        return (self.sum / self.count).float()


@dataclass(frozen=True)
class Quantization:
    """Channels as integers round(value / step + offset), and the means of the values; `(channels,)` each."""

    step: torch.Tensor
    offset: torch.Tensor
    mean: torch.Tensor


@dataclass(frozen=True)
class Calibration:
    """What normal clips say of the values that go into the convolutions which are quantized."""

    is_wide: bool
    ranges: dict[nn.Module, InputRange]

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: Any, extractor: AttentionAsdFeatureExtractor, waveforms: torch.Tensor, is_wide: bool
    ) -> "Calibration":
        """Take note of the ranges while the folded network computes normal clips `(clips, clip_length)`."""
        backbone = model.backbone
        convs = [conv for block in backbone.bottlenecks for conv in (block.expand.conv, block.project.conv)]
        convs += [backbone.stem.conv, backbone.head.conv]
        if model.attention is not None:
            convs.append(model.attention.layers[3].pointwise)
        ranges = {conv: InputRange(conv.in_channels) for conv in convs}
        hooks = [conv.register_forward_pre_hook(range_) for conv, range_ in ranges.items()]
        for clip in tqdm(waveforms.split(1), desc="Calibrating", unit="clip"):
            model(input_values=clip, input_features=extractor.log_mel(clip))
        for hook in hooks:
            hook.remove()
        return cls(is_wide, ranges)

    def factor(self, conv: nn.Module) -> torch.Tensor:
        """The factors `(channels,)` that make integers of 16 bits of a convolution's input; zero stays zero."""
        range_ = self.ranges[conv]
        return HIGHEST / (RANGES[True][2] * torch.maximum(range_.largest, -range_.smallest)).clamp_min(1e-6)

    def quantization(self, conv: nn.Module) -> Quantization:
        """How the input of a 1x1 convolution is quantized: every channel in steps of its own."""
        range_, (lowest, highest, room) = self.ranges[conv], RANGES[self.is_wide]
        reach = 0.5 * room * (range_.largest - range_.smallest).clamp_min(1e-6)
        step = 2.0 * reach / (highest - lowest)
        offset = lowest - (0.5 * (range_.smallest + range_.largest) - reach) / step
        return Quantization(step, offset, range_.mean)


def integers(
    weights: torch.Tensor,
    bias: torch.Tensor,
    largest_weight: int,
    largest_input: int,
    mean_input: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return whole weights `(out, in)`, a whole bias `(out,)` and the scale of both `(out,)`.

    No inputs can make a sum pass 31 bits.

    Args:
        bias: what is added to the products; with `mean_input` `(in,)`, the sum that these give, bias included.
    """
    sums = weights.abs().sum(1)
    # Half of the range for the products, to which rounding adds half a weight for every input at most; half for the bias.
    most = 2**30 / largest_input - 0.5 * weights.shape[1]
    farthest = bias.abs() + (0.0 if mean_input is None else weights.abs() @ mean_input.abs())
    scale = (
        torch.stack([weights.abs().amax(1) / largest_weight, sums / most, farthest / 2**29]).amax(0).clamp_min(1e-20)
    )
    whole = (weights / scale.unsqueeze(1)).round()
    if mean_input is not None:
        bias = bias - scale * (whole @ mean_input)
    return whole, (bias / scale).round().to(torch.int32), scale


# Tensors, part by part of the network


def log_mel_tensors(extractor: AttentionAsdFeatureExtractor) -> dict[str, torch.Tensor]:
    window, filters = extractor.window_and_mel_filters(torch.device("cpu"))
    angles = 2.0 * math.pi * torch.arange(extractor.n_fft, dtype=torch.float64) / extractor.n_fft
    used = [row.nonzero().flatten() for row in filters]
    first = [int(places[0]) if len(places) else 0 for places in used]
    stop = [int(places[-1]) + 1 if len(places) else 0 for places in used]
    return {
        "window": window,
        "cosine": angles.cos().float(),
        "sine": angles.sin().float(),
        "mel_first": torch.tensor(first, dtype=torch.int32),
        "mel_count": torch.tensor(stop, dtype=torch.int32) - torch.tensor(first, dtype=torch.int32),
        "mel_weights": torch.cat([row[a:b] for row, a, b in zip(filters, first, stop, strict=True)]),
    }


def wavegram_tensors(filters: Any) -> dict[str, torch.Tensor]:
    return {
        "wavegram_filter": filters.depthwise.weight.detach().flatten(),
        "wavegram_gain": filters.pointwise.weight.detach().flatten(),
        "wavegram_offset": filters.pointwise.bias.detach(),
    }


def gain_and_offset(norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A BatchNorm as gain * value + offset."""
    gain = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    return gain, norm.bias.detach() - gain * norm.running_mean


def attention_tensors(layers: Any, calibration: Calibration) -> dict[str, torch.Tensor]:
    first, first_norm, _, second, second_norm, _, last = layers
    factor = calibration.factor(second.pointwise)
    weights, bias, scale = integers(
        second.pointwise.weight.detach().flatten(1) / factor, second.pointwise.bias.detach(), HIGHEST, HIGHEST
    )
    first_gain, first_offset = gain_and_offset(first_norm)
    second_gain, second_offset = gain_and_offset(second_norm)
    gain, offset = last.depthwise.weight.detach().flatten(), last.depthwise.bias.detach()
    return {
        "first_depthwise": first.depthwise.weight.detach().flatten(1),
        "first_depthwise_bias": first.depthwise.bias.detach(),
        "first_pointwise": first.pointwise.weight.detach().flatten(1),
        "first_pointwise_bias": first.pointwise.bias.detach(),
        "first_gain": EXPONENT_STEPS * first_gain,
        "first_offset": EXPONENT_STEPS * first_offset,
        "second_depthwise": factor[:, None] * second.depthwise.weight.detach().flatten(1),
        "second_depthwise_bias": factor * second.depthwise.bias.detach(),
        "second_pointwise": weights,
        "second_bias": bias,
        "second_gain": EXPONENT_STEPS * scale * second_gain,
        "second_offset": EXPONENT_STEPS * second_offset,
        # The last depthwise convolution has size 1: gain * ELU + offset, and ELU is exp(v) - 1 below zero.
        "last_linear": gain / EXPONENT_STEPS,
        "last_exponential": gain,
        "last_offset": offset - gain,
        "last_pointwise": last.pointwise.weight.detach().flatten(1).T,
        "last_pointwise_bias": last.pointwise.bias.detach(),
    }


def backbone_tensors(model: Any, calibration: Calibration) -> dict[str, torch.Tensor]:
    """MobileFaceNet's tensors. A layer's scale is in the weights of the next one."""
    backbone, blocks = model.backbone, model.backbone.bottlenecks
    tensors, scale = stem_tensors(backbone.stem, calibration)
    convs = [conv for block in blocks for conv in (block.expand.conv, block.project.conv)] + [backbone.head.conv]
    inputs = [calibration.quantization(conv) for conv in convs]
    tensors |= depthwise_tensors("stem_depthwise", backbone.stem_depthwise, scale, inputs[0])
    for i, block in enumerate(blocks):
        name, (before, hidden, after) = f"bottlenecks.{i}", inputs[2 * i : 2 * i + 3]
        expand, scale = pointwise_tensors(f"{name}.expand", block.expand, before, calibration.is_wide)
        depthwise = depthwise_tensors(f"{name}.depthwise", block.depthwise, scale, hidden)
        project, _ = pointwise_tensors(f"{name}.project", block.project, hidden, calibration.is_wide)
        next_input = "head_input" if i + 1 == len(blocks) else f"bottlenecks.{i + 1}.input"
        quantization = {f"{next_input}.factor": 1.0 / after.step, f"{next_input}.offset": after.offset}
        tensors |= expand | depthwise | project | quantization
    head, scale = pointwise_tensors("head", backbone.head, inputs[-1], calibration.is_wide)
    pooling, embedding = backbone.global_depthwise.conv, backbone.embedding.conv
    return {
        **tensors,
        **head,
        "global_depthwise": pooling.weight.detach().flatten(1).T * scale,
        "global_bias": pooling.bias.detach(),
        "embedding": embedding.weight.detach().flatten(1).T,
        "embedding_bias": embedding.bias.detach(),
        "centres": nn.functional.normalize(model.arcface.weight.detach()).T,
    }


def stem_tensors(stem: Any, calibration: Calibration) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The first convolution's tensors, and the scale of its output."""
    factor = calibration.factor(stem.conv)
    weights = stem.conv.weight.detach() / factor[:, None, None]
    whole, bias, scale = integers(weights.flatten(1), stem.conv.bias.detach(), HIGHEST, HIGHEST)
    tensors = {
        "stem_factor": factor,
        # (taps, output channels, input channels)
        "stem": whole.view_as(weights).flatten(2).permute(2, 0, 1),
        "stem_bias": bias,
        "stem_slope": stem.activation.weight.detach(),
    }
    return tensors, scale


def depthwise_tensors(name: str, layer: Any, scale: torch.Tensor, output: Quantization) -> dict[str, torch.Tensor]:
    """A depthwise convolution's tensor. `scale` is the factor that its input lacks.

    A PReLU lets a positive factor through, so that the weights can have the one that quantizes the output.
    """
    weights = layer.conv.weight.detach().flatten(1).T * (scale / output.step)
    bias = layer.conv.bias.detach() / output.step
    rows = torch.stack([*weights, bias, layer.activation.weight.detach(), output.offset])
    rows = padded(rows, (len(rows), padded_size(rows.shape[1])))
    # Vector by vector of channels: nine weights, bias, slope and offset of each.
    return {f"{name}.parameters": rows.unflatten(1, (-1, LANES)).transpose(0, 1).reshape(rows.shape)}


def pointwise_tensors(
    name: str, layer: Any, input_: Quantization, is_wide: bool
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A 1x1 convolution's tensors, whose weights take on the steps of its input, and the scale of its output.

    The engine multiplies by the scale itself where there is no activation.
    """
    weights = layer.conv.weight.detach().flatten(1)
    mean_input = input_.mean / input_.step + input_.offset
    lowest, highest, _ = RANGES[is_wide]
    # The mean stays what it was, whatever rounding does to the weights.
    whole, bias, scale = integers(
        weights * input_.step,
        layer.conv.bias.detach() + weights @ input_.mean,
        HIGHEST if is_wide else 127,
        max(highest, -lowest),
        mean_input,
    )
    slope = getattr(layer.activation, "weight", None)
    parameter = {f"{name}.factor": scale} if slope is None else {f"{name}.slope": slope.detach()}
    packed = in_blocks(whole.to(torch.int16 if is_wide else torch.int8))
    return {f"{name}.bias": bias, f"{name}.weights": packed, **parameter}, scale


def in_blocks(weights: torch.Tensor) -> torch.Tensor:
    """Whole weights `(out, in)` as bytes in the engine's order, padded.

    A block has 64 output channels: first 4 bytes of input channels of each of them, then the next 4 bytes, and so on.
    """
    out_channels, in_channels = (padded_size(size) for size in weights.shape)
    group = 4 // weights.element_size()
    blocks = padded(weights, (out_channels, in_channels)).view(-1, BLOCK, in_channels // group, group).transpose(1, 2)
    packed = np.ascontiguousarray(blocks.numpy()).view(np.int8)
    return torch.from_numpy(packed.reshape(out_channels, in_channels, weights.element_size()))
