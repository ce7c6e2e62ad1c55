"""The six faults, and where in a clip they are.

There are two kinds. Bearing impacts, imbalance, leak and contamination are *sources*: a sound that is added to the
machine's, through the same housing. Clogging and voltage are *alterations*: the machine itself runs in another way. Every
fault has a presence, a curve (samples,) of 0..1. The ground truth in time comes from that curve.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .machines import Operation, Running
from .signals import SAMPLING_RATE, between, crossings, harmonics, low_pass, ringing, rms, shaped_noise


FAULTS = {
    "fan": ("bearing", "imbalance", "clogging", "voltage"),
    "pump": ("bearing", "leak", "contamination", "clogging"),
    "slider": ("bearing", "contamination", "voltage"),
    "valve": ("leak", "contamination", "voltage"),
    "ToyCar": ("bearing", "imbalance", "voltage"),
    "ToyConveyor": ("bearing", "imbalance", "contamination", "voltage"),
}


@dataclass(frozen=True)
class Fault:
    """A fault and its severity.

    Attributes:
        name: a name in `FAULTS`.
        severity: 0 (just begun) to 1 (severe).

    Raises:
        ValueError: the severity is out of this range.
    """

    name: str
    severity: float

    def __post_init__(self):
        if not 0 <= self.severity <= 1:
            raise ValueError(f"severity is {self.severity}; it goes from 0 (just begun) to 1 (severe).")


class Source(NamedTuple):
    """The sound that a fault adds to a machine's.

    Attributes:
        sound: (samples,), in arbitrary units.
        presence: (samples,), 0..1.
        period_s: seconds between two events, for a fault that repeats.
    """

    sound: np.ndarray
    presence: np.ndarray
    period_s: float | None


def intervals(presence: np.ndarray) -> list[tuple[np.intp, np.intp]]:
    """The intervals [start, end), in samples, in which the fault has more than 1 % of its strength."""
    edges = np.diff((presence > 0.01).astype(np.int8), prepend=0, append=0)
    return list(zip(np.flatnonzero(edges > 0), np.flatnonzero(edges < 0), strict=False))


def windows(samples: int, starts: np.ndarray, lengths_s: np.ndarray) -> np.ndarray:
    """A curve (samples,) that is 1 inside the windows and 0 outside, with edges of 10 ms.

    Args:
        samples: length of the curve.
        starts: (windows,), the first sample of each window.
        lengths_s: (windows,), the length of each window in seconds.
    """
    edges = np.zeros(samples + 1)
    np.add.at(edges, starts, 1)
    np.add.at(edges, np.minimum(starts + (lengths_s * SAMPLING_RATE).astype(int), samples), -1)
    inside = np.minimum(np.cumsum(edges[:samples]), 1)
    ramp = np.hanning(SAMPLING_RATE // 100)
    return np.clip(np.convolve(inside, ramp / ramp.sum(), mode="same"), 0, 1)


def intermittent(rng: np.random.Generator, active: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Presence of a fault that comes and goes.

    In 4 of 10 clips the fault is always present. In the others it has one to three stretches. Each is about a fifth of the
    clip and starts at one of `moments` (samples). The fault is absent while the machine rests.
    """
    samples = len(active)
    stretches = rng.integers(1, 4)
    starts = rng.choice(moments[moments < 0.85 * samples], stretches)
    lengths = rng.uniform(0.12, 0.3, stretches) * samples / SAMPLING_RATE
    if rng.random() < 0.4:
        return active
    return windows(samples, starts, lengths) * active


def bearing(running: Running, unit: np.random.Generator, rng: np.random.Generator) -> Source:
    """A spalled race: every rolling element that passes strikes the spall, and the housing rings.

    The strikes come at the ball-pass rate, 2.6 to 5.4 times the shaft's and not a whole number, with 1 % of slip. They are
    stronger in the load zone.
    """
    order = unit.uniform(2.6, 5.4)
    ring_hz = between(unit.random(2), 1800, 6500)
    decay_s = unit.uniform(0.0004, 0.0015, 2)
    passes = order * running.turns
    strikes = crossings(passes + rng.random())
    slip = rng.normal(0, 0.01 * len(passes) / (passes[-1] - passes[0]), len(strikes))
    strikes = np.clip(strikes + slip.astype(int), 0, len(passes) - 1)
    presence = intermittent(rng, running.active, strikes)
    impulses = np.zeros(len(presence))
    load_zone = 1 + 0.4 * np.cos(2 * np.pi * running.turns[strikes])
    impulses[strikes] = load_zone * rng.lognormal(0, 0.25, len(strikes)) * presence[strikes]
    sound = sum((ringing(impulses, f, d) for f, d in zip(ring_hz, decay_s, strict=True)), np.zeros(len(impulses)))
    moving_s = np.count_nonzero(running.active) / SAMPLING_RATE
    return Source(sound, presence, period_s=moving_s / (passes[-1] - passes[0]))


def imbalance(running: Running, unit: np.random.Generator, rng: np.random.Generator) -> Source:
    """A rotor off its axis: the first harmonics of the shaft rate, and low tones that swell and fade once a turn."""
    whirl = harmonics(running.turns, np.array([1.0, 0.8, 0.5, 0.3, 0.2]), unit)
    swell = np.cos(2 * np.pi * (running.turns + unit.random())) * low_pass(running.sound, 800)
    turns = running.turns[-1] - running.turns[0]
    period_s = len(running.turns) / SAMPLING_RATE / turns
    return Source(whirl / rms(whirl) + swell / rms(swell), np.ones(len(whirl)), period_s)


def leak(running: Running, unit: np.random.Generator, rng: np.random.Generator) -> Source:
    """A jet through a narrow gap: a hiss with a broad maximum at its Strouhal frequency, 3.5 to 6.5 kHz."""
    peak_hz = between(unit.random(), 3500, 6500)
    presence = intermittent(rng, np.ones(len(running.active)), np.arange(len(running.active)))
    hiss = shaped_noise(rng, len(presence), lambda f: np.exp(-0.5 * (np.log2((f + 1) / peak_hz) / 0.45) ** 2))
    return Source(hiss * presence, presence, None)


def contamination(running: Running, unit: np.random.Generator, rng: np.random.Generator) -> Source:
    """A foreign body in the machine: grainy scraping in bursts of 40 to 250 ms at irregular times."""
    samples = len(running.active)
    center_hz = between(unit.random(), 1200, 4500)
    count = 2 + rng.poisson(1.2 * samples / SAMPLING_RATE)
    moments = np.flatnonzero(running.active[: -SAMPLING_RATE // 20] * running.active[SAMPLING_RATE // 20 :])
    starts = rng.choice(moments, count)  # after each start, the machine moves for at least 50 ms
    presence = windows(samples, starts, rng.uniform(0.04, 0.25, count)) * running.active
    grain = low_pass(np.abs(rng.standard_normal(samples)) ** 3, 60)
    scrape = shaped_noise(rng, samples, lambda f: np.exp(-0.5 * (np.log2((f + 1) / center_hz) / 0.5) ** 2))
    return Source(scrape * grain / rms(grain) * presence, presence, None)


def onset(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Presence of a fault that begins and does not end.

    In half of the clips the fault is there from the start. In the others it begins in the first half, and reaches its
    strength within 0.1 s. It does not end in the clip: a machine that has run at another speed stays out of step with the
    healthy machine, so the difference of the two would outlast the fault.
    """
    begins = rng.uniform(0.1, 0.5) * samples
    if rng.random() < 0.5:
        return np.ones(samples)
    return np.clip((np.arange(samples) - begins) / (0.1 * SAMPLING_RATE), 0, 1)


def clogging(operation: Operation, severity: float, presence: np.ndarray) -> Operation:
    """The passage narrows: the flow noise is weaker and duller (see `flow_noise`), and the motor slows by up to 10 %."""
    return replace(
        operation,
        speed=operation.speed * (1 - (0.01 + 0.09 * severity) * presence),
        flow=operation.flow * (1 - (0.15 + 0.7 * severity) * presence),
    )


def voltage(operation: Operation, severity: float, presence: np.ndarray) -> Operation:
    """The supply voltage sags: the speed and every harmonic fall by up to 18 %."""
    return replace(operation, speed=operation.speed * (1 - (0.02 + 0.16 * severity) * presence))


# Each source, and its energy over the factory noise's in its region at severity 0 and at severity 1, in dB.
SOURCES = {
    "bearing": (bearing, -10, 4),
    "imbalance": (imbalance, -12, 2),
    "leak": (leak, -8, 12),
    "contamination": (contamination, -4, 12),
}
ALTERATIONS = {"clogging": clogging, "voltage": voltage}
