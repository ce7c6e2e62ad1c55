"""Model directories, exported or not, loaded for commands: with this project's code and none of the directory's."""

import hashlib
import os
from pathlib import Path

import torch
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME, SAFE_WEIGHTS_NAME

from evaluation.loading import load_network
from modeling import AnomalousSoundDetectionPipeline
from modeling.detector_files_attention_asd import CONFIG_FILE, TENSORS_FILE

from .engine_attention_asd import EXPORT_FILE, RUNTIMES
from .exported_pipeline_attention_asd import ExportedPipeline


def load_pipeline(
    name_or_path: str | os.PathLike, *, engine: str | None = None, device: torch.device | str = "cpu"
) -> AnomalousSoundDetectionPipeline:
    """Load a model directory or a repository on the Hub, ready to judge recordings.

    `transformers.pipeline` executes the code that lies in the directory, and asks for trust. This function does not.

    Args:
        name_or_path: the directory or the repository's name.
        engine: what runs the network: `"torch"`, or the engine that the directory was exported for; by default the
            latter where it was.
        device: where PyTorch computes.

    Raises:
        OSError: there is no such directory and no such repository, or files are missing.
        ValueError: the files cannot be read, or the directory was not exported for `engine`.
        ImportError: the engine is not installed.
    """
    network = load_network(name_or_path)
    return ExportedPipeline(
        model=network.model, feature_extractor=network.feature_extractor, engine=engine, device=device
    )


def model_digest(name_or_path: str | os.PathLike, revision: str | None) -> str:
    """Return 16 characters that change with whatever a verdict depends on: network, feature extractor, detector, export.

    Args:
        name_or_path: a model directory, or a repository on the Hub.
        revision: the commit of a repository, which stands for all its files.
    """
    if not os.path.isdir(name_or_path):
        return (revision or "")[:16]
    engines = [name for runtime in RUNTIMES.values() for name in runtime.files]
    digest = hashlib.sha256()
    names = {CONFIG_NAME, FEATURE_EXTRACTOR_NAME, SAFE_WEIGHTS_NAME, CONFIG_FILE, TENSORS_FILE, EXPORT_FILE, *engines}
    for path in (Path(name_or_path, name) for name in sorted(names)):
        if path.is_file():
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
