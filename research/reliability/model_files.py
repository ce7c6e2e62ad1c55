"""Damaged files of a model directory and of an export: loaded, with finite answers, or refused in one sentence."""

import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from engines import load_pipeline, native_attention_asd
from engines.native_attention_asd import SOURCE, library
from engines.table import ENGINES
from modeling.digests_attention_asd import file_digest, weights_digest

from .damage import damaged_bytes, damaged_json, damaged_tensors, generator_of
from .graphs import damaged_onnx, damaged_xml
from .small_model import MACHINES, recording, write_export, write_model, write_recordings


FILES = ("config.json", "preprocessor_config.json", "scoring_config.json", "scoring.safetensors", "model.safetensors")
TEXTS = ("config.json", "preprocessor_config.json", "scoring_config.json", "export.json")
TENSORS = ("scoring.safetensors", "model.safetensors", "native.safetensors")
GRAPHS = ("network.onnx", "network.xml", "network.bin")
# For each engine, which of its files are damaged.
EXPORTED = {
    "native-int16": ("export.json", "native.safetensors"),
    "onnx": ("network.onnx",),
    "openvino": ("network.xml", "network.bin"),
}


class ModelFiles:
    """Damage to a model's files, of a stranger who renews the digests and of a disk that does not."""

    title = "Damaged model files"
    cpu_seconds, seconds, starts_processes = 20.0, 120.0, False

    def __init__(self, seed: int, folder: Path, engines: Sequence[str] = tuple(EXPORTED)):
        self.seed, self.folder = seed, folder
        recordings = write_recordings(folder / "recordings", clips=8)
        model = write_model(folder / "model", recordings)
        # Where each file that is damaged lies.
        self.sources = dict.fromkeys(FILES, model)
        for engine in filter(runs_here, engines):
            exported = write_export(folder / engine, model, recordings, engine)
            self.sources |= dict.fromkeys(EXPORTED[engine], exported)
            if engine == "native-int16":
                load_pipeline(exported)  # compiles the engine into the cache, for the processes of the cases
        self.names = list(self.sources)

    def check(self, case: int) -> list[tuple[str, str]]:
        """Load a model with a damaged file, and judge a recording."""
        generator = generator_of(self.seed, case)
        name = self.names[case % len(self.names)]
        source = self.sources[name]
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            directory = Path(scratch) / "model"
            # Links are enough: the damaged file takes the place of its link.
            shutil.copytree(source, directory, copy_function=lambda file, link: Path(link).symlink_to(file))
            data = (source / name).read_bytes()
            (directory / name).unlink()
            is_stranger = generator.random() < 0.7
            if name in TENSORS and is_stranger:
                save_file(damaged_tensors(load_file(source / name), generator), directory / name)
            else:
                (directory / name).write_bytes(damaged_file(name, data, is_stranger, generator))
            if is_stranger and name in TENSORS + GRAPHS:
                renew_digests(directory)
            return [(name, judge(directory, name))]


def damaged_file(name: str, data: bytes, is_stranger: bool, generator: np.random.Generator) -> bytes:
    """The bytes of a file with damage: to its content, where it is text or a stranger takes the trouble, else to its bytes."""
    if name in TEXTS:
        return damaged_json(data.decode(), generator)
    if is_stranger and name == "network.onnx":
        return damaged_onnx(data, generator)
    if is_stranger and name == "network.xml":
        return damaged_xml(data.decode(), generator)
    return damaged_bytes(data, generator)


def runs_here(engine: str) -> bool:
    """Whether an engine and what writes for it are installed; the compiled one, whether it can be compiled and run."""
    if not engine.startswith("native"):
        return all(find_spec(package) is not None for package in ("onnx", "onnxscript", *ENGINES[engine].packages))
    try:
        library(Path(native_attention_asd.__file__).with_name(SOURCE))
    except ImportError:
        return False
    return True


def renew_digests(directory: Path) -> None:
    """Write the digests of the files as they are, as a stranger can."""
    weights = weights_digest(directory)
    for name in ("scoring_config.json", "export.json"):
        path = directory / name
        if not path.exists():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        content["sha256"]["weights"] = weights
        for key in content["sha256"].keys() - {"weights"}:
            content["sha256"][key] = file_digest(directory / ("scoring.safetensors" if key == "tensors" else key))
        path.unlink()
        path.write_text(json.dumps(content), encoding="utf-8")


def judge(directory: Path, name: str) -> str:
    """Load a model, judge a recording of each machine, and say what came of it."""
    try:
        pipe = load_pipeline(directory)
    except (ValueError, OSError) as error:
        check_sentence(str(error), name)
        return "refused at loading"
    for machine in (*MACHINES, None):
        try:
            with torch.no_grad():
                result = pipe(recording(MACHINES[0], 0, hiss=0.2), machine=machine)
        except (ValueError, OSError) as error:
            check_sentence(str(error), "")
            return "loaded, refused to judge"
        check_finite(result, "result")
        assert result["verdict"] in ("normal", "anomalous", "cannot tell"), result
    return "loaded and judged"


def check_sentence(text: str, name: str) -> None:
    """Assert that an error says something, and that one of loading names a file of the model."""
    assert text and "Traceback" not in text, text
    files = (*TEXTS, *TENSORS, *GRAPHS)
    assert not name or any(file in text for file in files), f"names no file: {text}"


def check_finite(value: Any, place: str) -> None:
    """Assert that no number within a result is NaN or infinite."""
    if isinstance(value, dict):
        for key, inner in value.items():
            check_finite(inner, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_finite(inner, place)
    elif isinstance(value, float):
        assert math.isfinite(value), f"{place} is {value}"
