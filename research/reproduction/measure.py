"""What a trained network costs, and its clips under the detector's back ends."""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.evaluate_model import write_scores
from evaluation.loading import best_device, load_network
from evaluation.score_clips import ScoredClips, forward_batches
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdConfig, AttentionAsdModel, AttentionAsdOutput, ClipOutputs

from .systems import BACK_ENDS


def side_by_side(functions: dict[str, Callable[[], Any]], repeats: int = 15) -> dict[str, float]:
    """Return the median milliseconds of each function on one thread.

    The functions take turns, so that a busy machine slows all of them alike.
    """
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
    return {name: statistics.median(of_calls[2:]) for name, of_calls in times.items()}


def network_call(
    model: AttentionAsdModel, feature_extractor: AttentionAsdFeatureExtractor, waveform: torch.Tensor
) -> Callable[[], Any]:
    """Return a function that takes one clip `(samples,)` through log-mel and network."""

    @torch.no_grad()
    def call():
        features = feature_extractor.log_mel(waveform[None])
        return model(input_values=waveform[None], input_features=features)

    return call


def reference_call(clip_length: int, waveform: torch.Tensor) -> Callable[[], Any]:
    """Return a function that takes one clip through this project's default network.

    Every run takes this time beside its own: times of different runs compare through it.
    """
    model = AttentionAsdModel(AttentionAsdConfig(clip_length=clip_length)).eval()
    return network_call(model, AttentionAsdFeatureExtractor(clip_length=clip_length), waveform)


def noise(clip_length: int) -> torch.Tensor:
    """Return a clip `(clip_length,)` of noise, always the same one."""
    return 0.1 * torch.randn(clip_length, generator=torch.Generator().manual_seed(0))


def measure_network(run: Path) -> None:
    """Write `measured.json` into `run`, a directory that train.py wrote."""
    loaded = load_network(run)
    length = loaded.feature_extractor.clip_length
    waveform = noise(length)
    system = network_call(loaded.model, loaded.feature_extractor, waveform)
    times = side_by_side({"system": system, "reference": reference_call(length, waveform)})
    results = json.loads((run / "all_results.json").read_text(encoding="utf-8"))
    write_measured(run, loaded.model.num_parameters(), times, results["train_runtime"])


def write_measured(run: Path, parameters: int, times: dict[str, float], train_seconds: float) -> None:
    """Write `measured.json` into `run`: parameters, time of a clip, time of training.

    Args:
        run: folder of the run.
        parameters: trainable parameters of one network.
        times: `side_by_side` of `system`, the whole way from a clip to its score, and of `reference`.
        train_seconds: time of training.
    """
    content = {
        "parameters": parameters,
        "milliseconds_per_clip": times["system"],
        "times_reference": times["system"] / times["reference"],
        "train_seconds": train_seconds,
    }
    (run / "measured.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def score_with_back_ends(run: Path, rows: list[dict[str, Any]], data_dir: Path) -> None:
    """Score the test clips `rows` with the back ends of `run`, a directory that train.py wrote."""
    loaded = load_network(run, best_device())
    batches = forward_batches(loaded.model, loaded.feature_extractor, rows, ScoredClips(), 16, progress=False)
    write_back_end_scores(run, ((clips, output) for clips, _, output in batches), data_dir)


def write_back_end_scores(
    run: Path, outputs: Iterable[tuple[list[dict[str, Any]], AttentionAsdOutput]], data_dir: Path | None
) -> None:
    """Write `back_ends/<key>/scores.csv` into `run` for each of `BACK_ENDS`.

    Args:
        run: directory of a model with its detector.
        outputs: batches of rows with the network's output.
        data_dir: folder that the clips' paths are written relative to.
    """
    detector = AnomalyDetector.from_pretrained(run)
    scored = {key: ScoredClips() for key in BACK_ENDS}
    for clips, output in outputs:
        machines = np.array([clip["label"] for clip in clips])
        for machine in np.unique(machines).tolist():
            own = np.flatnonzero(machines == machine)
            of_machine = ClipOutputs.of(output)[own]
            for key, back_end in BACK_ENDS.items():
                scores = detector.scores(of_machine, machine, back_end)
                scored[key].rows += [
                    {**clips[index], "score": score} for index, score in zip(own, scores.tolist(), strict=True)
                ]
    for key, result in scored.items():
        output_dir = run / "back_ends" / key
        output_dir.mkdir(parents=True, exist_ok=True)
        write_scores(result, output_dir, data_dir)
