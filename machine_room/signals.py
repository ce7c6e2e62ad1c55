"""Building blocks of the synthetic sounds: shaped noise, harmonics, ringing, smooth curves.

Every function takes its random generator, so a sound depends on nothing but its arguments. Noise is drawn as a spectrum,
and harmonics come from a table of one period. Both then cost the same for any number of bands or harmonics: a component
of 10 seconds takes 2 to 4 ms.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from scipy.fft import irfft, next_fast_len, rfftfreq
from scipy.signal import lfilter


SAMPLING_RATE = 16_000
TABLE_SIZE = 8192

Position = TypeVar("Position", float, np.ndarray)


def generator(seed: int, *words: str) -> np.random.Generator:
    """Make the generator that belongs to a seed and a few words, e.g. `generator(0, "fan/00", "body")`."""
    return np.random.default_rng([seed, *"\n".join(words).encode()])


def rms(signal: np.ndarray) -> float:
    """Root mean square of a signal, computed in float64."""
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


def between(position: Position, low: float, high: float) -> Position:
    """The values at `position` (0..1, a number or an array) between `low` and `high`, on a logarithmic scale."""
    return cast(Position, low * (high / low) ** position)


def smooth_curve(rng: np.random.Generator, samples: int, seconds_per_knot: float) -> np.ndarray:
    """A slowly varying random curve (samples,): straight lines between knots of unit variance."""
    step = int(seconds_per_knot * SAMPLING_RATE)
    knots = rng.standard_normal(samples // step + 2, dtype=np.float32)
    rise = np.arange(step, dtype=np.float32) / step
    return (knots[:-1, None] + np.diff(knots)[:, None] * rise).ravel()[:samples]


def shaped_noise(rng: np.random.Generator, samples: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Gaussian noise (samples,) of unit RMS whose amplitude spectrum is `gain(frequencies in Hz)`."""
    size = cast(int, next_fast_len(samples, real=True))
    bins = size // 2 + 1
    spectrum = rng.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)
    gains = gain(rfftfreq(size, 1 / SAMPLING_RATE)).astype(np.float32)
    noise = np.asarray(irfft(spectrum * gains, size))[:samples]
    return noise / rms(noise)


def harmonics(turns: np.ndarray, amplitudes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add up harmonics: the sum over k of amplitudes[k - 1] sin(2 pi k turns + a phase from `rng`).

    Args:
        turns: (samples,), revolutions of the shaft.
        amplitudes: (harmonics,).
        rng: the generator of the phases.

    Returns:
        The sound (samples,) in float32.
    """
    spectrum = np.zeros(TABLE_SIZE // 2 + 1, dtype=np.complex128)
    spectrum[1 : len(amplitudes) + 1] = amplitudes * np.exp(2j * np.pi * rng.random(len(amplitudes)))
    table = np.asarray(irfft(spectrum, TABLE_SIZE)) * (TABLE_SIZE / 2)
    table = np.append(table, table[0]).astype(np.float32)
    position = (turns - np.floor(turns)) * TABLE_SIZE  # turns % 1 takes three times as long
    left = position.astype(np.int32)
    part = (position - left).astype(np.float32)
    return table[left] * (1 - part) + table[left + 1] * part


def crossings(turns: np.ndarray) -> np.ndarray:
    """Indices of the samples at which `turns` passes a whole number."""
    whole = np.floor(turns)
    return np.flatnonzero(whole[1:] > whole[:-1]) + 1


def ringing(impulses: np.ndarray, frequency: float, decay_s: float) -> np.ndarray:
    """Pass `impulses` (samples,) through one resonance. Its amplitude falls by 1/e in `decay_s` seconds."""
    radius = np.exp(-1 / (decay_s * SAMPLING_RATE))
    angle = 2 * np.pi * frequency / SAMPLING_RATE
    denominator = [1.0, -2 * radius * np.cos(angle), radius**2]
    return np.asarray(lfilter([0.0, np.sin(angle)], denominator, impulses))


def low_pass(signal: np.ndarray, frequency: float) -> np.ndarray:
    """Pass `signal` (samples,) through a first-order low-pass filter with the cutoff `frequency` in Hz.

    `signal - low_pass(signal, f)` is the complementary high-pass.
    """
    pole = np.exp(-2 * np.pi * frequency / SAMPLING_RATE)
    return np.asarray(lfilter([1 - pole], [1.0, -pole], signal))


def body(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Radiate `signal` (samples,) by a housing: the direct sound and four resonances. Equal `rng` make equal housings."""
    sound = signal.astype(np.float64)
    resonances_hz = between(rng.random(4), 150, 7000)
    sharpness, gains = rng.uniform(3, 14, 4), rng.uniform(0.6, 2.2, 4)
    for frequency, q, gain in zip(resonances_hz, sharpness, gains, strict=False):
        angle = 2 * np.pi * frequency / SAMPLING_RATE
        width = np.sin(angle) / (2 * q)
        numerator = [gain * width, 0.0, -gain * width]
        sound += lfilter(numerator, [1 + width, -2 * np.cos(angle), 1 - width], signal)
    return sound
