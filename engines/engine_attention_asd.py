"""
The loader of an export: the network as another engine runs it, from the waveform to embedding and attention map in one call.

`scripts/export.py` writes an export, a whole model directory with an engine's files beside the rest. [`AnomalyDetector`] makes
the verdict from the outputs, whichever engine they come from.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils.hub import cached_file

from modeling.compatibility_attention_asd import resolve_revision

# In a clone the digests lie in another package than this file, in an export beside it: `write_engine_code` writes `from .` in
# the place of `from modeling.`.
from modeling.digests_attention_asd import file_digest, weights_digest

from .native_attention_asd import SOURCE, load_native


EXPORT_FILE = "export.json"
FORMAT_VERSION = 3
EXPORT_AGAIN = "Export the model again with scripts/export.py."
MAX_CLIP_LENGTH, MAX_SCALE = 2**24, 1e6
OUTPUTS = ("embeddings", "cosines", "spectra", "attention_maps")

# Waveforms `(batch, clip_length)` in float32 -> arrays by their names.
Infer = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class ExportedOutput:
    """What an exported network says of clips, in float32 on the CPU; the fields are those of [`AttentionAsdOutput`].

    `attention_maps` is `None` for a network without attention.
    """

    logits: torch.Tensor
    embeddings: torch.Tensor
    cosines: torch.Tensor
    spectra: torch.Tensor
    attention_maps: torch.Tensor | None = None


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
        engine (`str`): a key of `RUNTIMES`.
        description (`dict`): the contents of `export.json`.
        files (`list[str]`): paths of the engine's files.

    Raises:
        ValueError: the description lacks an entry, or the files do not fit it.
        ImportError: as [`ExportedModel.from_exported`].
    """

    def __init__(self, engine: str, description: dict[str, Any], files: list[str]):
        self.engine = engine
        self.description = check_description(description)
        self.files = [Path(file) for file in files]
        names = [name for name in OUTPUTS if name in description["outputs"]]
        self._infer = RUNTIMES[engine].load(files, names, torch.get_num_threads(), description.get("network"))

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
        """Load an export from a directory or a repository on the Hub.

        The engine runs on as many threads as `torch.get_num_threads()` says at that moment.

        Raises:
            OSError: files are missing.
            ValueError: the export is for another `engine` than the one asked for, or of another version.
            ImportError: the engine is not installed, and the message names the extra to install; or a native engine
                cannot be compiled, or not for this processor.
        """
        source: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        source["revision"] = resolve_revision(pretrained_model_name_or_path, revision, **source)

        def fetch(name: str) -> str:
            path = cached_file(pretrained_model_name_or_path, name, subfolder=subfolder, **source)
            if path is None:
                raise OSError(f"{pretrained_model_name_or_path}: has no {name}.")
            return path

        description = read_description(fetch(EXPORT_FILE))
        exported = description.get("engine")
        if description.get("format_version") != FORMAT_VERSION or exported not in list(RUNTIMES):
            raise ValueError(
                f"{pretrained_model_name_or_path}: {EXPORT_FILE} was written by another version of this code "
                f"(engine {exported!r}). {EXPORT_AGAIN}"
            )
        if engine not in (None, exported):
            raise ValueError(
                f"engine={engine!r}: {pretrained_model_name_or_path} was exported for {exported!r}. Ask for that one, or "
                f"export the model with scripts/export.py --engine {engine}."
            )
        files = [fetch(name) for name in RUNTIMES[exported].files]
        weights = weights_digest(pretrained_model_name_or_path, subfolder=subfolder, **source)
        check_digests(str(pretrained_model_name_or_path), description, files, weights)
        return cls(exported, description, files)

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Copy the export's own files into a directory; the pipeline writes the model beside them."""
        for file in self.files:
            shutil.copyfile(file, Path(save_directory) / file.name)
        write_description(Path(save_directory), self.description)

    def __call__(self, input_values: torch.Tensor | np.ndarray) -> ExportedOutput:
        """
        Args:
            input_values: `(batch, clip_length)`, the waveforms in [-1, 1].

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
        for name, array in arrays.items():
            if len(array) != len(values):
                raise ValueError(
                    f"{self.files[0]}: {name} has shape {array.shape} for {len(values)} clips. {EXPORT_AGAIN}"
                )
        arrays["logits"] = self.description["scale"] * arrays["cosines"]
        return ExportedOutput(**{name: torch.from_numpy(array) for name, array in arrays.items()})


# The description


def read_description(path: str) -> dict[str, Any]:
    """Read `export.json`.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        description = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}). {EXPORT_AGAIN}") from None
    if not isinstance(description, dict):
        raise ValueError(f"{path}: damaged (it holds no JSON object). {EXPORT_AGAIN}")
    return description


def write_description(directory: Path, description: dict[str, Any]) -> None:
    """Write `export.json`, which makes a directory an export: the last file to be written."""
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (directory / EXPORT_FILE).write_text(text, encoding="utf-8")


def check_description(description: dict[str, Any]) -> dict[str, Any]:
    """The description, if every engine can rest on it.

    Raises:
        ValueError: an entry is missing or impossible. The message names it.
    """
    clip_length, outputs, scale = (description.get(name) for name in ("clip_length", "outputs", "scale"))
    problems = {
        "clip_length": not isinstance(clip_length, int) or not 0 < clip_length <= MAX_CLIP_LENGTH,
        "outputs": not isinstance(outputs, list) or not {"embeddings", "cosines", "spectra"} <= set(map(str, outputs)),
        "scale": not isinstance(scale, (int, float)) or not 0 < scale < MAX_SCALE,
    }
    if wrong := [name for name, is_wrong in problems.items() if is_wrong]:
        raise ValueError(f"{EXPORT_FILE}: {', '.join(wrong)} missing or impossible. {EXPORT_AGAIN}")
    return description


def check_digests(name: str, description: dict[str, Any], files: list[str], weights: str | None) -> None:
    """Refuse files that `export.json` was not written with.

    Args:
        name: the export's directory or repository.
        description: the contents of `export.json`.
        files: the engine's files.
        weights: the digest of the weights beside them; `None` where there are none.

    Raises:
        ValueError: a file is damaged, or of another model.
    """
    digests = description.get("sha256")
    if not isinstance(digests, dict):
        raise ValueError(f"{name}: {EXPORT_FILE} has no digests. {EXPORT_AGAIN}")
    for file in files:
        if digests.get(Path(file).name) != file_digest(file):
            raise ValueError(f"{file}: not the file that {EXPORT_FILE} was written with, or damaged. {EXPORT_AGAIN}")
    if None not in (digests.get("weights"), weights) and digests["weights"] != weights:
        raise ValueError(
            f"{name}: {EXPORT_FILE} is of other weights than those of the network beside it, as before another training. "
            f"{EXPORT_AGAIN}"
        )


# Engines


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Make a ValueError that names the file of whatever an engine raises: each has its own exceptions."""
    try:
        yield
    except Exception as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{file}: the engine cannot run it ({why}). {EXPORT_AGAIN}") from error


def load_onnx(files: list[str], names: list[str], num_threads: int, network: None = None) -> Infer:
    """Open `network.onnx`.

    Raises:
        ImportError: ONNX Runtime is not installed. The message names the extra to install.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ImportError(
            "This export needs ONNX Runtime: pip install onnxruntime, or this project's extra 'onnx'."
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    with naming(files[0]):
        session = onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])

    def infer(values: np.ndarray) -> dict[str, np.ndarray]:
        with naming(files[0]):
            arrays = session.run(names, {"input_values": values})
        return {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}

    return infer


def load_openvino(files: list[str], names: list[str], num_threads: int, network: None = None) -> Infer:
    """Open `network.xml`, with `network.bin` beside it.

    Raises:
        ImportError: OpenVINO is not installed. The message names the extra to install.
    """
    try:
        import openvino
    except ImportError:
        raise ImportError(
            "This export needs OpenVINO: pip install openvino, or this project's extra 'openvino'."
        ) from None
    core = openvino.Core()
    with naming(files[0]):
        whole = core.read_model(files[0])
        # OpenVINO computes nothing that only other outputs need.
        outputs = [whole.output(name) for name in names]
    model = openvino.Model(outputs, whole.get_parameters())  # pyright: ignore[reportGeneralTypeIssues]: OpenVINO's stubs
    # Accuracy: every part runs in the precision that it has in the graph. Without this setting, OpenVINO computes even
    # the log-mel in bfloat16 where the processor can.
    settings = {
        "INFERENCE_NUM_THREADS": num_threads,
        "PERFORMANCE_HINT": "LATENCY",
        "EXECUTION_MODE_HINT": "ACCURACY",
    }
    with naming(files[0]):
        request = core.compile_model(model, "CPU", settings).create_infer_request()
    # A request holds its results until the next call, so that callers take turns.
    lock = threading.Lock()

    def infer(values: np.ndarray) -> dict[str, np.ndarray]:
        with lock, naming(files[0]):
            results = request.infer({"input_values": values})
            return {name: results[name].copy() for name in names}

    return infer


@dataclass(frozen=True)
class Runtime:
    """How an engine is loaded.

    Args:
        files: the names of its files, the main one first.
        load: a function of the files' paths, the wanted outputs, a number of threads, and the entry `network` of
            `export.json`, which only the compiled engine has.
        package: what `load` imports besides what the model itself needs.
    """

    files: tuple[str, ...]
    load: Callable[[list[str], list[str], int, Any], Infer]
    package: str | None = None


ONNX = Runtime(("network.onnx",), load_onnx, "onnxruntime")
OPENVINO = Runtime(("network.xml", "network.bin"), load_openvino, "openvino")
NATIVE = Runtime(("native.safetensors", SOURCE), load_native)

# By the name that export.json has. engines/table.py has the rest of what makes an engine, the writer among it.
RUNTIMES = {
    "onnx": ONNX,
    "openvino": OPENVINO,
    "openvino-bf16": OPENVINO,
    "openvino-int8": OPENVINO,
    "native-int16": NATIVE,
    "native-int8": NATIVE,
}


__all__ = ["ExportedModel", "ExportedOutput", "write_description"]
