"""The training loop: mixed batches in, the weights of the epoch with the smallest held-out loss out."""

import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdModel

from .arguments import Arguments, run_settings
from .batches import KeyedBatches, draw_mixup, hold_out
from .checkpoints import Progress, list_checkpoints, load_checkpoint, save_checkpoint
from .log_mel_bank import LogMelBank
from .waveform_bank import WaveformBank


def learning_rate_at(epoch: int, arguments: Arguments) -> float:
    """Cosine from the learning rate to its minimum, one value per epoch as in the published code."""
    low = arguments.min_learning_rate_ratio * arguments.learning_rate
    turn = math.cos(math.pi * epoch / arguments.num_train_epochs)
    return low + 0.5 * (arguments.learning_rate - low) * (1.0 + turn)


@torch.no_grad()
def held_out_loss(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank | LogMelBank,
    indices: np.ndarray,
    batch_size: int,
    device: torch.device,
) -> float:
    """Mean loss of unmixed clips, the criterion of model selection."""
    model.eval()
    total = 0.0
    for batch in DataLoader(Subset(bank, indices), batch_size=batch_size, collate_fn=as_fetched):
        samples, labels = (tensor.to(device) for tensor in batch)
        inputs = bank.inputs(samples, feature_extractor)
        total += model(**inputs, labels=labels).loss.item() * len(labels)
    model.train()
    return total / len(indices)


def as_fetched(batch):
    """The bank already gives whole batches."""
    return batch


def train(
    arguments: Arguments,
    accelerator: Accelerator,
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    bank: WaveformBank | LogMelBank,
) -> Progress:
    """The training loop. On return `model` has the weights of the epoch with the smallest held-out loss."""
    checkpoints = Path(arguments.output_dir) / "checkpoints"
    best_weights = checkpoints / "best.safetensors"
    train_indices, held_out_indices = hold_out(bank.labels, arguments.validation_fraction, arguments.seed)
    train_clips = Subset(bank, train_indices)
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
    # An update is of another size with other processes, and an epoch with other clips.
    settings = run_settings(arguments) | {"num_processes": accelerator.num_processes, "clips": len(bank)}
    if arguments.resume_from_checkpoint:
        progress = resume(arguments.resume_from_checkpoint, settings, accelerator, model, optimizer, checkpoints)
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
            f"{len(train_clips)} training and {len(held_out_indices)} held-out normal clips of {model.config.num_labels} "
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
            save_checkpoint(
                checkpoints, model, optimizer.optimizer, progress, settings, scaler, arguments.save_total_limit
            )

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
                mixing, share, partner = {}, 1.0, None
                if arguments.mixup_alpha > 0:
                    key = (arguments.seed, micro_step, accelerator.process_index)
                    share, partner = draw_mixup(len(labels), arguments.mixup_alpha, *key)
                    partner = partner.to(accelerator.device)
                    mixing = {"mixup_partner": partner, "mixup_lambda": share}
                inputs = bank.inputs(samples, feature_extractor, share, partner)
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
        if say and len(held_out_indices):
            batch_size = arguments.per_device_eval_batch_size
            loss = held_out_loss(model, feature_extractor, bank, held_out_indices, batch_size, accelerator.device)
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
    resume_from: str,
    settings: dict[str, Any],
    accelerator: Accelerator,
    model: AttentionAsdModel,
    optimizer: torch.optim.Optimizer,
    checkpoints: Path,
) -> Progress:
    """Load the checkpoint that `--resume_from_checkpoint` names; 'latest' starts afresh where there is none yet."""
    if resume_from == "latest":
        found = list_checkpoints(checkpoints)
        if not found:
            return Progress()
        checkpoint = found[-1]
    else:
        checkpoint = Path(resume_from)
    progress, scaler_state = load_checkpoint(checkpoint, model, optimizer, settings)
    best_weights = checkpoint.parent / "best.safetensors"
    if accelerator.is_main_process and best_weights.exists() and checkpoint.parent.resolve() != checkpoints.resolve():
        checkpoints.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best_weights, checkpoints / best_weights.name)
    if scaler_state is not None and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(scaler_state)
    if accelerator.is_main_process:
        print(f"Resuming from {checkpoint}: epoch {progress.epoch + 1}, update {progress.update}")
    return progress
