"""Checkpoints of a training run: safetensors and JSON alone, written whole or not at all.

Random numbers are keyed on the seed and the step. A checkpoint therefore needs the weights, AdamW's moments and the
place in the run, and nothing else.
"""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from modeling.saving_attention_asd import naming_full_disk


CHECKPOINT_NAME = re.compile(r"^step_(\d+)$")


@dataclass
class Progress:
    """Where a run stands: `update` optimizer steps of `epoch` are done."""

    epoch: int = 0
    update: int = 0
    step: int = 0
    epoch_loss_sum: float = 0.0
    best_eval_loss: float | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(
    directory: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    settings: dict[str, Any],
    scaler_state: dict[str, Any] | None = None,
    keep: int = 2,
) -> Path:
    """Write `directory/step_N`, and remove all checkpoints but the newest `keep`.

    Args:
        directory: where the run's checkpoints lie.
        model: gives the weights.
        optimizer: AdamW with its moments.
        progress: the place in the run.
        settings: what a run that goes on from here must share.
        scaler_state: of the gradient scaler of float16, if any.
        keep: how many checkpoints stay.

    Returns:
        The new checkpoint's folder.
    """
    target = directory / f"step_{progress.step:08d}"
    partial = directory / f".{target.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with naming_full_disk(target):
            partial.mkdir(parents=True)
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, partial / "model.safetensors")
            save_file(optimizer_tensors(optimizer), partial / "optimizer.safetensors")
            content = {"progress": asdict(progress), "settings": settings, "scaler": scaler_state}
            (partial / "progress.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in list_checkpoints(directory)[:-keep]:
        shutil.rmtree(old)
    return target


def load_checkpoint(
    checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, Any]
) -> tuple[Progress, dict[str, Any] | None]:
    """Load the weights and moments that [`save_checkpoint`] wrote into `model` and `optimizer`.

    Returns:
        The place in the run, and the state of the gradient scaler, if any.

    Raises:
        ValueError: if there is no whole checkpoint, or its run had other settings.
    """
    try:
        content = json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))
        progress = Progress(**content["progress"])
        other = {key: value for key, value in content["settings"].items() if settings.get(key) != value}
        if not other:
            model.load_state_dict(load_file(checkpoint / "model.safetensors"))
            restore_optimizer(optimizer, load_file(checkpoint / "optimizer.safetensors"))
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{checkpoint}: cannot be resumed from ({error}). Expected a step_N folder that train.py wrote for the same "
            "model."
        ) from None
    if other:
        raise ValueError(
            f"{checkpoint}: its run had {other}, which differs from now. Resume with the same settings, or train into "
            "another --output_dir."
        )
    return progress, content["scaler"]


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if CHECKPOINT_NAME.match(path.name))


def check_that_none_is_lost(directory: Path, settings: dict[str, Any]) -> None:
    """Check that no run was interrupted here that has these settings: a new run would remove its checkpoints.

    Raises:
        ValueError: one was. The message says how to go on with it.
    """
    for checkpoint in list_checkpoints(directory)[-1:]:
        try:
            content = json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))
            epoch, epochs = content["progress"]["epoch"], settings["num_train_epochs"]
            is_same = all(settings.get(key) == value for key, value in content["settings"].items())
        except (OSError, KeyError, TypeError, AttributeError, ValueError):  # nothing that could be resumed from
            continue
        if is_same and epoch < epochs:
            raise ValueError(
                f"{directory}: has checkpoints of an interrupted run with the same settings, {epoch} of {epochs} epochs done. "
                "A new run would remove them. Add --resume_from_checkpoint latest to go on, or remove the folder to begin "
                "anew."
            )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).contiguous()
        for index, moments in state.items()
        for name, value in moments.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        # The fused AdamW walks moments and weights side by side: both in the same memory format. A copy, for the tensor is
        # the mapped file, which Windows would not let go.
        like = parameters[int(index)] if tensor.ndim == 4 else tensor
        tensor = torch.empty_like(like).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
