"""How well the detector watches a machine enrolled from a few normal clips, beside the same machine trained in.

    python -m research.benchmarks.enrollment --model runs/all --model_without runs/some --data_dir DIR --output_dir R

Both models were made by train.py, the second without some machine IDs of DIR (`--leave_out` makes the folder to train it
on). These IDs are enrolled in the second model from 1, 2, 4 and 8 of their normal training clips, drawn anew several
times. Then their test clips are scored. R gets enrollment.md, enrollment.csv and enrollment.png.

    python -m research.benchmarks.enrollment --leave_out fan_id_06 pump_id_06 --data_dir DIR --output_dir FOLDER_TO_TRAIN_ON
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from dcase2020_task2 import label_name, load_clips
from evaluation.command import run
from evaluation.figures import BLUE, GREEN, GREY, VERMILION, save
from evaluation.loading import load_model
from evaluation.markdown import markdown_table
from modeling import AnomalyDetector
from training.allocator import keep_freed_memory
from training.fit_detector import network_outputs
from training.waveform_bank import WaveformBank


CLIPS = (1, 2, 4, 8)
BACKENDS = {"spectrum": BLUE, "gmm": GREEN, "arcface": VERMILION}
FALSE_ALARM_RATE = 0.05
TRAINED_IN = "trained in"
# What the detector answers for a clip whose machine is not named, and how many clips were asked about.
Shares = dict[str, float]


class Sounds:
    """The clips of a split with the outputs of one model.

    Args:
        model_dir: directory of the model.
        data_dir: folder in the DCASE 2020 Task 2 layout.
        split: `"train"` or `"test"`.
    """

    def __init__(self, model_dir: Path, data_dir: Path, split: str):
        loaded = load_model(model_dir)
        rows = load_clips(data_dir)[split]
        names = rows.features["label"].names
        bank = WaveformBank(rows["path"], rows["label"], loaded.feature_extractor, progress=False)
        self.machines = np.array([names[label] for label in bank.labels])
        self.is_anomaly = np.array(rows["is_anomaly"])[bank.rows].astype(bool)
        self.outputs = network_outputs(loaded.model, loaded.feature_extractor, bank, batch_size=8)

    def of(self, machine: str) -> np.ndarray:
        """Return the indices of a machine's clips."""
        return np.flatnonzero(self.machines == machine)


@dataclass
class Study:
    """What was measured.

    Args:
        left_out: machine IDs that the second model was trained without.
        others: number of the other machine IDs.
        rows: a row for each machine, back end, number of clips and draw.
        named: number of enrolled clips, 0 for none -> answers for the machines that were left out, mean over draws.
        named_others: answers for the other machines.
    """

    left_out: list[str]
    others: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    named: dict[int, Shares] = field(default_factory=dict)
    named_others: Shares = field(default_factory=dict)

    def mean_of(self, backend: str, clips: int | str, name: str) -> tuple[float, float]:
        """Return the mean over machines and draws, and the deviation over draws of the mean over machines."""
        of_draw: dict[int, list[float]] = {}
        for row in self.rows:
            if row["backend"] == backend and row["clips"] == clips:
                of_draw.setdefault(row["draw"], []).append(row[name])
        means = [float(np.mean(values)) for values in of_draw.values()]
        return float(np.mean(means)), float(np.std(means))


def leave_out(data_dir: Path, machines: Sequence[str], folder: Path) -> None:
    """Fill `folder` with links to the clips of `data_dir`, all but those of some machine IDs.

    Raises:
        ValueError: a machine ID that the data does not have.
    """
    rows: list[Any] = [row for split in load_clips(data_dir).values() for row in split]
    known = {label_name(row["machine_type"], row["machine_id"]) for row in rows}
    unknown = sorted(set(machines) - known)
    if unknown:
        raise ValueError(f"--leave_out {' '.join(unknown)}: {data_dir} has no such machine ID, only {sorted(known)}.")
    for row in rows:
        if label_name(row["machine_type"], row["machine_id"]) not in machines:
            link = folder / Path(row["path"]).relative_to(data_dir.absolute())
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(row["path"])


def measure(model: Path, model_without: Path, data_dir: Path, left_out: list[str], draws: int, seed: int) -> Study:
    """Compare the machines of `left_out`, trained in and enrolled from a few clips.

    Args:
        model: directory of the model trained with all machine IDs.
        model_without: directory of the model trained without `left_out`.
        data_dir: folder in the DCASE 2020 Task 2 layout.
        left_out: machine IDs to enroll.
        draws: enrollments for each number of clips.
        seed: key of the drawn clips.
    """
    study = Study(left_out)
    trained_in, detector = Sounds(model, data_dir, "test"), AnomalyDetector.from_pretrained(model)
    for machine in left_out:
        for backend in BACKENDS:
            judged = judge(detector, trained_in, machine, backend)
            study.rows.append({"machine": machine, "backend": backend, "clips": TRAINED_IN, "draw": 0, **judged})
    test, normal = (Sounds(model_without, data_dir, split) for split in ("test", "train"))
    without = AnomalyDetector.from_pretrained(model_without)
    others = [name for name in detector.machines if name not in left_out]
    study.others, study.named_others = len(others), name_machines(without, test, others)
    study.named[0] = name_machines(without, test, left_out)
    named: dict[int, list[Shares]] = {clips: [] for clips in CLIPS}
    for clips, draw in tqdm([(clips, draw) for clips in CLIPS for draw in range(draws)], "enrollments"):
        enrolled = AnomalyDetector.from_pretrained(model_without)
        study.rows += enroll_and_judge(enrolled, normal, test, left_out, clips, draw, seed)
        named[clips].append(name_machines(enrolled, test, left_out))
    for clips, of_draws in named.items():
        study.named[clips] = {name: float(np.mean([one[name] for one in of_draws])) for name in of_draws[0]}
    return study


def enroll_and_judge(
    detector: AnomalyDetector, normal: Sounds, test: Sounds, machines: list[str], clips: int, draw: int, seed: int
) -> list[dict[str, Any]]:
    """Enroll machines from so many of their normal clips, and return the rows of their test clips."""
    rows = []
    for place, machine in enumerate(machines):
        own = normal.of(machine)
        if len(own) < clips:
            continue
        generator = np.random.default_rng([seed, clips, draw, place])
        detector.enroll(machine, normal.outputs[generator.choice(own, clips, replace=False)])
        for backend in BACKENDS:
            judged = judge(detector, test, machine, backend)
            rows.append({"machine": machine, "backend": backend, "clips": clips, "draw": draw, **judged})
    return rows


def judge(detector: AnomalyDetector, sounds: Sounds, machine: str, backend: str) -> dict[str, float]:
    """Return the AUC of a machine's test clips, and the shares that are called anomalous."""
    clips = sounds.of(machine)
    is_anomaly = sounds.is_anomaly[clips]
    scores = detector.scores(sounds.outputs[clips], machine, backend).numpy()
    p_values = detector.p_value(scores, machine, backend).numpy()
    return {
        "auc": float(roc_auc_score(is_anomaly, scores)),
        "false_alarms": float(np.mean(p_values[~is_anomaly] <= FALSE_ALARM_RATE)),
        "detected": float(np.mean(p_values[is_anomaly] <= FALSE_ALARM_RATE)),
        "undecided": float(np.mean(np.isnan(p_values))),
    }


def name_machines(detector: AnomalyDetector, sounds: Sounds, machines: Sequence[str]) -> Shares:
    """Return which machine the detector takes normal test clips for: the right one, another one, or none it knows.

    None is the answer where a clip is not close enough to the closest machine.
    """
    answers = {"right": 0, "other": 0, "none": 0}
    for machine in machines:
        own = sounds.of(machine)
        for clip in own[~sounds.is_anomaly[own]]:
            closest, _, is_close = detector.closest(sounds.outputs[clip])
            answers["none" if not is_close else "right" if closest == machine else "other"] += 1
    total = sum(answers.values())
    return {answer: count / total for answer, count in answers.items()} | {"clips": total}


def report(study: Study) -> str:
    """Return what was measured as Markdown."""
    left_out = study.left_out
    parts = [
        "# Enrollment from a few normal clips",
        f"{len(left_out)} machine IDs that the network was not trained on ({', '.join(left_out)}), mean over them and over "
        f"draws of the clips ± standard deviation over draws; alarms at {100 * FALSE_ALARM_RATE:g} % asked for.",
        alarms_table(study),
        "Whom the detector takes a normal test clip for, when it is not told:",
        named_table(study),
    ]
    return "\n\n".join(parts) + "\n"


def alarms_table(study: Study) -> str:
    """Return AUC and alarms by back end and number of clips."""
    lines = []
    for backend in BACKENDS:
        for clips in (*CLIPS, TRAINED_IN):
            cells = []
            for name in ("auc", "false_alarms", "detected"):
                mean, deviation = study.mean_of(backend, clips, name)
                cells.append(f"{100 * mean:.1f}" + ("" if clips == TRAINED_IN else f" ± {100 * deviation:.1f}"))
            if study.mean_of(backend, clips, "undecided")[0] > 0.5:
                cells[1:] = ["cannot tell", "cannot tell"]
            lines.append([backend, clips, *cells])
    return markdown_table(["back end", "normal clips", "AUC", "false alarms", "detected"], lines)


def named_table(study: Study) -> str:
    """Return which machines the detector takes clips for, by number of clips that the machines were enrolled from."""

    def cells(shares: Shares) -> list[str]:
        return [*(f"{100 * shares[name]:.0f} %" for name in ("right", "other", "none")), f"{shares['clips']:.0f}"]

    lines = [
        [f"the {len(study.left_out)} left out", f"{clips} clips" if clips else "not enrolled", *cells(shares)]
        for clips, shares in study.named.items()
    ]
    lines.append([f"the {study.others} others", TRAINED_IN, *cells(study.named_others)])
    return markdown_table(["clips of", "enrolled from", "right", "another machine", "none of them", "clips"], lines)


def curves(study: Study) -> Figure:
    """Draw the AUC by number of enrolled clips, beside that of the machines trained in."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    for backend, color in BACKENDS.items():
        means, deviations = np.array([study.mean_of(backend, clips, "auc") for clips in CLIPS]).T
        ax.errorbar(CLIPS, 100 * means, 100 * deviations, color=color, marker="o", capsize=3, label=backend)
        ax.axhline(100 * study.mean_of(backend, TRAINED_IN, "auc")[0], color=color, linestyle="--", linewidth=1)
    ax.axhline(50, color=GREY, linestyle=":", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(CLIPS, [str(clips) for clips in CLIPS])
    ax.set(xlabel="normal clips enrolled", ylabel="AUC [%]", title="Enrolled (solid) beside trained in (dashed)")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def write(study: Study, folder: Path) -> None:
    """Write enrollment.md, enrollment.csv and enrollment.png."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "enrollment.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(study.rows[0]))
        writer.writeheader()
        writer.writerows(study.rows)
    (folder / "enrollment.md").write_text(report(study), encoding="utf-8")
    save(curves(study), folder / "enrollment.png")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the results, or the links, go")
    parser.add_argument("--model", type=Path, help="directory of the model trained with all machine IDs")
    parser.add_argument("--model_without", type=Path, help="directory of the model trained without some of them")
    parser.add_argument("--leave_out", nargs="+", help="machine IDs to leave out of a folder of links")
    parser.add_argument("--draws", type=int, default=20, help="enrollments from other clips, each (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="key of the drawn clips (default 0)")
    arguments = parser.parse_args(argv)
    if arguments.leave_out:
        leave_out(arguments.data_dir, arguments.leave_out, arguments.output_dir)
        return
    model, model_without = arguments.model, arguments.model_without
    if not model or not model_without:
        parser.error("give --model and --model_without, or --leave_out")
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    known, known_without = (set(AnomalyDetector.from_pretrained(path).machines) for path in (model, model_without))
    if not known - known_without:
        parser.error(f"{model_without} knows every machine ID of {model}: none is left to enroll")
    left_out = sorted(known - known_without)
    study = measure(model, model_without, arguments.data_dir, left_out, arguments.draws, arguments.seed)
    write(study, arguments.output_dir)
    print(report(study))


if __name__ == "__main__":
    run(main)
