"""The training loop: mixed batches in, the weights of the epoch with the smallest held-out loss out."""

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdModel
from modeling.saving_attention_asd import replacing_files

from .arguments import Arguments, run_settings
from .batches import KeyedBatches, draw_mixup
from .checkpoints import Progress, check_that_none_is_lost, list_checkpoints, load_checkpoint, save_checkpoint
from .clips import Bank, TrainingClips


Batch = tuple[torch.Tensor, torch.Tensor]
BEST_WEIGHTS = "best.safetensors"


def train(
    arguments: Arguments,
    accelerator: Accelerator,
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    clips: TrainingClips,
) -> Progress:
    """Train `model`; on return it has the weights of the epoch with the smallest held-out loss.

    Raises:
        ValueError: the loss is not finite, the checkpoint to resume from does not fit, or a new run would remove the
            checkpoints of an interrupted one.
    """
    loop = TrainingLoop(arguments, accelerator, model, feature_extractor, clips)
    while loop.progress.epoch < arguments.num_train_epochs:
        loop.train_epoch()
        loop.end_epoch()
    loop.finish()
    return loop.progress


class TrainingLoop:
    """One training run: its model and optimizer, where it stands, and the steps that it is made of."""

    def __init__(
        self,
        arguments: Arguments,
        accelerator: Accelerator,
        model: AttentionAsdModel,
        feature_extractor: AttentionAsdFeatureExtractor,
        clips: TrainingClips,
    ):
        self.arguments, self.accelerator = arguments, accelerator
        self.model, self.feature_extractor, self.clips = model, feature_extractor, clips
        self.checkpoints = Path(arguments.output_dir) / "checkpoints"
        # An update is of another size with other processes, and an epoch with other clips.
        self.settings = run_settings(arguments) | {"num_processes": accelerator.num_processes, "clips": len(clips)}
        self.batches = KeyedBatches(
            num_clips=len(clips.train_indices),
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
        self.progress = self.start_or_resume(optimizer)
        self.network, self.optimizer = accelerator.prepare(model, optimizer)
        model.train()
        # Apple's GPUs have no float64; elsewhere the sum of an epoch keeps every loss's digits.
        precision = torch.float32 if accelerator.device.type == "mps" else torch.float64
        self.loss_sum = torch.tensor(self.progress.epoch_loss_sum, dtype=precision, device=accelerator.device)
        self.bar = self.announce()
        self.started = time.monotonic() - self.progress.seconds

    def start_or_resume(self, optimizer: torch.optim.Optimizer) -> Progress:
        """Load the checkpoint that the run resumes from, or remove those of an earlier run."""
        progress, resume_from = Progress(), self.arguments.resume_from_checkpoint
        if resume_from:
            progress = resume(resume_from, self.settings, self.accelerator, self.model, optimizer, self.checkpoints)
        else:
            check_that_none_is_lost(self.checkpoints, self.settings)
        self.accelerator.wait_for_everyone()
        if progress.step == 0 and self.accelerator.is_main_process:
            # An earlier run's checkpoints would pass for this one's.
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        return progress

    def announce(self) -> tqdm:
        """Say what is trained on, and return the progress bar over all updates."""
        epochs, batches = self.arguments.num_train_epochs, self.batches
        if self.accelerator.is_main_process:
            print(
                f"{len(self.clips.train_indices)} training and {len(self.clips.held_out_indices)} held-out normal clips of "
                f"{self.model.config.num_labels} machine IDs; {epochs} epochs of {batches.updates_per_epoch} updates of "
                f"{batches.batch_size * self.accelerator.num_processes * batches.accumulation} clips"
            )
        return tqdm(
            total=epochs * batches.updates_per_epoch,
            initial=self.progress.step,
            desc="Training",
            unit="update",
            disable=not self.accelerator.is_main_process,
        )

    # An epoch

    def train_epoch(self) -> None:
        """Take the updates of the epoch that are not done yet."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.progress.epoch, self.arguments)
        micro_step = self.progress.step * self.batches.accumulation
        for batch in self.loader():
            self.take_micro_step(batch, micro_step)
            micro_step += 1
            if self.accelerator.sync_gradients:
                self.end_update()

    def loader(self) -> DataLoader:
        self.batches.epoch, self.batches.first_update = self.progress.epoch, self.progress.update
        return DataLoader(
            ChosenClips(self.clips.bank, self.clips.train_indices),
            batch_sampler=self.batches,
            collate_fn=as_fetched,
            num_workers=self.arguments.dataloader_num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def take_micro_step(self, batch: Batch, micro_step: int) -> None:
        """Mix a batch, and take its gradient; the optimizer steps where the accumulation is complete."""
        with self.accelerator.accumulate(self.network):
            samples, labels = (tensor.to(self.accelerator.device, non_blocking=True) for tensor in batch)
            mixing, share, partner = {}, 1.0, None
            if self.arguments.mixup_alpha > 0:
                key = (self.arguments.seed, micro_step, self.accelerator.process_index)
                share, partner = draw_mixup(len(labels), self.arguments.mixup_alpha, *key)
                partner = partner.to(self.accelerator.device)
                # As a number, each share would be compiled anew by torch.compile (--dynamo_backend). The tensor has all digits.
                share_tensor = torch.tensor(share, dtype=self.loss_sum.dtype, device=self.accelerator.device)
                mixing = {"mixup_partner": partner, "mixup_lambda": share_tensor}
            inputs = self.clips.bank.inputs(samples, self.feature_extractor, share, partner)
            loss = self.network(**inputs, labels=labels, **mixing).loss
            self.accelerator.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.loss_sum += loss.detach().to(self.loss_sum.dtype)

    def end_update(self) -> None:
        self.progress.update += 1
        self.progress.step += 1
        self.bar.update()
        steps = self.arguments.checkpointing_steps
        if steps != "epoch" and self.progress.step % int(steps) == 0:
            self.save_checkpoint()

    def end_epoch(self) -> None:
        """Record the epoch's losses, keep its weights if they are the best, and begin the next epoch."""
        record = self.epoch_record()
        if self.accelerator.is_main_process and len(self.clips.held_out_indices):
            record["eval_loss"] = self.held_out_loss()
            self.keep_if_best(record["eval_loss"])
        self.progress.history.append(record)
        self.accelerator.log({k: v for k, v in record.items() if k != "step"}, step=self.progress.step)
        self.bar.set_postfix({key: f"{record[key]:.3g}" for key in ("loss", "eval_loss") if key in record})
        self.loss_sum.zero_()
        self.progress.update = 0
        self.progress.epoch += 1
        if self.arguments.checkpointing_steps == "epoch":
            self.save_checkpoint()

    def epoch_record(self) -> dict[str, float]:
        """Return the line of the epoch in the run's history.

        Raises:
            ValueError: the loss is not finite.
        """
        epoch = self.progress.epoch
        mean_loss = self.loss_sum / (self.batches.updates_per_epoch * self.batches.accumulation)
        loss = self.mean_over_processes(mean_loss)
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss of epoch {epoch + 1} is {loss}: training has diverged. Lower --learning_rate, or train without "
                "--mixed_precision."
            )
        learning_rate = learning_rate_at(epoch, self.arguments)
        return {"epoch": epoch + 1, "step": self.progress.step, "learning_rate": learning_rate, "loss": loss}

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Return the mean loss of the held-out clips, unmixed: the criterion of model selection."""
        self.model.eval()
        total, count = 0.0, len(self.clips.held_out_indices)
        held_out = ChosenClips(self.clips.bank, self.clips.held_out_indices)
        batch_size = self.arguments.per_device_eval_batch_size
        for batch in DataLoader(held_out, batch_size=batch_size, collate_fn=as_fetched):
            samples, labels = (tensor.to(self.accelerator.device) for tensor in batch)
            inputs = self.clips.bank.inputs(samples, self.feature_extractor)
            total += self.model(**inputs, labels=labels).loss.item() * len(labels)
        self.model.train()
        return total / count

    def keep_if_best(self, loss: float) -> None:
        """Write the weights where this epoch's held-out loss is the smallest so far."""
        best = self.progress.best_eval_loss
        if math.isfinite(loss) and (best is None or loss < best):
            self.progress.best_eval_loss, self.progress.best_epoch = loss, self.progress.epoch + 1
            state = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
            with replacing_files(self.checkpoints) as scratch:
                save_file(state, scratch / BEST_WEIGHTS)

    # The run

    def save_checkpoint(self) -> None:
        self.progress.epoch_loss_sum = self.mean_over_processes(self.loss_sum)
        self.progress.seconds = time.monotonic() - self.started
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None
            save_checkpoint(
                self.checkpoints,
                self.model,
                self.optimizer.optimizer,
                self.progress,
                self.settings,
                scaler,
                self.arguments.save_total_limit,
            )

    def mean_over_processes(self, value: torch.Tensor) -> float:
        return torch.as_tensor(self.accelerator.reduce(value, "mean")).item()

    def finish(self) -> None:
        """Wait for all processes and load the best epoch's weights."""
        self.bar.close()
        self.accelerator.wait_for_everyone()
        best_weights = self.checkpoints / BEST_WEIGHTS
        if best_weights.exists():
            self.model.load_state_dict(load_file(best_weights))
        self.model.eval()
        self.progress.seconds = time.monotonic() - self.started


class ChosenClips(Dataset):
    """Some clips of a bank as a data set of torch, which fetches them in batches."""

    def __init__(self, bank: Bank, indices: np.ndarray):
        self.bank, self.indices = bank, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, places: Sequence[int]) -> Batch:
        return self.bank.fetch(self.indices[list(places)].tolist())


def as_fetched(batch: Any) -> Any:
    """Leave a batch as it is: the bank already gives whole batches."""
    return batch


def learning_rate_at(epoch: int, arguments: Arguments) -> float:
    """Cosine from the learning rate to its minimum, one value per epoch as in the published code."""
    low = arguments.min_learning_rate_ratio * arguments.learning_rate
    turn = math.cos(math.pi * epoch / arguments.num_train_epochs)
    return low + 0.5 * (arguments.learning_rate - low) * (1.0 + turn)


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
    best_weights = checkpoint.parent / BEST_WEIGHTS
    if accelerator.is_main_process and best_weights.exists() and checkpoint.parent.resolve() != checkpoints.resolve():
        with replacing_files(checkpoints) as scratch:
            shutil.copyfile(best_weights, scratch / best_weights.name)
    if scaler_state is not None and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(scaler_state)
    if accelerator.is_main_process:
        print(f"Resuming from {checkpoint}: epoch {progress.epoch + 1}, update {progress.update}")
    return progress
