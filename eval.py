#!/usr/bin/env python
"""Evaluate a trained detector on labelled clips, by the rules of DCASE 2020 Task 2 and beside a trivial control.

    python eval.py --model OUT --data_dir DIR --output_dir R

R gets results.json, scores.csv, the challenge's anomaly_score_<type>_id_XX.csv files and the figures as PNG.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from dcase2020_task2 import load_clips
from evaluation.decisions import decisions_tables
from evaluation.evaluate_model import evaluate_model, summary_table
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel
from training.allocator import keep_freed_memory


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory that train.py wrote, or a repository on the Hub")
    parser.add_argument(
        "--data_dir",
        required=True,
        type=Path,
        help="folder in the DCASE 2020 Task 2 layout, <machine type>/test/{normal,anomaly}_id_XX_*.wav",
    )
    parser.add_argument("--output_dir", required=True, type=Path, help="where the results go")
    parser.add_argument("--batch_size", type=int, default=16, help="clips per forward pass (default 16)")
    parser.add_argument(
        "--no_control",
        action="store_true",
        help="leave out the trivial control, which reads the training clips of --data_dir too",
    )
    parser.add_argument(
        "--num_bootstrap", type=int, default=1000, help="replicates behind the confidence intervals (default 1000)"
    )
    return parser.parse_args()


def load_detector(model: str) -> AnomalyDetector | None:
    """The detector beside the model; a converted checkpoint has none."""
    try:
        return AnomalyDetector.from_pretrained(model)
    except OSError:
        return None


def main() -> int:
    arguments = parse_arguments()
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    splits = load_clips(arguments.data_dir)
    if "test" not in splits:
        raise ValueError(
            f"{arguments.data_dir}: no test clips. Expected {arguments.data_dir}/<machine type>/test/"
            "{normal,anomaly}_id_XX_*.wav."
        )
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model = AttentionAsdModel.from_pretrained(arguments.model).to(device)
    feature_extractor = AttentionAsdFeatureExtractor.from_pretrained(arguments.model)
    results = evaluate_model(
        model,
        feature_extractor,
        splits["test"],
        arguments.output_dir,
        train_rows=None if arguments.no_control else splits.get("train"),
        data_dir=arguments.data_dir,
        detector=load_detector(arguments.model),
        batch_size=arguments.batch_size,
        num_bootstrap=arguments.num_bootstrap,
    )
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
    print(f"{arguments.output_dir}: results.json, scores.csv, score files and figures")
    return 2 if results["unreadable"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
