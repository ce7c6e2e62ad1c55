"""The synthetic sounds that the page offers, and the machines of the demonstration model that they are of."""

from settings import EXAMPLES_DIR


# Label of an example -> its sounds, and their machine.
EXAMPLES = {
    "Fan": ("fan_normal.flac", "synthetic_fan_04"),
    "Fan, clogged": ("fan_clogged.flac", "synthetic_fan_04"),
    "Pump": ("pump_normal.flac", "synthetic_pump_00"),
    "Pump, clogged": ("pump_clogged.flac", "synthetic_pump_00"),
    "Conveyor": ("conveyor_normal.flac", "synthetic_conveyor_02"),
    "Conveyor, low voltage": ("conveyor_low_voltage.flac", "synthetic_conveyor_02"),
}
PAIRS = {
    "Fan, before and after": ("fan_normal.flac", "fan_clogged.flac", "synthetic_fan_04"),
    "Pump, before and after": ("pump_normal.flac", "pump_clogged.flac", "synthetic_pump_00"),
}
LONG_EXAMPLE = {"Fan that clogs, 60 s": ("fan_60_s.flac", "synthetic_fan_04")}

# Machine -> a file of its normal sound.
NORMAL_SOUNDS = {machine: str(EXAMPLES_DIR / name) for name, machine in EXAMPLES.values() if "_normal" in name}

__all__ = ["EXAMPLES", "LONG_EXAMPLE", "NORMAL_SOUNDS", "PAIRS"]
