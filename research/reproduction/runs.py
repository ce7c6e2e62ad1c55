"""Runs: what is to be trained, several processes at a time; a finished run is skipped, a stopped one goes on."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from training.batches import KeyedBatches, hold_out

from .data import load_split
from .study import Study
from .systems import NETWORKS


ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """One training: its folder, its command after `python`, the file that it writes last, and the digest of its clips, where
    the command has none."""

    name: str
    folder: Path
    command: tuple[str, ...]
    last_file: str
    clips: str | None = None

    @property
    def is_finished(self) -> bool:
        return (self.folder / self.last_file).exists()

    def check(self) -> None:
        """Note the command and the clips in the folder, or hold them against those noted there.

        Raises:
            ValueError: the folder is another command's, or of other clips.
        """
        note = self.folder / "command.json"
        now = [*self.command, *([f"clips {self.clips}"] if self.clips else [])]
        if note.exists():
            earlier = json.loads(note.read_text())
            if earlier != now:
                changed = sorted(set(earlier) ^ set(now))
                raise ValueError(
                    f"{self.folder}: was made with other settings ({', '.join(changed)}). Give another --output_dir, or "
                    "remove this folder."
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(now, indent=1) + "\n")


def network_run(study: Study, key: str, seed: int, protocol: str) -> Run:
    """A configuration of this project's network, trained by train.py, which goes on where it was stopped."""
    name = f"{key}-seed{seed}" if protocol == "honest" else f"{key}-{protocol}-seed{seed}"
    folder = study.output_dir / "runs" / study.data_name / name
    command = ["train.py", "--data_dir", str(study.data_dir), "--output_dir", str(folder)]
    command += [*study.recipe_flags, *NETWORKS[key].flags, "--seed", str(seed), "--resume_from_checkpoint", "latest"]
    if protocol == "paper":
        # Every epoch is kept: the test set is going to choose among them.
        command += ["--labels", str(labels_file(study)), "--save_total_limit", str(study.epochs)]
    return Run(name, folder, tuple(command), "all_results.json", study.clips_digest)


def labels_file(study: Study) -> Path:
    return study.output_dir / "published_labels.json"


def peer_run(study: Study, key: str, seed: int, clips: Path, data_dir: Path | None) -> Run:
    """A baseline with as many updates, of as many clips, as this project's network gets on the same data."""
    data_name = study.data_name if data_dir else study.log_mel_dir.resolve().name
    folder = study.output_dir / "runs" / data_name / f"{key}-seed{seed}"
    command = ["-m", "research.reproduction.fit_peer", key, "--clips", str(clips), "--output_dir", str(folder)]
    epochs = study.epochs if data_dir else study.log_mel_epochs
    command += ["--updates", str(updates(study, clips, epochs)), "--seed", str(seed)]
    command += ["--batch_size", study.recipe["per_device_train_batch_size"]]
    command += ["--data_dir", str(data_dir)] if data_dir else []
    return Run(f"{key}-seed{seed}", folder, tuple(command), "measured.json")


def log_mel_network_run(study: Study, seed: int, clips: Path) -> Run:
    """This project's log-mel-only network on data that is log-mels alone."""
    folder = study.output_dir / "runs" / study.log_mel_dir.resolve().name / f"log_mel-seed{seed}"
    command = ["-m", "research.reproduction.fit_log_mel_network", "--log_mel_dir", str(study.log_mel_dir), "--clips", str(clips)]
    command += ["--output_dir", str(folder), "--epochs", str(study.log_mel_epochs), "--seed", str(seed)]
    command += ["--batch_size", study.recipe["per_device_train_batch_size"]]
    command += ["--learning_rate", study.recipe["learning_rate"]]
    command += ["--validation_fraction", study.recipe["validation_fraction"]]
    return Run(f"log_mel-seed{seed}", folder, tuple(command), "measured.json")


def updates(study: Study, clips: Path, epochs: int) -> int:
    """Optimiser steps that the recipe makes of the training clips, those held out taken off."""
    labels = [row["label"] for row in load_split(clips, "train").rows]
    index_of = {label: index for index, label in enumerate(sorted(set(labels)))}
    fraction = float(study.recipe["validation_fraction"])
    kept, _ = hold_out([index_of[label] for label in labels], fraction, seed=0)
    batches = KeyedBatches(len(kept), int(study.recipe["per_device_train_batch_size"]))
    return epochs * batches.updates_per_epoch


def complete(runs: Sequence[Run], jobs: int) -> None:
    """Run what is not finished, `jobs` at a time with an equal share of the cores each.

    On two cores two trainings of one thread each took less time together than one after the other with two. A lock in
    the folder is held by the process that trains: after this one was killed, another call waits for what still runs
    instead of training it twice.

    Raises:
        ValueError: a folder belongs to other settings, or runs have failed; their logs are named.
    """
    for run in runs:
        run.check()
    waiting = [run for run in runs if not run.is_finished]
    print(f"{len(runs)} runs, of which {len(runs) - len(waiting)} are finished", flush=True)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    started, total, done, failed = time.monotonic(), len(waiting), 0, []
    active: dict[Run, tuple[subprocess.Popen, float]] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [stop(process) for process, _ in active.values()])
        while waiting or active:
            for run in [run for run, (process, _) in active.items() if process.poll() is not None]:
                process, began = active.pop(run)
                done += 1
                if run.is_finished:
                    report(f"{run.name}: finished in {words(time.monotonic() - began)}", started, done, total)
                else:
                    failed.append(run)
                    report(f"{run.name}: FAILED, see {run.folder}/log.txt", started, done, total)
            for run in list(waiting):
                if len(active) == jobs:
                    break
                lock = try_lock(run.folder / ".lock")
                if lock is None:  # another call trains it: looked at again in the next round
                    continue
                with lock:
                    waiting.remove(run)
                    if run.is_finished:
                        done += 1
                    else:
                        active[run] = (start(run, environment, lock), time.monotonic())
            time.sleep(0.2)
    if failed:
        raise ValueError(
            f"{len(failed)} of {total} runs failed: {', '.join(run.name for run in failed)}. The end of "
            f"{failed[0].folder}/log.txt:\n{tail(failed[0].folder / 'log.txt')}"
        )


def try_lock(path: Path) -> IO | None:
    file = open(path, "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def start(run: Run, environment: dict[str, str], lock: IO) -> subprocess.Popen:
    with open(run.folder / "log.txt", "a") as log:
        return subprocess.Popen(
            [sys.executable, *run.command],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            # The open file is the lock: it is freed when the process ends, however it does.
            pass_fds=[lock.fileno()],
        )


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait()


def report(line: str, started: float, done: int, total: int) -> None:
    elapsed = time.monotonic() - started
    left = elapsed / done * (total - done)
    rest = f", about {words(left)} left" if left else ""
    print(f"[{done}/{total}] {line}; {words(elapsed)} in all{rest}", flush=True)


def words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def tail(path: Path, lines: int = 12) -> str:
    # A progress bar rewrites its line.
    return "\n".join(path.read_text(errors="replace").replace("\r", "\n").splitlines()[-lines:])
