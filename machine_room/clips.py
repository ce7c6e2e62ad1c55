"""One clip: a machine, perhaps a fault, and the factory around it, made from a seed and the clip's name.

The name is the path inside the data set, e.g. `fan/test/anomaly_id_00_00000003.wav`. A clip with a fault and the clip of
the same name without it share every random draw. Their difference is therefore exactly the fault.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .bands import band_power, fault_bands
from .faults import ALTERATIONS, FAULTS, SOURCES, Fault, intervals, onset
from .machines import MACHINES, Operation, Running, normal_operation
from .signals import SAMPLING_RATE, body, generator, harmonics, ringing, rms, shaped_noise, smooth_curve


MACHINE_TYPES = tuple(MACHINES)
# The IDs of DCASE 2020 Task 2, those of its development set first: 4 x 7 + 7 + 6 = 41.
MACHINE_IDS = {
    **dict.fromkeys(("fan", "pump", "slider", "valve"), ("00", "02", "04", "06", "01", "03", "05")),
    "ToyCar": ("01", "02", "03", "04", "05", "06", "07"),
    "ToyConveyor": ("01", "02", "03", "04", "05", "06"),
}
NAME = re.compile(r"(\w+)/(train|test)/(normal|anomaly)_id_(\d\d)_(\d{8})\.wav")


class Site(NamedTuple):
    """Where a machine type stands.

    Level and slope follow real clips. MIMII has -39 dBFS in all, and falls by 4.7 dB an octave. ToyADMOS is louder and
    steeper. Its ToyConveyor has -25 dBFS; the one here is quieter, to leave room for the strikes of a bearing.

    Attributes:
        noise_dbfs: level of the factory noise.
        slope: of the noise's amplitude, f^-slope above 200 Hz.
        snr_db: the machine over the noise, while the machine is active.
    """

    noise_dbfs: float
    slope: float
    snr_db: float


SITES = {
    "fan": Site(-42, 0.78, 1.0),
    "pump": Site(-42, 0.78, 1.0),
    "slider": Site(-41, 0.78, 1.0),
    "valve": Site(-42, 0.78, 4.0),
    "ToyCar": Site(-37, 1.1, 3.0),
    "ToyConveyor": Site(-36, 1.1, 3.0),
}


def split_name(name: str) -> tuple[str, str, str, str, int]:
    """Split a clip's name into machine type, split, label, machine ID and index.

    Raises:
        ValueError: the name is not one of the data set's.
    """
    match = NAME.fullmatch(name)
    if match is None or match[1] not in MACHINE_TYPES or match[4] not in MACHINE_IDS[match[1]]:
        raise ValueError(
            f"'{name}' is not a clip of the machine room; expected a name such as "
            f"fan/test/anomaly_id_00_00000003.wav, with a machine type of {', '.join(MACHINE_TYPES)}."
        )
    return match[1], match[2], match[3], match[4], int(match[5])


def check_seed_and_length(seed: int, clip_seconds: float) -> None:
    """Check the settings that all clips share. In 2 seconds every machine moves at least once, and every fault shows.

    Raises:
        ValueError: the seed is negative, or the clips are shorter than 2 seconds.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more.")
    if not 2 <= clip_seconds < float("inf"):
        raise ValueError(f"clip_seconds is {clip_seconds}; expected at least 2 seconds.")


def planned_fault(name: str, seed: int = 0) -> Fault | None:
    """Tell the fault that the data set gives to a clip.

    The faults of a type take turns. The severities of an ID follow the golden ratio, which covers 0..1 evenly for any
    number of clips.

    Args:
        name: path inside the data set, e.g. `fan/test/anomaly_id_00_00000003.wav`.
        seed: the data set's seed.

    Returns:
        The fault, or None for a normal clip.

    Raises:
        ValueError: the name is not one of the data set's.
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
    """Make the noise (samples,) of a factory hall with unit RMS, different in every clip.

    The noise has a falling spectrum with random hills, and swells and fades. There is mains hum, and sometimes a clank or a
    beep.
    """
    knots = np.log2(np.array([31.5, 63, 125, 250, 500, 1000, 2000, 4000, 8000]))
    hills_db = unit.normal(0, 1.5, len(knots)) + clip.normal(0, 3.0, len(knots))

    def gain(frequency: np.ndarray) -> np.ndarray:
        hills = 10 ** (np.interp(np.log2(frequency + 1), knots, hills_db) / 20)
        return hills * (frequency / 60) / (1 + frequency / 60) * (1 + frequency / 200) ** -slope

    noise = shaped_noise(clip, samples, gain) * 10 ** (0.6 * smooth_curve(clip, samples, 0.5) / 20)
    noise += harmonics(np.arange(samples) * (100 / SAMPLING_RATE), clip.uniform(0.02, 0.15, 2), clip)
    for _ in range(clip.poisson(0.15 * samples / SAMPLING_RATE)):
        event = np.zeros(samples)
        event[clip.integers(samples)] = clip.lognormal(0, 0.5)
        noise += 0.5 * ringing(event, clip.uniform(500, 5000), clip.uniform(0.01, 0.08))
    return noise / rms(noise)


@dataclass(frozen=True)
class Recording:
    """One machine in one clip: its random numbers, how it runs and how it sounds.

    Attributes:
        name: the clip's name.
        machine_type: the machine type in the name.
        machine_id: the machine ID in the name.
        seed: the data set's seed.
    """

    name: str
    machine_type: str
    machine_id: str
    seed: int

    def unit(self, part: str) -> np.random.Generator:
        """Make the generator of a part of the machine. Its draws are equal in all clips of the machine."""
        return generator(self.seed, self.machine_type, self.machine_id, part)

    def clip(self, part: str) -> np.random.Generator:
        """Make the generator of a part of the clip."""
        return generator(self.seed, self.name, part)

    def run(self, operation: Operation) -> Running:
        """Run the machine. Two runs of one recording differ by their operation alone."""
        # Golden-ratio steps keep the IDs of a type apart in speed, for any number of IDs.
        place = MACHINE_IDS[self.machine_type].index(self.machine_id) * 0.6180339887
        size = (generator(self.seed, self.machine_type, "size").random() + place) % 1.0
        return MACHINES[self.machine_type](size, self.unit("machine"), self.clip("machine"), operation)

    def radiate(self, sound: np.ndarray) -> np.ndarray:
        """Pass a sound (samples,) through the machine's housing."""
        return body(sound, self.unit("body"))


@dataclass(frozen=True)
class Scene:
    """A healthy machine and the factory around it.

    Attributes:
        operation: how the machine runs.
        running: what the machine does.
        machine: (samples,), the machine's sound after the housing, at its own level.
        machine_level: the machine's level in the clip, a factor of `machine`.
        noise: (samples,), the factory noise at its level in the clip.
    """

    operation: Operation
    running: Running
    machine: np.ndarray
    machine_level: float
    noise: np.ndarray


class FaultSound(NamedTuple):
    """What a fault adds to a clip.

    Attributes:
        added: (samples,), at its level in the clip.
        presence: (samples,), 0..1.
        bands: (low_hz, high_hz) of each frequency band.
        period_s: seconds between two events, for a fault that repeats.
    """

    added: np.ndarray
    presence: np.ndarray
    bands: list[tuple[float, float]]
    period_s: float | None


def render_clip(
    name: str, *, fault: Fault | None, seed: int = 0, clip_seconds: float = 10.0
) -> tuple[np.ndarray, dict[str, Any] | None]:
    """Render a clip of the machine room.

    Args:
        name: path inside the data set, e.g. `fan/test/anomaly_id_00_00000003.wav`.
        fault: the fault, or None for a healthy machine. The data set has `planned_fault(name)`.
        seed: the data set's seed.
        clip_seconds: length of the clip, at least 2.

    Returns:
        The waveform (samples,), float64 at 16 kHz within [-1, 1), and the fault's ground truth as in
        `ground_truth.json` (None for a healthy machine).

    Raises:
        ValueError: the name is not one of the data set's, the fault is not one of the machine type's, the seed is
            negative, or the clip is shorter than 2 seconds.

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
    recording = Recording(name, machine_type, machine_id, seed)
    scene = healthy_scene(recording, round(clip_seconds * SAMPLING_RATE))
    healthy = scene.machine_level * scene.machine + scene.noise
    if fault is None:
        return healthy, None
    make = alteration_sound if fault.name in ALTERATIONS else source_sound
    sound = make(fault, recording, scene)
    return healthy + sound.added, ground_truth(fault, sound)


def healthy_scene(recording: Recording, samples: int) -> Scene:
    """Make the healthy machine and the factory noise, both at their levels."""
    site = SITES[recording.machine_type]
    operation = normal_operation(recording.clip("operation"), samples)
    running = recording.run(operation)
    machine = recording.radiate(running.sound)
    level = recording.clip("level")
    snr_db = site.snr_db + recording.unit("site").uniform(-2, 2) + level.normal(0, 1.0)
    noise_level = 10 ** ((site.noise_dbfs + level.normal(0, 0.7)) / 20)
    machine_level = noise_level * 10 ** (snr_db / 20) / rms(machine[running.active > 0])
    noise = noise_level * factory_noise(recording.unit("factory"), recording.clip("factory"), samples, site.slope)
    return Scene(operation, running, machine, machine_level, noise)


def alteration_sound(fault: Fault, recording: Recording, scene: Scene) -> FaultSound:
    """Run the machine in another way, and take the difference from the healthy machine."""
    presence = onset(recording.clip("fault"), len(scene.noise))
    altered = recording.run(ALTERATIONS[fault.name](scene.operation, fault.severity, presence))
    presence = presence * np.maximum(scene.running.active, altered.active)
    machine = recording.radiate(altered.sound)
    # Not the power of the difference: the slightest change of speed soon puts the two machines out of phase.
    power = np.abs(band_power(machine * (presence > 0)) - band_power(scene.machine * (presence > 0)))
    bands, _ = fault_bands(power, band_power(scene.noise * (presence > 0)))
    return FaultSound(scene.machine_level * (machine - scene.machine), presence, bands, period_s=None)


def source_sound(fault: Fault, recording: Recording, scene: Scene) -> FaultSound:
    """Make the sound that the fault adds, as far above the noise as its severity says."""
    make, mild_db, severe_db = SOURCES[fault.name]
    source = make(scene.running, recording.unit(fault.name), recording.clip("fault"))
    added = recording.radiate(source.sound)
    bands, contrast_db = fault_bands(band_power(added), band_power(scene.noise * (source.presence > 0)))
    added *= 10 ** ((mild_db + fault.severity * (severe_db - mild_db) - contrast_db) / 20)
    return FaultSound(added, source.presence, bands, source.period_s)


def ground_truth(fault: Fault, sound: FaultSound) -> dict[str, Any]:
    """Describe a fault as `ground_truth.json` does: its name, severity, period, and regions in time and frequency."""
    return {
        "fault": fault.name,
        "severity": fault.severity,
        "period_s": sound.period_s and round(float(sound.period_s), 5),
        "regions": [
            {
                "start_s": round(start / SAMPLING_RATE, 4),
                "end_s": round(end / SAMPLING_RATE, 4),
                "low_hz": round(low, 1),
                "high_hz": round(high, 1),
            }
            for start, end in intervals(sound.presence)
            for low, high in sound.bands
        ],
    }
