"""A small model with its detector, of random weights, and the recordings that it was fitted on."""

from pathlib import Path

import numpy as np
import soundfile
import torch

from engines import load_pipeline
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel

from .damage import generator_of
from .processes import Forked


SAMPLING_RATE = 16_000
MACHINES = ("fan_id_00", "pump_id_02")
SIZES = {
    "clip_length": SAMPLING_RATE,
    "stem_channels": 8,
    "bottlenecks": [[1, 16, 1, 2], [2, 16, 1, 2], [2, 16, 1, 2]],
    "head_channels": 32,
    "attention_channels": [4, 8],
    "embedding_size": 16,
}


def recording(machine: str, number: int, hiss: float = 0.0) -> np.ndarray:
    """Return a second of a hum in noise, float32; `hiss` is a fault."""
    generator = generator_of(MACHINES.index(machine), number)
    times = np.arange(SAMPLING_RATE) / SAMPLING_RATE
    hum = 0.1 * np.sin(2 * np.pi * (220 + 390 * MACHINES.index(machine)) * times + generator.uniform(0, 6))
    return (hum + (0.02 + hiss) * generator.standard_normal(SAMPLING_RATE)).astype(np.float32)


def write_recordings(folder: Path, clips: int) -> Path:
    """Write a folder in the DCASE layout: normal training clips of both machines, and a test clip of each kind."""
    for machine in MACHINES:
        machine_type, _, machine_id = machine.split("_")
        for part, count, hiss in (("train/normal", clips, 0.0), ("test/normal", 1, 0.0), ("test/anomaly", 1, 0.2)):
            for number in range(count):
                path = folder / machine_type / f"{part}_id_{machine_id}_{number:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, recording(machine, number + 1000 * len(part), hiss), SAMPLING_RATE)
    return folder


def write_model(folder: Path, recordings: Path) -> Path:
    """Write a model directory, whose detector is fitted on the recordings; one that is there stays."""
    if folder.exists():
        return folder
    torch.manual_seed(0)
    model = AttentionAsdModel(AttentionAsdConfig(**SIZES, id2label=dict(enumerate(MACHINES)))).eval()
    model.save_pretrained(folder)
    AttentionAsdFeatureExtractor(clip_length=SAMPLING_RATE).save_pretrained(folder)
    fit = Forked.script("scripts/fit_detector.py", "--model", folder, "--data_dir", recordings)
    assert fit.wait() == 0, fit.output
    return folder


def write_other_model(folder: Path, model: Path) -> Path:
    """Write a model of the same sizes with other weights and another default back end; one that is there stays."""
    if folder.exists():
        return folder
    pipe = load_pipeline(model)
    with torch.no_grad():
        for parameter in pipe.model.parameters():
            parameter.mul_(1.5)
    pipe.detector = pipe.detector.with_backend("arcface")
    pipe.save_pretrained(folder)
    return folder


def write_export(folder: Path, model: Path, recordings: Path, engine: str) -> Path:
    """Export a model."""
    arguments = ("--model", model, "--output_dir", folder, "--engine", engine, "--calibration_dir", recordings)
    export = Forked.script("scripts/export.py", *arguments)
    assert export.wait() == 0, export.output
    return folder
