#!/usr/bin/env python
"""Train the detector on normal machine sounds (Neri and Carli 2024, with the recipe of the published code).

    accelerate launch train.py --output_dir OUT                    # synthetic machines, a few minutes on two cores
    accelerate launch train.py --data_dir DIR --output_dir OUT     # recordings: DIR/<machine type>/{train,test}/*.wav

OUT becomes a directory to load with AutoModel.from_pretrained(OUT, trust_remote_code=True) and to push to the Hub.
"""

import json
import math
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm
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
from training.batches import KeyedBatches, draw_mixup, hold_out
from training.checkpoints import Progress, list_checkpoints, load_checkpoint, save_checkpoint
from training.fit_detector import fit_detector
from training.hub import check_token, push_model
from training.waveform_bank import WaveformBank, to_waveforms


# The embedded default: short synthetic clips and a schedule of a few minutes on two cores. Flags override it.
QUICK_PRESET = {
    "clip_seconds": 2.0,
    "num_train_epochs": 12,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 32,
    "validation_fraction": 0.2,
}


@dataclass
class Arguments:
    """What train.py can be told. The defaults are the paper's recipe."""

    output_dir: str = field(metadata={"help": "Where the trained model goes; safe to give again to resume."})
    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder in the DCASE 2020 Task 2 layout, <machine type>/{train,test}/{normal,anomaly}_id_XX_*.wav, with "
            "any machine types and IDs. Without it: synthetic machines and the quick preset (2 s clips, 12 epochs at 1e-3)."
        },
    )
    machine_types: list[str] | None = field(default=None, metadata={"help": "Train on these machine types only."})
    num_train_epochs: int = field(default=300, metadata={"help": "Passes over the training clips."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Clips per process and forward pass."})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Clips per forward pass without gradients."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Forward passes per update."})
    learning_rate: float = field(default=1e-4, metadata={"help": "AdamW's learning rate at the start."})
    min_learning_rate_ratio: float = field(default=0.1, metadata={"help": "Where its cosine ends, epoch by epoch."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay."})
    mixup_alpha: float = field(default=0.2, metadata={"help": "Mixup of waveforms, Beta(alpha, alpha); 0 is without."})
    angular_loss: str = field(
        default="noisy_arcmix",
        metadata={
            "help": "Angular loss; arcface is for --mixup_alpha 0.",
            "choices": ["noisy_arcmix", "arcmix", "arcface"],
        },
    )
    scale: float = field(default=40.0, metadata={"help": "s of ArcFace."})
    margin: float = field(default=0.7, metadata={"help": "m of ArcFace, in radians."})
    input_representations: list[str] = field(
        default_factory=lambda: ["log_mel", "wavegram"], metadata={"help": "What the network sees (Table 3)."}
    )
    embedding_size: int = field(default=128, metadata={"help": "h, the size of the embedding (Table 3)."})
    use_attention: bool = field(default=True, metadata={"help": "The attention map (Table 4)."})
    use_separable_convolutions: bool = field(default=True, metadata={"help": "Separable convolutions (Table 4)."})
    clip_seconds: float = field(default=10.0, metadata={"help": "Length of a clip in seconds."})
    short_clips: str = field(
        default="repeat", metadata={"help": "What fills shorter recordings.", "choices": ["repeat", "zeros"]}
    )
    channels: str = field(
        default="first", metadata={"help": "What becomes of several channels.", "choices": ["first", "mean"]}
    )
    validation_fraction: float = field(
        default=0.05,
        metadata={
            "help": "Share of each ID's normal training clips held out: they choose the best epoch and set the thresholds."
        },
    )
    seed: int = field(default=0, metadata={"help": "Key of everything random."})
    mixed_precision: str = field(
        default="no", metadata={"help": "Precision of the forward pass.", "choices": ["no", "bf16", "fp16"]}
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Recompute the attention module: less memory, more time."}
    )
    checkpointing_steps: str = field(
        default="epoch", metadata={"help": "A checkpoint every so many updates, or at every 'epoch'."}
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "'latest', or a step_N folder; goes on as if never interrupted."}
    )
    report_to: str = field(default="none", metadata={"help": "A tracker of accelerate, such as tensorboard, or none."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that fetch batches ahead."})
    push_to_hub: bool = field(default=False, metadata={"help": "Push the output directory to the Hub at the end."})
    hub_model_id: str | None = field(
        default=None,
        metadata={"help": "Repository for it, user/name; by default yours, named as the output directory."},
    )
    hub_private: bool = field(default=False, metadata={"help": "Make that repository a private one."})


def parse_arguments(argv: list[str] | None = None) -> Arguments:
    parser = HfArgumentParser(Arguments, description=__doc__)
    if parser.parse_known_args(argv)[0].data_dir is None:
        parser.set_defaults(**QUICK_PRESET)
    arguments = parser.parse_args_into_dataclasses(argv)[0]
    check_numbers(arguments)
    return arguments


def check_numbers(arguments: Arguments) -> None:
    """Say now what would fail after an hour."""
    for name in (
        "num_train_epochs",
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "clip_seconds",
    ):
        if getattr(arguments, name) <= 0:
            raise ValueError(f"--{name} {getattr(arguments, name)}: expected a number above 0.")
    if not 0 <= arguments.validation_fraction < 1:
        raise ValueError(f"--validation_fraction {arguments.validation_fraction}: expected a share from 0 to below 1.")
    steps = arguments.checkpointing_steps
    if steps != "epoch" and not (steps.isdigit() and int(steps) > 0):
        raise ValueError(f"--checkpointing_steps {steps}: expected a number of updates above 0, or 'epoch'.")


def run_settings(arguments: Arguments) -> dict[str, Any]:
    """What two runs must share for one to go on where the other stopped."""
    free = {
        "output_dir",
        "per_device_eval_batch_size",
        "checkpointing_steps",
        "resume_from_checkpoint",
        "report_to",
        "dataloader_num_workers",
        "push_to_hub",
        "hub_model_id",
        "hub_private",
    }
    return {name: value for name, value in asdict(arguments).items() if name not in free}


def learning_rate_at(epoch: int, arguments: Arguments) -> float:
    """Cosine from the learning rate to its minimum, one value per epoch as in the published code."""
    low = arguments.min_learning_rate_ratio * arguments.learning_rate
    turn = math.cos(math.pi * epoch / arguments.num_train_epochs)
    return low + 0.5 * (arguments.learning_rate - low) * (1.0 + turn)


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


def input_tensors(
    waveforms: torch.Tensor, feature_extractor: AttentionAsdFeatureExtractor, config: AttentionAsdConfig
) -> dict[str, torch.Tensor]:
    """What the configured network needs of `(batch, clip_length)` waveforms."""
    inputs = {}
    if "wavegram" in config.input_representations:
        inputs["input_values"] = waveforms
    if "log_mel" in config.input_representations:
        inputs["input_features"] = feature_extractor.log_mel(waveforms)
    return inputs


@torch.no_grad()
def held_out_loss(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    clips: Subset,
    batch_size: int,
    device: torch.device,
) -> float:
    """Mean loss of unmixed clips, the criterion of model selection."""
    model.eval()
    total = 0.0
    for batch in DataLoader(clips, batch_size=batch_size, collate_fn=as_fetched):
        samples, labels = (tensor.to(device) for tensor in batch)
        inputs = input_tensors(to_waveforms(samples), feature_extractor, model.config)
        total += model(**inputs, labels=labels).loss.item() * len(labels)
    model.train()
    return total / len(clips)


def as_fetched(batch):
    """The bank already gives whole batches."""
    return batch


def train(
    arguments: Arguments,
    accelerator: Accelerator,
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank,
) -> Progress:
    """The training loop. On return `model` has the weights of the epoch with the smallest held-out loss."""
    checkpoints = Path(arguments.output_dir) / "checkpoints"
    best_weights = checkpoints / "best.safetensors"
    train_indices, held_out_indices = hold_out(bank.labels, arguments.validation_fraction, arguments.seed)
    train_clips, held_out_clips = Subset(bank, train_indices), Subset(bank, held_out_indices)
    batches = KeyedBatches(
        num_clips=len(train_clips),
        batch_size=arguments.per_device_train_batch_size,
        accumulation=arguments.gradient_accumulation_steps,
        num_processes=accelerator.num_processes,
        process_index=accelerator.process_index,
        seed=arguments.seed,
    )
    # Channels-last convolutions took 0.87 of the time on two cores, and suit a GPU's matrix units.
    model.to(accelerator.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=arguments.learning_rate, weight_decay=arguments.weight_decay, fused=True
    )
    progress = Progress()
    if arguments.resume_from_checkpoint:
        progress = resume(arguments, accelerator, model, optimizer, checkpoints)
    accelerator.wait_for_everyone()
    if progress.step == 0 and accelerator.is_main_process:
        # An earlier run's checkpoints would pass for this one's.
        shutil.rmtree(checkpoints, ignore_errors=True)
    ddp_model, optimizer = accelerator.prepare(model, optimizer)
    model.train()

    say = accelerator.is_main_process
    epochs = arguments.num_train_epochs
    total = epochs * batches.updates_per_epoch
    bar = tqdm(total=total, initial=progress.step, desc="Training", unit="update", disable=not say)
    if say:
        print(
            f"{len(train_clips)} training and {len(held_out_clips)} held-out normal clips of {model.config.num_labels} "
            f"machine IDs; {epochs} epochs of {batches.updates_per_epoch} updates of "
            f"{batches.batch_size * accelerator.num_processes * batches.accumulation} clips"
        )
    started = time.monotonic() - progress.seconds
    # Apple's GPUs have no float64; elsewhere the sum of an epoch keeps every loss's digits.
    precision = torch.float32 if accelerator.device.type == "mps" else torch.float64
    loss_sum = torch.tensor(progress.epoch_loss_sum, dtype=precision, device=accelerator.device)

    def checkpoint():
        progress.epoch_loss_sum = accelerator.reduce(loss_sum, "mean").item()
        progress.seconds = time.monotonic() - started
        if accelerator.is_main_process:
            scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
            save_checkpoint(checkpoints, model, optimizer.optimizer, progress, run_settings(arguments), scaler)

    while progress.epoch < epochs:
        learning_rate = learning_rate_at(progress.epoch, arguments)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        batches.epoch, batches.first_update = progress.epoch, progress.update
        loader = DataLoader(
            train_clips,
            batch_sampler=batches,
            collate_fn=as_fetched,
            num_workers=arguments.dataloader_num_workers,
            pin_memory=accelerator.device.type == "cuda",
        )
        micro_step = progress.step * batches.accumulation
        for batch in loader:
            with accelerator.accumulate(ddp_model):
                samples, labels = (tensor.to(accelerator.device, non_blocking=True) for tensor in batch)
                waveforms = to_waveforms(samples)
                mixing = {}
                if arguments.mixup_alpha > 0:
                    key = (arguments.seed, micro_step, accelerator.process_index)
                    share, partner = draw_mixup(len(labels), arguments.mixup_alpha, *key)
                    partner = partner.to(accelerator.device)
                    # Section II.A: sounds are mixed before the log-mel, as they would be in the air.
                    waveforms = share * waveforms + (1.0 - share) * waveforms[partner]
                    mixing = {"mixup_partner": partner, "mixup_lambda": share}
                inputs = input_tensors(waveforms, feature_extractor, model.config)
                loss = ddp_model(**inputs, labels=labels, **mixing).loss
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                loss_sum += loss.detach().to(precision)
            micro_step += 1
            if not accelerator.sync_gradients:
                continue
            progress.update += 1
            progress.step += 1
            bar.update()
            if arguments.checkpointing_steps != "epoch" and progress.step % int(arguments.checkpointing_steps) == 0:
                checkpoint()

        record = {"epoch": progress.epoch + 1, "step": progress.step, "learning_rate": learning_rate}
        mean_loss = loss_sum / (batches.updates_per_epoch * batches.accumulation)
        record["loss"] = accelerator.reduce(mean_loss, "mean").item()
        if not math.isfinite(record["loss"]):
            raise ValueError(
                f"the loss of epoch {record['epoch']} is {record['loss']}: training has diverged. Lower --learning_rate, or "
                "train without --mixed_precision."
            )
        if say and len(held_out_clips):
            batch_size = arguments.per_device_eval_batch_size
            loss = held_out_loss(model, feature_extractor, held_out_clips, batch_size, accelerator.device)
            record["eval_loss"] = loss
            if math.isfinite(loss) and (progress.best_eval_loss is None or loss < progress.best_eval_loss):
                progress.best_eval_loss, progress.best_epoch = loss, progress.epoch + 1
                best_weights.parent.mkdir(parents=True, exist_ok=True)
                save_file({k: v.contiguous() for k, v in model.state_dict().items()}, best_weights)
        progress.history.append(record)
        accelerator.log({k: v for k, v in record.items() if k != "step"}, step=progress.step)
        bar.set_postfix({key: f"{record[key]:.3g}" for key in ("loss", "eval_loss") if key in record})
        loss_sum.zero_()
        progress.update = 0
        progress.epoch += 1
        if arguments.checkpointing_steps == "epoch":
            checkpoint()
    bar.close()
    accelerator.wait_for_everyone()
    if best_weights.exists():
        model.load_state_dict(load_file(best_weights))
    model.eval()
    progress.seconds = time.monotonic() - started
    return progress


def resume(
    arguments: Arguments,
    accelerator: Accelerator,
    model: AttentionAsdModel,
    optimizer: torch.optim.Optimizer,
    checkpoints: Path,
) -> Progress:
    """Load the checkpoint that `--resume_from_checkpoint` names; 'latest' starts afresh where there is none yet."""
    if arguments.resume_from_checkpoint == "latest":
        found = list_checkpoints(checkpoints)
        if not found:
            return Progress()
        checkpoint = found[-1]
    else:
        checkpoint = Path(arguments.resume_from_checkpoint)
    progress, scaler_state = load_checkpoint(checkpoint, model, optimizer, run_settings(arguments))
    best_weights = checkpoint.parent / "best.safetensors"
    if accelerator.is_main_process and best_weights.exists() and checkpoint.parent.resolve() != checkpoints.resolve():
        checkpoints.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best_weights, checkpoints / best_weights.name)
    if scaler_state is not None and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(scaler_state)
    if accelerator.is_main_process:
        print(f"Resuming from {checkpoint}: epoch {progress.epoch + 1}, update {progress.update}")
    return progress


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
    id2label = dict(enumerate(trained_names))
    if len(id2label) < 2:
        raise ValueError(
            f"{folder}: its training clips are all of one machine ID, {trained_names}. The network learns by telling machine "
            "IDs apart: give it clips of two or more."
        )

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
    )
    feature_extractor = AttentionAsdFeatureExtractor(
        clip_length=config.clip_length, short_clips=arguments.short_clips, channels=arguments.channels
    )
    label_of = config.label2id
    labels = [label_of[names[label]] for label in rows["label"]]
    with accelerator.main_process_first():
        bank = WaveformBank(rows["path"], labels, feature_extractor, progress=accelerator.is_main_process)
    if accelerator.is_main_process:
        for error in bank.errors.values():
            print(f"left out: {error}", file=sys.stderr)
    unheard = sorted(id2label[label] for label in set(id2label) - set(bank.labels.tolist()))
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
        finish(arguments, accelerator, model, feature_extractor, bank, splits, data_name, progress)
    # A launcher ends all processes when one of them fails: only the one that has written everything says so.
    return 2 if bank.errors and accelerator.is_main_process else 0


def finish(
    arguments: Arguments,
    accelerator: Accelerator,
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank,
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
    detector = fit_detector(model, feature_extractor, bank, held_out_indices, batch_size, arguments.seed)
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
            )
        except ValueError as error:
            print(f"not evaluated: {error}", file=sys.stderr)
    (output_dir / "all_results.json").write_text(json.dumps(results, indent=2) + "\n")
    repository = arguments.hub_model_id or output_dir.resolve().name
    render_model_card(output_dir, repository)
    print(f"{output_dir}: model, feature extractor, code, card and results")
    if arguments.push_to_hub:
        print(f"{repository}: pushed, {push_model(output_dir, repository, arguments.hub_private)}")


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
