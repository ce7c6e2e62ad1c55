"""
Normal recordings altered as faults alter them: what a back end is chosen by, where no anomalous sound is to be had.

Six alterations, faint enough that no back end finds all of them: impacts, hiss, scraping and a tone are added to the
recording, 10 dB below to 6 dB above what it has in their frequency band; another speed and a change of level in a band
alter the recording itself. They stand in for faults, and say which of two back ends hears more, not how much a
back end will hear of a real fault.
"""

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, sosfilt, sosfiltfilt

from machine_room.signals import SAMPLING_RATE, low_pass, ringing, rms, shaped_noise


# Beside the other streams of random numbers, in training/batches.py.
ALTERATION = 3


def alterations(waveform: np.ndarray, *key: int) -> dict[str, np.ndarray]:
    """Every alteration of a normal recording `(samples,)` at 16 kHz, by name, each `(samples,)` float32 in [-1, 1].

    `key`, integers such as the seed and the clip's number, decides their strength, place and rhythm.
    """
    altered = {}
    for number, (name, alter) in enumerate(ALTERATIONS.items()):
        generator = np.random.default_rng([ALTERATION, number, *key])
        altered[name] = np.clip(alter(waveform.astype(np.float64), generator), -1.0, 1.0).astype(np.float32)
    return altered


def impacts(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A housing that rings at every blow, 2.5 to 33 times a second."""
    period, centre = generator.uniform(0.03, 0.4), generator.uniform(1500, 5600)
    blows = np.arange(
        generator.uniform(0, min(period, len(waveform) / SAMPLING_RATE)), len(waveform) / SAMPLING_RATE, period
    )
    impulses = np.zeros(len(waveform))
    impulses[np.minimum((blows * SAMPLING_RATE).astype(int), len(waveform) - 1)] = generator.lognormal(
        0, 0.25, len(blows)
    )
    return add(waveform, ringing(impulses, centre, generator.uniform(0.0005, 0.002)), centre, generator.uniform(-10, 2))


def hiss(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A jet of air."""
    centre = generator.uniform(2500, 5600)
    return add(waveform, band_noise(generator, len(waveform), centre, octaves=0.45), centre, generator.uniform(-8, 4))


def scraping(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Grainy bursts of 40 to 250 ms at irregular times."""
    centre, samples = generator.uniform(1000, 4500), len(waveform)
    inside = np.zeros(samples)
    for _ in range(2 + generator.poisson(0.6 * samples / SAMPLING_RATE)):
        start = generator.integers(samples)
        inside[start : start + int(generator.uniform(0.04, 0.25) * SAMPLING_RATE)] = 1.0
    grain = low_pass(np.abs(generator.standard_normal(samples)) ** 3, 60) * inside
    return add(waveform, band_noise(generator, samples, centre, octaves=0.5) * grain, centre, generator.uniform(-6, 6))


def tone(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A hum or whine that swells and fades."""
    centre, seconds = generator.uniform(80, 3000), np.arange(len(waveform)) / SAMPLING_RATE
    swell = 1.0 + 0.5 * np.sin(2 * np.pi * generator.uniform(0.5, 8) * seconds)
    return add(waveform, np.sin(2 * np.pi * centre * seconds) * swell, centre, generator.uniform(-10, 0))


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


def band_noise(generator: np.random.Generator, samples: int, centre: float, octaves: float) -> np.ndarray:
    return shaped_noise(generator, samples, lambda f: np.exp(-0.5 * (np.log2((f + 1) / centre) / octaves) ** 2))


def add(waveform: np.ndarray, sound: np.ndarray, centre: float, level_db: float) -> np.ndarray:
    """`sound` added so that, within half an octave of `centre` in hertz, it lies `level_db` above the recording."""
    band = butter(2, [0.7 * centre, 1.4 * centre], "bandpass", fs=SAMPLING_RATE, output="sos")
    have, add_rms = (rms(sosfilt(band, part)) for part in (waveform, sound))
    return waveform + sound * (have / max(add_rms, 1e-9)) * 10 ** (level_db / 20)
