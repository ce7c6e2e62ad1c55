"""A world of machines without sound: the network's outputs for them are drawn, so that tests know what is normal."""

import numpy as np
import torch

from modeling import AnomalyDetector, AttentionAsdConfig, ClipOutputs


NAMES = [f"fan_id_{i:02d}" for i in range(6)]
SIZE = 16
CONFIG = AttentionAsdConfig(id2label=dict(enumerate(NAMES)), embedding_size=SIZE)
# The number of a machine that no detector of this world was fitted on.
NEW = len(NAMES)


class World:
    """Machines whose embeddings lie around a direction each, some of them more loosely than others."""

    def __init__(self, seed: int = 0, machines: int = len(NAMES) + 1, spread: float = 0.25):
        self.generator = np.random.default_rng([seed])
        self.directions = np.linalg.qr(self.generator.normal(size=(SIZE, SIZE)))[0][:machines]
        self.spread = spread * self.generator.permutation(np.linspace(1.0, 1.5, machines))

    def clips(self, machine: int, count: int, fault: float = 0.0) -> ClipOutputs:
        """Clips of a machine, pushed aside by `fault`, all in one direction."""
        noise = self.spread[machine] * self.generator.normal(size=(count, SIZE)) / np.sqrt(SIZE)
        push = self.generator.normal(size=SIZE)
        unscaled = self.directions[machine] + noise + fault * push / np.linalg.norm(push)
        # The embedding's length says nothing: the angular loss leaves it free.
        embeddings = unscaled * self.generator.uniform(1, 3, size=(count, 1))
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        cosines = unit @ self.directions[: len(NAMES)].T
        rows = [(10, -40), (1, 6), (2, 4), (2, 4.5), (2, 5), (2, 5.5)]
        spectra = np.stack([a * np.roll(unit, i, axis=1) + b for i, (a, b) in enumerate(rows)], axis=1)
        return ClipOutputs(*map(torch.from_numpy, (embeddings, cosines, spectra)))

    def detector(self, fitted: int = 30, held_out: int = 30, with_spectra: bool = True, **options) -> AnomalyDetector:
        """A detector of all named machines."""
        count = fitted + held_out
        clips = ClipOutputs.concatenate([self.clips(machine, count) for machine in range(len(NAMES))])
        if not with_spectra:
            clips = without_spectra(clips)
        is_held_out = np.tile(np.arange(count) >= fitted, len(NAMES))
        return AnomalyDetector.fit(CONFIG, clips, np.repeat(NAMES, count), is_held_out, **options)


def without_spectra(clips: ClipOutputs) -> ClipOutputs:
    return ClipOutputs(clips.embeddings, clips.cosines)
