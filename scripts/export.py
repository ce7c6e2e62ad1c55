#!/usr/bin/env python
"""Export a model for another engine: one graph from the waveform to embedding, attention map, scores and verdicts.

    python scripts/export.py --model OUT --output_dir EXP --engine openvino-bf16 --calibration_dir DATA

EXP is a whole model directory, thresholds and code included, with the graph and export.json beside them; `--model EXP` of
score.py and `pipeline(model="EXP")` run the graph. Engines:

    onnx            ONNX Runtime, float32; the file also serves programs in C, C++, C# or a browser
    openvino        OpenVINO, float32
    openvino-bf16   the bottlenecks of MobileFaceNet in bfloat16, for processors that multiply in it
    openvino-int8   their 1x1 convolutions in int8, quantised after training on the normal clips of --calibration_dir

The export is compared with the network as it was: on the test clips of --calibration_dir (the normal training clips where
it has none), else on noise. Every output of the graph has the clip's axis first, of any length:

    input_values    (batch, clip_length)  waveforms in [-1, 1] at the model's sampling rate
    embeddings, cosines, spectra, attention_maps       as in AttentionAsdOutput
    scores          (batch, machines)  of the detector's back end, machines in the order of export.json
    is_anomalous    (batch, machines)  whether a clip, claimed to be of that machine, is, at the detector's false-alarm rate
"""

import argparse
import copy
import json
import logging
import math
import shutil
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dcase2020_task2 import label_name, load_clips  # noqa: E402
from feature_extraction import AttentionAsdFeatureExtractor  # noqa: E402
from metrics.asd_auc import asd_auc  # noqa: E402
from modeling import AnomalyDetector, AttentionAsdModel, AttentionAsdOutput  # noqa: E402
from modeling.engine_attention_asd import (  # noqa: E402
    EXPORT_FILE,
    FORMAT_VERSION,
    GRAPH_FILES,
    OUTPUTS,
    ExportedModel,
    load_onnx,
    load_openvino,
)
from modeling.modeling_attention_asd import spectral_statistics  # noqa: E402
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline  # noqa: E402
from modeling.scoring_attention_asd import BACKENDS  # noqa: E402
from training.allocator import keep_freed_memory  # noqa: E402


PACKAGES = {
    "onnx": ("onnxruntime",),
    "openvino": ("openvino",),
    "openvino-bf16": ("openvino",),
    "openvino-int8": ("openvino", "nncf"),
}
PRECISIONS = {
    "onnx": "float32",
    "openvino": "float32",
    "openvino-bf16": "bottlenecks in bfloat16, the rest in float32",
    "openvino-int8": "1x1 convolutions of the bottlenecks in int8, the rest in float32",
}
NOISE_CLIPS = 8
# Normal clips that the ranges of the quantised activations are taken from.
CALIBRATION_CLIPS = 64


# The graph


class LogMel(nn.Module):
    """The feature extractor's log-mel (Section II.A) as matrix products, because OpenVINO reads no STFT from ONNX.

    Samples n, N-n, N/2-n and N/2+n of a frame of N meet the same cosine and sine but for signs, which depend on whether
    the frequency is even. Added up before, they leave a quarter of the arithmetic of a plain matrix product.
    """

    def __init__(self, extractor: AttentionAsdFeatureExtractor):
        super().__init__()
        size = extractor.n_fft
        if size % 4:
            raise ValueError(f"n_fft={size}: expected a multiple of 4; another log-mel cannot be exported.")
        self.padding, self.floor = size // 2, extractor.mel_floor
        window, mel_filters = extractor._constants_on(torch.device("cpu"))
        n = torch.arange(size // 4 + 1)
        starts = extractor.hop_length * torch.arange(1 + extractor.clip_length // extractor.hop_length).unsqueeze(1)
        positions = torch.stack([starts + offset for offset in (n, size - n, size // 2 - n, size // 2 + n)])
        # Sample N of the last frame may not exist; the window is zero there.
        self.register_buffer("positions", positions.clamp_max(extractor.clip_length + size - 1))
        self.register_buffer("outer_window", window[n])
        self.register_buffer("inner_window", window[size // 2 - n])
        angles = 2.0 * math.pi * torch.outer(n.double(), torch.arange(size // 2 + 1).double()) / size
        # At both ends of n two of the four samples are one and the same.
        weights = torch.ones(len(n), 1, dtype=torch.float64)
        weights[0] = weights[-1] = 0.5
        for name, table in (("cosines", angles.cos() * weights), ("sines", angles.sin() * weights)):
            self.register_buffer(f"even_{name}", table[:, 0::2].float().contiguous())
            self.register_buffer(f"odd_{name}", table[:, 1::2].float().contiguous())
        self.register_buffer(
            "mel_filters", torch.cat([mel_filters[:, 0::2], mel_filters[:, 1::2]], dim=1).T.contiguous()
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
        return (10.0 * torch.log10(power @ self.mel_filters + self.floor)).transpose(1, 2)


class BlockwiseConv1d(nn.Module):
    """The Wavegram's one filter as a matrix product over blocks of its stride: OpenVINO took 1.0 ms for the convolution,
    a twentieth of the whole."""

    def __init__(self, conv: nn.Conv1d):
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
    """A depthwise 1x1 convolution as what it is: engines fuse a product and a sum into the layer before."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().view(1, -1, 1, 1))
        self.bias = nn.Parameter(conv.bias.detach().view(1, -1, 1, 1))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * self.weight + self.bias


def folded(model: AttentionAsdModel) -> AttentionAsdModel:
    """A copy with every BatchNorm that follows a convolution folded into it."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        for conv, norm in (("depthwise", "depthwise_norm"), ("pointwise", "pointwise_norm"), ("conv", "norm")):
            if hasattr(module, norm):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
    if model.wavegram is not None and model.config.use_separable_convolutions:
        filters = model.wavegram.filters
        if filters.depthwise.kernel_size[0] % filters.depthwise.stride[0] == 0:
            filters.depthwise = BlockwiseConv1d(filters.depthwise)
    if model.attention is not None and model.config.use_separable_convolutions:
        last = model.attention.layers[-1]
        last.depthwise = ScaleAndShift(last.depthwise)
    return model


class Graph(nn.Module):
    """From the waveform to everything that a decision needs, see [`main`]'s help.

    In bfloat16 the bottlenecks, most of the arithmetic, are computed; what comes before them is not: the
    cosines of 168 real clips then differ by 0.010 at most instead of 0.023.
    """

    def __init__(
        self,
        model: AttentionAsdModel,
        extractor: AttentionAsdFeatureExtractor,
        detector: AnomalyDetector,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.model, self.log_mel, self.detector, self.dtype = folded(model), LogMel(extractor), detector, dtype
        self.model.backbone.bottlenecks.to(dtype)
        self.model.backbone.head.to(dtype)
        thresholds = [detector.threshold(machine) for machine in detector.machines]
        self.register_buffer("thresholds", torch.tensor([math.nan if t is None else t for t in thresholds]).double())

    def forward(self, input_values: torch.Tensor) -> dict[str, torch.Tensor]:
        log_mel = self.log_mel(input_values)
        hidden_states = self.model.represent(input_values, log_mel)
        outputs = {}
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
        arrays = outputs["embeddings"], outputs["cosines"]
        scores = [
            self.detector.scores(*arrays, machine, spectra=outputs["spectra"]) for machine in self.detector.machines
        ]
        scores = torch.stack(scores, dim=1)
        outputs["scores"] = scores.float()
        outputs["is_anomalous"] = scores > self.thresholds
        return outputs


# The engines' files


def write_onnx(graph: Graph, clip_length: int, path: Path) -> list[str]:
    """Write the graph with a free batch size; returns the names of its outputs."""
    example = torch.zeros(2, clip_length)
    names = list(graph(example))
    # Strict, because the other tracer takes len() of a tensor for a constant.
    try:
        program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=True)
    except torch._dynamo.exc.Unsupported as error:
        raise ValueError(
            f"backend={graph.detector.backend!r}: its scores cannot be part of a graph ({str(error).splitlines()[0]}). Give "
            "the detector another default back end: scripts/fit_detector.py --backend."
        ) from error
    torch.onnx.export(
        program, f=path, input_names=["input_values"], output_names=names, external_data=False, verbose=False
    )
    return names


def write_openvino(onnx_path: Path, path: Path, calibration: np.ndarray | None, num_bottlenecks: int) -> None:
    """OpenVINO's files of a graph in ONNX, quantised where there is something to calibrate with."""
    import openvino

    model = openvino.Core().read_model(onnx_path)
    if calibration is not None:
        model = quantised(model, calibration, num_bottlenecks)
    openvino.save_model(model, path, compress_to_fp16=False)


def quantised(model: Any, calibration: np.ndarray, num_bottlenecks: int) -> Any:
    """int8 where nearly all of the arithmetic is, the 1x1 convolutions of the bottlenecks and the head. Quantised as a
    whole, the network's cosines moved by 0.2 on real clips: log-mel and Wavegram then share one scale of 256 steps."""
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


# What the export changes


def read_clips(extractor: AttentionAsdFeatureExtractor, rows: list[dict[str, Any]], what: str) -> torch.Tensor:
    clips = [
        extractor.fit_length(torch.from_numpy(extractor.read_audio(row["path"])))
        for row in tqdm(rows, desc=f"Reading {what}", unit="clip")
    ]
    return torch.stack(clips)


@torch.no_grad()
def compare(
    model: AttentionAsdModel,
    extractor: AttentionAsdFeatureExtractor,
    detector: AnomalyDetector,
    exported: ExportedModel,
    whole_graph: Any,
    clips: torch.Tensor,
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Largest differences of the outputs, and what becomes of scores, verdicts and AUC by back end.

    Clips without a machine of their own, as noise, are judged as the detector's first. `graph_verdicts_changed` counts
    verdicts that the graph gives by itself and [`AnomalyDetector.decide`], from the same graph's outputs, does not.
    """
    eager, other, graph = [], [], []
    for clip in tqdm(clips.split(1), desc="Comparing", unit="clip"):
        eager.append(model(input_values=clip, input_features=extractor.log_mel(clip)))
        other.append(exported(clip))
        graph.append(whole_graph(clip.numpy())["is_anomalous"][0])
    outputs = [
        AttentionAsdOutput(**{name: torch.cat([o[name] for o in parts]) for name in OUTPUTS if name in parts[0]})
        for parts in (eager, other)
    ]
    differences = {name: (outputs[0][name] - outputs[1][name]).abs().max().item() for name in outputs[1]}
    machines = [label_name(row["machine_type"], row["machine_id"]) if row else detector.machines[0] for row in rows]
    back_ends = {}
    for backend in BACKENDS:
        (scores, verdicts, auc), (new_scores, new_verdicts, new_auc) = (
            judged(detector, output, machines, rows, backend) for output in outputs
        )
        changed = sum(a != b for a, b in zip(verdicts, new_verdicts, strict=True))
        back_ends[backend] = {
            "largest_score": float(np.abs(scores).max()),
            "largest_score_difference": float(np.abs(scores - new_scores).max()),
            "verdicts_changed": changed,
            "auc": auc,
            "exported_auc": new_auc,
        }
        if backend == detector.backend:
            columns = [detector.machines.index(machine) for machine in machines]
            graph_verdicts = [
                "anomalous" if row[column] else "normal" for row, column in zip(graph, columns, strict=True)
            ]
            disagreeing = sum(a != b for a, b in zip(graph_verdicts, new_verdicts, strict=True))
    return {
        "clips": len(clips),
        "outputs": differences,
        "back_ends": back_ends,
        "graph_verdicts_changed": disagreeing,
    }


def judged(
    detector: AnomalyDetector,
    outputs: AttentionAsdOutput,
    machines: list[str],
    rows: list[dict[str, Any]],
    backend: str,
) -> tuple[np.ndarray, list[str], float | None]:
    """Scores and verdicts of clips of known machines, and the mean official AUC where clips are labelled."""
    decisions = [
        detector.decide(
            outputs.embeddings[i : i + 1],
            outputs.cosines[i : i + 1],
            machine,
            backend=backend,
            spectra=outputs.spectra[i : i + 1],
        )[0]
        for i, machine in enumerate(machines)
    ]
    scores = np.array([math.nan if decision.score is None else decision.score for decision in decisions])
    auc = None
    if all(rows) and np.isfinite(scores).all() and len({row["is_anomaly"] for row in rows}) == 2:
        types, ids = ([row[name] for row in rows] for name in ("machine_type", "machine_id"))
        labels = [int(row["is_anomaly"]) for row in rows]
        auc = asd_auc(scores, labels, types, ids, n_bootstrap=0)["auc"]["mean"]["official"]
    return scores, [decision.verdict for decision in decisions], auc


def as_table(checks: dict[str, Any], default: str) -> str:
    lines = ["| output | largest difference |", "|---|---|"]
    lines += [f"| {name} | {value:.2g} |" for name, value in checks["outputs"].items()]
    lines += [
        "",
        "| back end | largest score | largest difference | verdicts changed | AUC | exported |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in checks["back_ends"].items():
        auc = ["-" if row[key] is None else f"{row[key]:.4f}" for key in ("auc", "exported_auc")]
        numbers = [f"{row['largest_score']:.4g}", f"{row['largest_score_difference']:.2g}"]
        changed = f"{row['verdicts_changed']} of {checks['clips']}"
        lines.append("| " + " | ".join([f"**{name}**" if name == default else name, *numbers, changed, *auc]) + " |")
    return "\n".join(lines)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of a model, or its name on the Hub")
    parser.add_argument("--output_dir", required=True, type=Path, help="directory that the export is written to")
    parser.add_argument("--engine", required=True, choices=list(GRAPH_FILES))
    parser.add_argument(
        "--calibration_dir",
        help="folder in the DCASE 2020 Task 2 layout: normal clips to quantise and clips to check with",
    )
    arguments = parser.parse_args(argv)
    if arguments.engine == "openvino-int8" and arguments.calibration_dir is None:
        parser.error("--engine openvino-int8 needs normal clips: give --calibration_dir")
    if arguments.output_dir.resolve() == Path(arguments.model).resolve():
        parser.error(f"--output_dir {arguments.output_dir} is the model's own directory: choose another")
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    # The exporter names what it could do with packages that this project does not use.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    engine, directory, data_dir = arguments.engine, arguments.output_dir, arguments.calibration_dir
    model = AttentionAsdModel.from_pretrained(arguments.model).eval()
    extractor = AttentionAsdFeatureExtractor.from_pretrained(arguments.model)
    detector = AnomalyDetector.from_pretrained(arguments.model, **model.source)

    splits = load_clips(data_dir) if data_dir else {}
    normal, test = (
        [
            row
            for row in splits.get(split, [])
            if label_name(row["machine_type"], row["machine_id"]) in detector.machines
        ]
        for split in ("train", "test")
    )
    checked = test or normal
    if data_dir and not checked:
        raise ValueError(f"{data_dir}: no clips of {', '.join(detector.machines)}. Give a folder with some.")
    calibration = None
    if engine == "openvino-int8":
        if not normal:
            raise ValueError(f"{data_dir}: no normal training clips of the model's machines to quantise with.")
        # Spread over the machines, which follow each other.
        chosen = normal[:: -(-len(normal) // CALIBRATION_CLIPS)]
        calibration = read_clips(extractor, chosen, "normal clips").numpy()

    directory.mkdir(parents=True, exist_ok=True)
    # Last to be written again: without it a directory is no export.
    (directory / EXPORT_FILE).unlink(missing_ok=True)
    AnomalousSoundDetectionPipeline(
        model=model, feature_extractor=extractor, detector=detector, engine="torch", device="cpu"
    ).save_pretrained(directory)
    print(f"Exporting to {directory} for {engine}", flush=True)
    path = directory / GRAPH_FILES[engine][0]
    graph = Graph(model, extractor, detector, torch.bfloat16 if engine == "openvino-bf16" else torch.float32).eval()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        onnx_path = Path(folder) / "network.onnx"
        outputs = write_onnx(graph, extractor.clip_length, onnx_path)
        if engine == "onnx":
            shutil.copyfile(onnx_path, path)
        else:
            write_openvino(onnx_path, path, calibration, len(model.backbone.bottlenecks))
    description = {
        "format_version": FORMAT_VERSION,
        "engine": engine,
        "precision": PRECISIONS[engine],
        "versions": {package: version(package) for package in ("torch", *PACKAGES[engine])},
        "sampling_rate": extractor.sampling_rate,
        "clip_length": extractor.clip_length,
        "scale": model.config.scale,
        "outputs": outputs,
        "backend": detector.backend,
        "false_alarm_rate": detector.false_alarm_rate,
        "machines": [{"name": name, "threshold": detector.threshold(name)} for name in detector.machines],
    }
    exported = ExportedModel(engine, description, str(path))
    load = load_onnx if engine == "onnx" else load_openvino
    verdicts = load(str(path), ["is_anomalous"], torch.get_num_threads())
    if checked:
        clips = read_clips(extractor, checked, "clips to check")
    else:
        generator = torch.Generator().manual_seed(0)
        clips = 0.1 * torch.randn(NOISE_CLIPS, extractor.clip_length, generator=generator)
    rows = checked or [None] * len(clips)
    checks = compare(model, extractor, detector, exported, verdicts, clips, rows)
    description["checks"] = {"clips_of": Path(data_dir).name if data_dir else "noise", **checks}
    (directory / EXPORT_FILE).write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(as_table(checks, detector.backend))
    print(f"\nVerdicts that the graph gives otherwise than the detector: {checks['graph_verdicts_changed']}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
