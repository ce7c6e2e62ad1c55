"""The network as a graph for ONNX Runtime and OpenVINO: the log-mel, the network and the detector's scores in one."""

import copy
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel, ClipOutputs
from modeling.calibration_attention_asd import StudentT, to_tail_scale
from modeling.modeling_attention_asd import spectral_statistics
from modeling.student_attention_asd import log_constant, tail_integral

from .engine_attention_asd import OUTPUTS


# The input with a default.
RATE = "false_alarm_rate"


class LogMel(nn.Module):
    """The feature extractor's log-mel (Section II.A) as matrix products, because OpenVINO reads no STFT from ONNX.

    Samples n, N-n, N/2-n and N/2+n of a frame of N have the same cosine and sine but for signs, which depend on whether
    the frequency is even. Their sums come first, which leaves a quarter of a plain matrix product's arithmetic.
    """

    positions: torch.Tensor
    outer_window: torch.Tensor
    inner_window: torch.Tensor
    even_cosines: torch.Tensor
    even_sines: torch.Tensor
    odd_cosines: torch.Tensor
    odd_sines: torch.Tensor
    mel_filters: torch.Tensor

    def __init__(self, extractor: AttentionAsdFeatureExtractor):
        super().__init__()
        size = extractor.n_fft
        if size % 4:
            raise ValueError(f"n_fft={size}: expected a multiple of 4; another log-mel cannot be exported.")
        self.padding, self.floor_db = size // 2, 10.0 * math.log10(extractor.mel_floor)
        window, mel_filters = extractor.window_and_mel_filters(torch.device("cpu"))
        n = torch.arange(size // 4 + 1)
        starts = extractor.hop_length * torch.arange(1 + extractor.clip_length // extractor.hop_length).unsqueeze(1)
        positions = torch.stack([starts + offset for offset in (n, size - n, size // 2 - n, size // 2 + n)])
        # Sample N of the last frame may not exist; the window is zero there.
        self.register_buffer("positions", positions.clamp_max(extractor.clip_length + size - 1))
        self.register_buffer("outer_window", window[n])
        self.register_buffer("inner_window", window[size // 2 - n])
        angles = 2.0 * math.pi * torch.outer(n.double(), torch.arange(size // 2 + 1).double()) / size
        # At both ends of n, two of the four samples are one and the same.
        weights = torch.ones(len(n), 1, dtype=torch.float64)
        weights[0] = weights[-1] = 0.5
        for name, table in (("cosines", angles.cos() * weights), ("sines", angles.sin() * weights)):
            self.register_buffer(f"even_{name}", table[:, 0::2].float().contiguous())
            self.register_buffer(f"odd_{name}", table[:, 1::2].float().contiguous())
        self.register_buffer(
            "mel_filters",
            torch.cat([mel_filters[:, 0::2], mel_filters[:, 1::2]], dim=1).T.contiguous() / extractor.mel_floor,
        )

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """`(batch, clip_length)` -> `(batch, num_mel_bins, num_frames)` in dB."""
        padded = F.pad(input_values.unsqueeze(1), (self.padding, self.padding), mode="reflect").squeeze(1)
        first, last, before, after = (
            padded.index_select(1, where.flatten()).unflatten(1, where.shape) for where in self.positions
        )
        outer_sum, outer_difference = self.outer_window * (first + last), self.outer_window * (first - last)
        inner_sum, inner_difference = self.inner_window * (before + after), self.inner_window * (before - after)
        even = ((outer_sum + inner_sum) @ self.even_cosines, (outer_difference - inner_difference) @ self.even_sines)
        odd = ((outer_sum - inner_sum) @ self.odd_cosines, (outer_difference + inner_difference) @ self.odd_sines)
        power = torch.cat([real.square() + imaginary.square() for real, imaginary in (even, odd)], dim=2)
        # In units of the floor: the exporter takes a sum with 1e-8 for one with nothing, and silence would be infinite.
        return (10.0 * torch.log10(power @ self.mel_filters + 1.0) + self.floor_db).transpose(1, 2)


class BlockwiseConv1d(nn.Module):
    """The Wavegram's one filter as a matrix product over blocks of its stride.

    OpenVINO took 1.0 ms for the convolution, a twentieth of the whole.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, conv: Any):
        super().__init__()
        self.padding, self.block = conv.padding[0], conv.stride[0]
        # (samples of a block, blocks of the filter)
        self.register_buffer("weight", conv.weight.detach().view(-1, self.block).T.contiguous())
        self.register_buffer("bias", conv.bias.detach())

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`(batch, 1, samples)` -> `(batch, 1, frames)`."""
        padded = F.pad(waveforms.squeeze(1), (self.padding, self.padding))
        blocks = padded.shape[1] // self.block
        products = padded[:, : blocks * self.block].unflatten(1, (blocks, self.block)) @ self.weight
        taps = self.weight.shape[1]
        shifted = [products[:, tap : blocks - taps + 1 + tap, tap] for tap in range(taps)]
        return (sum(shifted) + self.bias).unsqueeze(1)


class ScaleAndShift(nn.Module):
    """A depthwise 1x1 convolution as a product and a sum, which engines fuse into the layer before."""

    def __init__(self, conv: Any):
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().view(1, -1, 1, 1))
        self.bias = nn.Parameter(conv.bias.detach().view(1, -1, 1, 1))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * self.weight + self.bias


# Models with other layers than their classes name: for the type checker they are anything.


def folded(model: AttentionAsdModel) -> Any:
    """A copy with every BatchNorm that follows a convolution folded into it."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        for conv, norm in (("depthwise", "depthwise_norm"), ("pointwise", "pointwise_norm"), ("conv", "norm")):
            if hasattr(module, norm):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
    return model


def simplified(model: AttentionAsdModel) -> Any:
    """A folded copy. Layers that are slow in other engines are replaced by faster ones that compute the same."""
    faster = folded(model)
    if faster.wavegram is not None and model.config.use_separable_convolutions:
        filters = faster.wavegram.filters
        if filters.depthwise.kernel_size[0] % filters.depthwise.stride[0] == 0:
            filters.depthwise = BlockwiseConv1d(filters.depthwise)
    if faster.attention is not None and model.config.use_separable_convolutions:
        last = faster.attention.layers[-1]
        last.depthwise = ScaleAndShift(last.depthwise)
    return faster


class PValues(nn.Module):
    """The p-values of scores `(batch, machines)`, in float32: ONNX Runtime has no arc tangent of doubles.

    Where nothing is known the p-value is 1, which raises no alarm. The detector has NaN there, which some engines find on
    either side of a number.
    """

    location: torch.Tensor
    scale: torch.Tensor
    degrees: torch.Tensor
    log_constant: torch.Tensor
    lowest: torch.Tensor

    def __init__(self, detector: AnomalyDetector):
        super().__init__()
        self.backend = detector.backend
        calibrations = [detector.calibration(machine) for machine in detector.machines]
        # With this location nothing is rare.
        unknown = StudentT(1.0, 1e30, 1.0)
        normal = [unknown if known.prior is None else known.normal_scores for known in calibrations]
        degrees, location, scale = torch.tensor(normal, dtype=torch.float64).T
        self.register_buffer("location", location)
        self.register_buffer("scale", scale)
        self.register_buffer("degrees", degrees.float())
        self.register_buffer("log_constant", log_constant(degrees).float())
        self.register_buffer("lowest", torch.tensor([known.lowest_rate for known in calibrations]))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        t = ((to_tail_scale(self.backend, scores) - self.location) / self.scale).float()
        return torch.maximum(tail_integral(t, self.degrees, self.log_constant), self.lowest)


class NetworkGraph(nn.Module):
    """From the waveform to everything that the network says, and its inputs.

    Args:
        model, extractor: what the graph computes.
        dtype: of the bottlenecks and the head, which have most of the arithmetic. In bfloat16 everywhere, the cosines of
            168 real clips differed by 0.023 at most; in bfloat16 from the bottlenecks on, by 0.010.

    Raises:
        ValueError: for a log-mel that cannot be exported.
    """

    def __init__(
        self,
        model: AttentionAsdModel,
        extractor: AttentionAsdFeatureExtractor,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.model, self.log_mel, self.dtype = simplified(model), LogMel(extractor), dtype
        self.model.backbone.bottlenecks.to(dtype)
        self.model.backbone.head.to(dtype)

    def forward(self, input_values: torch.Tensor) -> dict[str, torch.Tensor]:
        log_mel = self.log_mel(input_values)
        hidden_states = self.model.represent(input_values, log_mel)
        outputs = {"log_mel": log_mel, "representations": hidden_states}
        if self.model.attention is not None:
            outputs["attention_maps"] = self.model.attention(hidden_states)
            hidden_states = outputs["attention_maps"] * hidden_states
        backbone = self.model.backbone
        hidden_states = backbone.stem_depthwise(backbone.stem(hidden_states)).to(self.dtype)
        for bottleneck in backbone.bottlenecks:
            hidden_states = bottleneck(hidden_states)
        hidden_states = backbone.global_depthwise(backbone.head(hidden_states).float())
        outputs["embeddings"] = backbone.embedding(hidden_states).flatten(1)
        outputs["cosines"] = self.model.arcface.cosines(outputs["embeddings"])
        outputs["spectra"] = spectral_statistics(log_mel)
        return outputs


class Graph(nn.Module):
    """From the waveform to everything that a decision needs; `scripts/export.py --help` lists the outputs.

    Args:
        model, extractor, detector: what the graph computes.
        dtype: see [`NetworkGraph`].

    Raises:
        ValueError: for a log-mel that cannot be exported.
    """

    def __init__(
        self,
        model: AttentionAsdModel,
        extractor: AttentionAsdFeatureExtractor,
        detector: AnomalyDetector,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.network, self.detector = NetworkGraph(model, extractor, dtype), detector
        self.p_values = PValues(detector)

    def forward(self, input_values: torch.Tensor, false_alarm_rate: torch.Tensor) -> dict[str, torch.Tensor]:
        heard = self.network(input_values)
        outputs = {name: heard[name] for name in OUTPUTS if name in heard}
        clips = ClipOutputs(outputs["embeddings"], outputs["cosines"], outputs["spectra"])
        scores = torch.stack([self.detector.scores(clips, machine) for machine in self.detector.machines], dim=1)
        outputs["scores"] = scores.float()
        outputs["p_values"] = self.p_values(scores)
        outputs["is_anomalous"] = outputs["p_values"] <= false_alarm_rate
        return outputs


# Files


def write_onnx(graph: Graph, clip_length: int, path: Path) -> list[str]:
    """Write the graph with a free batch size. Returns the names of its outputs.

    The false-alarm rate is an input with a default, the detector's: ONNX Runtime takes another one where it is given.
    OpenVINO has the default for good; `p_values` serve any rate.

    Raises:
        ValueError: the detector's back end cannot be part of a graph.
    """
    # Takes a second to import.
    from torch._dynamo.exc import Unsupported

    example = (torch.zeros(2, clip_length), torch.tensor(graph.detector.false_alarm_rate))
    names, shapes = list(graph(*example)), ({0: torch.export.Dim("batch")}, None)
    # Strict, because the other tracer takes len() of a tensor for a constant.
    try:
        program = torch.export.export(graph, example, dynamic_shapes=shapes, strict=True)
    except Unsupported as error:
        raise ValueError(
            f"backend={graph.detector.backend!r}: its scores cannot be part of a graph ({str(error).splitlines()[0]}). Give "
            "the detector another default back end: scripts/fit_detector.py --backend."
        ) from error
    inputs = ["input_values", RATE]
    torch.onnx.export(program, f=path, input_names=inputs, output_names=names, external_data=False, verbose=False)
    add_default_rate(path, graph.detector.false_alarm_rate)
    return names


def add_default_rate(path: Path, rate: float) -> None:
    """Make the false-alarm rate of a graph in ONNX an optional input with this default."""
    import onnx

    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(rate, dtype=np.float32), RATE))
    onnx.save(model, path)


def write_openvino(onnx_path: Path, path: Path, calibration: np.ndarray | None, num_bottlenecks: int) -> None:
    """Write OpenVINO's two files of a graph in ONNX; quantized if there are clips `(clips, clip_length)` to calibrate with."""
    import openvino

    model = openvino.Core().read_model(onnx_path)
    if calibration is not None:
        model = quantized(model, calibration, num_bottlenecks)
    openvino.save_model(model, path, compress_to_fp16=False)


def quantized(model: Any, calibration: np.ndarray, num_bottlenecks: int) -> Any:
    """Quantize the 1x1 convolutions of the bottlenecks and the head to int8: they have nearly all of the arithmetic.

    With the whole network in int8, its cosines moved by 0.2 on real clips: log-mel and Wavegram then share 256 steps.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    nodes = model.get_ordered_ops()
    kernels = {
        node.get_friendly_name(): tuple(node.input(1).get_partial_shape().to_shape())
        for node in nodes
        if node.get_type_name() == "Convolution"
    }
    pointwise = [name for name, shape in kernels.items() if shape[2:] == (1, 1)]
    # The last is the embedding; before it the head, and an expansion and a projection for each bottleneck.
    kept = set(pointwise[-2 - 2 * num_bottlenecks : -1])
    others = [node.get_friendly_name() for node in nodes if node.get_friendly_name() not in kept]
    dataset = nncf.Dataset([clip[None] for clip in calibration])
    return nncf.quantize(
        model,
        dataset,
        subset_size=len(calibration),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=others, validate=False),
    )
