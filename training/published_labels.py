"""The 41 classes of the published code: which machine ID is which output of the published network."""

from dcase2020_task2 import label_name


NUM_LABELS = 41
# data.py of the authors: each type's offset is added to the machine ID. The IDs of ToyCar and ToyConveyor start at 1.
OFFSETS = {
    "fan": (0, range(7)),
    "pump": (7, range(7)),
    "slider": (13, range(7)),
    "ToyCar": (20, range(1, 8)),
    "ToyConveyor": (27, range(1, 7)),
    "valve": (34, range(7)),
}


def published_labels(num_labels: int = NUM_LABELS) -> tuple[dict[int, str], dict[str, int]]:
    """Return id2label and label2id of the published code.

    Class 13 stands for pump id_06 and slider id_00 alike and is named after both; class 20 is never used. label2id also
    has every machine ID under its own name.
    """
    names: dict[int, list[str]] = {index: [] for index in range(num_labels)}
    for machine_type, (offset, machine_ids) in OFFSETS.items():
        for machine_id in machine_ids:
            names[offset + machine_id].append(label_name(machine_type, f"{machine_id:02d}"))
    id2label = {index: "+".join(found) or f"unused_{index}" for index, found in names.items()}
    label2id = {label: index for index, label in id2label.items()}
    label2id.update({name: index for index, found in names.items() for name in found})
    return id2label, label2id
