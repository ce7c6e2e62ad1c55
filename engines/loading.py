"""Model directories, exported or not, loaded for commands: with this project's code and none of the directory's."""

import os

import torch

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalousSoundDetectionPipeline, AttentionAsdModel

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
        OSError: files are missing.
        ValueError: the files cannot be read, or the directory was not exported for `engine`.
        ImportError: the engine is not installed.
    """
    return ExportedPipeline(
        model=AttentionAsdModel.from_pretrained(name_or_path),
        feature_extractor=AttentionAsdFeatureExtractor.from_pretrained(name_or_path),
        engine=engine,
        device=device,
    )
