"""The detector of a loaded model, where one is needed."""

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
