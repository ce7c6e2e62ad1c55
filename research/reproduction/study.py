"""What one call of research/reproduce.py is about: data, size, protocol, seeds and the recipe that follows from them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dcase2020_task2 import DEVELOPMENT_LABELS, list_clips


# The paper's recipe, and one for some hundred clips and a CPU: minutes a run. Both are flags of train.py.
RECIPES = {
    "full": {
        "clip_seconds": "10",
        "num_train_epochs": "300",
        "per_device_train_batch_size": "64",
        "learning_rate": "1e-4",
        "mixed_precision": "no",
        "validation_fraction": "0.05",
    },
    "reduced": {
        "clip_seconds": "4",
        "num_train_epochs": "16",
        "per_device_train_batch_size": "16",
        "learning_rate": "1e-3",
        "mixed_precision": "bf16",
        "validation_fraction": "0.15",
    },
}
# At most so many epochs on an archive of log-mels: 800 clips of it make more updates in 6 than 218 recordings in 16.
LOG_MEL_EPOCHS = {"full": 300, "reduced": 6}
# The development training set has 20,119 clips: with three quarters of it the paper's recipe is in its place.
FULL_CLIPS = 15_000


@dataclass(frozen=True)
class Study:
    """Settings of one call of research/reproduce.py.

    Args:
        data_dir: folder in the DCASE 2020 Task 2 layout.
        output_dir: where the runs go.
        report_dir: where tables and figures go.
        size: `"full"` or `"reduced"`.
        protocol: `"honest"` or `"paper"`.
        seeds: seeds of this project's networks.
        peer_seeds: seeds of the peers.
        jobs: runs side by side.
        recipe: flags of train.py with their values: those of the size, and what the user overrides.
        log_mel_dir: folder with train.npz and test.npz of log-mels.
    """

    data_dir: Path
    output_dir: Path
    report_dir: Path
    size: str
    protocol: str
    seeds: tuple[int, ...]
    peer_seeds: tuple[int, ...]
    jobs: int
    recipe: dict[str, str]
    log_mel_dir: Path | None = None

    @property
    def data_name(self) -> str:
        """Name of the data's folder."""
        return self.data_dir.resolve().name

    @property
    def log_mel_name(self) -> str:
        """Name of the folder of log-mels.

        Raises:
            ValueError: the study has no log-mels.
        """
        if self.log_mel_dir is None:
            raise ValueError("--log_mel_dir is missing: these runs are of log-mels alone.")
        return self.log_mel_dir.resolve().name

    @cached_property
    def clips_digest(self) -> str:
        """A digest that changes with any clip of the data."""
        return list_clips(self.data_dir).digest[:12]

    @property
    def epochs(self) -> int:
        return int(self.recipe["num_train_epochs"])

    @property
    def log_mel_epochs(self) -> int:
        return min(self.epochs, LOG_MEL_EPOCHS[self.size])

    @property
    def recipe_flags(self) -> list[str]:
        return [part for name, value in self.recipe.items() for part in (f"--{name}", value)]


def choose_size(rows: Sequence[dict[str, Any]]) -> str:
    """Return `"full"` for the clips of DCASE 2020 Task 2 as a whole, with or without the additional training set."""
    training = Counter(row["label"] for row in rows if row["split"] == "train")
    has_all = set(DEVELOPMENT_LABELS) <= training.keys()
    return "full" if has_all and training.total() >= FULL_CLIPS else "reduced"


def describe_data(study: Study) -> str:
    """Return the data in words: its name, and how many clips and machine IDs there are."""
    rows = list_clips(study.data_dir).rows
    trained = Counter(row["label"] for row in rows if row["split"] == "train")
    test = Counter(bool(row["is_anomaly"]) for row in rows if row["split"] == "test" and row["label"] in trained)
    return (
        f"{study.data_name}: {trained.total():,} normal training clips of {len(trained)} machine IDs; test clips of these "
        f"IDs: {test[False]:,} normal and {test[True]:,} anomalous"
    )


def parse_overrides(flags: Sequence[str]) -> dict[str, str]:
    """Return flags that are meant for train.py, given as `--name value` pairs, by their names.

    Raises:
        ValueError: something else than pairs.
    """
    names, values = flags[::2], flags[1::2]
    wrong = [name for name in names if not name.startswith("--")] or flags[len(values) * 2 :]
    if wrong:
        raise ValueError(
            f"{' '.join(wrong)}: expected flags of train.py as pairs, such as --num_train_epochs 5 --clip_seconds 2."
        )
    return {name.removeprefix("--"): value for name, value in zip(names, values, strict=True)}
