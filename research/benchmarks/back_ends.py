#!/usr/bin/env python
"""Back ends side by side, over several trainings of the same configuration.

    python -m research.benchmarks.back_ends --runs runs/a-seed0 runs/a-seed1 runs/a-seed2 --output R.md
    python -m research.benchmarks.back_ends --runs ... --log_mels test.npz --output R.md     # models of log-mels alone

A run is a directory that train.py wrote, with its evaluation; of a model of log-mels alone the clips of an NPZ file
(`log_mel`, `machine_id`, `is_anomaly`) are scored here.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging as transformers_logging


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.decisions import evaluate_decisions  # noqa: E402
from feature_extraction import AttentionAsdFeatureExtractor  # noqa: E402
from modeling import AnomalyDetector, AttentionAsdModel  # noqa: E402
from research.reproduction.log_mel_bank import LogMelBank  # noqa: E402
from training.fit_detector import network_outputs  # noqa: E402


MACHINE_TYPE = "ToyCar"


def decisions_of(run: Path, log_mels: Path | None) -> dict[str, Any]:
    if log_mels is None:
        for results in (run / "evaluation" / "results.json", run / "results.json"):
            if results.exists():
                return json.loads(results.read_text())["decisions"]
        raise ValueError(f"{run}: no evaluation/results.json. Expected a directory that train.py or eval.py wrote.")
    with np.load(log_mels) as arrays:
        clips, ids, is_anomaly = arrays["log_mel"].astype(np.float32), arrays["machine_id"], arrays["is_anomaly"]
    model, extractor = (kind.from_pretrained(run) for kind in (AttentionAsdModel, AttentionAsdFeatureExtractor))
    outputs = network_outputs(model, extractor, LogMelBank(clips, ids), batch_size=16)
    rows = [
        {"machine_type": MACHINE_TYPE, "machine_id": f"{number:02d}", "is_anomaly": bool(label)}
        for number, label in zip(ids.tolist(), is_anomaly.tolist(), strict=True)
    ]
    return evaluate_decisions(AnomalyDetector.from_pretrained(run), outputs, rows, num_bootstrap=1000)


def over_seeds(values: Sequence[float]) -> str:
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def report(runs: Sequence[Path], all_decisions: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation over the runs; intervals are the mean of theirs."""
    of_several = (
        f"Mean ± standard deviation over {len(runs)} trainings; in brackets the 95 % bootstrap interval over test clips, the "
        "mean of theirs. Bold: the default back end of most of them, which no test clip chose."
    )
    of_one = (
        "One training; in brackets the 95 % bootstrap interval over test clips. Bold: its default back end, which no test clip "
        "chose."
    )
    lines = [
        of_one if len(runs) == 1 else of_several,
        "",
        "| back end | AUC official | AUC pooled | AUC worst ID | pAUC official | false alarms at 1 / 5 / 10 % [%] | hits [%] |",
        "|---|---|---|---|---|---|---|",
    ]
    defaults = [decisions["default"] for decisions in all_decisions]
    for backend in all_decisions[0]["back_ends"]:
        cells = []
        for metric, name in (("auc", "official"), ("auc", "pooled"), ("auc", "worst_id"), ("pauc", "official")):
            means = [decisions["back_ends"][backend][metric]["mean"] for decisions in all_decisions]
            cell = over_seeds([mean[name] for mean in means])
            intervals = [mean.get(f"{name}_ci95") for mean in means]
            if all(intervals):
                low, high = 100 * np.mean(intervals, axis=0)
                cell += f" [{low:.1f}, {high:.1f}]"
            cells.append(cell)
        for share in ("false_alarms", "hits"):
            rates = np.mean(
                [[alarm[share]["share"] for alarm in decisions["alarms"][backend]] for decisions in all_decisions],
                axis=0,
            )
            cells.append(" / ".join(f"{100 * rate:.1f}" for rate in rates))
        name = f"**{backend}**" if backend == max(set(defaults), key=defaults.count) else backend
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="directories of models, one a seed")
    parser.add_argument("--log_mels", type=Path, help="NPZ file of labelled log-mels to score")
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    arguments = parser.parse_args()
    transformers_logging.disable_progress_bar()
    text = report(arguments.runs, [decisions_of(run, arguments.log_mels) for run in arguments.runs])
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
