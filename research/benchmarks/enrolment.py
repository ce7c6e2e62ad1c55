#!/usr/bin/env python
"""How well a machine is watched that was enrolled from a few normal clips, beside the same machine trained in.

    python -m research.benchmarks.enrolment --model runs/all --model_without runs/some --data_dir DIR --output_dir R

Both models were made by train.py, the second without some machine IDs of DIR (`--leave_out` of this script makes the
folder to train it on). These are enrolled in it from 1, 2, 4 and 8 of their normal training clips, drawn anew several
times; their test clips are then scored. R gets enrolment.md, enrolment.csv and enrolment.png.

    python -m research.benchmarks.enrolment --leave_out fan_id_06 pump_id_06 --data_dir DIR --output_dir FOLDER_TO_TRAIN_ON
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dcase2020_task2 import load_clips  # noqa: E402
from evaluation.figures import BLUE, GREEN, GREY, VERMILION, save  # noqa: E402
from feature_extraction import AttentionAsdFeatureExtractor  # noqa: E402
from modeling import AnomalyDetector, AttentionAsdModel, ClipOutputs  # noqa: E402
from training.allocator import keep_freed_memory  # noqa: E402
from training.fit_detector import network_outputs  # noqa: E402
from training.waveform_bank import WaveformBank  # noqa: E402


CLIPS = (1, 2, 4, 8)
BACKENDS = {"spectrum": BLUE, "combined": GREEN, "knn": VERMILION}
FALSE_ALARM_RATE = 0.05


class Sounds:
    """The clips of a split as one model hears them: its outputs, and each clip's machine and label."""

    def __init__(self, model_dir: Path, data_dir: Path, split: str):
        model = AttentionAsdModel.from_pretrained(model_dir)
        extractor = AttentionAsdFeatureExtractor.from_pretrained(model_dir)
        rows = load_clips(data_dir)[split]
        names = rows.features["label"].names
        bank = WaveformBank(rows["path"], rows["label"], extractor, progress=False)
        self.machines = np.array([names[label] for label in bank.labels])
        self.is_anomaly = np.array(rows["is_anomaly"])[bank.rows].astype(bool)
        self.outputs = network_outputs(model, extractor, bank, batch_size=8)

    def of(self, machine: str) -> np.ndarray:
        return np.flatnonzero(self.machines == machine)


def leave_out(data_dir: Path, machines: Sequence[str], folder: Path) -> None:
    """A folder with links to the clips of `data_dir`, all but those of some machine IDs."""
    splits = load_clips(data_dir)
    known = {f"{row['machine_type']}_id_{row['machine_id']}" for rows in splits.values() for row in rows}
    unknown = sorted(set(machines) - known)
    if unknown:
        raise ValueError(f"--leave_out {' '.join(unknown)}: {data_dir} has no such machine ID, only {sorted(known)}.")
    for rows in splits.values():
        for row in rows:
            if f"{row['machine_type']}_id_{row['machine_id']}" not in machines:
                link = folder / Path(row["path"]).relative_to(data_dir.absolute())
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.exists():
                    link.symlink_to(row["path"])


def scores_of(
    detector: AnomalyDetector, outputs: ClipOutputs, clips: np.ndarray, machine: str, backend: str
) -> np.ndarray:
    return detector.scores(outputs[clips], machine, backend).numpy()


def judged(
    detector: AnomalyDetector, sounds: Sounds, machine: str, backend: str, name: str | None = None
) -> dict[str, float]:
    """AUC of a machine's test clips, and its alarms at 5 %."""
    clips = sounds.of(machine)
    scores = scores_of(detector, sounds.outputs, clips, name or machine, backend)
    p_values = detector.p_value(scores, name or machine, FALSE_ALARM_RATE, backend).numpy()
    is_anomaly = sounds.is_anomaly[clips]
    return {
        "auc": roc_auc_score(is_anomaly, scores),
        "false_alarms": float(np.mean(p_values[~is_anomaly] <= FALSE_ALARM_RATE)),
        "hits": float(np.mean(p_values[is_anomaly] <= FALSE_ALARM_RATE)),
        "undecided": float(np.mean(np.isnan(p_values))),
    }


def identified(detector: AnomalyDetector, sounds: Sounds, machines: Sequence[str]) -> dict[str, float]:
    """Whom the detector takes normal test clips for: shares of right, other machine, and none of the enrolled, its answer
    where a clip is not close enough to the closest."""
    answers = {"right": 0, "other": 0, "none": 0}
    for machine in machines:
        for clip in sounds.of(machine)[~sounds.is_anomaly[sounds.of(machine)]]:
            closest, _, is_close = detector.closest(sounds.outputs[clip])
            answers["none" if not is_close else "right" if closest == machine else "other"] += 1
    total = sum(answers.values())
    return {answer: count / total for answer, count in answers.items()} | {"clips": total}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the results, or the links, go")
    parser.add_argument("--model", type=Path, help="directory of the model trained with all machine IDs")
    parser.add_argument("--model_without", type=Path, help="directory of the model trained without some of them")
    parser.add_argument("--leave_out", nargs="+", help="machine IDs to leave out of a folder of links")
    parser.add_argument("--draws", type=int, default=20, help="enrolments from other clips, each (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="key of the drawn clips (default 0)")
    arguments = parser.parse_args()
    if arguments.leave_out:
        leave_out(arguments.data_dir, arguments.leave_out, arguments.output_dir)
        return 0
    if not arguments.model or not arguments.model_without:
        parser.error("give --model and --model_without, or --leave_out")
    keep_freed_memory()
    transformers_logging.disable_progress_bar()

    everyone = AnomalyDetector.from_pretrained(arguments.model)
    left_out = sorted(set(everyone.machines) - set(AnomalyDetector.from_pretrained(arguments.model_without).machines))
    if not left_out:
        parser.error(f"{arguments.model_without} knows every machine ID of {arguments.model}: none is left to enrol")
    trained_in = Sounds(arguments.model, arguments.data_dir, "test")
    heard = Sounds(arguments.model_without, arguments.data_dir, "test")
    normal = Sounds(arguments.model_without, arguments.data_dir, "train")

    rows = []
    for machine in left_out:
        for backend in BACKENDS:
            row = judged(everyone, trained_in, machine, backend)
            rows.append({"machine": machine, "backend": backend, "clips": "trained in", "draw": 0, **row})
    draws = [(clips, draw) for clips in CLIPS for draw in range(arguments.draws)]
    known = {0: identified(AnomalyDetector.from_pretrained(arguments.model_without), heard, left_out)}
    confusion: dict[int, list[dict[str, float]]] = {clips: [] for clips in CLIPS}
    for clips, draw in tqdm(draws, "enrolments"):
        detector = AnomalyDetector.from_pretrained(arguments.model_without)
        for place, machine in enumerate(left_out):
            own = normal.of(machine)
            if len(own) < clips:
                continue
            generator = np.random.default_rng([arguments.seed, clips, draw, place])
            drawn = normal.outputs[generator.choice(own, clips, replace=False)]
            detector.enroll(machine, drawn)
            for backend in BACKENDS:
                row = judged(detector, heard, machine, backend)
                rows.append({"machine": machine, "backend": backend, "clips": clips, "draw": draw, **row})
        confusion[clips].append(identified(detector, heard, left_out))
    for clips, draws_of in confusion.items():
        known[clips] = {name: float(np.mean([one[name] for one in draws_of])) for name in draws_of[0]}
    insiders = [name for name in everyone.machines if name not in left_out]
    strangers = identified(AnomalyDetector.from_pretrained(arguments.model_without), heard, insiders)

    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    with (arguments.output_dir / "enrolment.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = report(rows, left_out, known, strangers, len(insiders))
    (arguments.output_dir / "enrolment.md").write_text(text)
    save(curves(rows), arguments.output_dir / "enrolment.png")
    print(text)
    return 0


def mean_of(rows: list[dict], backend: str, clips: int | str, name: str) -> tuple[float, float]:
    """Mean over machines and draws, and the standard deviation over draws of the mean over machines."""
    of_draw: dict[int, list[float]] = {}
    for row in rows:
        if row["backend"] == backend and row["clips"] == clips:
            of_draw.setdefault(row["draw"], []).append(row[name])
    means = [float(np.mean(values)) for values in of_draw.values()]
    return float(np.mean(means)), float(np.std(means))


def report(
    rows: list[dict], left_out: Sequence[str], known: dict[int, dict], insiders: dict[str, float], count: int
) -> str:
    lines = [
        "# Enrolment from a few normal clips",
        "",
        f"{len(left_out)} machine IDs that the network was not trained on ({', '.join(left_out)}), mean over them and over "
        f"draws of the clips ± standard deviation over draws; alarms at {100 * FALSE_ALARM_RATE:g} % asked for.",
        "",
        "| back end | normal clips | AUC | false alarms | hits |",
        "|---|---|---|---|---|",
    ]
    for backend in BACKENDS:
        for clips in (*CLIPS, "trained in"):
            cells = []
            for name in ("auc", "false_alarms", "hits"):
                mean, deviation = mean_of(rows, backend, clips, name)
                cells.append(f"{100 * mean:.1f}" + ("" if clips == "trained in" else f" ± {100 * deviation:.1f}"))
            if mean_of(rows, backend, clips, "undecided")[0] > 0.5:
                cells[1:] = ["cannot tell", "cannot tell"]
            lines.append(f"| {backend} | {clips} | {' | '.join(cells)} |")
    lines += [
        "",
        "Whom the detector takes a normal test clip for, when it is not told:",
        "",
        "| clips of | enrolled from | right | another machine | none of them | clips |",
        "|---|---|---|---|---|---|",
    ]
    for clips, shares in known.items():
        cells = " | ".join(f"{100 * shares[name]:.0f} %" for name in ("right", "other", "none"))
        name = f"{clips} clips" if clips else "not enrolled"
        lines.append(f"| the {len(left_out)} left out | {name} | {cells} | {shares['clips']:.0f} |")
    cells = " | ".join(f"{100 * insiders[name]:.0f} %" for name in ("right", "other", "none"))
    lines.append(f"| the {count} others | trained in | {cells} | {insiders['clips']:.0f} |")
    return "\n".join(lines) + "\n"


def curves(rows: list[dict]) -> Figure:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    for backend, colour in BACKENDS.items():
        means, deviations = np.array([mean_of(rows, backend, clips, "auc") for clips in CLIPS]).T
        ax.errorbar(CLIPS, 100 * means, 100 * deviations, color=colour, marker="o", capsize=3, label=backend)
        ax.axhline(100 * mean_of(rows, backend, "trained in", "auc")[0], color=colour, linestyle="--", linewidth=1)
    ax.axhline(50, color=GREY, linestyle=":", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(CLIPS, [str(clips) for clips in CLIPS])
    ax.set(xlabel="normal clips enrolled", ylabel="AUC [%]", title="Enrolled (solid) beside trained in (dashed)")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
