#!/usr/bin/env python
"""Train the detector on normal machine sounds (Neri and Carli 2024, with the recipe of the published code).

    accelerate launch train.py --output_dir OUT                    # synthetic machines, a few minutes on two cores
    accelerate launch train.py --data_dir DIR --output_dir OUT     # recordings: DIR/<machine type>/{train,test}/*.wav

OUT becomes a directory to load with AutoModel.from_pretrained(OUT, trust_remote_code=True) and to push to the Hub.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from transformers import HfArgumentParser
from transformers.utils import logging as transformers_logging

from dcase2020_task2 import load_clips
from evaluation.evaluate_model import evaluate_model
from evaluation.figures import save, training_curves
from evaluation.model_card import SYNTHETIC, render_model_card
from feature_extraction import AttentionAsdFeatureExtractor
from machine_room import generate_machine_room
from modeling import AttentionAsdConfig, AttentionAsdModel
from training.allocator import keep_freed_memory
from training.arguments import Arguments, check_numbers
from training.batches import hold_out
from training.checkpoints import Progress
from training.fit_detector import fit_detector
from training.hub import HubRepository, check_token, push_model
from training.loop import train
from training.waveform_bank import WaveformBank


# The embedded default: short synthetic clips and a schedule of a few minutes on two cores. Flags override it.
QUICK_PRESET = {
    "clip_seconds": 2.0,
    "num_train_epochs": 12,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 32,
    "validation_fraction": 0.2,
}


def parse_arguments(argv: list[str] | None = None) -> Arguments:
    parser = HfArgumentParser(Arguments, description=__doc__)
    if parser.parse_known_args(argv)[0].data_dir is None:
        parser.set_defaults(**QUICK_PRESET)
    arguments = parser.parse_args_into_dataclasses(argv)[0]
    check_numbers(arguments)
    return arguments


def load_rows(arguments: Arguments, accelerator: Accelerator) -> tuple[dict[str, Any], str, str]:
    """The clips' splits, their folder, and what to call the data."""
    with accelerator.main_process_first():
        if arguments.data_dir is None:
            room = Path(arguments.output_dir) / "machine_room"
            folder = generate_machine_room(
                room,
                seed=arguments.seed,
                clip_seconds=arguments.clip_seconds,
                progress=accelerator.is_main_process,
            )
            name = SYNTHETIC
        else:
            folder = Path(arguments.data_dir)
            # Synthetic machines are called so wherever they come from.
            name = SYNTHETIC if (folder / "machine_room.json").exists() else folder.resolve().name
        splits = load_clips(folder)
    if arguments.machine_types:
        wanted = set(arguments.machine_types)
        missing = wanted - {machine_type for rows in splits.values() for machine_type in rows["machine_type"]}
        if missing:
            raise ValueError(f"--machine_types {' '.join(sorted(missing))}: no such machine type in {folder}.")
        splits = {split: rows.filter(lambda row: row["machine_type"] in wanted) for split, rows in splits.items()}
    if "train" not in splits or not len(splits["train"]):
        raise ValueError(
            f"{folder}: no training clips. Expected {folder}/<machine type>/train/normal_id_XX_*.wav with normal sounds."
        )
    return splits, str(folder), name


def read_labels(file: str | None, machines: list[str]) -> tuple[dict[int, str], dict[str, int]]:
    """id2label and label2id: a class for each machine ID, or what `--labels` says."""
    if file is None:
        return dict(enumerate(machines)), {machine: label for label, machine in enumerate(machines)}
    content = json.loads(Path(file).read_text())
    id2label = {int(label): name for label, name in content["id2label"].items()}
    missing = sorted(set(machines) - set(content["label2id"]))
    if missing:
        raise ValueError(f"--labels {file}: label2id has no {', '.join(missing)}, of which there are training clips.")
    return id2label, content["label2id"]


def main() -> int:
    arguments = parse_arguments()
    if arguments.push_to_hub:
        check_token()
    keep_freed_memory()
    has_device = torch.accelerator.is_available()
    accelerator = Accelerator(
        # Without this, accelerate looks for GPUs of its own when told to use several processes.
        cpu=not has_device,
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=None if arguments.report_to == "none" else arguments.report_to,
        project_dir=arguments.output_dir,
    )
    if arguments.report_to != "none" and not accelerator.log_with:
        raise ValueError(
            f"--report_to {arguments.report_to}: this tracker is not installed. For TensorBoard: pip install -e '.[tracking]'."
        )
    if accelerator.is_main_process:
        transformers_logging.disable_progress_bar()
    splits, folder, data_name = load_rows(arguments, accelerator)
    rows = splits["train"]
    names = rows.features["label"].names
    trained_names = sorted({names[label] for label in rows["label"]})
    if len(trained_names) < 2:
        raise ValueError(
            f"{folder}: its training clips are all of one machine ID, {trained_names}. The network learns by telling machine "
            "IDs apart: give it clips of two or more."
        )

    id2label, label2id = read_labels(arguments.labels, trained_names)
    config = AttentionAsdConfig(
        clip_length=round(arguments.clip_seconds * 16_000),
        input_representations=arguments.input_representations,
        embedding_size=arguments.embedding_size,
        use_attention=arguments.use_attention,
        use_separable_convolutions=arguments.use_separable_convolutions,
        angular_loss=arguments.angular_loss,
        scale=arguments.scale,
        margin=arguments.margin,
        id2label=id2label,
        label2id=label2id,
    )
    feature_extractor = AttentionAsdFeatureExtractor(
        clip_length=config.clip_length, short_clips=arguments.short_clips, channels=arguments.channels
    )
    machines = [names[label] for label in rows["label"]]
    labels = [label2id[machine] for machine in machines]
    with accelerator.main_process_first():
        bank = WaveformBank(rows["path"], labels, feature_extractor, progress=accelerator.is_main_process)
    if accelerator.is_main_process:
        for error in bank.errors.values():
            print(f"left out: {error}", file=sys.stderr)
    machines = [machines[row] for row in bank.rows]
    unheard = sorted(set(trained_names) - set(machines))
    if unheard:
        raise ValueError(
            f"{folder}: not one training clip of {', '.join(unheard)} can be read. Repair the clips, or take these machine "
            "IDs out."
        )

    torch.manual_seed(arguments.seed)
    model = AttentionAsdModel(config)
    if arguments.gradient_checkpointing:
        model.activation_checkpointing_enable()
    if accelerator.log_with:
        accelerator.init_trackers("attention_asd", {k: str(v) for k, v in asdict(arguments).items()})
    progress = train(arguments, accelerator, model, feature_extractor, bank)
    accelerator.end_training()
    if accelerator.is_main_process:
        # The other processes are done: none waits, and times out, while this one evaluates.
        finish(arguments, accelerator, model, feature_extractor, bank, machines, splits, data_name, progress)
    # A launcher ends all processes when one of them fails: only the one that has written everything says so.
    return 2 if bank.errors and accelerator.is_main_process else 0


def finish(
    arguments: Arguments,
    accelerator: Accelerator,
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank,
    machines: list[str],
    splits: dict[str, Any],
    data_name: str,
    progress: Progress,
) -> None:
    """Write everything that belongs into the output directory, evaluation included."""
    output_dir = Path(arguments.output_dir)
    model.save_pretrained(output_dir)
    feature_extractor.save_pretrained(output_dir)
    # What is measured below is what was saved: whoever loads the directory gets these very numbers.
    model = AttentionAsdModel.from_pretrained(output_dir).to(model.device)
    _, held_out_indices = hold_out(bank.labels, arguments.validation_fraction, arguments.seed)
    batch_size = arguments.per_device_eval_batch_size
    detector, altered_auc = fit_detector(
        model, feature_extractor, bank, machines, held_out_indices, batch_size, arguments.seed
    )
    detector.save_pretrained(output_dir)
    (output_dir / "training_args.json").write_text(json.dumps(asdict(arguments), indent=2) + "\n")
    save(training_curves(progress.history), output_dir / "training_curves.png")
    results = {
        "data": data_name,
        "train_clips": len(bank),
        "machine_ids": model.config.num_labels,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "train_loss": progress.history[-1]["loss"],
        "eval_loss": progress.best_eval_loss,
        "backend": detector.backend,
        "altered_held_out_auc": altered_auc,
        "train_runtime": round(progress.seconds, 1),
        "train_clips_per_second": round(progress.epoch * len(bank) / max(progress.seconds, 1e-9), 2),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": arguments.seed,
        "command": " ".join(["train.py", *sys.argv[1:]]),
        "device": device_name(accelerator.device),
        "num_processes": accelerator.num_processes,
        "torch_version": torch.__version__,
    }
    if "test" in splits and len(splits["test"]):
        try:
            results["test"] = evaluate_model(
                model,
                feature_extractor,
                splits["test"],
                output_dir / "evaluation",
                train_rows=splits["train"],
                data_dir=Path(arguments.data_dir or output_dir / "machine_room"),
                detector=detector,
            )
        except ValueError as error:
            print(f"not evaluated: {error}", file=sys.stderr)
    (output_dir / "all_results.json").write_text(json.dumps(results, indent=2) + "\n")
    repository = arguments.hub_model_id or output_dir.resolve().name
    render_model_card(output_dir, repository)
    print(f"{output_dir}: model, feature extractor, code, card and results")
    if arguments.push_to_hub:
        print(
            f"{repository}: pushed, {push_model(output_dir, HubRepository(repository, private=arguments.hub_private))}"
        )


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads" if device.type == "cpu" else device.type


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
