"""Runs: the folder, the command and the last file of every training that a table needs."""

import json
from dataclasses import dataclass
from pathlib import Path

from training.batches import KeyedBatches, hold_out

from .data import load_split
from .study import Study
from .systems import NETWORKS


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        name: name of the run.
        folder: where the run writes.
        command: its command after `python`.
        last_file: the file that the run writes last.
        clips: digest of its clips, where the command has none.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    last_file: str
    clips: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the file that the run writes last is there."""
        return (self.folder / self.last_file).exists()

    def check(self) -> None:
        """Note the command and the clips in the folder, or compare them with those noted there.

        Raises:
            ValueError: the folder was made by another command, or of other clips.
        """
        note = self.folder / "command.json"
        now = [*self.command, *([f"clips {self.clips}"] if self.clips else [])]
        if note.exists():
            earlier = json.loads(note.read_text(encoding="utf-8"))
            if earlier != now:
                changed = sorted(set(earlier) ^ set(now))
                raise ValueError(
                    f"{self.folder}: was made with other settings ({', '.join(changed)}). Give another --output_dir, or "
                    "remove this folder."
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def network_run(study: Study, key: str, seed: int, protocol: str) -> Run:
    """Return the run of a configuration of this project's network: train.py, which goes on where it was stopped."""
    name = f"{key}-seed{seed}" if protocol == "honest" else f"{key}-{protocol}-seed{seed}"
    folder = study.output_dir / "runs" / study.data_name / name
    command = ["train.py", "--data_dir", str(study.data_dir), "--output_dir", str(folder)]
    command += [*study.recipe_flags, *NETWORKS[key].flags, "--seed", str(seed), "--resume_from_checkpoint", "latest"]
    if protocol == "paper":
        # Every epoch is kept: the test set is going to choose among them.
        command += ["--labels", str(labels_file(study)), "--save_total_limit", str(study.epochs)]
    return Run(name, folder, tuple(command), "all_results.json", study.clips_digest)


def labels_file(study: Study) -> Path:
    """Return the file for `train.py --labels` under the paper's protocol."""
    return study.output_dir / "published_labels.json"


def peer_run(study: Study, key: str, seed: int, clips: Path, data_dir: Path | None) -> Run:
    """Return the run of a baseline, with as many updates of as many clips as this project's network gets.

    Args:
        study: settings of this call.
        key: key of the baseline.
        seed: key of everything random.
        clips: folder of prepared clips.
        data_dir: folder that the clips' paths are written relative to; None for log-mels alone.
    """
    data_name = study.data_name if data_dir else study.log_mel_name
    folder = study.output_dir / "runs" / data_name / f"{key}-seed{seed}"
    command = ["-m", "research.reproduction.fit_peer", key, "--clips", str(clips), "--output_dir", str(folder)]
    epochs = study.epochs if data_dir else study.log_mel_epochs
    command += ["--updates", str(updates(study, clips, epochs)), "--seed", str(seed)]
    command += ["--batch_size", study.recipe["per_device_train_batch_size"]]
    command += ["--data_dir", str(data_dir)] if data_dir else []
    return Run(f"{key}-seed{seed}", folder, tuple(command), "measured.json")


def log_mel_network_run(study: Study, seed: int, clips: Path) -> Run:
    """Return the run of this project's log-mel-only network on data that is log-mels alone."""
    folder = study.output_dir / "runs" / study.log_mel_name / f"log_mel-seed{seed}"
    command = ["-m", "research.reproduction.fit_log_mel_network", "--log_mel_dir", str(study.log_mel_dir)]
    command += ["--clips", str(clips)]
    command += ["--output_dir", str(folder), "--epochs", str(study.log_mel_epochs), "--seed", str(seed)]
    command += ["--batch_size", study.recipe["per_device_train_batch_size"]]
    command += ["--learning_rate", study.recipe["learning_rate"]]
    command += ["--validation_fraction", study.recipe["validation_fraction"]]
    return Run(f"log_mel-seed{seed}", folder, tuple(command), "measured.json")


def updates(study: Study, clips: Path, epochs: int) -> int:
    """Return the optimiser steps that the recipe makes of the training clips without those held out."""
    labels = [row["label"] for row in load_split(clips, "train").rows]
    index_of = {label: index for index, label in enumerate(sorted(set(labels)))}
    fraction = float(study.recipe["validation_fraction"])
    kept, _ = hold_out([index_of[label] for label in labels], fraction, seed=0)
    batches = KeyedBatches(len(kept), int(study.recipe["per_device_train_batch_size"]))
    return epochs * batches.updates_per_epoch
