"""Damaged files of a model directory and of an export: loaded, with finite answers, or refused in one sentence."""

import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from engines import load_pipeline, native_attention_asd
from engines.native_attention_asd import SOURCE, library
from modeling.digests_attention_asd import file_digest, weights_digest

from .damage import damaged_bytes, damaged_json, damaged_tensors, generator_of
from .small_model import MACHINES, recording, write_export, write_model, write_recordings


TEXTS = ("config.json", "preprocessor_config.json", "scoring_config.json", "export.json")
TENSORS = ("scoring.safetensors", "model.safetensors", "native.safetensors")
EXPORTED = ("export.json", "native.safetensors")


class ModelFiles:
    """Damage to a model's files, of a stranger who renews the digests and of a disk that does not."""

    title = "Damaged model files"
    cpu_seconds, seconds = 20.0, 120.0

    def __init__(self, seed: int, folder: Path, with_export: bool = True):
        # Where the compiled engine cannot run, there is nothing to damage of its exports.
        with_export = with_export and runs_here()
        self.seed, self.folder = seed, folder
        recordings = write_recordings(folder / "recordings", clips=8)
        self.model = self.exported = write_model(folder / "model", recordings)
        self.names = [name for name in TEXTS + TENSORS if with_export or name not in EXPORTED]
        if with_export:
            self.exported = write_export(folder / "export", self.model, recordings, "native-int16")
            load_pipeline(self.exported)  # compiles the engine, which the processes forked from this one then have

    def check(self, case: int) -> list[tuple[str, str]]:
        """Load a model with a damaged file, and judge a recording."""
        generator = generator_of(self.seed, case)
        name = self.names[case % len(self.names)]
        source = self.exported if name in EXPORTED else self.model
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            directory = Path(scratch) / "model"
            # Links are enough: the damaged file takes the place of its link.
            shutil.copytree(source, directory, copy_function=lambda file, link: Path(link).symlink_to(file))
            data = (source / name).read_bytes()
            (directory / name).unlink()
            is_stranger = generator.random() < 0.7
            if name in TEXTS:
                (directory / name).write_bytes(damaged_json(data.decode(), generator))
            elif is_stranger:
                save_file(damaged_tensors(load_file(source / name), generator), directory / name)
            else:
                (directory / name).write_bytes(damaged_bytes(data, generator))
            if is_stranger and name in TENSORS:
                renew_digests(directory)
            return [(name, judge(directory, name))]


def runs_here() -> bool:
    """Whether the compiled engine can be compiled and run here."""
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
        files = (
            {"tensors": "scoring.safetensors"}
            if name.startswith("scoring")
            else {"native.safetensors": "native.safetensors"}
        )
        content["sha256"] |= {key: file_digest(directory / file) for key, file in files.items()}
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
    files = (*TEXTS, *TENSORS)
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
