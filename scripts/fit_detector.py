#!/usr/bin/env python
"""Fit the detector of a model anew, without training the network: thresholds for a converted checkpoint, for the same
machines recorded again, or for other machines altogether.

    python scripts/fit_detector.py --model runs/published --data_dir data/dcase2020

Writes scoring.safetensors and scoring_config.json into the model's directory, for the machine IDs of DIR/<machine
type>/train. Every clip describes its machine and calibrates. A share of the clips is held out to calibrate the back ends
that need the network. Machines of a single clip are left out and named. Where train.py made the model from this folder,
its results and its card are made anew as well.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from evaluation.command import above_zero, run
from evaluation.json_files import read_json
from evaluation.loading import best_device, load_network
from evaluation.lock import hold_folder
from evaluation.splits import Splits, load_training_splits, machine_of
from modeling.backends_attention_asd import BACKENDS
from modeling.calibration_attention_asd import MIN_CLIPS
from training.allocator import keep_freed_memory
from training.clips import TrainingClips, read_clips
from training.finish import fit_and_save_detector, write_results_and_card


# A single clip, left out, leaves nothing to judge it by.
MIN_CLIPS_OF_EACH = 2


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="directory of the model, which gets the detector")
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument(
        "--validation_fraction",
        type=float,
        help="share of each machine ID's normal clips that the network was not trained on; those that training held out, "
        "where train.py wrote the model, else 0.15",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="the default back end (default spectrum, which needs no training)",
    )
    parser.add_argument("--batch_size", type=above_zero, default=16, help="clips per forward pass (default 16)")
    parser.add_argument("--seed", type=int, help="key of the held-out clips (default: the training's, else 0)")
    return parser.parse_args(argv)


def main() -> int:
    arguments = parse_arguments()
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    training = read_training_arguments(arguments.model)
    hold_folder(arguments.model)
    fraction, seed = held_out_key(arguments, training)
    network = load_network(arguments.model, best_device())
    splits = load_training_splits(arguments.data_dir)
    label2id = numbered_as_in_training(network.model.config.label2id, splits.train_machines)
    clips = read_clips(splits.train, label2id, network.feature_extractor, fraction, seed)
    few = machines_of_few_clips(splits, clips)
    if few:
        rows = [row for row in splits.train if machine_of(row) not in few]
        clips = replace(read_clips(rows, label2id, network.feature_extractor, fraction, seed), errors=clips.errors)
        print(f"left out: {counted(few)}. Expected {MIN_CLIPS_OF_EACH} or more.", file=sys.stderr)
    detector = fit_and_save_detector(
        arguments.model, network, clips, batch_size=arguments.batch_size, seed=seed, backend=arguments.backend
    )
    record = arguments.model / "all_results.json"
    if record.exists() and Path(training.get("data_dir") or "").absolute() == arguments.data_dir.absolute():
        results = read_json(record)
        # Machines that were enrolled before are gone, or are fitted now.
        results = {name: value for name, value in results.items() if name not in ("enrolled_machines", "enrollment")}
        write_results_and_card(arguments.model, network, splits, detector, results)
    print(
        f"{arguments.model}: {len(detector.machines)} machine IDs, fitted on {len(clips)} clips, default back end "
        f"{detector.backend}"
    )
    lowest = max(detector.lowest_rate(machine) for machine in detector.machines)
    if lowest > detector.false_alarm_rate:
        print(
            f"The clips support no false-alarm rate below {100 * lowest:.2g} %, so nothing raises an alarm at the default of "
            f"{100 * detector.false_alarm_rate:g} %: ask for a higher rate when you judge, or fit on more clips."
        )
    return 2 if clips.errors or few else 0


def machines_of_few_clips(splits: Splits, clips: TrainingClips) -> dict[str, int]:
    """Return the machines with too few readable clips to know how these vary, with the number of them.

    Raises:
        ValueError: no machine has clips enough to fit a detector on.
    """
    counts = {machine: int((clips.machines == machine).sum()) for machine in splits.train_machines}
    if max(counts.values()) < MIN_CLIPS:
        raise ValueError(
            f"{splits.folder}: too few normal clips that can be read: {counted(counts)}. Expected {MIN_CLIPS_OF_EACH} or more "
            f"of each machine and {MIN_CLIPS} or more of one machine at least; ten or more are better. Nothing was written."
        )
    return {machine: count for machine, count in counts.items() if count < MIN_CLIPS_OF_EACH}


def counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{machine} with {count} {'clip' if count == 1 else 'clips'}" for machine, count in counts.items())


def read_training_arguments(model_dir: Path) -> dict[str, Any]:
    """What train.py noted of the training; empty for a model that it did not make.

    Raises:
        ValueError: the directory holds no model, or the note is damaged.
    """
    if not (model_dir / "config.json").exists():
        raise ValueError(f"{model_dir}: no config.json. Expected the directory of a model.")
    noted = model_dir / "training_args.json"
    return read_json(noted) if noted.exists() else {}


def held_out_key(arguments: argparse.Namespace, training: dict[str, Any]) -> tuple[float, int]:
    """The share and the seed that decide which clips are held out: by default those of the training.

    Others would calibrate with clips that the network has learned from.

    Raises:
        ValueError: no clip, or every clip, would be held out.
    """
    fraction = arguments.validation_fraction
    if fraction is None:
        fraction = training.get("validation_fraction") or 0.15
    if not 0 < fraction < 1:
        raise ValueError(f"--validation_fraction {fraction}: expected a share above 0 and below 1.")
    return fraction, training.get("seed", 0) if arguments.seed is None else arguments.seed


def numbered_as_in_training(label2id: dict[str, int], machines: Sequence[str]) -> dict[str, int]:
    """The network's classes, and after them a number for each machine that the network does not know.

    Clips are held out by the number of their class: other numbers would hold out other clips than the training did.
    """
    numbered = dict(label2id)
    for name in sorted(set(machines) - numbered.keys()):
        numbered[name] = max(numbered.values()) + 1
    return numbered


if __name__ == "__main__":
    run(main)
