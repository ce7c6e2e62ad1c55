"""Back ends side by side, over several trainings of the same configuration.

    python -m research.benchmarks.back_ends --runs runs/a-seed0 runs/a-seed1 runs/a-seed2 --output R.md
    python -m research.benchmarks.back_ends --runs ... --log_mels test.npz --output R.md     # models of log-mels alone

A second table has the AUC by machine type: README's, if the runs are those of its command with --seed 0, 1 and 2. A run is
a directory that train.py wrote, with its evaluation. A model of log-mels alone has no evaluation: the clips of an
NPZ file (`log_mel`, `machine_id`, `is_anomaly`) are scored here.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging as transformers_logging

from evaluation.command import run
from evaluation.decisions import evaluate_decisions
from evaluation.loading import load_model
from evaluation.markdown import markdown_table
from evaluation.tables import by_type, clips_by_type
from research.detectors import detector_of
from research.reproduction.log_mel_bank import LogMelBank
from training.fit_detector import network_outputs


# The archive of log-mels does not name its machine type.
MACHINE_TYPE = "ToyCar"
OF_SEVERAL = (
    "Mean ± standard deviation over {} trainings; in brackets the 95 % bootstrap interval over test clips, the "
    "mean of theirs. Bold: the default back end of most of them, which no test clip chose."
)
OF_ONE = (
    "One training; in brackets the 95 % bootstrap interval over test clips. Bold: its default back end, which no test clip "
    "chose."
)
# Metric and mean of each column.
FIGURES = {
    "AUC official": ("auc", "official"),
    "AUC pooled": ("auc", "pooled"),
    "AUC worst ID": ("auc", "worst_id"),
    "pAUC official": ("pauc", "official"),
}


def results_of(run_dir: Path, log_mels: Path | None) -> dict[str, Any]:
    """Return a run's results; with `log_mels` only `decisions`, which are measured here.

    Raises:
        ValueError: the run has no results.
    """
    if log_mels is not None:
        return {"decisions": decisions_on_log_mels(run_dir, log_mels)}
    for results in (run_dir / "evaluation" / "results.json", run_dir / "results.json"):
        if results.exists():
            return json.loads(results.read_text(encoding="utf-8"))
    raise ValueError(f"{run_dir}: no evaluation/results.json. Expected a directory that train.py or eval.py wrote.")


def decisions_on_log_mels(run_dir: Path, log_mels: Path) -> dict[str, Any]:
    """Score the clips of an NPZ file with a model of log-mels alone."""
    with np.load(log_mels) as arrays:
        clips, ids, is_anomaly = arrays["log_mel"].astype(np.float32), arrays["machine_id"], arrays["is_anomaly"]
    loaded = load_model(run_dir)
    outputs = network_outputs(loaded.model, loaded.feature_extractor, LogMelBank(clips, ids), batch_size=16)
    rows = [
        {"machine_type": MACHINE_TYPE, "machine_id": f"{number:02d}", "is_anomaly": bool(label)}
        for number, label in zip(ids.tolist(), is_anomaly.tolist(), strict=True)
    ]
    return evaluate_decisions(detector_of(loaded), outputs, rows, num_bootstrap=1000)


def report(all_decisions: Sequence[dict[str, Any]]) -> str:
    """Return a table with a row for each back end; `all_decisions` are those of every run."""
    defaults = [decisions["default"] for decisions in all_decisions]
    default = max(set(defaults), key=defaults.count)
    lines = []
    for backend in all_decisions[0]["back_ends"]:
        merits = [decisions["back_ends"][backend] for decisions in all_decisions]
        alarms = [decisions["alarms"][backend] for decisions in all_decisions]
        lines.append(
            [
                f"**{backend}**" if backend == default else backend,
                *(figure_cell([merit[metric]["mean"] for merit in merits], name) for metric, name in FIGURES.values()),
                *(shares_cell(alarms, share) for share in ("false_alarms", "detected")),
            ]
        )
    header = ["back end", *FIGURES, "false alarms at 1 / 5 / 10 % [%]", "detected [%]"]
    text = OF_ONE if len(all_decisions) == 1 else OF_SEVERAL.format(len(all_decisions))
    return f"{text}\n\n{markdown_table(header, lines)}\n"


def report_by_type(all_results: Sequence[dict[str, Any]]) -> str:
    """Return a table with a row for each machine type: the paper's score, the detector and the trivial control."""
    systems = {"the paper's score": [results["auc"] for results in all_results]}
    decisions = [results["decisions"] for results in all_results]
    systems["the detector"] = [found["back_ends"][found["default"]]["auc"] for found in decisions]
    if all("control" in results for results in all_results):
        systems["control"] = [results["control"]["auc"] for results in all_results]
    by_types = {system: [by_type(auc) for auc in aucs] for system, aucs in systems.items()}
    clips = clips_by_type(all_results[0])
    header = ["machine type", "normal + anomalous"]
    header += [f"{system}: {name}" for system in systems for name in ("official", "pooled")]
    lines = [
        [machine_type, clips[machine_type]]
        + [
            figure_cell([figures[machine_type] for figures in aucs], name)
            for aucs in by_types.values()
            for name in ("official", "pooled")
        ]
        for machine_type in clips
    ]
    return f"AUC [%] by machine type.\n\n{markdown_table(header, lines)}\n"


def figure_cell(means: Sequence[dict[str, Any]], name: str) -> str:
    """Return a figure over the runs, with the mean of their intervals where they have one."""
    values, intervals = [mean[name] for mean in means], [mean.get(f"{name}_ci95") for mean in means]
    cell = f"{100 * np.mean(values):.1f}"
    if len(values) > 1:
        cell += f" ± {100 * np.std(values, ddof=1):.1f}"
    known = [interval for interval in intervals if interval]
    if len(known) == len(intervals):
        low, high = 100 * np.mean(known, axis=0)
        cell += f" [{low:.1f}, {high:.1f}]"
    return cell


def shares_cell(alarms: Sequence[list[dict[str, Any]]], share: str) -> str:
    """Return a share of clips at every false-alarm rate, mean over the runs."""
    rates = np.mean([[alarm[share]["share"] for alarm in of_run] for of_run in alarms], axis=0)
    return " / ".join(f"{100 * rate:.1f}" for rate in rates)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="directories of models, one a seed")
    parser.add_argument("--log_mels", type=Path, help="NPZ file of labelled log-mels to score")
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    arguments = parser.parse_args(argv)
    transformers_logging.disable_progress_bar()
    all_results = [results_of(run_dir, arguments.log_mels) for run_dir in arguments.runs]
    text = report([results["decisions"] for results in all_results])
    if arguments.log_mels is None:
        text += "\n" + report_by_type(all_results)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    run(main)
