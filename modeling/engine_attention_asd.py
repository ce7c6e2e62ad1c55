"""
The network as another engine runs it, from the waveform to embedding and attention map in one call.

`scripts/export.py` writes what the engine needs into a directory that has everything else of a model as well; the verdict is
made by [`AnomalyDetector`] from the outputs, whichever engine they come from.
"""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import cached_file
from transformers.utils.hub import resolve_revision

from .native_attention_asd import SOURCE, load_native
from .outputs_attention_asd import AttentionAsdOutput


EXPORT_FILE = "export.json"
FORMAT_VERSION = 1
OUTPUTS = ("embeddings", "cosines", "spectra", "attention_maps")

# What an engine needs, its main file first.
ENGINE_FILES = {
    "onnx": ("network.onnx",),
    "openvino": ("network.xml", "network.bin"),
    "openvino-bf16": ("network.xml", "network.bin"),
    "openvino-int8": ("network.xml", "network.bin"),
    "native-int16": ("native.safetensors", SOURCE),
    "native-int8": ("native.safetensors", SOURCE),
}


class ExportedModel:
    """
    Takes the place of [`AttentionAsdModel`] where clips are scored, on the CPU.

    Example:

    ```python
    >>> network = ExportedModel.from_exported("my-model-openvino")
    >>> detector = AnomalyDetector.from_pretrained("my-model-openvino")
    >>> outputs = network(waveforms)  # (batch, 160000), float32
    >>> detector.decide(outputs)[0].verdict
    'normal'
    ```

    Args:
        engine (`str`): one of `ENGINE_FILES`.
        description (`dict`): what `export.json` says.
        files (`list[str]`): paths of the engine's files.
    """

    def __init__(self, engine: str, description: dict[str, Any], files: list[str]):
        self.engine = engine
        self.description = description
        missing = {"clip_length", "outputs", "scale"} - description.keys()
        if missing:
            raise ValueError(
                f"{EXPORT_FILE} beside {files[0]} lacks {', '.join(sorted(missing))}: export the model again."
            )
        names = [name for name in OUTPUTS if name in description["outputs"]]
        threads = torch.get_num_threads()
        if engine.startswith("native"):
            self._infer = load_native(*files, names, threads, description.get("network"))
        else:
            self._infer = (load_onnx if engine == "onnx" else load_openvino)(files[0], names, threads)

    @classmethod
    def from_exported(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        engine: str | None = None,
        revision: str | None = None,
        subfolder: str = "",
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
    ) -> "ExportedModel":
        """Load what `scripts/export.py` wrote, from a directory or a repository on the Hub. It runs on as many threads as
        `torch.get_num_threads()` says at that moment.

        Raises:
            OSError: where the files are missing.
            ValueError: where the export is for another `engine` than the one asked for, or of another version.
            ImportError: where the engine is not installed, and the message names the extra to install; or where a native one
                cannot be compiled, or not for this processor.
        """
        source = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        source["revision"] = resolve_revision(pretrained_model_name_or_path, revision, **source)
        files = {**source, "subfolder": subfolder}
        description = json.loads(
            Path(cached_file(pretrained_model_name_or_path, EXPORT_FILE, **files)).read_text(encoding="utf-8")
        )
        exported = description.get("engine")
        if description.get("format_version") != FORMAT_VERSION or exported not in ENGINE_FILES:
            raise ValueError(
                f"{pretrained_model_name_or_path}: {EXPORT_FILE} was written by another version of this code "
                f"(engine {exported!r}). Export the model again with scripts/export.py."
            )
        if engine not in (None, exported):
            raise ValueError(
                f"engine={engine!r}: {pretrained_model_name_or_path} was exported for {exported!r}. Ask for that one, or "
                f"export the model with scripts/export.py --engine {engine}."
            )
        paths = [cached_file(pretrained_model_name_or_path, name, **files) for name in ENGINE_FILES[exported]]
        return cls(exported, description, paths)

    def __call__(
        self, input_values: torch.Tensor | np.ndarray, input_features: torch.Tensor | None = None
    ) -> AttentionAsdOutput:
        """
        Args:
            input_values: `(batch, clip_length)`, the waveforms in [-1, 1].
            input_features: not looked at, the engine computes the log-mel; so that the model's calls fit.

        Returns:
            [`AttentionAsdOutput`] with `embeddings`, `cosines`, `logits`, `spectra` and, of a model with attention,
            `attention_maps`, in float32 on the CPU.

        Raises:
            ValueError: for waveforms of another shape.
        """
        values = np.ascontiguousarray(torch.as_tensor(input_values).detach().cpu().numpy(), dtype=np.float32)
        clip_length = self.description["clip_length"]
        if values.ndim != 2 or values.shape[1] != clip_length:
            raise ValueError(
                f"input_values has shape {values.shape}: this export expects (batch_size, {clip_length}). Use the feature "
                "extractor saved with it, which cuts, pads or splits clips to its length."
            )
        arrays = self._infer(values)
        arrays["logits"] = self.description["scale"] * arrays["cosines"]
        return AttentionAsdOutput(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def load_onnx(graph: str, names: list[str], num_threads: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    try:
        import onnxruntime
    except ImportError:
        raise ImportError(
            "This export needs ONNX Runtime: pip install onnxruntime, or this project's extra 'onnx'."
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda values: dict(zip(names, session.run(names, {"input_values": values}), strict=True))


def load_openvino(graph: str, names: list[str], num_threads: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    try:
        import openvino
    except ImportError:
        raise ImportError(
            "This export needs OpenVINO: pip install openvino, or this project's extra 'openvino'."
        ) from None
    core = openvino.Core()
    model = core.read_model(graph)
    # Without the outputs that nobody here looks at, what they cost is left out as well.
    model = openvino.Model([model.output(name) for name in names], model.get_parameters())
    # Accuracy: every part runs in the precision that it has in the graph. By itself OpenVINO takes bfloat16 for all of it
    # where the processor has that, the log-mel included.
    settings = {
        "INFERENCE_NUM_THREADS": num_threads,
        "PERFORMANCE_HINT": "LATENCY",
        "EXECUTION_MODE_HINT": "ACCURACY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    # A request holds its results: one caller at a time.
    lock = threading.Lock()

    def infer(values: np.ndarray) -> dict[str, np.ndarray]:
        with lock:
            results = request.infer({"input_values": values})
            return {name: results[name].copy() for name in names}

    return infer


__all__ = ["ExportedModel"]
