"""The synthetic sounds that the page offers, and the machines of the demonstration model that they are of."""

from parts import Example
from settings import EXAMPLES_DIR
from wording import label


# By their names in links.
EXAMPLES = {
    "fan": Example(label("example.fan"), ("fan_normal.flac",), "synthetic_fan_04"),
    "fan_clogged": Example(label("example.fan_clogged"), ("fan_clogged.flac",), "synthetic_fan_04"),
    "pump": Example(label("example.pump"), ("pump_normal.flac",), "synthetic_pump_00"),
    "pump_clogged": Example(label("example.pump_clogged"), ("pump_clogged.flac",), "synthetic_pump_00"),
    "conveyor": Example(label("example.conveyor"), ("conveyor_normal.flac",), "synthetic_conveyor_02"),
    "conveyor_low_voltage": Example(
        label("example.conveyor_low_voltage"), ("conveyor_low_voltage.flac",), "synthetic_conveyor_02"
    ),
}
PAIRS = {
    "fan": Example(label("example.fan_pair"), ("fan_normal.flac", "fan_clogged.flac"), "synthetic_fan_04"),
    "pump": Example(label("example.pump_pair"), ("pump_normal.flac", "pump_clogged.flac"), "synthetic_pump_00"),
}
LONG_EXAMPLES = {"fan": Example(label("example.fan_long"), ("fan_60_s.flac",), "synthetic_fan_04")}

# Machine -> a file of its normal sound.
NORMAL_SOUNDS = {
    example.machine: str(EXAMPLES_DIR / example.sounds[0])
    for example in EXAMPLES.values()
    if "_normal" in example.sounds[0]
}

__all__ = ["EXAMPLES", "LONG_EXAMPLES", "NORMAL_SOUNDS", "PAIRS"]
