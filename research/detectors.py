"""The detector of a loaded model, and what it knows, where they are needed."""

import numpy as np

from evaluation.loading import LoadedModel
from modeling import AnomalyDetector


def detector_of(loaded: LoadedModel) -> AnomalyDetector:
    """Return the detector of a loaded model.

    Raises:
        ValueError: no detector was fitted, as in a converted checkpoint.
    """
    if loaded.detector is None:
        raise ValueError(f"{loaded.model.name_or_path}: has no detector. Fit one with scripts/fit_detector.py.")
    return loaded.detector


def normal_level_of(loaded: LoadedModel, machine: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation `(bins,)`, in dB, of a machine's normal log-mel.

    Raises:
        ValueError: no detector was fitted, or the detector does not know the machine or its normal level.
    """
    level = None if loaded.detector is None else loaded.detector.normal_level(machine)
    if level is None:
        raise ValueError(f"{loaded.model.name_or_path}: no detector that knows the normal level of {machine}.")
    return level
