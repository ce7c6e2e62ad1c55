"""Evaluate a model on labelled clips: results.json, scores.csv, the challenge's score files and the figures."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from feature_extraction import AttentionAsdFeatureExtractor, AudioReadError
from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector, AttentionAsdModel
from modeling.saving_attention_asd import replacing_files

from .controls import LogMelStatistics
from .decisions import evaluate_decisions
from .figures import paper_figure_2, paper_figure_3, paper_figure_4, roc_curves, save, score_histograms
from .loading import LoadedModel
from .score_clips import ScoredClips, score_clips
from .splits import Row, Splits, machine_of


def evaluate_model(
    loaded: LoadedModel,
    splits: Splits,
    output_dir: Path,
    *,
    batch_size: int = 16,
    num_bootstrap: int = 1000,
    progress: bool = True,
) -> dict[str, Any]:
    """Score the test clips with the paper's score and write everything into `output_dir`.

    Args:
        loaded: the model. With a detector, `decisions` has the figures of all back ends and the false alarms, of the
            machines that the detector knows; `not_enrolled_machine_ids` counts the clips of others. Machines that the
            network was not trained on have no paper's score: they are in `decisions` alone.
        splits: the test clips. With training clips, `control` has the figures of a trivial detector: the distance of a
            clip's mean and standard deviation of every log-mel bin to the nearest normal training clip of its machine ID.
        output_dir: where results.json, scores.csv, the challenge's files and the figures go.
        batch_size: clips per forward pass.
        num_bootstrap: replicates behind the confidence intervals.
        progress: whether to show a progress bar.

    Returns:
        The content of results.json.

    Raises:
        ValueError: no clip could be scored.
    """
    enrolled = [] if loaded.detector is None else loaded.detector.machines
    scored = score_clips(loaded.model, loaded.feature_extractor, splits.test, batch_size, progress, enrolled)
    if not scored.rows:
        raise ValueError(
            f"none of {len(splits.test)} test clips could be scored: {len(scored.unreadable)} unreadable, of unknown machine "
            f"IDs {sorted(scored.unknown_machine_ids)}. This model knows {sorted(loaded.model.config.label2id)}."
        )
    of_network = [row for row in scored.rows if row["score"] is not None]
    labelled = [row for row in of_network if row["is_anomaly"] is not None]
    all_labelled = sum(row["is_anomaly"] is not None for row in scored.rows)
    results: dict[str, Any] = {"clips": len(scored.rows), "labelled_clips": all_labelled}
    results["unreadable"] = {shown(path, splits.folder): reason for path, reason in scored.unreadable.items()}
    results["unknown_machine_ids"] = scored.unknown_machine_ids
    if labelled:
        results |= network_figures(loaded.model, labelled, num_bootstrap)
        results |= control_figures(loaded.feature_extractor, splits.train, labelled, num_bootstrap)
    if all_labelled and loaded.detector is not None:
        results |= detector_figures(loaded.detector, scored, num_bootstrap)
    with replacing_files(output_dir) as scratch:
        write_scores(replace(scored, rows=of_network), scratch, splits.folder)
        write_challenge_files(of_network, scratch)
        write_figures(loaded, scored, labelled, scratch)
        (scratch / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        written = {path.name for path in scratch.iterdir()}
    for earlier in output_dir.glob("anomaly_score_*.csv"):  # of machine IDs that this test set does not have
        if earlier.name not in written:
            earlier.unlink()
    return results


def network_figures(model: AttentionAsdModel, rows: Sequence[Row], num_bootstrap: int) -> dict[str, Any]:
    """Return the figures of merit of the paper's score, and how often the network names the right machine ID."""
    label2id = model.config.label2id
    is_correct = [row["predicted"] == label2id[machine_of(row)] for row in rows]
    figures = figures_of_merit(rows, [row["score"] for row in rows], num_bootstrap)
    return figures | {"machine_id_accuracy": float(np.mean(is_correct))}


def control_figures(
    feature_extractor: AttentionAsdFeatureExtractor,
    train_rows: Sequence[Row],
    test_rows: Sequence[Row],
    num_bootstrap: int,
) -> dict[str, Any]:
    """Return the trivial control's figures of merit; nothing where a machine ID has no training clip to compare with."""
    scores = control_scores(feature_extractor, train_rows, test_rows)
    if scores is None:
        return {}
    name = "mean and standard deviation of log-mel bins, nearest normal training clip of the machine ID"
    return {"control": {"name": name, **figures_of_merit(test_rows, scores, num_bootstrap)}}


def detector_figures(detector: AnomalyDetector, scored: ScoredClips, num_bootstrap: int) -> dict[str, Any]:
    """Return what the detector makes of the labelled clips of the machines that it knows, and the counts of others."""
    is_labelled = np.array([row["is_anomaly"] is not None for row in scored.rows])
    is_known = np.array([machine_of(row) in detector.machines for row in scored.rows])
    unknown = Counter(machine_of(scored.rows[index]) for index in np.flatnonzero(is_labelled & ~is_known))
    figures: dict[str, Any] = {"not_enrolled_machine_ids": dict(sorted(unknown.items()))}
    is_judged = is_labelled & is_known
    if scored.outputs is not None and is_judged.any():
        rows = [scored.rows[index] for index in np.flatnonzero(is_judged)]
        figures["decisions"] = evaluate_decisions(detector, scored.outputs[is_judged], rows, num_bootstrap)
    return figures


def figures_of_merit(rows: Sequence[Row], scores: Sequence[float], num_bootstrap: int) -> dict[str, Any]:
    return asd_auc(
        scores,
        [int(row["is_anomaly"]) for row in rows],
        [row["machine_type"] for row in rows],
        [row["machine_id"] for row in rows],
        n_bootstrap=num_bootstrap,
    )


def control_scores(
    feature_extractor: AttentionAsdFeatureExtractor, train_rows: Sequence[Row], test_rows: Sequence[Row]
) -> list[float] | None:
    """Return scores of the trivial control; `None` where a machine ID has no readable training clip."""

    def log_mel(row: Row) -> np.ndarray:
        return feature_extractor.log_mel(feature_extractor.read_clip(row["path"])).numpy()

    machines: list[str] = []

    def log_mels() -> Iterator[np.ndarray]:
        for row in train_rows:
            try:
                features = log_mel(row)
            except AudioReadError:  # train.py has named it
                continue
            machines.append(machine_of(row))
            yield features

    if not train_rows:
        return None
    # One log-mel at a time: those of all of DCASE 2020 would be 6 GB.
    control = LogMelStatistics().fit(log_mels(), machines)
    if not {machine_of(row) for row in test_rows} <= set(machines):
        return None
    return [control.score(log_mel(row), machine_of(row)) for row in test_rows]


def shown(path: str, data_dir: Path | None) -> str:
    """Return a clip's path as results have it: below the data's folder where the clip lies there."""
    # abspath, because that is how the data set names clips, links and all.
    root = None if data_dir is None else os.path.abspath(data_dir)
    if root is not None and Path(path).is_relative_to(root):
        return Path(path).relative_to(root).as_posix()
    return path


def write_scores(scored: ScoredClips, output_dir: Path, data_dir: Path | None) -> None:
    """Write `scores.csv`, one line a clip, with paths below `data_dir`."""
    with open(output_dir / "scores.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "machine_type", "machine_id", "label", "score"])
        for row in scored.rows:
            label = "" if row["is_anomaly"] is None else int(row["is_anomaly"])
            name = shown(row["path"], data_dir)
            writer.writerow([name, row["machine_type"], row["machine_id"], label, repr(row["score"])])


def write_challenge_files(rows: Sequence[Row], output_dir: Path) -> None:
    """Write `anomaly_score_<type>_id_XX.csv` of `name,score`, sorted by name, as the challenge's evaluator reads them."""
    by_machine: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        by_machine.setdefault(machine_of(row), []).append((Path(row["path"]).name, row["score"]))
    for machine, scores in by_machine.items():
        with open(output_dir / f"anomaly_score_{machine}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows((name, repr(score)) for name, score in sorted(scores))


def write_figures(loaded: LoadedModel, scored: ScoredClips, labelled: Sequence[Row], output_dir: Path) -> None:
    """Write score histograms, ROC curves and the paper's Figures 2 to 4; 2 and 3 show the first anomalous clip."""
    if labelled:
        scores = [row["score"] for row in labelled]
        labels = [int(row["is_anomaly"]) for row in labelled]
        types = [row["machine_type"] for row in labelled]
        save(score_histograms(scores, labels, types), output_dir / "score_histograms.png")
        machine_ids = [row["machine_id"] for row in labelled]
        save(roc_curves(scores, labels, types, machine_ids), output_dir / "roc_curves.png")
    write_clip_figures(loaded, next((row for row in scored.rows if row["is_anomaly"]), scored.rows[0]), output_dir)
    channels = loaded.model.config.input_representations
    if scored.attention_mean is not None and scored.attention_std is not None and "log_mel" in channels:
        channel, hertz = channels.index("log_mel"), loaded.feature_extractor.mel_frequencies
        figure = paper_figure_4(scored.attention_mean[channel], scored.attention_std[channel], hertz)
        save(figure, output_dir / "figure4_attention_by_frequency.png")


@torch.no_grad()
def write_clip_figures(loaded: LoadedModel, row: Row, output_dir: Path) -> None:
    """Write the paper's Figures 2 and 3, of one clip."""
    extractor, channels = loaded.feature_extractor, loaded.model.config.input_representations
    hertz, seconds = extractor.mel_frequencies, extractor.clip_length / extractor.sampling_rate
    output = loaded.model(**extractor(extractor.read_clip(row["path"])).to(loaded.model.device))
    representations = dict(zip(channels, output.representations[0].float().cpu().numpy(), strict=True))
    if len(representations) == 2:
        title = f"{row['machine_type']} id_{row['machine_id']}, {Path(row['path']).name}"
        figure = paper_figure_2(representations["log_mel"], representations["wavegram"], hertz, seconds, title)
        save(figure, output_dir / "figure2_representations.png")
    if output.attention_maps is not None:
        maps = output.attention_maps[0].float().cpu().numpy()
        save(paper_figure_3(maps, hertz, seconds, channels), output_dir / "figure3_attention_maps.png")
