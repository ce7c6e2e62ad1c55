"""The names of DCASE 2020 Challenge Task 2: machine types, machine IDs and clip files.

A clip is `<machine type>/{train,test}/{normal,anomaly}_id_<machine ID>_<number>.wav`. The evaluation test clips are
published without a label, as `id_<machine ID>_<number>.wav`.
"""

import os
import re
from typing import NamedTuple


DEVELOPMENT_IDS = {
    "ToyCar": ("01", "02", "03", "04"),
    "ToyConveyor": ("01", "02", "03"),
    "fan": ("00", "02", "04", "06"),
    "pump": ("00", "02", "04", "06"),
    "slider": ("00", "02", "04", "06"),
    "valve": ("00", "02", "04", "06"),
}
# The additional training set and the evaluation test set have the same IDs.
ADDITIONAL_IDS = {
    "ToyCar": ("05", "06", "07"),
    "ToyConveyor": ("04", "05", "06"),
    "fan": ("01", "03", "05"),
    "pump": ("01", "03", "05"),
    "slider": ("01", "03", "05"),
    "valve": ("01", "03", "05"),
}
MACHINE_TYPES = tuple(DEVELOPMENT_IDS)


def label_name(machine_type: str, machine_id: str) -> str:
    """Name the class of a machine: `fan`, `00` -> `fan_id_00`. The ID alone would not do, because every type has a 00."""
    return f"{machine_type}_id_{machine_id}"


def _label_names(ids: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted(label_name(machine_type, i) for machine_type in ids for i in ids[machine_type]))


DEVELOPMENT_LABELS = _label_names(DEVELOPMENT_IDS)
ADDITIONAL_LABELS = _label_names(ADDITIONAL_IDS)
LABELS = tuple(sorted(DEVELOPMENT_LABELS + ADDITIONAL_LABELS))

_CLIP_NAME = re.compile(r"(?:(normal|anomaly)_)?id_([A-Za-z0-9-]+)_(\d+)\.(?:wav|flac)", re.IGNORECASE)


class ClipName(NamedTuple):
    """What the name of a clip says.

    Attributes:
        machine_id: the machine ID, such as "00".
        is_anomaly: whether the clip is anomalous; None where the name has no label.
    """

    machine_id: str
    is_anomaly: bool | None


def parse_clip_name(path: str | os.PathLike[str]) -> ClipName:
    """Read the machine ID and the label from the name of a clip.

    Only the file name counts, never a folder above it: a clip in a folder called "abnormal" may be normal.

    Args:
        path: a path or a file name, `{normal,anomaly}_id_<machine ID>_<number>.wav` (or .flac). A clip without a label is
            `id_<machine ID>_<number>.wav`. The machine ID has letters, digits and hyphens.

    Returns:
        The machine ID and the label.

    Raises:
        ValueError: the file name has another form.

    Example:
        >>> parse_clip_name("abnormal/fan/test/normal_id_00_00000000.wav")
        ClipName(machine_id='00', is_anomaly=False)
    """
    name = os.path.basename(os.fspath(path))
    match = _CLIP_NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is not the name of a clip: expected normal_id_<machine ID>_<number>.wav, "
            "anomaly_id_... or, without a label, id_..., such as normal_id_00_00000000.wav. Rename the file."
        )
    label, machine_id, _ = match.groups()
    return ClipName(machine_id, None if label is None else label.lower() == "anomaly")
