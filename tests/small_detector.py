"""A small detector for tests: one-second clips, a few training steps, tones that stand for machines."""

import numpy as np
import torch
from conftest import SMALL

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdConfig, AttentionAsdModel
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline


RATE = 16_000
TRAINING_STEPS = 12
MACHINES = {"fan_id_00": 220.0, "fan_id_02": 610.0, "pump_id_00": 1700.0}


def machine_sound(hertz: float, *key: int, seconds: float = 1.0, hiss: float = 0.0) -> np.ndarray:
    """A hum with two harmonics in noise; `hiss` is a fault."""
    generator = np.random.default_rng([int(hertz), *key])
    times = np.arange(round(seconds * RATE)) / RATE
    phases = generator.uniform(0, 2 * np.pi, 3)
    hum = sum(np.sin(2 * np.pi * hertz * n * times + phase) / n for n, phase in enumerate(phases, start=1))
    noise = generator.normal(size=len(times))
    return (0.1 * hum + (0.02 + hiss) * noise).astype(np.float32)


def small_pipeline(clips: int = 36, noise: torch.Tensor | None = None) -> AnomalousSoundDetectionPipeline:
    """A pipeline of three machines with so many clips each; 36 support a false-alarm rate of 1 %.

    With spectra of noise, as `AnomalyDetector.fit` takes them, the pipeline refuses noise.
    """
    config = AttentionAsdConfig(**{**SMALL, "id2label": dict(enumerate(MACHINES))})
    extractor = AttentionAsdFeatureExtractor(clip_length=RATE)
    torch.manual_seed(0)
    model = AttentionAsdModel(config)
    names = [name for name in MACHINES for _ in range(clips)]
    inputs = extractor([machine_sound(MACHINES[name], i) for i, name in enumerate(names)], sampling_rate=RATE)
    labels = torch.tensor([config.label2id[name] for name in names])
    held_out = np.arange(len(names)) % 2 == 1
    kept = {name: tensor[~held_out] for name, tensor in inputs.items()}
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
    for _ in range(TRAINING_STEPS):
        model(**kept, labels=labels[~held_out]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        outputs = model.eval()(**inputs)
    detector = AnomalyDetector.fit(config, outputs, names, held_out, noise=noise)
    return AnomalousSoundDetectionPipeline(model=model, feature_extractor=extractor, detector=detector, device="cpu")
