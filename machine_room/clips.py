"""One clip: a machine, perhaps a fault, and the factory around it, made from a seed and the clip's name.

The name is the path inside the data set, e.g. `fan/test/anomaly_id_00_00000003.wav`. The same name rendered
with and without a fault shares every random draw, so the difference of the two is the fault, exactly.
"""

import re
from typing import NamedTuple

import numpy as np
from scipy.fft import rfft, rfftfreq

from .faults import ALTERATIONS, FAULTS, SOURCES, Fault, intervals, onset
from .machines import MACHINES, Running, normal_operation
from .signals import SAMPLING_RATE, body, generator, harmonics, ringing, rms, shaped_noise, smooth_curve


MACHINE_TYPES = tuple(MACHINES)
# The IDs of DCASE 2020 Task 2, those of its development set first: 4 x 7 + 7 + 6 = 41.
MACHINE_IDS = {
    **dict.fromkeys(("fan", "pump", "slider", "valve"), ("00", "02", "04", "06", "01", "03", "05")),
    "ToyCar": ("01", "02", "03", "04", "05", "06", "07"),
    "ToyConveyor": ("01", "02", "03", "04", "05", "06"),
}
NAME = re.compile(r"(\w+)/(train|test)/(normal|anomaly)_id_(\d\d)_(\d{8})\.wav")
# The regions hold at least this share of a fault's energy.
REGION_SHARE = 0.9
# 24 bands an octave, fine enough to see a harmonic move by 3 %; below 62.5 Hz one band.
EDGES_HZ = np.append(0, 62.5 * 2 ** (np.arange(169) / 24))


class Site(NamedTuple):
    """Where a machine type stands. Level and slope follow real clips: -39 dBFS in all, falling by 4.7 dB an
    octave, in MIMII; louder and steeper in ToyADMOS (the ToyConveyor, -25 dBFS there, is quieter here, to
    leave room for the strikes of a bearing)."""

    noise_dbfs: float
    slope: float  # of the noise's amplitude, f^-slope above 200 Hz
    snr_db: float  # machine over noise, while the machine is active


SITES = {
    "fan": Site(-42, 0.78, 1.0),
    "pump": Site(-42, 0.78, 1.0),
    "slider": Site(-41, 0.78, 1.0),
    "valve": Site(-42, 0.78, 4.0),
    "ToyCar": Site(-37, 1.1, 3.0),
    "ToyConveyor": Site(-36, 1.1, 3.0),
}


def split_name(name: str) -> tuple[str, str, str, str, int]:
    """Machine type, split, label, machine ID and index of a clip's name."""
    match = NAME.fullmatch(name)
    if match is None or match[1] not in MACHINE_TYPES or match[4] not in MACHINE_IDS[match[1]]:
        raise ValueError(
            f"'{name}' is not a clip of the machine room; expected a name such as "
            f"fan/test/anomaly_id_00_00000003.wav, with a machine type of {', '.join(MACHINE_TYPES)}."
        )
    return match[1], match[2], match[3], match[4], int(match[5])


def check_seed_and_length(seed: int, clip_seconds: float) -> None:
    """In 2 seconds every machine moves at least once, and every fault shows."""
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more.")
    if not 2 <= clip_seconds < float("inf"):
        raise ValueError(f"clip_seconds is {clip_seconds}; expected at least 2 seconds.")


def planned_fault(name: str, seed: int = 0) -> Fault | None:
    """The fault that the data set gives to a clip; None for a normal one.

    The faults of a type take turns. The severities of an ID follow the golden ratio, which covers 0..1 evenly
    however few clips there are.
    """
    machine_type, _, label, machine_id, index = split_name(name)
    if label == "normal":
        return None
    faults = FAULTS[machine_type]
    first_fault, first_severity = generator(seed, machine_type, machine_id, "faults").random(2)
    return Fault(
        faults[(int(first_fault * len(faults)) + index) % len(faults)],
        severity=round((first_severity + index * 0.6180339887) % 1.0, 3),
    )


def factory_noise(unit: np.random.Generator, clip: np.random.Generator, samples: int, slope: float) -> np.ndarray:
    """Unit-RMS noise of a factory hall, another recording in every clip: a falling spectrum with random
    hills, which swells and fades, mains hum, and now and then a clank or a beep."""
    knots = np.log2(np.array([31.5, 63, 125, 250, 500, 1000, 2000, 4000, 8000]))
    hills_db = unit.normal(0, 1.5, len(knots)) + clip.normal(0, 3.0, len(knots))

    def gain(frequency):
        hills = 10 ** (np.interp(np.log2(frequency + 1), knots, hills_db) / 20)
        return hills * (frequency / 60) / (1 + frequency / 60) * (1 + frequency / 200) ** -slope

    noise = shaped_noise(clip, samples, gain) * 10 ** (0.6 * smooth_curve(clip, samples, 0.5) / 20)
    noise += harmonics(np.arange(samples) * (100 / SAMPLING_RATE), clip.uniform(0.02, 0.15, 2), clip)
    for _ in range(clip.poisson(0.15 * samples / SAMPLING_RATE)):
        event = np.zeros(samples)
        event[clip.integers(samples)] = clip.lognormal(0, 0.5)
        noise += 0.5 * ringing(event, clip.uniform(500, 5000), clip.uniform(0.01, 0.08))
    return noise / rms(noise)


def band_power(signal: np.ndarray) -> np.ndarray:
    """The power of `signal` in the bands between `EDGES_HZ`."""
    bins = np.searchsorted(rfftfreq(len(signal), 1 / SAMPLING_RATE), EDGES_HZ[:-1])
    return np.add.reduceat(np.abs(rfft(signal.astype(np.float32))) ** 2, bins)


def fault_bands(fault: np.ndarray, noise: np.ndarray) -> tuple[list[tuple[float, float]], float]:
    """The frequency bands of a fault, and how far it stands out in them, both from `band_power`.

    Of all third octaves, those in which `fault` stands out most from `noise` and that together hold
    `REGION_SHARE` of it. Neighbours are merged, across a gap of one third octave too.

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


def render_clip(
    name: str, *, fault: Fault | None, seed: int = 0, clip_seconds: float = 10.0
) -> tuple[np.ndarray, dict | None]:
    """A clip of the machine room.

    Args:
        name: path inside the data set, e.g. `fan/test/anomaly_id_00_00000003.wav`.
        fault: what is wrong; `planned_fault(name)` is what the data set has, None a healthy machine.
        seed: the data set's seed.
        clip_seconds: length of the clip, at least 2.

    Returns:
        The waveform (samples,), float64 at 16 kHz within [-1, 1), and the fault's ground truth as in
        `ground_truth.json` (None for a healthy machine).

    Raises:
        ValueError: the name is not one of the data set's, the fault is not one of the machine type's, the
            seed is negative or the clip shorter than 2 seconds.

    Example:
        >>> name = "pump/test/anomaly_id_02_00000001.wav"
        >>> faulty, truth = render_clip(name, fault=Fault("leak", 0.8))
        >>> healthy, _ = render_clip(name, fault=None)
        >>> fault_alone = faulty - healthy
    """
    check_seed_and_length(seed, clip_seconds)
    machine_type, _, _, machine_id, _ = split_name(name)
    if fault is not None and fault.name not in FAULTS[machine_type]:
        raise ValueError(
            f"{machine_type} has no fault '{fault.name}'; choose one of {', '.join(FAULTS[machine_type])}."
        )
    samples = round(clip_seconds * SAMPLING_RATE)
    ids = MACHINE_IDS[machine_type]
    site = SITES[machine_type]

    def unit(part: str) -> np.random.Generator:
        return generator(seed, machine_type, machine_id, part)

    def clip(part: str) -> np.random.Generator:
        return generator(seed, name, part)

    def run(operation) -> Running:
        # Golden-ratio steps keep the IDs of a type apart in speed, however many there are.
        size = (generator(seed, machine_type, "size").random() + ids.index(machine_id) * 0.6180339887) % 1.0
        return MACHINES[machine_type](size, unit("machine"), clip("machine"), operation)

    operation = normal_operation(clip("operation"), samples)
    running = run(operation)
    machine = body(running.sound, unit("body"))
    level = clip("level")
    snr_db = site.snr_db + unit("site").uniform(-2, 2) + level.normal(0, 1.0)
    noise_level = 10 ** ((site.noise_dbfs + level.normal(0, 0.7)) / 20)
    machine_level = noise_level * 10 ** (snr_db / 20) / rms(machine[running.active > 0])
    noise = noise_level * factory_noise(unit("factory"), clip("factory"), samples, site.slope)
    healthy = machine_level * machine + noise
    if fault is None:
        return healthy, None

    if fault.name in ALTERATIONS:
        presence = onset(clip("fault"), samples)
        altered = run(ALTERATIONS[fault.name](operation, fault.severity, presence))
        presence = presence * np.maximum(running.active, altered.active)
        period_s = None
        faulty_machine = body(altered.sound, unit("body"))
        added = machine_level * (faulty_machine - machine)
        # Not the power of `added`: the slightest change of speed soon puts the two out of phase.
        power = np.abs(band_power(faulty_machine * (presence > 0)) - band_power(machine * (presence > 0)))
    else:
        make, mild_db, severe_db = SOURCES[fault.name]
        source = make(running, unit(fault.name), clip("fault"))
        presence, period_s = source.presence, source.period_s
        added = body(source.sound, unit("body"))
        power = band_power(added)
    bands, contrast_db = fault_bands(power, band_power(noise * (presence > 0)))
    if fault.name in SOURCES:
        added *= 10 ** ((mild_db + fault.severity * (severe_db - mild_db) - contrast_db) / 20)
    truth = {
        "fault": fault.name,
        "severity": fault.severity,
        "period_s": period_s and round(float(period_s), 5),
        "regions": [
            {
                "start_s": round(start / SAMPLING_RATE, 4),
                "end_s": round(end / SAMPLING_RATE, 4),
                "low_hz": round(low, 1),
                "high_hz": round(high, 1),
            }
            for start, end in intervals(presence)
            for low, high in bands
        ],
    }
    return healthy + added, truth
