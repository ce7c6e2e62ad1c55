"""Train the log-mel-only network on clips that are log-mels alone, as train.py does on recordings."""

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from dcase2020_task2 import label_name
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel
from training.arguments import Arguments
from training.clips import TrainingClips
from training.finish import fit_and_save_detector, save_network
from training.loop import train

from .log_mel_bank import LogMelBank


def train_on_log_mels(
    train_npz: Path,
    output_dir: Path,
    *,
    seed: int = 0,
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    validation_fraction: float = 0.15,
    machine_type: str = "ToyCar",
    resume: bool = False,
    progress: bool = True,
) -> float:
    """Train on the normal clips of an NPZ file, and write model, feature extractor and detector into `output_dir`.

    Args:
        train_npz: has `log_mel` (clips, 128, frames) in dB and `machine_id` (clips,).
        output_dir: where the model goes.
        seed: key of everything random.
        epochs: passes over the training clips.
        batch_size: clips in an update.
        learning_rate: AdamW's, at the start.
        validation_fraction: share of each machine ID's clips that is held out.
        machine_type: of all clips.
        resume: whether to go on from the newest checkpoint in `output_dir`.
        progress: whether to show progress bars.

    Returns:
        Seconds that the training took, those before an interruption included.

    Raises:
        ValueError: the file lacks an array, or has anomalous clips.
    """
    log_mels, machines = read_log_mels(train_npz, machine_type)
    arguments = Arguments(
        output_dir=str(output_dir),
        input_representations=["log_mel"],
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        mixed_precision="bf16",
        validation_fraction=validation_fraction,
        seed=seed,
        resume_from_checkpoint="latest" if resume else None,
    )
    clip_length = (log_mels.shape[2] - 1) * AttentionAsdFeatureExtractor().hop_length
    extractor = AttentionAsdFeatureExtractor(clip_length=clip_length)
    names = sorted(set(machines))
    config = AttentionAsdConfig(
        clip_length=clip_length, input_representations=["log_mel"], id2label=dict(enumerate(names))
    )
    bank = LogMelBank(log_mels, [names.index(machine) for machine in machines])
    clips = TrainingClips.split(bank, machines, validation_fraction, seed)
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="bf16")
    torch.manual_seed(seed)
    model = AttentionAsdModel(config)
    seconds = train(arguments, accelerator, model, extractor, clips).seconds
    network = save_network(model, extractor, arguments)
    fit_and_save_detector(output_dir, network, clips, batch_size=batch_size, seed=seed, progress=progress)
    return seconds


def read_log_mels(train_npz: Path, machine_type: str) -> tuple[np.ndarray, list[str]]:
    """Return the log-mels `(clips, 128, frames)` float32 in dB of an NPZ file, and the name of each clip's machine.

    Raises:
        ValueError: the file lacks an array, or has anomalous clips.
    """
    with np.load(train_npz) as arrays:
        missing = {"log_mel", "machine_id"} - set(arrays)
        if missing:
            raise ValueError(f"{train_npz}: no array {', '.join(sorted(missing))}. Expected log_mel and machine_id.")
        if "is_anomaly" in arrays and arrays["is_anomaly"].any():
            raise ValueError(f"{train_npz}: has anomalous clips. Expected normal ones alone.")
        machines = [label_name(machine_type, f"{number:02d}") for number in arrays["machine_id"]]
        return arrays["log_mel"].astype(np.float32), machines
