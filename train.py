#!/usr/bin/env python
"""Train the detector on normal machine sounds (Neri and Carli 2024, with the recipe of the published code).

    accelerate launch train.py --output_dir OUT                    # synthetic machines, a few minutes on two cores
    accelerate launch train.py --data_dir DIR --output_dir OUT     # recordings: DIR/<machine type>/{train,test}/*.wav

DIR with one machine alone teaches the network nothing: the machine is enrolled on the bundled model, space/demo_model.
OUT becomes a directory to load with AutoModel.from_pretrained(OUT, trust_remote_code=True) and to push to the Hub.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import HfArgumentParser
from transformers.utils import logging as transformers_logging

from evaluation.command import run
from evaluation.figures import save, training_curves
from evaluation.lock import hold_folder
from evaluation.splits import Splits
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdModel
from modeling.saving_attention_asd import replacing_files
from training.allocator import keep_freed_memory
from training.arguments import Arguments, check_numbers
from training.checkpoints import Progress
from training.clips import TrainingClips
from training.finish import fit_and_save_detector, repository_of, save_network, write_results_and_card
from training.hub import HubRepository, check_token, push_model
from training.loop import train
from training.one_machine import make_model_of_one_machine
from training.setup import load_data, make_accelerator, make_config, read_training_clips


# The embedded default: short synthetic clips and a schedule of a few minutes on two cores. Flags override it.
QUICK_PRESET = {
    "clip_seconds": 2.0,
    "num_train_epochs": 12,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 32,
    "validation_fraction": 0.2,
}


def parse_arguments(argv: list[str] | None = None) -> Arguments:
    parser = HfArgumentParser(Arguments, description=__doc__)  # pyright: ignore[reportArgumentType]  a NewType there
    if parser.parse_known_args(argv)[0].data_dir is None:
        parser.set_defaults(**QUICK_PRESET)
    arguments = parser.parse_args_into_dataclasses(argv)[0]
    check_numbers(arguments)
    return arguments


def main() -> int:
    arguments = parse_arguments()
    if arguments.push_to_hub:
        check_token()
    keep_freed_memory()
    accelerator = make_accelerator(arguments)
    if accelerator.is_main_process:
        hold_folder(Path(arguments.output_dir))
        transformers_logging.disable_progress_bar()
    splits = load_data(arguments, accelerator)
    if len(splits.train_machines) == 1:
        # The other processes have nothing to do.
        return finish(arguments, make_model_of_one_machine(arguments, splits)) if accelerator.is_main_process else 0
    config = make_config(arguments, splits.train_machines)
    feature_extractor = AttentionAsdFeatureExtractor(
        clip_length=config.clip_length, short_clips=arguments.short_clips, channels=arguments.channels
    )
    clips = read_training_clips(arguments, accelerator, splits, config.label2id, feature_extractor)

    torch.manual_seed(arguments.seed)
    model = AttentionAsdModel(config)
    if arguments.gradient_checkpointing:
        # transformers before 5.23 knows the other name only.
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    if accelerator.log_with:
        accelerator.init_trackers("attention_asd", {k: str(v) for k, v in asdict(arguments).items()})
    progress = train(arguments, accelerator, model, feature_extractor, clips)
    accelerator.end_training()
    if not accelerator.is_main_process:
        # The other processes are done: none waits, and times out, while the main one evaluates.
        return 0

    model_dir = Path(arguments.output_dir)
    network = save_network(model, feature_extractor, arguments)
    with replacing_files(model_dir) as scratch:
        save(training_curves(progress.history), scratch / "training_curves.png")
    detector = fit_and_save_detector(
        model_dir, network, clips, batch_size=arguments.per_device_eval_batch_size, seed=arguments.seed
    )
    results = training_record(arguments, accelerator, splits, clips, model, progress)
    write_results_and_card(model_dir, network, splits, detector, results)
    return finish(arguments, clips.errors)


def finish(arguments: Arguments, errors: Sequence[str]) -> int:
    """Push the finished directory if that was asked for, and return the exit code."""
    model_dir = Path(arguments.output_dir)
    print(f"{model_dir}: model, feature extractor, code, card and results")
    if arguments.push_to_hub:
        repository = repository_of(model_dir)
        pushed = push_model(model_dir, HubRepository(repository, private=arguments.hub_private))
        print(f"{repository}: pushed, {pushed}")
    # A launcher ends all processes when one of them fails: only the one that has written everything says so.
    return 2 if errors else 0


def training_record(
    arguments: Arguments,
    accelerator: Accelerator,
    splits: Splits,
    clips: TrainingClips,
    model: AttentionAsdModel,
    progress: Progress,
) -> dict[str, Any]:
    """What all_results.json and the card say of the training."""
    return {
        "data": splits.name,
        "train_clips": len(clips),
        "machine_ids": model.config.num_labels,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "train_loss": progress.history[-1]["loss"],
        "eval_loss": progress.best_eval_loss,
        "train_runtime": round(progress.seconds, 1),
        "train_clips_per_second": round(progress.epoch * len(clips) / max(progress.seconds, 1e-9), 2),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": arguments.seed,
        "command": " ".join(["train.py", *sys.argv[1:]]),
        "device": device_name(accelerator.device),
        "num_processes": accelerator.num_processes,
        "torch_version": torch.__version__,
    }


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads" if device.type == "cpu" else device.type


if __name__ == "__main__":
    run(main)
