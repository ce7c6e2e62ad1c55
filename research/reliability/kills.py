"""Processes killed at random moments, and two processes on one output: what is left is whole, or refused by name."""

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engines import load_pipeline
from machine_room.generate import generate_machine_room

from .damage import generator_of
from .processes import Forked
from .small_model import MACHINES, recording, write_model, write_other_model, write_recordings


KILLS = 2
IN_USE = "in use by"
FIT_ANEW = "scripts/fit_detector.py"
# Small networks are no setting of train.py: two epochs of three updates of the paper's network, on clips of a second.
TRAINING = (
    "--num_train_epochs 2 --clip_seconds 1 --per_device_train_batch_size 4 --validation_fraction 0.2 --checkpointing_steps 1 "
    "--resume_from_checkpoint latest"
).split()
ROOM: dict[str, Any] = {
    "clip_seconds": 2.0, "machine_types": ["fan"], "ids_per_type": 2, "train_clips": 4, "test_normal_clips": 1,
    "test_anomalous_clips": 1, "num_workers": 1, "progress": False,
}  # fmt: skip


class Kills:
    """Each operation of the product, cut off by SIGKILL and begun again; some with a second process on the same output.

    Args:
        seed: part of the key of all moments.
        folder: an empty folder to work in.
        operations: names of methods, by default all.
    """

    title = "Processes that are killed, and two processes on one output"
    cpu_seconds, seconds = 300.0, 300.0

    def __init__(self, seed: int, folder: Path, operations: tuple[str, ...] = ()):
        self.seed, self.folder = seed, folder
        self.recordings = write_recordings(folder / "recordings", clips=8)
        self.first = write_model(folder / "model", self.recordings)
        self.second = write_other_model(folder / "other model", self.first)
        self.operations = operations or (
            "score", "score_twice", "save", "fit", "export", "evaluate", "prepare", "train", "train_twice",
        )  # fmt: skip
        # What each operation gives undisturbed, and in how many seconds.
        self.expected: dict[str, Any] = {}
        self.durations: dict[str, float] = {}
        for name in self.operations:
            kind = name.removesuffix("_twice")
            if kind not in self.expected:
                directory = folder / f"{kind} undisturbed"
                self.prepare_directory(kind, directory)
                process = self.start(kind, directory)
                code = process.wait()
                assert code in (0, 1), process.output
                self.expected[kind], self.durations[kind] = self.state(kind, directory), process.seconds

    def check(self, case: int) -> list[tuple[str, str]]:
        """Cut off one operation, or begin it twice, and look at what is left."""
        name = self.operations[case % len(self.operations)]
        generator, kind = generator_of(self.seed, case), name.removesuffix("_twice")
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            directory = Path(scratch) / kind
            self.prepare_directory(kind, directory)
            run = self.run_twice if name.endswith("_twice") else self.run_killed
            outcome = run(kind, directory, generator)
            assert self.state(kind, directory) == self.expected[kind], "the end differs from that of an undisturbed run"
        return [(name.replace("_twice", ", two processes"), outcome)]

    def run_killed(self, kind: str, directory: Path, generator: np.random.Generator) -> str:
        """Kill an operation at random moments, look at what is left each time, and let it end at last."""
        kills = 0
        for _ in range(KILLS):
            moment = float(generator.uniform(0, self.durations[kind]))
            kills += self.start(kind, directory).kill_after(moment)
            self.check_left(kind, directory)
        last = self.start(kind, directory)
        assert last.wait() in (0, 1) and "Traceback" not in last.output, last.output
        return f"{kills} kills, ended as if undisturbed"

    def run_twice(self, kind: str, directory: Path, generator: np.random.Generator) -> str:
        """Begin an operation while another process is at it."""
        first = self.start(kind, directory)
        time.sleep(float(generator.uniform(0, self.durations[kind])))
        second = self.start(kind, directory)
        refused = 0
        for process in (first, second):
            code = process.wait()
            assert "Traceback" not in process.output, process.output
            assert code in (0, 1) or (code == 2 and IN_USE in process.output), process.output
            refused += code == 2
        assert refused < 2
        return "the second is refused" if refused else "one after the other"

    # The operations

    def prepare_directory(self, kind: str, directory: Path) -> None:
        """Make what is there before the operation."""
        if kind in ("save", "fit"):
            shutil.copytree(self.first, directory)
        else:
            directory.mkdir(parents=True)

    def start(self, kind: str, directory: Path) -> Forked:
        """Begin an operation."""
        scripts: dict[str, tuple[object, ...]] = {
            "score": ("score.py", self.recordings, "--model", self.first, "--output", directory / "rows.jsonl"),
            "fit": ("scripts/fit_detector.py", "--model", directory, "--data_dir", self.recordings, "--backend", "arcface"),
            "export": (
                "scripts/export.py", "--model", self.first, "--output_dir", directory, "--engine", "native-int16",
                "--calibration_dir", self.recordings,
            ),
            "evaluate": ("eval.py", "--model", self.first, "--data_dir", self.recordings, "--output_dir", directory),
            "train": ("train.py", "--data_dir", self.recordings, "--output_dir", directory, *TRAINING),
        }  # fmt: skip
        if kind in scripts:
            name, *arguments = scripts[kind]
            return Forked.script(str(name), *arguments)
        functions: dict[str, Callable[[], object]] = {
            "save": lambda: load_pipeline(self.second).save_pretrained(directory),
            "prepare": lambda: generate_machine_room(directory, **ROOM),
        }
        return Forked(functions[kind])

    def state(self, kind: str, directory: Path) -> Any:
        """What an operation has made, in a form that can be compared."""
        if kind == "score":
            rows = [json.loads(line) for line in (directory / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
            counts = Counter(row["file"] for row in rows)
            assert set(counts.values()) == {1}, counts
            return {row["file"]: (row["verdict"], row["score"], row["machine"]) for row in rows}
        if kind == "evaluate":
            results = json.loads((directory / "results.json").read_text(encoding="utf-8"))
            return {name: results[name] for name in ("auc", "pauc") if name in results}
        if kind == "prepare":
            return {
                str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*.*") if file.is_file()
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
            known = [fingerprint(self.first), self.expected[kind]]
            assert left in known, "neither the old model nor the new one"
        elif kind == "train" and (directory / "scoring_config.json").exists():
            assert fingerprint(directory) == fingerprint(self.folder / "train undisturbed")


def fingerprint(directory: Path) -> tuple[Any, ...]:
    """What tells a model from another: its engine, its cosines for a recording, and its thresholds."""
    pipe = load_pipeline(directory)
    cosines = pipe.run_network([recording(MACHINES[0], 0)]).cosines
    detector = pipe.detector
    assert detector is not None
    thresholds = [detector.threshold(machine) for machine in detector.machines]
    return cosines.flatten().tolist(), detector.backend, detector.machines, thresholds
