"""The table of engines: what each needs, and how an export for it is written and loaded."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel

from .engine_attention_asd import OUTPUTS, RUNTIMES, Runtime
from .graph import Graph, write_onnx, write_openvino
from .native_weights import native_network


# What an engine adds to export.json.
Content = dict[str, Any]


@dataclass(frozen=True)
class FittedModel:
    """What is exported: a network with its feature extractor and a detector."""

    model: AttentionAsdModel
    feature_extractor: AttentionAsdFeatureExtractor
    detector: AnomalyDetector


@dataclass(frozen=True)
class Engine:
    """What runs an exported network.

    Args:
        name: as `--engine` and `export.json` have it.
        summary: one or more lines for `--help`.
        precision: in which numbers the parts of the network are computed.
        write: writes the files, from a model, calibration clips `(clips, clip_length)` and the files' paths. Returns
            the engine's entries of `export.json`.
        packages: what has to be installed to write and to run the export.
        needs_calibration: whether `write` takes ranges from normal clips.
    """

    name: str
    summary: str
    precision: str
    write: Callable[[FittedModel, torch.Tensor | None, list[Path]], Content]
    packages: tuple[str, ...] = ()
    needs_calibration: bool = False

    @property
    def runtime(self) -> Runtime:
        """The files, and how they are loaded."""
        return RUNTIMES[self.name]


@torch.no_grad()
def write_onnx_export(
    fitted: FittedModel,
    calibration: torch.Tensor | None,
    paths: list[Path],
    dtype: torch.dtype = torch.float32,
) -> Content:
    """Write `network.onnx`."""
    graph = Graph(fitted.model, fitted.feature_extractor, fitted.detector, dtype).eval()
    return {"outputs": write_onnx(graph, fitted.feature_extractor.clip_length, paths[0])}


def write_openvino_export(
    fitted: FittedModel,
    calibration: torch.Tensor | None,
    paths: list[Path],
    dtype: torch.dtype = torch.float32,
) -> Content:
    """Write OpenVINO's two files, quantized where there are clips to calibrate with."""
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = Path(folder) / "network.onnx"
        content = write_onnx_export(fitted, None, [onnx_path], dtype)
        clips = None if calibration is None else calibration.numpy()
        write_openvino(onnx_path, paths[0], clips, len(fitted.model.backbone.bottlenecks))
    return content


def write_native_export(
    fitted: FittedModel, calibration: torch.Tensor | None, paths: list[Path], *, is_wide: bool
) -> Content:
    """Write the weights of the compiled engine, and its source."""
    weights, source = paths
    if calibration is None:
        raise ValueError("The compiled engine needs normal clips to quantize with, and there are none.")
    tensors, numbers = native_network(fitted.model, fitted.feature_extractor, calibration, is_wide)
    save_file(tensors, weights, metadata={"format": "pt"})
    shutil.copyfile(Path(__file__).with_name(source.name), source)
    outputs = [name for name in OUTPUTS if name != "attention_maps" or fitted.model.attention is not None]
    return {"outputs": outputs, "network": numbers}


ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            "onnx",
            summary="ONNX Runtime, float32; the file also serves programs in C, C++, C# or a browser",
            precision="float32",
            write=write_onnx_export,
            packages=("onnxruntime",),
        ),
        Engine(
            "openvino",
            summary="OpenVINO, float32",
            precision="float32",
            write=write_openvino_export,
            packages=("openvino",),
        ),
        Engine(
            "openvino-bf16",
            summary="the bottlenecks of MobileFaceNet in bfloat16, for processors that multiply in it",
            precision="bottlenecks and head in bfloat16, the rest in float32",
            write=partial(write_openvino_export, dtype=torch.bfloat16),
            packages=("openvino",),
        ),
        Engine(
            "openvino-int8",
            summary="their 1x1 convolutions in int8, quantized after training on the normal clips of --calibration_dir",
            precision="1x1 convolutions of bottlenecks and head in int8, the rest in float32",
            write=write_openvino_export,
            packages=("openvino", "nncf"),
            needs_calibration=True,
        ),
        Engine(
            "native-int16",
            summary="the same in 16-bit integers, by code of this project that is compiled where it runs: needs a C compiler\n"
            "and a processor with AVX-512 VNNI (Intel since Ice Lake, AMD since Zen 4)",
            precision="the first convolution and the 1x1 ones of attention, bottlenecks and head in int16, the rest in float32",
            write=partial(write_native_export, is_wide=True),
            needs_calibration=True,
        ),
        Engine(
            "native-int8",
            summary="the same in int8; the fastest",
            precision="1x1 convolutions of bottlenecks and head in int8, the first one and the attention's 1x1 ones in int16, "
            "the rest in float32",
            write=partial(write_native_export, is_wide=False),
            needs_calibration=True,
        ),
    )
}
