"""A model directory, loaded for a command: network, feature extractor and detector."""

import os
from dataclasses import dataclass, replace

import torch
from transformers.utils.hub import cached_file

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel
from modeling.detector_files_attention_asd import CONFIG_FILE


@dataclass(frozen=True)
class LoadedModel:
    """What a model directory holds. `detector` is `None` where none was fitted, as in a converted checkpoint."""

    model: AttentionAsdModel
    feature_extractor: AttentionAsdFeatureExtractor
    detector: AnomalyDetector | None = None


def best_device() -> torch.device:
    """Return the accelerator where there is one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def load_network(name_or_path: str | os.PathLike, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a model directory or a repository on the Hub without its detector, as to fit another one.

    Raises:
        OSError: there is no such directory and no such repository, or files of the network or of the feature extractor
            are missing.
    """
    try:
        model = AttentionAsdModel.from_pretrained(name_or_path).to(device).eval()
        return LoadedModel(model, AttentionAsdFeatureExtractor.from_pretrained(name_or_path))
    except OSError as error:
        if os.path.isdir(name_or_path):
            raise
        raise OSError(
            f"{name_or_path}: no folder of this name is here, and the Hub gave no model. Expected a folder that train.py "
            f"wrote, or a repository, as you/attention-asd. {error}"
        ) from error


def load_model(name_or_path: str | os.PathLike, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a model directory or a repository on the Hub, ready to score.

    Raises:
        OSError: there is no such directory and no such repository, files of the network or of the feature extractor are
            missing, or the detector's cannot be had.
        ValueError: the detector's files cannot be read.
    """
    network = load_network(name_or_path, device)
    source = network.model.source
    # Only a file that is not there means no detector: one that the Hub does not give now is an error.
    if cached_file(name_or_path, CONFIG_FILE, _raise_exceptions_for_missing_entries=False, **source) is None:
        return network
    return replace(network, detector=AnomalyDetector.from_pretrained(name_or_path, **source))
