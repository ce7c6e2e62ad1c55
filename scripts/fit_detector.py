#!/usr/bin/env python
"""Fit the detector of a model anew, without training the network: thresholds for a converted checkpoint, for the same
machines recorded again, or for other machines altogether.

    python scripts/fit_detector.py --model runs/published --data_dir data/dcase2020

Writes scoring.safetensors and scoring_config.json into the model's directory, for the machine IDs of DIR/<machine
type>/train. A share of the clips is held out to calibrate with, the rest is fitted on. Where train.py made the model
from this folder, its results and its card are made anew as well.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dcase2020_task2 import load_clips  # noqa: E402
from evaluation.evaluate_model import evaluate_model  # noqa: E402
from evaluation.model_card import render_model_card  # noqa: E402
from feature_extraction import AttentionAsdFeatureExtractor  # noqa: E402
from modeling import AttentionAsdModel  # noqa: E402
from modeling.backends_attention_asd import BACKENDS  # noqa: E402
from training.allocator import keep_freed_memory  # noqa: E402
from training.batches import hold_out  # noqa: E402
from training.fit_detector import fit_detector  # noqa: E402
from training.waveform_bank import WaveformBank  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="directory of the model, which gets the detector")
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument(
        "--validation_fraction",
        type=float,
        help="share of each machine ID's normal clips to calibrate with; those that training held out, where train.py "
        "wrote the model, else 0.15",
    )
    parser.add_argument(
        "--backend", choices=BACKENDS, help="the default back end (by default the one that hears most of altered clips)"
    )
    parser.add_argument("--batch_size", type=int, default=16, help="clips per forward pass (default 16)")
    parser.add_argument("--seed", type=int, help="key of the held-out clips (default: the training's, else 0)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    if not (arguments.model / "config.json").exists():
        raise ValueError(f"{arguments.model}: no config.json. Expected the directory of a model.")
    # The same clips are held out as in training: others would calibrate with what the network has seen.
    trained = arguments.model / "training_args.json"
    training = json.loads(trained.read_text()) if trained.exists() else {}
    fraction = arguments.validation_fraction
    if fraction is None:
        fraction = training.get("validation_fraction") or 0.15
    seed = training.get("seed", 0) if arguments.seed is None else arguments.seed
    if not 0 < fraction < 1:
        raise ValueError(f"--validation_fraction {fraction}: expected a share above 0 and below 1.")

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model = AttentionAsdModel.from_pretrained(arguments.model).to(device)
    feature_extractor = AttentionAsdFeatureExtractor.from_pretrained(arguments.model)
    splits = load_clips(arguments.data_dir)
    rows = splits.get("train")
    if not rows:
        raise ValueError(
            f"{arguments.data_dir}: no training clips. Expected {arguments.data_dir}/<machine type>/train/"
            "normal_id_XX_*.wav with normal sounds."
        )
    names = rows.features["label"].names
    machines = [names[label] for label in rows["label"]]
    # Numbered as in training, because the held-out clips are drawn by number; machines that the network does not know follow.
    label2id = dict(model.config.label2id)
    for name in sorted(set(machines) - label2id.keys()):
        label2id[name] = max(label2id.values()) + 1
    bank = WaveformBank(rows["path"], [label2id[name] for name in machines], feature_extractor)
    for error in bank.errors.values():
        print(f"left out: {error}", file=sys.stderr)
    machines = [machines[row] for row in bank.rows]
    _, held_out = hold_out(bank.labels, fraction, seed)
    detector, heard = fit_detector(model, feature_extractor, bank, machines, held_out, arguments.batch_size, seed)
    if arguments.backend:
        detector = detector.with_backend(arguments.backend)
    detector.save_pretrained(arguments.model)
    record = arguments.model / "all_results.json"
    if record.exists() and Path(training.get("data_dir") or "").absolute() == arguments.data_dir.absolute():
        results = json.loads(record.read_text()) | {"backend": detector.backend, "altered_held_out_auc": heard}
        if splits.get("test"):
            results["test"] = evaluate_model(
                model,
                feature_extractor,
                splits["test"],
                arguments.model / "evaluation",
                train_rows=rows,
                data_dir=arguments.data_dir,
                detector=detector,
            )
        record.write_text(json.dumps(results, indent=2) + "\n")
        render_model_card(arguments.model, arguments.model.resolve().name)
    print(
        "AUC of altered against held-out normal clips:", ", ".join(f"{name} {auc:.3f}" for name, auc in heard.items())
    )
    print(
        f"{arguments.model}: {len(detector.machines)} machine IDs, fitted on {len(bank) - len(held_out)} clips, calibrated "
        f"on {len(held_out)}, default back end {detector.backend}"
    )
    return 2 if bank.errors else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
