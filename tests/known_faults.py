"""Clips of a machine with faults that are known: what the tests of relevance, regions and reasons look for."""

from functools import cache

import numpy as np
import torch

from feature_extraction import AttentionAsdFeatureExtractor


RATE, SECONDS = 16_000, 10.0
TIME = np.arange(int(RATE * SECONDS)) / RATE
EXTRACTOR = AttentionAsdFeatureExtractor()


def band_pass(waveform: np.ndarray, low: float, high: float) -> np.ndarray:
    spectrum = np.fft.rfft(waveform)
    hertz = np.fft.rfftfreq(len(waveform), 1 / RATE)
    return np.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), len(waveform))


def machine(clip: int) -> np.ndarray:
    """A normal clip of ten seconds: a hum and noise that falls towards high frequencies, in level 1 dB up or down."""
    generator = np.random.default_rng([7, clip])
    noise = generator.standard_normal(len(TIME))
    noise = np.fft.irfft(np.fft.rfft(noise) / (1 + np.fft.rfftfreq(len(TIME), 1 / RATE) / 500), len(TIME))
    hum = 0.5 * np.sin(2 * np.pi * 100 * TIME + generator.uniform(0, 6))
    return 0.02 * 10 ** (generator.uniform(-1, 1) / 20) * (noise + hum)


@cache
def normal_level() -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the machine's log-mel, `(bins,)` each."""
    log_mels = EXTRACTOR.log_mel(torch.tensor(np.stack([machine(clip) for clip in range(8)])))
    return log_mels.mean((0, 2)).numpy(), log_mels.std((0, 2)).numpy()


def impacts(times: np.ndarray, low: float, high: float) -> np.ndarray:
    """Strikes that ring for about 3 ms in a band."""
    signal = np.zeros(len(TIME))
    signal[(times * RATE).astype(int)] = 1
    decay = np.exp(-np.arange(800) / (0.003 * RATE)) * np.random.default_rng(3).standard_normal(800)
    return band_pass(np.convolve(signal, decay)[: len(TIME)], low, high)


def raised_to(fault: np.ndarray, level_db: float, seconds: np.ndarray, low: float, high: float) -> np.ndarray:
    """Clip 100 with a fault so loud that the band lies `level_db` above normal at the times `seconds`."""
    rows = (EXTRACTOR.mel_frequencies > low) & (EXTRACTOR.mel_frequencies < high)
    columns = np.round(seconds * RATE / EXTRACTOR.hop_length).astype(int)

    def level(gain: float) -> float:
        log_mel = EXTRACTOR.log_mel(torch.tensor(machine(100) + gain * fault)).numpy()
        return (log_mel - normal_level()[0][:, None])[rows][:, columns].mean()

    quiet, loud = 1e-6, 1e3
    for _ in range(40):
        middle = (quiet * loud) ** 0.5
        quiet, loud = (middle, loud) if level(middle) < level_db else (quiet, middle)
    return machine(100) + loud * fault


def two_faults() -> torch.Tensor:
    """A hiss at 1 to 2 kHz, from 1 to 3 s, and an equal one at 4 to 6 kHz, from 6 to 8 s."""
    noise = np.random.default_rng(11).standard_normal(len(TIME))
    low = band_pass(noise, 1000, 2000) * ((TIME > 1) & (TIME < 3))
    high = band_pass(noise, 4000, 6000) * ((TIME > 6) & (TIME < 8))
    return torch.tensor(machine(100) + 0.02 * low + 0.02 * high).float()
