"""A model directory, loaded for a command: network, feature extractor and detector."""

import os
from dataclasses import dataclass

import torch

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel


@dataclass(frozen=True)
class LoadedModel:
    """What a model directory holds. `detector` is `None` where none was fitted, as in a converted checkpoint."""

    model: AttentionAsdModel
    feature_extractor: AttentionAsdFeatureExtractor
    detector: AnomalyDetector | None


def best_device() -> torch.device:
    """Return the accelerator where there is one, else the CPU."""
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


def load_model(name_or_path: str | os.PathLike, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a model directory or a repository on the Hub, ready to score.

    Raises:
        OSError: the network's or the feature extractor's files are missing.
        ValueError: the detector's files cannot be read.
    """
    model = AttentionAsdModel.from_pretrained(name_or_path).to(device).eval()
    feature_extractor = AttentionAsdFeatureExtractor.from_pretrained(name_or_path)
    try:
        detector = AnomalyDetector.from_pretrained(name_or_path, **model.source)
    except OSError:
        detector = None
    return LoadedModel(model, feature_extractor, detector)
