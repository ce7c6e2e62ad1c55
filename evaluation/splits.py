"""The clips of a folder in the DCASE 2020 Task 2 layout, as training and evaluation take them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcase2020_task2 import label_name, load_clips


SYNTHETIC = "machine_room (synthetic)"

Row = dict[str, Any]


@dataclass(frozen=True)
class Splits:
    """The clips of a folder.

    Attributes:
        folder: where the clips lie; results name a clip by its path below this folder.
        train: rows of normal clips with `path`, `machine_type`, `machine_id` and `is_anomaly`.
        test: rows of test clips; `is_anomaly` is `None` where nobody knows.
    """

    folder: Path
    train: Sequence[Row] = ()
    test: Sequence[Row] = ()

    @property
    def name(self) -> str:
        """What results and cards call the data. Synthetic machines are called so wherever they lie."""
        return SYNTHETIC if (self.folder / "machine_room.json").exists() else self.folder.resolve().name

    @property
    def train_machines(self) -> list[str]:
        """Names of the machines that have training clips, sorted."""
        return sorted({machine_of(row) for row in self.train})


def load_splits(folder: Path, machine_types: Sequence[str] | None = None) -> Splits:
    """List the clips of a folder, of the given machine types alone.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder has no clips, or none of a machine type that is asked for.
    """
    splits: dict[str, list[Any]] = {str(name): list(rows) for name, rows in load_clips(folder).items()}
    if machine_types:
        wanted = set(machine_types)
        missing = wanted - {row["machine_type"] for rows in splits.values() for row in rows}
        if missing:
            raise ValueError(f"--machine_types {' '.join(sorted(missing))}: no such machine type in {folder}.")
        splits = {name: [row for row in rows if row["machine_type"] in wanted] for name, rows in splits.items()}
    return Splits(folder, splits.get("train", ()), splits.get("test", ()))


def load_training_splits(folder: Path, machine_types: Sequence[str] | None = None) -> Splits:
    """List the clips of a folder that has training clips; see [`load_splits`].

    Raises:
        ValueError: the folder has no training clips.
    """
    splits = load_splits(folder, machine_types)
    if not splits.train:
        raise ValueError(
            f"{folder}: no training clips. Expected {folder}/<machine type>/train/normal_id_XX_*.wav with normal sounds."
        )
    return splits


def machine_of(row: Row) -> str:
    """The name of a row's machine, such as `fan_id_00`."""
    return label_name(row["machine_type"], row["machine_id"])
