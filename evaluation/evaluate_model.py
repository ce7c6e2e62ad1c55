"""Evaluate a model on labelled clips: results.json, scores.csv, the challenge's score files and the figures."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from feature_extraction import AttentionAsdFeatureExtractor, AudioReadError
from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector, AttentionAsdModel

from .controls import LogMelStatistics
from .decisions import evaluate_decisions, percent, with_interval
from .figures import paper_figure_2, paper_figure_3, paper_figure_4, roc_curves, save, score_histograms
from .score_clips import ScoredClips, score_clips


def evaluate_model(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    test_rows: Iterable[dict[str, Any]],
    output_dir: Path,
    train_rows: Iterable[dict[str, Any]] | None = None,
    data_dir: Path | None = None,
    detector: AnomalyDetector | None = None,
    batch_size: int = 16,
    num_bootstrap: int = 1000,
    progress: bool = True,
) -> dict[str, Any]:
    """Score `test_rows` with the paper's score and write everything into `output_dir`.

    With `train_rows` a trivial control is scored beside the model: the distance of a clip's mean and standard deviation of
    every log-mel bin to the nearest normal training clip of its machine ID. With `detector` the figures of all its back
    ends and its false alarms are there as well, under `decisions`, of the machine IDs that it knows; how many clips are
    of others is under `not_enrolled_machine_ids`.

    Returns:
        What is in results.json.

    Raises:
        ValueError: if no clip could be scored.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    for earlier in output_dir.glob("anomaly_score_*.csv"):
        earlier.unlink()
    test_rows = list(test_rows)
    scored = score_clips(model, feature_extractor, test_rows, batch_size, progress)
    if not scored.rows:
        raise ValueError(
            f"none of {len(test_rows)} test clips could be scored: {len(scored.unreadable)} unreadable, of unknown machine "
            f"IDs {sorted(scored.unknown_machine_ids)}. This model knows {sorted(model.config.label2id)}."
        )
    labelled = [row for row in scored.rows if row["is_anomaly"] is not None]
    results: dict[str, Any] = {"clips": len(scored.rows), "labelled_clips": len(labelled)}
    results["unreadable"] = {shown(path, data_dir): reason for path, reason in scored.unreadable.items()}
    results["unknown_machine_ids"] = scored.unknown_machine_ids
    if labelled:
        results.update(figures_of_merit(labelled, [row["score"] for row in labelled], num_bootstrap))
        label2id = model.config.label2id
        correct = [row["predicted"] == label2id[machine(row)] for row in labelled]
        results["machine_id_accuracy"] = float(np.mean(correct))
        if train_rows is not None:
            control = control_scores(feature_extractor, train_rows, labelled)
            if control is not None:
                results["control"] = {
                    "name": "mean and standard deviation of log-mel bins, nearest normal training clip of the machine ID",
                    **figures_of_merit(labelled, control, num_bootstrap),
                }
        if detector is not None:
            strange = Counter(machine(row) for row in labelled if machine(row) not in detector.machines)
            results["not_enrolled_machine_ids"] = dict(sorted(strange.items()))
            is_judged = [row["is_anomaly"] is not None and machine(row) not in strange for row in scored.rows]
            if any(is_judged):
                judged = [row for row, it_is in zip(scored.rows, is_judged, strict=True) if it_is]
                clips = scored.outputs[np.array(is_judged)]
                results["decisions"] = evaluate_decisions(detector, clips, judged, num_bootstrap)
    write_scores(scored, output_dir, data_dir)
    write_challenge_files(scored.rows, output_dir)
    write_figures(model, feature_extractor, scored, labelled, output_dir)
    (output_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    return results


def machine(row: dict[str, Any]) -> str:
    return f"{row['machine_type']}_id_{row['machine_id']}"


def figures_of_merit(rows: Sequence[dict[str, Any]], scores: Sequence[float], num_bootstrap: int) -> dict[str, Any]:
    return asd_auc(
        scores,
        [int(row["is_anomaly"]) for row in rows],
        [row["machine_type"] for row in rows],
        [row["machine_id"] for row in rows],
        n_bootstrap=num_bootstrap,
    )


def control_scores(
    feature_extractor: AttentionAsdFeatureExtractor,
    train_rows: Iterable[dict[str, Any]],
    test_rows: Sequence[dict[str, Any]],
) -> list[float] | None:
    """Scores of the trivial control, or None where an ID has no readable training clip to compare with."""

    def log_mel(row: dict[str, Any]) -> np.ndarray:
        waveform = feature_extractor.fit_length(torch.from_numpy(feature_extractor.read_audio(row["path"])))
        return feature_extractor.log_mel(waveform).numpy()

    machines: list[str] = []

    def log_mels() -> Iterator[np.ndarray]:
        for row in train_rows:
            try:
                features = log_mel(row)
            except AudioReadError:  # train.py has named it
                continue
            machines.append(machine(row))
            yield features

    # One log-mel at a time: those of all of DCASE 2020 would be 6 GB.
    control = LogMelStatistics().fit(log_mels(), machines)
    if not {machine(row) for row in test_rows} <= set(machines):
        return None
    return [control.score(log_mel(row), machine(row)) for row in test_rows]


def shown(path: str, data_dir: Path | None) -> str:
    """A clip's path as it is written into results: below the data's folder where it lies there."""
    # abspath, because that is how the data set names clips, links and all.
    root = None if data_dir is None else os.path.abspath(data_dir)
    if root is not None and Path(path).is_relative_to(root):
        return Path(path).relative_to(root).as_posix()
    return path


def write_scores(scored: ScoredClips, output_dir: Path, data_dir: Path | None) -> None:
    with open(output_dir / "scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "machine_type", "machine_id", "label", "score"])
        for row in scored.rows:
            label = "" if row["is_anomaly"] is None else int(row["is_anomaly"])
            name = shown(row["path"], data_dir)
            writer.writerow([name, row["machine_type"], row["machine_id"], label, repr(row["score"])])


def write_challenge_files(rows: Sequence[dict[str, Any]], output_dir: Path) -> None:
    """`anomaly_score_<type>_id_XX.csv` of `name,score`, sorted by name, as the challenge's evaluator reads them."""
    by_machine: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for row in rows:
        key = (row["machine_type"], row["machine_id"])
        by_machine.setdefault(key, []).append((Path(row["path"]).name, row["score"]))
    for (machine_type, machine_id), scores in by_machine.items():
        with open(output_dir / f"anomaly_score_{machine_type}_id_{machine_id}.csv", "w", newline="") as file:
            csv.writer(file).writerows((name, repr(score)) for name, score in sorted(scores))


@torch.no_grad()
def write_figures(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    scored: ScoredClips,
    labelled: Sequence[dict[str, Any]],
    output_dir: Path,
) -> None:
    """Score histograms, ROC curves and the paper's Figures 2 to 4; 2 and 3 show the first anomalous clip."""
    if labelled:
        scores = [row["score"] for row in labelled]
        labels = [int(row["is_anomaly"]) for row in labelled]
        types = [row["machine_type"] for row in labelled]
        save(score_histograms(scores, labels, types), output_dir / "score_histograms.png")
        machine_ids = [row["machine_id"] for row in labelled]
        save(roc_curves(scores, labels, types, machine_ids), output_dir / "roc_curves.png")

    hertz = feature_extractor.mel_frequencies
    seconds = feature_extractor.clip_length / feature_extractor.sampling_rate
    channels = model.config.input_representations
    shown_row = next((row for row in scored.rows if row["is_anomaly"]), scored.rows[0])
    waveform = torch.from_numpy(feature_extractor.read_audio(shown_row["path"]))
    output = model(**feature_extractor(waveform).to(model.device))
    representations = dict(zip(channels, output.representations[0].float().cpu().numpy(), strict=True))
    if len(representations) == 2:
        title = f"{shown_row['machine_type']} id_{shown_row['machine_id']}, {Path(shown_row['path']).name}"
        figure = paper_figure_2(representations["log_mel"], representations["wavegram"], hertz, seconds, title)
        save(figure, output_dir / "figure2_representations.png")
    if output.attention_maps is not None:
        maps = output.attention_maps[0].float().cpu().numpy()
        save(paper_figure_3(maps, hertz, seconds, channels), output_dir / "figure3_attention_maps.png")
    if scored.attention_mean is not None and "log_mel" in channels:
        channel = channels.index("log_mel")
        figure = paper_figure_4(scored.attention_mean[channel], scored.attention_std[channel], hertz)
        save(figure, output_dir / "figure4_attention_by_frequency.png")


def summary_table(results: dict[str, Any]) -> str:
    """The figures of merit as a table in Markdown, one row a machine type, with the control where there is one."""
    systems = {"model": results, **({"control": results["control"]} if "control" in results else {})}
    header = ["machine type", "clips"]
    for system in systems:
        header += [
            f"{system}: {name}" for name in ("AUC official", "AUC pooled [95 %]", "AUC worst ID", "pAUC official")
        ]
    lines = [header, ["---"] * len(header)]
    counts = results["counts"]["per_type"]
    for machine_type in results["auc"]["per_type"]:
        clips = counts[machine_type]
        line = [machine_type, f"{clips['normal']} + {clips['anomalous']}"]
        for system in systems.values():
            auc, pauc = (system[metric]["per_type"][machine_type] for metric in ("auc", "pauc"))
            line += merit_cells(auc, pauc)
        lines.append(line)
    line = [
        "mean over types",
        f"{sum(c['normal'] for c in counts.values())} + {sum(c['anomalous'] for c in counts.values())}",
    ]
    for system in systems.values():
        line += merit_cells(system["auc"]["mean"], system["pauc"]["mean"])
    lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def merit_cells(auc: dict[str, Any], pauc: dict[str, Any]) -> list[str]:
    return [percent(auc["official"]), with_interval(auc, "pooled"), percent(auc["worst_id"]), percent(pauc["official"])]
