"""Normal operation of the six machine types, one function each.

A machine function takes
- `size` (0..1), the place of the machine ID in the type's range of speeds;
- `unit`, a generator that belongs to the machine ID: its draws are equal in all clips of that machine;
- `clip`, a generator that belongs to the clip: it makes the noise, and all that varies from clip to clip;
- `operation`, the speed, the load and the flow at every sample;

and returns what the machine does (`Running`). Two runs with equal generators and different operations differ only by the
operation. In this way faults of operation are made, with an exact ground truth. Each function therefore draws the same
count of numbers from `clip` at any speed.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .signals import (
    SAMPLING_RATE,
    between,
    crossings,
    harmonics,
    low_pass,
    ringing,
    rms,
    shaped_noise,
    smooth_curve,
)


@dataclass(frozen=True)
class Operation:
    """How a machine runs.

    Attributes:
        speed: (samples,), around 1.
        load: (samples,), around 1.
        flow: (samples,), around 1.
        start: revolutions of the shaft before the clip.
    """

    speed: np.ndarray
    load: np.ndarray
    flow: np.ndarray
    start: float

    def turns(self, hertz: float) -> np.ndarray:
        """Revolutions (samples,) of a shaft that makes `hertz` revolutions a second at speed 1."""
        return self.start + np.cumsum(self.speed, dtype=np.float64) * (hertz / SAMPLING_RATE)


class Running(NamedTuple):
    """What a machine does in a clip.

    Attributes:
        sound: (samples,), before the housing and in arbitrary units.
        turns: (samples,), revolutions of the slowest shaft, where bearings and imbalance are.
        active: (samples,), 1 while the machine moves and 0 at rest.
    """

    sound: np.ndarray
    turns: np.ndarray
    active: np.ndarray


def normal_operation(rng: np.random.Generator, samples: int) -> Operation:
    """Draw one clip's normal variation: 1 % of speed, 1.5 dB of load and of flow, and slow drifts in the clip."""
    speed = (1 + 0.01 * rng.standard_normal()) * (1 + 0.002 * smooth_curve(rng, samples, 1.0))
    load, flow = (10 ** ((1.5 * rng.standard_normal() + 0.4 * smooth_curve(rng, samples, 0.7)) / 20) for _ in range(2))
    return Operation(speed, load, flow, start=rng.uniform(0, 1000))


def flow_noise(rng: np.random.Generator, operation: Operation, low_hz: float, slope: float) -> np.ndarray:
    """Noise of turbulence: its spectrum rises to `low_hz`, then falls as f^-slope.

    The pressure grows with the third power of the speed (aerodynamic dipole sound). A smaller flow loses its high
    frequencies first.
    """
    noise = shaped_noise(
        rng, len(operation.speed), lambda f: (f / low_hz) / (1 + (f / low_hz) ** 2) ** ((1 + slope) / 2)
    )
    low = low_pass(noise, 3 * low_hz)
    return operation.speed**2 * operation.speed * operation.flow * (low + operation.flow * (noise - low))


def fan(size: float, unit: np.random.Generator, clip: np.random.Generator, operation: Operation) -> Running:
    """A fan: blade-pass tones (blades x shaft rate), weak shaft harmonics between them, broadband turbulence."""
    shaft_hz = between(size, 16, 42)
    blades = unit.integers(5, 10)
    order = np.arange(1, int(6000 / shaft_hz))
    tones = 0.05 * order**-0.3 * unit.lognormal(0, 0.6, len(order))
    passing = order[blades - 1 :: blades] // blades
    tones[blades - 1 :: blades] += passing ** -unit.uniform(0.9, 1.5) * unit.lognormal(0, 0.4, len(passing))
    turns = operation.turns(shaft_hz)
    sound = operation.load * operation.speed**2 * harmonics(turns, tones, unit)
    sound += unit.uniform(0.6, 1.2) * flow_noise(clip, operation, unit.uniform(150, 500), unit.uniform(0.6, 0.9))
    return Running(sound, turns, np.ones(len(turns)))


def pump(size: float, unit: np.random.Generator, clip: np.random.Generator, operation: Operation) -> Running:
    """A pump: pulses of the pistons, flow noise with each pulse, and the slot tone of the motor."""
    shaft_hz = between(size, 14, 34)
    pistons = unit.integers(3, 6)
    turns = operation.turns(shaft_hz)
    order = np.arange(1, int(2500 / (shaft_hz * pistons)))
    pulses = harmonics(pistons * turns, order ** -unit.uniform(0.7, 1.1) * unit.lognormal(0, 0.3, len(order)), unit)
    rotation = harmonics(turns, 0.15 * np.arange(1, 9) ** -0.5 * unit.lognormal(0, 0.5, 8), unit)
    slots = harmonics(unit.integers(24, 48) * turns, unit.uniform(0.1, 0.5, 3), unit)
    flow = flow_noise(clip, operation, unit.uniform(700, 2200), unit.uniform(0.5, 0.8))
    surge = 1 + unit.uniform(0.4, 0.8) * np.clip(pulses / rms(pulses), -1, 1)
    sound = operation.load * operation.speed**2 * (pulses + rotation + slots)
    return Running(sound + unit.uniform(0.6, 1.1) * flow * surge, turns, np.ones(len(turns)))


def slider(size: float, unit: np.random.Generator, clip: np.random.Generator, operation: Operation) -> Running:
    """A slide rail: a carriage that goes back and forth.

    The whine of the screw and the rolling noise of the rail follow the velocity. Each stroke ends with a thump.
    """
    stroke_hz = between(size, 0.8, 2.0)
    screw_hz = stroke_hz * unit.uniform(14, 24)
    moving, ramp = unit.uniform(0.7, 0.9), unit.uniform(0.12, 0.3)
    return_gain = unit.uniform(0.6, 1.0)
    stroke = operation.turns(stroke_hz)
    along = (stroke % 1.0) / moving
    velocity = np.clip(np.minimum(along, 1 - along) / ramp, 0, 1)
    turns = np.cumsum(velocity * operation.speed, dtype=np.float64) * (screw_hz / SAMPLING_RATE)
    direction = np.where(np.floor(stroke) % 2 == 0, 1.0, return_gain)

    order = np.arange(1, 25)
    tones = 0.25 * order**-0.5 * unit.lognormal(0, 0.6, 24)
    tones[unit.integers(3, 24, 3)] += unit.uniform(0.4, 0.9, 3)
    whine = harmonics(turns, tones, unit) * operation.load * velocity
    center_hz, width = between(unit.random(), 2500, 6500), unit.uniform(0.5, 1.0)
    rail = shaped_noise(clip, len(stroke), lambda f: np.exp(-0.5 * (np.log2((f + 1) / center_hz) / width) ** 2))
    rail *= velocity * np.sqrt(velocity) * operation.speed * operation.flow * unit.uniform(0.7, 1.3)
    thumps = np.zeros(len(stroke))
    reversals = crossings(stroke)
    thumps[reversals] = np.resize(clip.lognormal(0, 0.2, 256), len(reversals))
    thump = ringing(thumps, unit.uniform(120, 400), 0.02) * unit.uniform(1.0, 2.5)
    return Running(direction * (whine + rail) + thump, turns, (velocity > 0).astype(float))


def valve(size: float, unit: np.random.Generator, clip: np.random.Generator, operation: Operation) -> Running:
    """A solenoid valve: clicks in a pattern that the controller repeats, and a little flow noise while open.

    Each click has a bounce and rings in the housing. The supply voltage sets the force and the delay of the plunger.
    """
    samples = len(operation.speed)
    tick_s = between(size, 0.12, 0.25)  # never more than 0.75 s without a click
    pattern = np.cumsum(unit.permutation([1, 2, 3, 2]) * tick_s)
    period_s = pattern[-1]
    delay_s = unit.uniform(0.006, 0.012)
    ring_hz = between(unit.random(2), 3000, 7000)
    bounce_s, decay_s = unit.uniform(0.008, 0.02), unit.uniform(0.001, 0.004, 2)
    weight = unit.uniform(0.4, 1.0, 4)  # the four strokes of the pattern: open, close, open, close

    # The controller switches by its own clock: its times do not depend on the supply, and so not on the speed.
    cycles = np.arange(int(samples / SAMPLING_RATE / period_s) + 2)[:, None] - operation.start % 1.0
    switched = (cycles * period_s + pattern).ravel()
    strength = np.tile(weight, len(cycles)) * clip.lognormal(0, 0.15, len(switched))
    late = clip.normal(0, 0.002, len(switched))
    state = np.tile([1.0, 0.0], len(switched) // 2)
    here = (switched > 0) & (switched < samples / SAMPLING_RATE - 0.05)
    at = (switched[here] * SAMPLING_RATE).astype(int)
    drive = operation.speed[at]
    hit = at + ((delay_s / drive + np.abs(late[here])) * SAMPLING_RATE).astype(int)
    impulses = np.zeros(samples + SAMPLING_RATE)
    impulses[hit] += strength[here] * drive**3
    impulses[hit + int(bounce_s * SAMPLING_RATE)] += 0.4 * strength[here] * drive**3
    impulses = impulses[:samples]
    rung = sum((ringing(impulses, f, d) for f, d in zip(ring_hz, decay_s, strict=True)), np.zeros(samples))
    clicks = 0.5 * impulses + rung

    step = np.searchsorted(switched, np.arange(samples) / SAMPLING_RATE, side="right") - 1
    is_open = low_pass(np.where(step >= 0, state[np.maximum(step, 0)], 0.0), 30)
    flow = flow_noise(clip, operation, unit.uniform(2000, 3500), 0.5) * is_open
    active = is_open > 0.02
    for start in at:
        active[start : start + int(0.09 * SAMPLING_RATE)] = True
    return Running(clicks + 0.008 * operation.load * flow, operation.turns(1 / period_s), active.astype(float))


def toy_car(size: float, unit: np.random.Generator, clip: np.random.Generator, operation: Operation) -> Running:
    """A toy car: the whine of the motor, gear-mesh tones with sidebands at the axle's rate, and rolling noise."""
    axle_hz = between(size, 7, 13)
    ratio, teeth = unit.uniform(6.5, 9.5), unit.integers(8, 13)
    turns = operation.turns(axle_hz)
    tones = np.arange(1, 13) ** -0.8 * unit.lognormal(0, 0.5, 12)
    motor = harmonics(ratio * turns, tones, unit)
    runout = harmonics(turns, np.array([1.0, 0.4]), unit)
    mesh = harmonics(teeth * ratio * turns + 0.1 * runout, unit.uniform(0.5, 1.3) * np.arange(1, 6) ** -0.9, unit)
    rolling = flow_noise(clip, operation, unit.uniform(250, 500), unit.uniform(1.0, 1.3))
    sound = operation.load * operation.speed**2 * (motor + mesh * (1 + 0.35 * runout))
    return Running(sound + rolling * unit.uniform(0.8, 1.5) * (1 + 0.15 * runout), turns, np.ones(len(turns)))


def toy_conveyor(size: float, unit: np.random.Generator, clip: np.random.Generator, operation: Operation) -> Running:
    """A toy conveyor: low rolling noise that swells with the belt's seam, bumps of the rollers, a geared motor."""
    roller_hz = between(size, 3.0, 7.5)
    turns = operation.turns(roller_hz)
    rollers = 4
    place, weight = unit.random(rollers), unit.uniform(0.3, 1.0, rollers)
    tones, mesh = np.arange(1, 9) ** -0.7 * unit.lognormal(0, 0.5, 8), unit.integers(45, 75)
    motor = harmonics(mesh * turns, tones, unit) * (1 + 0.2 * harmonics(turns, np.ones(1), unit))
    seam = 1 + 0.3 * harmonics(turns / unit.uniform(6, 10), np.array([1.0, 0.5, 0.3]), unit)
    belt = flow_noise(clip, operation, unit.uniform(100, 250), unit.uniform(1.1, 1.5)) * seam
    impulses = np.zeros(len(turns))
    for shift, height in zip(place, weight, strict=False):
        at = crossings(turns + shift)
        impulses[at] += height * np.resize(clip.lognormal(0, 0.25, 256), len(at))
    bumps = ringing(impulses, unit.uniform(250, 900), 0.012) + ringing(impulses, unit.uniform(1500, 3500), 0.004)
    sound = operation.load * operation.speed * (0.5 * motor + unit.uniform(0.8, 1.6) * bumps)
    return Running(sound + 1.4 * belt, turns, np.ones(len(turns)))


MACHINES = {
    "fan": fan,
    "pump": pump,
    "slider": slider,
    "valve": valve,
    "ToyCar": toy_car,
    "ToyConveyor": toy_conveyor,
}
