"""The detector's default back end on recordings and log-mels, without a network: AUC, false alarms, faults found.

    python -m research.benchmarks.decision_layer --data_dir DIR --output decision_layer.md
    python -m research.benchmarks.decision_layer --data_dir DIR --log_mel_dir LOG_MELS --output decision_layer.md

DIR is a folder in the DCASE 2020 Task 2 layout; LOG_MELS has train.npz and test.npz, each with `log_mel` (clips, bins,
frames) in dB, `machine_id` and `is_anomaly`. `spectrum` needs no training, so that a run takes a few minutes and every figure
is the same on every machine. Beside it stands the trivial control of evaluation/controls.py.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm

from dcase2020_task2 import label_name
from evaluation.command import run
from evaluation.controls import LogMelStatistics
from evaluation.markdown import markdown_table
from evaluation.splits import load_splits, machine_of
from feature_extraction import AttentionAsdFeatureExtractor
from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector, AttentionAsdConfig, ClipOutputs
from modeling.decision_attention_asd import ANOMALOUS, CANNOT_TELL, NORMAL
from modeling.modeling_attention_asd import spectral_statistics
from modeling.normal_clips_attention_asd import folds_of
from modeling.self_test_attention_asd import mean


RATES = (0.01, 0.05, 0.1)
VERDICTS = (NORMAL, ANOMALOUS, CANNOT_TELL)
ENROLLED = (2, 4, 8, 16)
DRAWS = 5
# The archives of log-mels do not name their machine type.
MACHINE_TYPE = "ToyCar"
# Nothing here reads the network's outputs.
CONFIG = AttentionAsdConfig(id2label={0: "none"}, embedding_size=2)


# Clips


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips with what is known of them.

    Attributes:
        log_mels: `(clips, bins, frames)` in dB.
        spectra: `(clips, 6, bins)`.
        machines: `(clips,)`, such as `fan_id_00`.
        is_anomaly: `(clips,)`.
    """

    log_mels: np.ndarray
    spectra: torch.Tensor
    machines: np.ndarray
    is_anomaly: np.ndarray

    @classmethod
    def of(cls, log_mels: np.ndarray, machines: Sequence[str], is_anomaly: Sequence[bool]) -> "Clips":
        spectra = [spectral_statistics(torch.from_numpy(log_mel.astype(np.float32))[None]) for log_mel in log_mels]
        return cls(log_mels, torch.cat(spectra), np.asarray(machines), np.asarray(is_anomaly, dtype=bool))

    def __getitem__(self, chosen: np.ndarray) -> "Clips":
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return Clips(self.log_mels[chosen], self.spectra[chosen], self.machines[chosen], self.is_anomaly[chosen])

    def __len__(self) -> int:
        return len(self.machines)

    @property
    def outputs(self) -> ClipOutputs:
        embeddings = torch.randn(len(self), 2, generator=torch.Generator().manual_seed(0))
        return ClipOutputs(embeddings, torch.zeros(len(self), 1), self.spectra)

    @property
    def types(self) -> np.ndarray:
        return np.array([name.split("_id_")[0] for name in self.machines])

    @property
    def names(self) -> list[str]:
        return np.unique(self.machines).tolist()


def read_recordings(data_dir: Path) -> tuple[Clips, Clips]:
    """Return the training clips and the labelled test clips of the machines that have training clips."""
    splits, extractor = load_splits(data_dir), AttentionAsdFeatureExtractor()
    known = set(splits.train_machines)
    parts = []
    for rows in (
        splits.train,
        [row for row in splits.test if machine_of(row) in known and row["is_anomaly"] is not None],
    ):
        log_mels = [extractor.log_mel(extractor.read_clip(row["path"])).numpy() for row in tqdm(rows, unit="clip")]
        parts.append(
            Clips.of(np.stack(log_mels), [machine_of(row) for row in rows], [row["is_anomaly"] for row in rows])
        )
    return parts[0], parts[1]


def read_log_mels(folder: Path) -> tuple[Clips, Clips]:
    """Return the clips of train.npz and test.npz."""
    parts = []
    for split in ("train", "test"):
        with np.load(folder / f"{split}.npz") as arrays:
            machines = [label_name(MACHINE_TYPE, f"{number:02d}") for number in arrays["machine_id"].tolist()]
            parts.append(Clips.of(arrays["log_mel"], machines, arrays["is_anomaly"]))
    return parts[0], parts[1]


# Judging


def fit(clips: Clips) -> AnomalyDetector:
    return AnomalyDetector.fit(CONFIG, clips.outputs, clips.machines.tolist())


def judge(detector: AnomalyDetector, clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and p-values `(clips,)`, each clip judged as its own machine."""
    scores, p_values = np.empty((2, len(clips)))
    for name in clips.names:
        own = clips.machines == name
        of_machine = detector.scores(clips[own].outputs, name)
        scores[own], p_values[own] = of_machine.numpy(), detector.p_value(of_machine, name).numpy()
    return scores, p_values


def control_scores(train: Clips, test: Clips) -> np.ndarray:
    """Return the trivial control's scores `(clips,)`."""
    control = LogMelStatistics().fit(train.log_mels, train.machines.tolist())
    pairs = zip(test.log_mels, test.machines.tolist(), strict=True)
    return np.array([control.score(log_mel, name) for log_mel, name in pairs])


def cross_validated(clips: Clips) -> np.ndarray:
    """Return p-values `(clips,)` of normal clips, each by a detector that was fitted without its run of clips."""
    folds = np.empty(len(clips), dtype=int)
    for name in clips.names:
        folds[clips.machines == name] = folds_of(range(int((clips.machines == name).sum())))
    p_values = np.empty(len(clips))
    for fold in tqdm(np.unique(folds), desc="Cross-validation", unit="fold"):
        p_values[folds == fold] = judge(fit(clips[folds != fold]), clips[folds == fold])[1]
    return p_values


# Tables


def share(p_values: np.ndarray, rate: float) -> str:
    """Return the share of p-values that raise an alarm, in per cent with Wilson's 95 % interval."""
    raised = int((p_values <= rate).sum())
    low, high = binomtest(raised, len(p_values)).proportion_ci(0.95, method="wilson")
    return f"{100 * raised / len(p_values):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def shares(p_values: np.ndarray) -> str:
    return " / ".join(f"{100 * (p_values <= rate).mean():.1f}" for rate in RATES)


def merit_cells(clips: Clips, scores: np.ndarray) -> list[str]:
    """Return the official AUC with its bootstrap interval, the pooled one with its, and the worst machine's."""
    merit = asd_auc(
        scores.tolist(), clips.is_anomaly.astype(int).tolist(), clips.types.tolist(), clips.machines.tolist()
    )
    mean = merit["auc"]["mean"]
    cells = []
    for name in ("official", "pooled"):
        low, high = mean[f"{name}_ci95"]
        cells.append(f"{mean[name]:.3f} [{low:.3f}, {high:.3f}]")
    return [*cells, f"{min(merit['auc']['per_id'].values()):.2f}"]


def fitted_tables(sets: dict[str, tuple[Clips, Clips]]) -> str:
    """Return AUC and alarms of machines that were fitted."""
    merits, alarms = [], []
    for name, (train, test) in sets.items():
        scores, p_values = judge(fit(train), test)
        validated = cross_validated(train)
        merits.append([name, "spectrum", *merit_cells(test, scores)])
        merits.append([name, "control", *merit_cells(test, control_scores(train, test))])
        for rate in RATES:
            normal, faulty = p_values[~test.is_anomaly], p_values[test.is_anomaly]
            row = [name, f"{100 * rate:g} %", share(validated, rate), share(normal, rate), share(faulty, rate)]
            alarms.append(row)
    merit = markdown_table(["data", "system", "AUC official [95 %]", "AUC pooled [95 %]", "AUC worst machine"], merits)
    columns = ["data", "asked for", "cross-validated false alarms [%]", "false alarms [%]", "faults found [%]"]
    return f"{merit}\n\n{markdown_table(columns, alarms)}"


def enrolled_rows(
    name: str, fitted_on: Clips, train: Clips, test: Clips, groups: Iterable[Sequence[str]]
) -> list[list]:
    """Return a row for each number of clips: machines are enrolled on a fit without their group.

    Args:
        name: of the rows.
        fitted_on: the clips to fit on, from which the group's are left out.
        train: normal clips of the machines to enroll.
        test: their test clips.
        groups: machines that are left out together.
    """
    found: dict[int, list[tuple[float, float, np.ndarray, np.ndarray]]] = {count: [] for count in ENROLLED}
    for group in tqdm([list(group) for group in groups], desc=name, unit="fit"):
        known = fitted_on[~np.isin(fitted_on.machines, group)]
        detector = fit(known)
        for machine in group:
            own, clips = np.flatnonzero(train.machines == machine), test[test.machines == machine]
            for count in ENROLLED:
                for draw in range(DRAWS):
                    generator = np.random.default_rng([count, draw])
                    enrolled = train[np.sort(generator.choice(own, min(count, len(own)), replace=False))]
                    detector.enroll(machine, enrolled.outputs)
                    scores, p_values = judge(detector, clips)
                    control = control_scores(enrolled, clips)
                    auc, control_auc = (float(roc_auc_score(clips.is_anomaly, values)) for values in (scores, control))
                    found[count].append((auc, control_auc, p_values[~clips.is_anomaly], p_values[clips.is_anomaly]))
    rows = []
    for count, results in found.items():
        auc, control = np.mean([result[:2] for result in results], axis=0)
        normal, faulty = (np.concatenate([result[place] for result in results]) for place in (2, 3))
        rows.append([name, count, f"{auc:.3f}", f"{control:.3f}", shares(normal), shares(faulty)])
    return rows


def enrolled_table(sets: dict[str, tuple[Clips, Clips]]) -> str:
    """Return what enrolled machines are judged with."""
    train, test = next(iter(sets.values()))
    types = np.unique(train.types)
    by_type = [[name for name in train.names if name.startswith(f"{kind}_id_")] for kind in types]
    rows = enrolled_rows("each machine left out", train, train, test, [[name] for name in train.names])
    if len(types) > 1:
        rows += enrolled_rows("each machine type left out", train, train, test, by_type)
    for name, (other_train, other_test) in list(sets.items())[1:]:
        first = next(iter(sets))
        rows += enrolled_rows(f"{name} on {first}", train, other_train, other_test, [other_train.names])
        rows += enrolled_rows(f"{first} on {name}", other_train, train, test, [train.names])
    columns = ["enrolled", "clips", "AUC", "control: AUC", "false alarms at 1 / 5 / 10 % [%]", "faults found [%]"]
    return markdown_table(columns, rows)


def unnamed_table(train: Clips, test: Clips, rate: float = 0.05) -> str:
    """Return what is said of test clips of which no machine is named, where the detector knows the machine and where not."""
    by_type = [[name for name in train.names if name.startswith(f"{kind}_id_")] for kind in np.unique(train.types)]
    kinds = {
        "every machine is known": [[]],
        "each machine left out": [[name] for name in train.names],
        "each machine type left out": by_type,
    }
    rows = []
    for kind, groups in kinds.items():
        verdicts: list[tuple[bool, str]] = []
        for group in groups:
            clips = test[np.isin(test.machines, group)] if group else test
            detector = fit(train[~np.isin(train.machines, group)])
            decisions = detector.decide(clips.outputs, None, rate)
            verdicts += [(bad, of.verdict) for bad, of in zip(clips.is_anomaly.tolist(), decisions, strict=True)]
        counts = [" / ".join(str(verdicts.count((bad, of))) for of in VERDICTS) for bad in (False, True)]
        rows.append([kind, *counts])
    columns = [f"{kind} clips: {' / '.join(VERDICTS)}" for kind in ("normal", "faulty")]
    return markdown_table(["the clip's machine", *columns], rows)


# Self-tests


@dataclass(frozen=True)
class Estimate:
    """What a self-test says of the faults that will be heard, and what is heard.

    Attributes:
        heard, more: the estimated shares, from the recordings that there are and from more; `None` where it makes none.
        altered: the share of altered clips that raise an alarm; `None` of too few clips.
        found: the share of the test faults that raise an alarm.
    """

    heard: float | None
    more: float | None
    altered: float | None
    found: float


def estimates(detector: AnomalyDetector, machine: str, clips: Clips) -> dict[float, Estimate]:
    """Return what the machine's self-test says at each rate, beside what is found of its test clips."""
    faulty = clips[clips.is_anomaly].outputs
    p_values = detector.p_value(detector.scores(faulty, machine), machine).numpy()
    by_rate = {}
    for rate in RATES:
        said, found = detector.self_test(machine).at_rate(rate), float((p_values <= rate).mean())
        by_rate[rate] = Estimate(said.heard, said.heard_with_more, mean(said.altered), found)
    return by_rate


def estimate_rows(name: str, found: Sequence[dict[float, Estimate]]) -> list[list]:
    """Return a row for each rate: how far the estimates, and the altered clips, follow what is found."""
    rows = []
    for rate in RATES:
        cells: list = [name, f"{100 * rate:g} %"]
        for field in ("heard", "altered"):
            pairs = [(getattr(of[rate], field), of[rate].found) for of in found]
            cells += follow([(said, seen) for said, seen in pairs if said is not None])
        rows.append(cells)
    return rows


def follow(pairs: Sequence[tuple[float, float]]) -> list:
    """Return how many shares there are, their mean, that of the shares found, the correlation and the mean error."""
    if len(pairs) < 3:
        return [len(pairs), *["-"] * 4]
    said, seen = np.array(pairs).T
    correlation = f"{np.corrcoef(said, seen)[0, 1]:.2f}" if said.std() > 0 and seen.std() > 0 else "-"
    return [len(pairs), f"{said.mean():.2f}", f"{seen.mean():.2f}", correlation, f"{np.abs(said - seen).mean():.2f}"]


def self_test_tables(sets: dict[str, tuple[Clips, Clips]]) -> str:
    """Return how far self-tests follow the faults found: of fitted machines, and of machines enrolled from a few clips."""
    rows = []
    for name, (train, test) in sets.items():
        detector = fit(train)
        of = [estimates(detector, machine, test[test.machines == machine]) for machine in detector.machines]
        rows += estimate_rows(f"{name}, fitted", of)
    train, test = next(iter(sets.values()))
    found: dict[int, list[dict[float, Estimate]]] = {count: [] for count in ENROLLED}
    for machine in tqdm(train.names, desc="Self-tests", unit="fit"):
        detector = fit(train[train.machines != machine])
        own, clips = np.flatnonzero(train.machines == machine), test[test.machines == machine]
        for count in found:
            for draw in range(DRAWS):
                generator = np.random.default_rng([count, draw])
                chosen = np.sort(generator.choice(own, min(count, len(own)), replace=False))
                detector.enroll(machine, train[chosen].outputs)
                found[count].append(estimates(detector, machine, clips))
    for count, of in found.items():
        rows += estimate_rows(f"enrolled from {count}", of)
    growth = [growth_row(count, found) for count in ENROLLED[:-1]]
    measures = ["estimate", "faults found", "r", "error"]
    columns = [
        "machines",
        "asked for",
        "tests",
        *measures,
        "altered: tests",
        *(f"altered: {name}" for name in measures),
    ]
    grown = ["enrolled from", "estimate", "faults found", "estimate for 20", f"faults found from {ENROLLED[-1]}"]
    return f"{markdown_table(columns, rows)}\n\n{markdown_table(grown, growth)}"


def growth_row(count: int, found: dict[int, list[dict[float, Estimate]]]) -> list:
    """Return what is said of more recordings, and what is found with them, at 5 %, where there is an estimate."""
    pairs = [
        [np.nan if share is None else share for share in (few.heard, few.found, few.more, many.found)]
        for few, many in ((few[0.05], many[0.05]) for few, many in zip(found[count], found[ENROLLED[-1]], strict=True))
        if few.heard is not None
    ]
    return [count, *(f"{value:.2f}" for value in np.mean(pairs, axis=0))]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument("--log_mel_dir", type=Path, help="folder with train.npz and test.npz")
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    arguments = parser.parse_args(argv)
    sets = {"recordings": read_recordings(arguments.data_dir)}
    if arguments.log_mel_dir is not None:
        sets["log-mels"] = read_log_mels(arguments.log_mel_dir)
    text = "\n\n".join(
        [
            "# The decision layer, without a network",
            "Back end `spectrum` and the trivial control; in brackets 95 % intervals, by bootstrap over test clips for an AUC "
            "and Wilson's for shares.",
            "## Machines that were fitted",
            fitted_tables(sets),
            "## Machines that were enrolled",
            f"Mean over machines and {DRAWS} draws of the clips; the control knows the enrolled clips alone.",
            enrolled_table(sets),
            "## Recordings of which no machine is named",
            "Recordings; 5 % false alarms asked for.",
            unnamed_table(*sets["recordings"]),
            "## What the self-tests say",
            f"Shares of the faults. Enrolled: each machine left out of the fit, {DRAWS} draws of the clips.",
            self_test_tables(sets),
        ]
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    run(main)
