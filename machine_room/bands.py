"""Where a fault is in frequency: the bands in which it stands out from the factory noise."""

import numpy as np
from scipy.fft import rfft, rfftfreq

from .signals import SAMPLING_RATE


# The regions hold at least this share of a fault's energy.
REGION_SHARE = 0.9
# 24 bands an octave: a harmonic that moves by 3 % changes its band. Below 62.5 Hz there is one band.
EDGES_HZ = np.append(0, 62.5 * 2 ** (np.arange(169) / 24))


def band_power(signal: np.ndarray) -> np.ndarray:
    """The power (bands,) of `signal` (samples,) in the bands between `EDGES_HZ`."""
    bins = np.searchsorted(rfftfreq(len(signal), 1 / SAMPLING_RATE), EDGES_HZ[:-1])
    return np.add.reduceat(np.abs(np.asarray(rfft(signal.astype(np.float32)))) ** 2, bins)


def fault_bands(fault: np.ndarray, noise: np.ndarray) -> tuple[list[tuple[float, float]], float]:
    """Find the frequency bands of a fault, and how far the fault stands out in them.

    The bands are the third octaves in which the fault stands out most from the noise. Together they hold `REGION_SHARE` of
    its power. Neighbors are merged, also across a gap of one third octave.

    Args:
        fault: (bands,), the fault's power as from `band_power`.
        noise: (bands,), the noise's power.

    Returns:
        The bands (low_hz, high_hz), and the fault's power in them over the noise's, in dB.
    """
    thirds = np.append(0, np.arange(1, len(EDGES_HZ), 8))
    fault, noise = (np.add.reduceat(power, thirds[:-1]) for power in (fault, noise))
    order = np.argsort(-fault / noise)
    needed = np.searchsorted(np.cumsum(fault[order]), REGION_SHARE * fault.sum()) + 1
    chosen = np.sort(order[:needed])
    runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 2) + 1)
    groups = [(run[0], run[-1] + 1) for run in runs]
    ratio = sum(fault[a:b].sum() for a, b in groups) / sum(noise[a:b].sum() for a, b in groups)
    edges = EDGES_HZ[thirds]
    return [(float(edges[a]), float(edges[b])) for a, b in groups], 10 * float(np.log10(ratio))
