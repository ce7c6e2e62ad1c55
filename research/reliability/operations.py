"""The operations of the product that write files: each begun as a user begins it, and what it leaves compared."""

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from engines import load_pipeline
from evaluation.command import run
from machine_room.generate import generate_machine_room

from .processes import Forked, apart
from .small_model import MACHINES, recording, write_export, write_model, write_other_model, write_recordings


FIT_ANEW = "scripts/fit_detector.py"
# Small networks are no setting of train.py: two epochs of three updates of the paper's network, on clips of a second.
TRAINING = (
    "--num_train_epochs 2 --clip_seconds 1 --per_device_train_batch_size 4 --validation_fraction 0.2 --checkpointing_steps 1 "
    "--resume_from_checkpoint latest"
).split()
ROOM: dict[str, Any] = {
    "clip_seconds": 2.0, "machine_types": ["fan"], "ids_per_type": 2, "train_clips": 24, "test_normal_clips": 4,
    "test_anomalous_clips": 4, "num_workers": 1, "progress": False,
}  # fmt: skip
ENGINE = "native-int16"
# Of an evaluation before, which a new one replaces.
OLD_RESULTS = "{}"
OPERATIONS = ("score", "save", "fit", "export", "evaluate", "prepare", "train")


class Operations:
    """Operations that are tried in a folder, each in a directory of its own.

    Args:
        folder: an empty folder to work in.
        kinds: names from `OPERATIONS`.

    Attributes:
        expected: what each operation gives undisturbed.
        durations: in how many seconds.
        bytes_written: the size of the files that the operation leaves new.
    """

    def __init__(self, folder: Path, kinds: tuple[str, ...] = OPERATIONS):
        self.recordings = write_recordings(folder / "recordings", clips=8)
        self.first = write_model(folder / "model", self.recordings)
        self.second = write_other_model(folder / "other model", self.first)
        if "export" in kinds:
            self.other_export = write_export(folder / "other export", self.second, self.recordings, ENGINE)
        self.expected: dict[str, Any] = {}
        self.durations: dict[str, float] = {}
        self.bytes_written: dict[str, int] = {}
        self.undisturbed = Path(tempfile.mkdtemp(dir=folder, prefix="undisturbed-"))
        for kind in kinds:
            directory = self.undisturbed / kind
            self.prepare_directory(kind, directory)
            before = sizes_by_inode(directory)
            process = self.start(kind, directory)
            code = process.wait()
            assert code in (0, 1), process.output
            self.expected[kind], self.durations[kind] = self.state(kind, directory), process.seconds
            after = sizes_by_inode(directory)
            self.bytes_written[kind] = sum(after[inode] for inode in after.keys() - before.keys())

    def check_end(self, kind: str, directory: Path) -> None:
        """Assert that what is there now is what an undisturbed run leaves."""
        assert self.state(kind, directory) == self.expected[kind], "the end differs from that of an undisturbed run"

    def prepare_directory(self, kind: str, directory: Path) -> None:
        """Make what is there before the operation."""
        if kind in ("save", "fit"):
            shutil.copytree(self.first, directory)
        elif kind == "export":
            shutil.copytree(self.other_export, directory)
        else:
            directory.mkdir(parents=True)
        if kind == "evaluate":
            (directory / "results.json").write_text(OLD_RESULTS)

    def start(self, kind: str, directory: Path) -> Forked:
        """Begin an operation."""
        scripts: dict[str, tuple[object, ...]] = {
            "score": ("score.py", self.recordings, "--model", self.first, "--output", directory / "rows.jsonl"),
            "fit": ("scripts/fit_detector.py", "--model", directory, "--data_dir", self.recordings, "--backend", "arcface"),
            "export": (
                "scripts/export.py", "--model", self.first, "--output_dir", directory, "--engine", ENGINE,
                "--calibration_dir", self.recordings,
            ),
            "evaluate": (
                "eval.py", "--model", self.first, "--data_dir", self.recordings, "--output_dir", directory,
                "--num_bootstrap", 50,
            ),
            "train": ("train.py", "--data_dir", self.recordings, "--output_dir", directory, *TRAINING),
        }  # fmt: skip
        if kind in scripts:
            name, *arguments = scripts[kind]
            return Forked.script(str(name), *arguments)
        return Forked(save, self.second, directory) if kind == "save" else Forked(make_room, directory)

    def state(self, kind: str, directory: Path) -> Any:
        """What an operation has made, in a form that can be compared."""
        if kind == "score":
            rows = [json.loads(line) for line in (directory / "rows.jsonl").read_text().splitlines()]
            counts = Counter(row["file"] for row in rows)
            assert set(counts.values()) == {1}, counts
            return {row["file"]: (row["verdict"], row["score"], row["machine"]) for row in rows}
        if kind == "evaluate":
            results = json.loads((directory / "results.json").read_text())
            scores = {file.name: file.read_text() for file in directory.glob("anomaly_score_*.csv")}
            assert len(scores) == len(MACHINES), scores
            return {name: results[name] for name in ("auc", "pauc") if name in results} | scores
        if kind == "prepare":
            return {
                str(file.relative_to(directory)): file.read_bytes()
                for file in directory.rglob("[!.]*")
                if file.is_file()
            }
        if kind == "train":
            return [(directory / name).read_bytes() for name in ("model.safetensors", "scoring.safetensors")]
        return fingerprint(directory)

    def check_left(self, kind: str, directory: Path) -> None:
        """Assert that what a killed process left is whole, old or new, or is refused with what to do."""
        if kind in ("save", "fit", "export"):
            try:
                left = fingerprint(directory)
            except (ValueError, OSError) as error:
                assert kind == "export" or FIT_ANEW in str(error), error
                return
            known = [fingerprint(self.other_export if kind == "export" else self.first), self.expected[kind]]
            assert left in known, "neither the old model nor the new one"
        elif kind == "evaluate":
            is_old = (directory / "results.json").read_text() == OLD_RESULTS
            assert is_old or self.state(kind, directory) == self.expected[kind], (
                "neither the old results nor the new ones"
            )
        elif kind == "train" and (directory / "scoring_config.json").exists():
            assert fingerprint(directory) == fingerprint(self.undisturbed / "train")


def sizes_by_inode(directory: Path) -> dict[int, int]:
    """The sizes of all files in a directory in bytes; a file that was replaced has another inode."""
    found = (file.stat() for file in directory.rglob("*") if file.is_file())
    return {status.st_ino: status.st_size for status in found}


def save(model: Path, directory: Path) -> None:
    """Save a copy of a model, and end the process as a command does."""
    run(lambda: load_pipeline(model).save_pretrained(directory))


def make_room(directory: Path) -> None:
    """Make synthetic clips, and end the process as a command does."""

    def make() -> None:
        generate_machine_room(directory, **ROOM)

    run(make)


def fingerprint(directory: Path) -> tuple[Any, ...]:
    """What tells a model from another, found in a process of its own: damaged weights could end the process."""
    return apart(read_fingerprint, directory)


def read_fingerprint(directory: Path) -> tuple[Any, ...]:
    """The cosines for a recording, the detector's back end, its machines and their thresholds."""
    pipe = load_pipeline(directory)
    cosines = pipe.run_network([recording(MACHINES[0], 0)]).cosines
    detector = pipe.detector
    assert detector is not None
    thresholds = [detector.threshold(machine) for machine in detector.machines]
    return cosines.flatten().tolist(), detector.backend, detector.machines, thresholds
