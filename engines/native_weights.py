"""The weights of the compiled engine, `modeling/native_attention_asd.c`: folded, quantised, and laid out as it reads them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdModel
from modeling.native_attention_asd import HIDDEN, MAX_REPRESENTATIONS

from .graph import folded


# As in the C source.
BLOCK = 64
LANES = 16

# Exponentials there are of base 1 / 2, and their arguments in parts of 2^-23.
EXPONENT_STEPS = -(2.0**23) / math.log(2.0)
# Pixels of the 1x1 convolutions: their integers, and how far beyond what calibration clips reach these go. Anomalous clips
# go beyond; bits are scarce in bytes. With no room beyond, the embeddings of 168 real clips had a cosine of 0.989 at worst
# to what they should be in bytes and in shorts, with this 0.995 and above 0.9999.
RANGES = {False: (0, 255, 1.25), True: (-8192, 8191, 4.0)}
# Of 16-bit integers in the attention module and the stem, where zero is zero.
HIGHEST = 32767


class InputRange:
    """Smallest, largest and mean of every channel of what goes into a convolution."""

    def __init__(self, conv: nn.Conv2d):
        channels = conv.in_channels
        self.smallest, self.largest = torch.full((channels,), torch.inf), torch.full((channels,), -torch.inf)
        self.sum, self.count = torch.zeros(channels, dtype=torch.float64), 0

    def __call__(self, conv: nn.Conv2d, inputs: tuple[torch.Tensor]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        self.smallest = torch.minimum(self.smallest, values.amin(1))
        self.largest = torch.maximum(self.largest, values.amax(1))
        self.sum += values.double().sum(1)
        self.count += values.shape[1]

    @property
    def mean(self) -> torch.Tensor:
        return (self.sum / self.count).float()


@torch.no_grad()
def input_ranges(
    model: AttentionAsdModel, extractor: AttentionAsdFeatureExtractor, convs: list[nn.Conv2d], waveforms: torch.Tensor
) -> dict[nn.Conv2d, InputRange]:
    ranges = {conv: InputRange(conv) for conv in convs}
    hooks = [conv.register_forward_pre_hook(range_) for conv, range_ in ranges.items()]
    for clip in tqdm(waveforms.split(1), desc="Calibrating", unit="clip"):
        model(input_values=clip, input_features=extractor.log_mel(clip))
    for hook in hooks:
        hook.remove()
    return ranges


def check_supported(model: AttentionAsdModel, extractor: AttentionAsdFeatureExtractor) -> None:
    """
    Raises:
        ValueError: the C source has no code for the model's architecture; the message says what to do.
    """
    config = model.config
    reasons = []
    if not config.use_separable_convolutions:
        reasons.append("use_separable_convolutions=False")
    if config.use_attention and (len(config.attention_channels) != 2 or config.attention_channels[0] > HIDDEN):
        reasons.append(f"attention_channels={config.attention_channels} (two, the first at most {HIDDEN}, would do)")
    blocks = model.backbone.bottlenecks
    if blocks and blocks[0].is_residual or any(max(block.depthwise.conv.stride) > 2 for block in blocks):
        reasons.append(f"bottlenecks={config.bottlenecks} (strides of 1 and 2, the first 2, would do)")
    if extractor.n_fft < 16 or extractor.n_fft & (extractor.n_fft - 1):
        reasons.append(f"n_fft={extractor.n_fft} (a power of 2, 16 or more, would do)")
    if reasons:
        raise ValueError(
            f"The compiled engine has no code for {' and '.join(reasons)}. Export the model with --engine openvino or onnx."
        )


def native_network(
    model: AttentionAsdModel,
    extractor: AttentionAsdFeatureExtractor,
    waveforms: torch.Tensor,
    is_wide: bool,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """
    Args:
        waveforms: `(clips, clip_length)`, normal clips that the ranges of quantised values are taken from.
        is_wide: pixels of the 1x1 convolutions in 16 bits, else in 8.

    Returns:
        Tensors by the C source's field names, and the numbers among its fields.

    Raises:
        ValueError: see [`check_supported`].
    """
    check_supported(model, extractor)
    writer = Writer(folded(model), extractor, waveforms, is_wide)
    writer.log_mel()
    if model.wavegram is not None:
        writer.wavegram()
    if model.attention is not None:
        writer.attention()
    writer.backbone()
    return {name: tensor.contiguous() for name, tensor in writer.tensors.items()}, writer.numbers


class Writer:
    """Collects tensors and numbers, each part of the network in a method of its own."""

    def __init__(
        self,
        model: AttentionAsdModel,
        extractor: AttentionAsdFeatureExtractor,
        waveforms: torch.Tensor,
        is_wide: bool,
    ):
        self.model, self.extractor, self.is_wide = model, extractor, is_wide
        self.lowest, self.highest, self.reach = RANGES[is_wide]
        backbone = model.backbone
        convs = [conv for block in backbone.bottlenecks for conv in (block.expand.conv, block.project.conv)]
        convs += [backbone.stem.conv, backbone.head.conv]
        if model.attention is not None:
            convs.append(model.attention.layers[3].pointwise)
        self.ranges = input_ranges(model, extractor, convs, waveforms)
        config, positions = model.config, model.config.input_representations
        self.tensors: dict[str, torch.Tensor] = {}
        self.numbers: dict[str, Any] = {
            "clip_length": config.clip_length,
            "n_fft": extractor.n_fft,
            "hop_length": config.hop_length,
            "num_mel_bins": config.num_mel_bins,
            "num_frames": config.num_frames,
            "num_representations": config.num_representations,
            **{f"{name}_position": positions.index(name) if name in positions else -1 for name in ("log_mel", "wavegram")},
            "wavegram_kernel_size": config.wavegram_kernel_size,
            "wavegram_bias": 0.0,
            "use_attention": int(config.use_attention),
            "attention_channels": 0,
            "stem_channels": padded_size(config.stem_channels),
            "num_bottlenecks": len(backbone.bottlenecks),
            "head_channels": padded_size(config.head_channels),
            "embedding_size": config.embedding_size,
            "num_labels": config.num_labels,
            "is_wide": int(is_wide),
            "mel_floor": extractor.mel_floor,
        }  # fmt: skip

    def log_mel(self) -> None:
        window, filters = self.extractor._constants_on(torch.device("cpu"))
        angles = 2.0 * math.pi * torch.arange(self.extractor.n_fft, dtype=torch.float64) / self.extractor.n_fft
        first, count, weights = [], [], []
        for row in filters:
            used = row.nonzero().flatten()
            start, stop = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
            first.append(start)
            count.append(stop - start)
            weights.append(row[start:stop])
        self.tensors |= {
            "window": window,
            "cosine": angles.cos().float(),
            "sine": angles.sin().float(),
            "mel_first": torch.tensor(first, dtype=torch.int32),
            "mel_count": torch.tensor(count, dtype=torch.int32),
            "mel_weights": torch.cat(weights),
        }

    def wavegram(self) -> None:
        filters = self.model.wavegram.filters
        self.numbers["wavegram_bias"] = filters.depthwise.bias.item()
        self.tensors |= {
            "wavegram_filter": filters.depthwise.weight.detach().flatten(),
            "wavegram_gain": filters.pointwise.weight.detach().flatten(),
            "wavegram_offset": filters.pointwise.bias.detach(),
        }

    def attention(self) -> None:
        first, first_norm, _, second, second_norm, _, last = self.model.attention.layers
        self.numbers["attention_channels"] = second.pointwise.out_channels
        factor = self.factor(second.pointwise)
        weights, bias, scale = integers(
            second.pointwise.weight.detach().flatten(1) / factor,
            second.pointwise.bias.detach(),
            HIGHEST,
            HIGHEST,
        )
        first_gain, first_offset = gain_and_offset(first_norm)
        second_gain, second_offset = gain_and_offset(second_norm)
        gain, offset = last.depthwise.weight.detach().flatten(), last.depthwise.bias.detach()
        self.tensors |= {
            "first_depthwise": first.depthwise.weight.detach().flatten(1),
            "first_depthwise_bias": first.depthwise.bias.detach(),
            "first_pointwise": padded(
                padded(first.pointwise.weight.detach().flatten(1), 0, HIDDEN), 1, MAX_REPRESENTATIONS
            ),
            "first_pointwise_bias": padded(first.pointwise.bias.detach(), 0, HIDDEN),
            "first_gain": padded(EXPONENT_STEPS * first_gain, 0, HIDDEN),
            "first_offset": padded(EXPONENT_STEPS * first_offset, 0, HIDDEN),
            "second_depthwise": padded(factor[:, None] * second.depthwise.weight.detach().flatten(1), 0, HIDDEN),
            "second_depthwise_bias": padded(factor * second.depthwise.bias.detach(), 0, HIDDEN),
            "second_pointwise": padded(weights.to(torch.int16), 1, HIDDEN),
            "second_bias": bias,
            "second_gain": EXPONENT_STEPS * scale * second_gain,
            "second_offset": EXPONENT_STEPS * second_offset,
            # The last depthwise convolution is of size 1: gain * ELU + offset, and ELU is exp(v) - 1 below zero.
            "last_linear": gain / EXPONENT_STEPS,
            "last_exponential": gain,
            "last_offset": offset - gain,
            "last_pointwise": padded(last.pointwise.weight.detach().flatten(1).T, 1, MAX_REPRESENTATIONS),
            "last_pointwise_bias": padded(last.pointwise.bias.detach(), 0, MAX_REPRESENTATIONS),
        }

    def backbone(self) -> None:
        backbone = self.model.backbone
        stem = backbone.stem.conv
        factor = self.factor(stem)
        weights = stem.weight.detach() / factor[:, None, None]
        whole, bias, stem_scale = integers(weights.flatten(1), stem.bias.detach(), HIGHEST, HIGHEST)
        taps = padded(whole.view_as(weights).flatten(2).permute(2, 0, 1), 1)
        self.tensors |= {
            "stem_factor": padded(factor, 0, MAX_REPRESENTATIONS),
            "stem": padded(taps.to(torch.int16), 2, MAX_REPRESENTATIONS),
            "stem_bias": padded(bias, 0),
            "stem_slope": padded(backbone.stem.activation.weight.detach(), 0),
        }
        blocks = backbone.bottlenecks
        pixels = [self.pixels(conv) for block in blocks for conv in (block.expand.conv, block.project.conv)]
        pixels.append(self.pixels(backbone.head.conv))
        self.depthwise("stem_depthwise.", backbone.stem_depthwise, stem_scale, pixels[0])
        for i, block in enumerate(blocks):
            name, (before, hidden, after) = f"bottlenecks.{i}.", pixels[2 * i : 2 * i + 3]
            scale = self.pointwise(f"{name}expand.", block.expand, before)
            self.depthwise(f"{name}depthwise.", block.depthwise, scale, hidden)
            self.pointwise(f"{name}project.", block.project, hidden)
            self.numbers[f"{name}is_residual"] = int(block.is_residual)
            self.quantisation("head_input." if i + 1 == len(blocks) else f"bottlenecks.{i + 1}.input.", after)
        scale = self.pointwise("head.", backbone.head, pixels[-1])
        pooling, embedding = backbone.global_depthwise.conv, backbone.embedding.conv
        self.tensors |= {
            "global_depthwise": padded(pooling.weight.detach().flatten(1).T * scale, 1),
            "global_bias": padded(pooling.bias.detach(), 0),
            "embedding": padded(embedding.weight.detach().flatten(1).T, 0),
            "embedding_bias": embedding.bias.detach(),
            "centres": nn.functional.normalize(self.model.arcface.weight.detach()).T,
        }

    def factor(self, conv: nn.Conv2d) -> torch.Tensor:
        """What makes a convolution's input integers of 16 bits, `(channels,)`; zero stays zero."""
        range_ = self.ranges[conv]
        return HIGHEST / (RANGES[True][2] * torch.maximum(range_.largest, -range_.smallest)).clamp_min(1e-6)

    def pixels(self, conv: nn.Conv2d) -> "Pixels":
        """How what goes into a 1x1 convolution is quantised: every channel in steps of its own."""
        range_ = self.ranges[conv]
        reach = 0.5 * self.reach * (range_.largest - range_.smallest).clamp_min(1e-6)
        step = 2.0 * reach / (self.highest - self.lowest)
        offset = self.lowest - (0.5 * (range_.smallest + range_.largest) - reach) / step
        return Pixels(step, offset, range_.mean)

    def quantisation(self, name: str, pixels: "Pixels") -> None:
        self.tensors |= {f"{name}factor": padded(1.0 / pixels.step, 0), f"{name}offset": padded(pixels.offset, 0)}

    def depthwise(self, name: str, layer: nn.Module, scale: torch.Tensor, pixels: "Pixels") -> None:
        """`scale` is what its input lacks as a factor. Its output is quantised: a PReLU lets a positive factor through, so
        that the weights can have it."""
        self.numbers |= {f"{name}channels": padded_size(layer.conv.out_channels), f"{name}stride": layer.conv.stride[0]}
        weights = layer.conv.weight.detach().flatten(1).T * (scale / pixels.step)
        bias = layer.conv.bias.detach() / pixels.step
        rows = [*weights, bias, layer.activation.weight.detach(), pixels.offset]
        # Vector by vector of channels.
        self.tensors[f"{name}parameters"] = padded(torch.stack(rows), 1).unflatten(1, (-1, LANES)).transpose(0, 1)

    def pointwise(self, name: str, layer: nn.Module, pixels: "Pixels") -> torch.Tensor:
        """A 1x1 convolution, whose weights take on the steps of its pixels. Returns what its output is to be multiplied by
        if it has an activation."""
        weights = layer.conv.weight.detach().flatten(1)
        mean_pixel = pixels.mean / pixels.step + pixels.offset
        largest_pixel, largest_weight = max(self.highest, -self.lowest), HIGHEST if self.is_wide else 127
        # So that the mean is as it was, whatever rounding does to the weights.
        whole, bias, scale = integers(
            weights * pixels.step,
            layer.conv.bias.detach() + weights @ pixels.mean,
            largest_weight,
            largest_pixel,
            mean_pixel,
        )
        self.numbers |= {
            f"{name}in_channels": padded_size(layer.conv.in_channels),
            f"{name}out_channels": padded_size(layer.conv.out_channels),
        }
        activation = getattr(layer.activation, "weight", None)
        self.tensors |= {
            f"{name}bias": padded(bias, 0),
            f"{name}weights": packed(whole.to(torch.int16 if self.is_wide else torch.int8)),
            **(
                {f"{name}factor": padded(scale, 0)}
                if activation is None
                else {f"{name}slope": padded(activation.detach(), 0)}
            ),
        }
        return scale


@dataclass
class Pixels:
    """Channels quantised as round(value / step + offset), and their means before, `(channels,)` each."""

    step: torch.Tensor
    offset: torch.Tensor
    mean: torch.Tensor


def gain_and_offset(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    gain = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    return gain, norm.bias.detach() - gain * norm.running_mean


def integers(
    weights: torch.Tensor,
    bias: torch.Tensor,
    largest_weight: int,
    largest_pixel: int,
    mean_pixel: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Whole numbers `(out, in)`, a whole bias `(out,)` and the scale of both `(out,)`. No pixels can make a sum pass 31 bits.

    Args:
        bias: what is added to the products; with `mean_pixel`, `(in,)`, what these give for it, bias included.
    """
    sums = weights.abs().sum(1)
    # Half of the range for the products, to which rounding adds half a weight for every pixel at most; half for the bias.
    most = 2**30 / largest_pixel - 0.5 * weights.shape[1]
    farthest = bias.abs() + (0.0 if mean_pixel is None else weights.abs() @ mean_pixel.abs())
    scale = (
        torch.stack([weights.abs().amax(1) / largest_weight, sums / most, farthest / 2**29]).amax(0).clamp_min(1e-20)
    )
    whole = (weights / scale.unsqueeze(1)).round()
    if mean_pixel is not None:
        bias = bias - scale * (whole @ mean_pixel)
    return whole, (bias / scale).round().to(torch.int32), scale


def padded_size(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK


def padded(tensor: torch.Tensor, axis: int, size: int | None = None) -> torch.Tensor:
    """Zeros at the end of an axis, up to `size` or the next multiple of a block of channels."""
    missing = (size or padded_size(tensor.shape[axis])) - tensor.shape[axis]
    return torch.cat([tensor, tensor.new_zeros(*tensor.shape[:axis], missing, *tensor.shape[axis + 1 :])], axis)


def packed(weights: torch.Tensor) -> torch.Tensor:
    """`(out, in)` integers -> blocks of 64 output channels, in them 4 bytes of input channels after the other."""
    group = 4 // weights.element_size()
    weights = padded(padded(weights, 0), 1)
    blocks = weights.view(-1, BLOCK, weights.shape[1] // group, group).transpose(1, 2)
    return torch.from_numpy(np.ascontiguousarray(blocks.numpy()).view(np.int8).reshape(-1))
