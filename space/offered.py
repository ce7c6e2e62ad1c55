"""The synthetic sounds that the page offers, and the machines of the demonstration model that they are of."""

from parts import Example
from settings import EXAMPLES_DIR
from wording import label


# Name in links -> a file, or two, and their machine.
SOUNDS = {
    "fan": ("fan_normal.flac", "synthetic_fan_04"),
    "fan_clogged": ("fan_clogged.flac", "synthetic_fan_04"),
    "pump": ("pump_normal.flac", "synthetic_pump_00"),
    "pump_clogged": ("pump_clogged.flac", "synthetic_pump_00"),
    "conveyor": ("conveyor_normal.flac", "synthetic_conveyor_02"),
    "conveyor_low_voltage": ("conveyor_low_voltage.flac", "synthetic_conveyor_02"),
}
BEFORE_AND_AFTER = {
    "fan": ("fan_normal.flac", "fan_clogged.flac", "synthetic_fan_04"),
    "pump": ("pump_normal.flac", "pump_clogged.flac", "synthetic_pump_00"),
}
LONG_SOUNDS = {"fan": ("fan_60_s.flac", "synthetic_fan_04")}


def examples_of(sounds: dict[str, tuple[str, ...]], kind: str = "") -> dict[str, Example]:
    """Return examples by their names in links; among the page's texts the names of their titles begin with `kind`."""
    return {
        name: Example(label(f"example.{kind}{name}"), tuple(files), machine)
        for name, (*files, machine) in sounds.items()
    }


EXAMPLES = examples_of(SOUNDS)
PAIRS = examples_of(BEFORE_AND_AFTER, "pair_")
LONG_EXAMPLES = examples_of(LONG_SOUNDS, "long_")

# Machine -> a file of its normal sound.
NORMAL_SOUNDS = {machine: str(EXAMPLES_DIR / name) for name, machine in SOUNDS.values() if "_normal" in name}

__all__ = ["EXAMPLES", "LONG_EXAMPLES", "NORMAL_SOUNDS", "PAIRS"]
