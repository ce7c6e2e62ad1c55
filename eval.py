#!/usr/bin/env python
"""Evaluate a trained detector on labelled clips, by the rules of DCASE 2020 Task 2 and beside a trivial control.

    python eval.py --model OUT --data_dir DIR --output_dir R

R gets results.json, scores.csv, the challenge's anomaly_score_<type>_id_XX.csv files and the figures as PNG.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from evaluation.command import above_zero, run
from evaluation.evaluate_model import evaluate_model
from evaluation.loading import best_device, load_model
from evaluation.lock import hold_folder
from evaluation.splits import load_splits
from evaluation.tables import decisions_tables, summary_table
from training.allocator import keep_freed_memory


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory that train.py wrote, or a repository on the Hub")
    parser.add_argument(
        "--data_dir",
        required=True,
        type=Path,
        help="folder in the DCASE 2020 Task 2 layout, <machine type>/test/{normal,anomaly}_id_XX_*.wav",
    )
    parser.add_argument("--output_dir", required=True, type=Path, help="where the results go")
    parser.add_argument("--batch_size", type=above_zero, default=16, help="clips per forward pass (default 16)")
    parser.add_argument(
        "--no_control",
        action="store_true",
        help="leave out the trivial control, which reads the training clips of --data_dir too",
    )
    parser.add_argument(
        "--num_bootstrap", type=int, default=1000, help="replicates behind the confidence intervals (default 1000)"
    )
    return parser.parse_args(argv)


def main() -> int:
    arguments = parse_arguments()
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    splits = load_splits(arguments.data_dir)
    if not splits.test:
        raise ValueError(
            f"{arguments.data_dir}: no test clips. Expected {arguments.data_dir}/<machine type>/test/"
            "{normal,anomaly}_id_XX_*.wav."
        )
    if arguments.no_control:
        splits = replace(splits, train=())
    hold_folder(arguments.output_dir)
    results = evaluate_model(
        load_model(arguments.model, best_device()),
        splits,
        arguments.output_dir,
        batch_size=arguments.batch_size,
        num_bootstrap=arguments.num_bootstrap,
    )
    print_results(results)
    print(f"{arguments.output_dir}: results.json, scores.csv, score files and figures")
    return 2 if results["unreadable"] else 0


def print_results(results: dict[str, Any]) -> None:
    if "auc" in results:
        print(summary_table(results))
    if "decisions" in results:
        print(decisions_tables(results["decisions"]))
    for machine, count in results["unknown_machine_ids"].items():
        print(f"not scored: {count} clips of {machine}, a machine ID that the model does not know")
    for machine, count in results.get("not_enrolled_machine_ids", {}).items():
        print(
            f"not judged: {count} clips of {machine}, a machine ID that the detector does not know; see scripts/fit_detector.py"
        )
    for reason in results["unreadable"].values():
        print(f"error: {reason}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
