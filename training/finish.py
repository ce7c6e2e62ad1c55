"""The end of every way to a model: save the network, fit the detector, evaluate, write results and card.

`train.py`, `scripts/fit_detector.py` and the study of log-mels in research/reproduction all end here.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evaluation.evaluate_model import evaluate_model
from evaluation.json_files import read_json
from evaluation.loading import LoadedModel, load_network
from evaluation.model_card import render_model_card
from evaluation.splits import Splits
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel
from modeling.digests_attention_asd import weights_digest
from modeling.saving_attention_asd import copy_code, replacing_files
from modeling.self_test_attention_asd import listed

from .arguments import Arguments
from .clips import TrainingClips
from .fit_detector import fit_detector


def save_network(
    model: AttentionAsdModel, feature_extractor: AttentionAsdFeatureExtractor, arguments: Arguments
) -> LoadedModel:
    """Write the network, the feature extractor and the run's arguments into `--output_dir`, and load them again.

    What is measured afterwards is what was saved: whoever loads the directory gets these very numbers.
    """
    output_dir = Path(arguments.output_dir)
    with replacing_files(output_dir) as scratch:
        model.save_pretrained(scratch)
        feature_extractor.save_pretrained(scratch)
        (scratch / "training_args.json").write_text(json.dumps(asdict(arguments), indent=2) + "\n", encoding="utf-8")
    return load_network(output_dir, model.device)


def fit_and_save_detector(
    model_dir: Path,
    network: LoadedModel,
    clips: TrainingClips,
    *,
    batch_size: int,
    seed: int,
    backend: str | None = None,
    progress: bool = True,
) -> AnomalyDetector:
    """Fit the detector and save it beside the network.

    Args:
        model_dir: directory of the network.
        network: the network and the feature extractor of that directory.
        clips: the normal clips; see [`fit_detector`].
        batch_size: clips per forward pass.
        seed: key of everything random.
        backend: the default back end; by default the detector's own choice.
        progress: whether to show progress bars.
    """
    detector = fit_detector(
        network.model, network.feature_extractor, clips, batch_size=batch_size, seed=seed, progress=progress
    )
    if backend is not None:
        detector = detector.with_backend(backend)
    # What reads the detector's files is the code beside them, which may be of an earlier version.
    with replacing_files(model_dir) as scratch:
        copy_code(scratch)
        network.feature_extractor.save_pretrained(scratch)
        detector.save_pretrained(scratch, weights=weights_digest(model_dir))
    if progress:
        for line in self_test_lines(detector):
            print(line)
    return detector


def self_test_lines(detector: AnomalyDetector) -> list[str]:
    """Return what the self-test says of each machine's recordings, and the ones that are unlike the rest."""
    lines = []
    for machine in detector.machines:
        tested = detector.self_test(machine)
        lines.append(f"{machine}: {tested.summary()}")
        if tested.unusual:
            lines.append(f"{machine}: unlike the rest, listen again: {listed(tested.unusual)}")
        warning = tested.warning(detector.false_alarm_rate)
        if warning is not None:
            lines.append(f"{machine}: warning: {warning}")
    return lines


def write_results_and_card(
    model_dir: Path,
    network: LoadedModel,
    splits: Splits,
    detector: AnomalyDetector,
    results: dict[str, Any],
) -> None:
    """Evaluate the test clips, where there are any, and write `all_results.json` and the card.

    Args:
        model_dir: directory of the model.
        network: the network and the feature extractor of that directory.
        splits: the clips of the folder that the model was trained on.
        detector: the fitted detector.
        results: what is known of the training.
    """
    results = results | {"backend": detector.backend}
    if splits.test:
        try:
            results["test"] = evaluate_model(replace(network, detector=detector), splits, model_dir / "evaluation")
        except ValueError as error:
            results.pop("test", None)
            print(f"not evaluated: {error}", file=sys.stderr)
    with replacing_files(model_dir) as scratch:
        (scratch / "all_results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    render_model_card(model_dir, repository_of(model_dir))


def repository_of(model_dir: Path) -> str:
    """The repository that the model is meant for: `--hub_model_id` of its training, else named as its directory."""
    arguments = read_json(model_dir / "training_args.json")
    return arguments.get("hub_model_id") or model_dir.resolve().name
