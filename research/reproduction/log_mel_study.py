"""Train the log-mel-only network on clips of which there are only log-mels, as train.py does on recordings."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel

from .arguments import Arguments
from .batches import hold_out
from .fit_detector import fit_detector
from .log_mel_bank import LogMelBank
from .loop import train


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
    """Train on `log_mel` (clips, 128, frames) in dB and `machine_id` (clips,) of an NPZ file of normal clips, and write
    model, feature extractor and detector into `output_dir`.

    Returns:
        Seconds that the training took, those before an interruption included.

    Raises:
        ValueError: the file lacks an array, or has anomalous clips.
    """
    with np.load(train_npz) as arrays:
        missing = {"log_mel", "machine_id"} - set(arrays)
        if missing:
            raise ValueError(f"{train_npz}: no array {', '.join(sorted(missing))}. Expected log_mel and machine_id.")
        if "is_anomaly" in arrays and arrays["is_anomaly"].any():
            raise ValueError(f"{train_npz}: has anomalous clips. Expected normal ones alone.")
        log_mels, ids = arrays["log_mel"].astype(np.float32), arrays["machine_id"]
    machines = [f"{machine_type}_id_{number:02d}" for number in ids]
    names = sorted(set(machines))
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
    extractor = AttentionAsdFeatureExtractor()
    clip_length = (log_mels.shape[2] - 1) * extractor.hop_length
    extractor = AttentionAsdFeatureExtractor(clip_length=clip_length)
    config = AttentionAsdConfig(
        clip_length=clip_length, input_representations=["log_mel"], id2label=dict(enumerate(names))
    )
    bank = LogMelBank(log_mels, [names.index(machine) for machine in machines])
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="bf16")
    torch.manual_seed(seed)
    model = AttentionAsdModel(config)
    seconds = train(arguments, accelerator, model, extractor, bank).seconds
    model.save_pretrained(output_dir)
    extractor.save_pretrained(output_dir)
    model = AttentionAsdModel.from_pretrained(output_dir).to(accelerator.device)
    _, held_out = hold_out(bank.labels, validation_fraction, seed)
    detector, _ = fit_detector(model, extractor, bank, machines, held_out, batch_size, seed, progress)
    detector.save_pretrained(output_dir)
    (output_dir / "training_args.json").write_text(json.dumps(asdict(arguments), indent=2) + "\n")
    return seconds
