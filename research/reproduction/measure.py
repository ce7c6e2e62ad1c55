"""What a trained network costs, and its clips under the detector's back ends."""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from evaluation.evaluate_model import write_scores
from evaluation.score_clips import ScoredClips, forward_batches
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdConfig, AttentionAsdModel, AttentionAsdOutput, ClipOutputs

from .systems import BACK_ENDS


def side_by_side(functions: dict[str, Callable[[], Any]], repeats: int = 15) -> dict[str, float]:
    """Median milliseconds of each function on one thread, taken in turns: a busy machine slows all of them alike."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(2 + repeats):
            for name, function in functions.items():
                started = time.perf_counter()
                function()
                times[name].append(1000 * (time.perf_counter() - started))
    finally:
        torch.set_num_threads(threads)
    # The first two rounds warm up.
    return {name: statistics.median(taken[2:]) for name, taken in times.items()}


def network_call(
    model: AttentionAsdModel, feature_extractor: AttentionAsdFeatureExtractor, waveform: torch.Tensor
) -> Callable[[], Any]:
    """Front end and network, one clip."""

    @torch.no_grad()
    def call():
        features = feature_extractor.log_mel(waveform[None])
        return model(input_values=waveform[None], input_features=features)

    return call


def reference_call(clip_length: int, waveform: torch.Tensor) -> Callable[[], Any]:
    """This project's default network, whose time every run also takes: times of different runs compare through it."""
    model = AttentionAsdModel(AttentionAsdConfig(clip_length=clip_length)).eval()
    return network_call(model, AttentionAsdFeatureExtractor(clip_length=clip_length), waveform)


def noise(clip_length: int) -> torch.Tensor:
    return 0.1 * torch.randn(clip_length, generator=torch.Generator().manual_seed(0))


def load_network(folder: Path) -> tuple[AttentionAsdModel, AttentionAsdFeatureExtractor]:
    """A trained network in eval mode, on the GPU where there is one, and its feature extractor."""
    transformers_logging.disable_progress_bar()
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model = AttentionAsdModel.from_pretrained(folder).to(device).eval()
    return model, AttentionAsdFeatureExtractor.from_pretrained(folder)


def measure_network(run: Path) -> None:
    """`run/measured.json` of a directory that train.py wrote: parameters, time of a clip, time of training."""
    model, feature_extractor = load_network(run)
    model.to("cpu")
    length = feature_extractor.clip_length
    waveform = noise(length)
    times = side_by_side(
        {"system": network_call(model, feature_extractor, waveform), "reference": reference_call(length, waveform)}
    )
    results = json.loads((run / "all_results.json").read_text())
    write_measured(run, model.num_parameters(), times, results["train_runtime"])


def write_measured(run: Path, parameters: int, times: dict[str, float], train_seconds: float) -> None:
    """`times` are `side_by_side`'s of `system`, the whole way from a clip to its score, and of `reference`."""
    content = {
        "parameters": parameters,
        "milliseconds_per_clip": times["system"],
        "times_reference": times["system"] / times["reference"],
        "train_seconds": train_seconds,
    }
    (run / "measured.json").write_text(json.dumps(content, indent=1) + "\n")


def score_with_back_ends(run: Path, rows: list[dict[str, Any]], data_dir: Path) -> None:
    """`write_back_end_scores` of a directory that train.py wrote and the test clips `rows`."""
    model, feature_extractor = load_network(run)
    outputs = forward_batches(model, feature_extractor, rows, ScoredClips(), 16, progress=False)
    write_back_end_scores(run, outputs, data_dir)


def write_back_end_scores(
    run: Path, outputs: Iterable[tuple[list[dict[str, Any]], AttentionAsdOutput]], data_dir: Path | None
) -> None:
    """`run/back_ends/<key>/scores.csv` for each of `BACK_ENDS`, from batches of rows with the network's output."""
    detector = AnomalyDetector.from_pretrained(run)
    scored = {key: ScoredClips() for key in BACK_ENDS}
    for clips, output in outputs:
        names = np.array([clip["label"] for clip in clips])
        for name in np.unique(names):
            own = np.flatnonzero(names == name)
            for key, back_end in BACK_ENDS.items():
                scores = detector.scores(ClipOutputs.of(output)[own], str(name), back_end)
                scored[key].rows += [
                    {**clips[index], "score": score} for index, score in zip(own, scores.tolist(), strict=True)
                ]
    for key, result in scored.items():
        output_dir = run / "back_ends" / key
        output_dir.mkdir(parents=True, exist_ok=True)
        write_scores(result, output_dir, data_dir)
