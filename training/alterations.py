"""
Normal recordings altered as faults alter them: they choose the back end where there is no anomalous sound.

There are six alterations, faint enough that no back end finds all of them. Impacts, hiss, scraping and a tone are added
to the recording, 10 dB below to 6 dB above the recording's own level in their frequency band. Another speed and another
level of a band alter the recording itself. The alterations stand in for faults: they say which of two back ends detects
more, not how much a back end will detect of real faults.
"""

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, sosfilt, sosfiltfilt

from machine_room.signals import SAMPLING_RATE, low_pass, ringing, rms, shaped_noise

from . import random_streams


def alterations(waveform: np.ndarray, *key: int) -> dict[str, np.ndarray]:
    """Alter a normal recording `(samples,)` at 16 kHz in every way.

    Args:
        waveform: `(samples,)` in [-1, 1].
        key: integers such as the seed and the clip's number; they decide strength, place and rhythm.

    Returns:
        The altered recordings by the alteration's name, `(samples,)` float32 in [-1, 1] each.
    """
    altered = {}
    for number, (name, alter) in enumerate(ALTERATIONS.items()):
        generator = random_streams.alteration(number, *key)
        altered[name] = np.clip(alter(waveform.astype(np.float64), generator), -1.0, 1.0).astype(np.float32)
    return altered


def impacts(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A housing that rings at every blow, 2.5 to 33 times a second."""
    period, center = generator.uniform(0.03, 0.4), generator.uniform(1500, 5600)
    blows = np.arange(
        generator.uniform(0, min(period, len(waveform) / SAMPLING_RATE)), len(waveform) / SAMPLING_RATE, period
    )
    impulses = np.zeros(len(waveform))
    impulses[np.minimum((blows * SAMPLING_RATE).astype(int), len(waveform) - 1)] = generator.lognormal(
        0, 0.25, len(blows)
    )
    return add(waveform, ringing(impulses, center, generator.uniform(0.0005, 0.002)), center, generator.uniform(-10, 2))


def hiss(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A jet of air."""
    center = generator.uniform(2500, 5600)
    return add(waveform, band_noise(generator, len(waveform), center, octaves=0.45), center, generator.uniform(-8, 4))


def scraping(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Grainy bursts of 40 to 250 ms at irregular times."""
    center, samples = generator.uniform(1000, 4500), len(waveform)
    inside = np.zeros(samples)
    for _ in range(2 + generator.poisson(0.6 * samples / SAMPLING_RATE)):
        start = generator.integers(samples)
        inside[start : start + int(generator.uniform(0.04, 0.25) * SAMPLING_RATE)] = 1.0
    grain = low_pass(np.abs(generator.standard_normal(samples)) ** 3, 60) * inside
    return add(waveform, band_noise(generator, samples, center, octaves=0.5) * grain, center, generator.uniform(-6, 6))


def tone(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A hum or whine that swells and fades."""
    center, seconds = generator.uniform(80, 3000), np.arange(len(waveform)) / SAMPLING_RATE
    swell = 1.0 + 0.5 * np.sin(2 * np.pi * generator.uniform(0.5, 8) * seconds)
    return add(waveform, np.sin(2 * np.pi * center * seconds) * swell, center, generator.uniform(-10, 0))


def speed(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The whole recording 2 to 10 % slower or faster, its pitch with it."""
    ratio = 1.0 + generator.choice([-1.0, 1.0]) * generator.uniform(0.02, 0.1)
    samples = np.arange(len(waveform))
    return np.resize(np.interp(np.arange(0, len(waveform) - 1, ratio), samples, waveform), len(waveform))


def band_level(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One band of 1.3 octaves 3 to 8 dB louder or softer."""
    low = generator.uniform(100, 3000)
    gain = 10 ** (generator.choice([-1.0, 1.0]) * generator.uniform(3, 8) / 20)
    band = butter(1, [low, 2.5 * low], "bandpass", fs=SAMPLING_RATE, output="sos")
    return waveform + (gain - 1.0) * sosfiltfilt(band, waveform)


ALTERATIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "impacts": impacts,
    "hiss": hiss,
    "scraping": scraping,
    "tone": tone,
    "speed": speed,
    "band level": band_level,
}


def band_noise(generator: np.random.Generator, samples: int, center: float, octaves: float) -> np.ndarray:
    return shaped_noise(generator, samples, lambda f: np.exp(-0.5 * (np.log2((f + 1) / center) / octaves) ** 2))


def add(waveform: np.ndarray, sound: np.ndarray, center: float, level_db: float) -> np.ndarray:
    """Add `sound` so that it lies `level_db` above the recording within half an octave of `center` in hertz."""
    band = butter(2, [0.7 * center, 1.4 * center], "bandpass", fs=SAMPLING_RATE, output="sos")
    own, added = (rms(np.asarray(sosfilt(band, part))) for part in (waveform, sound))
    return waveform + sound * (own / max(added, 1e-9)) * 10 ** (level_db / 20)
