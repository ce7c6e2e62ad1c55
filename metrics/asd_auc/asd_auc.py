"""AUC, pAUC and mAUC of anomalous sound detection, by the rules of DCASE 2020 Challenge Task 2.

One file on purpose: `evaluate.load` copies it alone. README.md beside it is the metric card.
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np


_DESCRIPTION = """
AUC and standardised partial AUC of anomaly scores, per machine ID, per machine type and over all types.
The official figure of a type is the mean over its machine IDs; the pooled one (all clips of the type ranked
together, as some papers report) and the worst machine ID (mAUC) stand beside it under their own names.
Intervals are percentile bootstrap, resampling normal and anomalous clips of each machine ID separately.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of float): anomaly scores, larger = more anomalous. Any finite scale.
    references (list of int): 0 = normal, 1 = anomalous.
    machine_types (list of str): the machine type of each clip, such as "fan".
    machine_ids (list of str): the machine ID of each clip, as "00", "id_00" or "fan_id_00".
    max_fpr (float): pAUC covers false positive rates from 0 to this, in (0, 1]. Default 0.1.
    n_bootstrap (int): replicates of the bootstrap; 0 leaves the intervals out (None). Default 1000.
    confidence (float): level of the intervals, in (0, 1). Default 0.95.
    seed (int): seed of the bootstrap. Default 0.
Returns:
    dict of plain Python values:
    "auc", "pauc": each with
        "per_id": {"fan_id_00": float or None}, "per_id_ci95": {"fan_id_00": [low, high] or None},
        "per_type": {"fan": {"official", "official_ci95", "pooled", "pooled_ci95", "worst_id",
            "worst_id_name"}},
        "mean": {"official", "official_ci95", "pooled", "pooled_ci95", "worst_id", "all_clips_pooled"};
    "counts": {"per_id": {"fan_id_00": {"normal": int, "anomalous": int}}, "per_type": the same by type};
    "undefined": {machine ID or type: why it has no figure};
    "max_fpr", "n_bootstrap", "confidence", "seed": as given.
Raises:
    ValueError: lengths differ, a score is not finite, a label is not 0 or 1, an ID belongs to another type,
        or an argument is out of range.
Examples:
    >>> asd_auc = evaluate.load("metrics/asd_auc")
    >>> results = asd_auc.compute(
    ...     predictions=[0.1, 0.4, 0.3, 0.8, 0.2, 0.9], references=[0, 0, 1, 1, 0, 1],
    ...     machine_types=["fan"] * 6, machine_ids=["00", "00", "00", "00", "02", "02"])
    >>> results["auc"]["per_id"]
    {'fan_id_00': 0.75, 'fan_id_02': 1.0}
    >>> results["auc"]["per_type"]["fan"]["official"]
    0.875
"""

_CITATION = """
@inproceedings{Koizumi_DCASE2020_01,
    author = {Koizumi, Yuma and Kawaguchi, Yohei and Imoto, Keisuke and Nakamura, Toshiki and Nikaido, Yuki
              and Tanabe, Ryo and Purohit, Harsh and Suefusa, Kaori and Endo, Takashi and Yasuda, Masahiro
              and Harada, Noboru},
    title = {Description and Discussion on {DCASE2020} Challenge Task2: Unsupervised Anomalous Sound Detection
             for Machine Condition Monitoring},
    booktitle = {Proceedings of the DCASE 2020 Workshop},
    pages = {81--85},
    year = {2020},
}
"""


def asd_auc(
    scores: Sequence[float] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    machine_types: Sequence[str] | np.ndarray,
    machine_ids: Sequence[str | int] | np.ndarray,
    max_fpr: float = 0.1,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict:
    """AUC, pAUC and mAUC with bootstrap intervals, per machine ID, per machine type and over the types.

    Arguments, result and errors are those of the `evaluate` module in this file, with `scores` and `labels`
    for its predictions and references: four sequences of one entry a clip. AUC and pAUC equal scikit-learn's
    `roc_auc_score`, the latter with `max_fpr` (standardised after McClish 1989: chance is 0.5). Ties count
    half.

    A machine ID without both normal and anomalous clips has no AUC: its figure is None, "undefined" says why,
    and it does not enter the means. The result does not depend on the order of the clips.

    >>> results = asd_auc([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1], ["fan"] * 4, ["00"] * 4)
    >>> results["auc"]["per_id"]
    {'fan_id_00': 0.75}
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr is {max_fpr!r}; expected a false positive rate in (0, 1].")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; expected a level in (0, 1), such as 0.95.")
    if n_bootstrap < 0:
        raise ValueError(f"n_bootstrap is {n_bootstrap!r}; expected 0 (no intervals) or more replicates.")
    scores, labels, types, names = _checked(scores, labels, machine_types, machine_ids)

    type_of = dict(sorted(zip(names.tolist(), types.tolist(), strict=False)))
    ids_of = {}
    for name, kind in type_of.items():
        ids_of.setdefault(kind, []).append(name)
    clips: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for name in type_of:
        own = names == name
        clips[name] = _resampled(name, scores[own], labels[own], n_bootstrap, seed)

    per_id = {name: _roc_areas(*clips[name], max_fpr) for name in clips}
    per_type = {kind: _roc_areas(*_together([clips[name] for name in ids_of[kind]]), max_fpr) for kind in ids_of}
    as_given = [(scores, labels, counts[:1]) for scores, labels, counts in clips.values()]
    all_clips = _roc_areas(*_together(as_given), max_fpr)

    counts = {
        "per_id": {name: _count(labels[names == name]) for name in type_of},
        "per_type": {kind: _count(labels[types == kind]) for kind in ids_of},
    }
    undefined = {
        name: "no anomalous clips" if count["normal"] else "no normal clips"
        for name, count in counts["per_id"].items()
        if not (count["normal"] and count["anomalous"])
    }
    undefined |= {
        kind: "no machine ID has both normal and anomalous clips"
        for kind in ids_of
        if all(name in undefined for name in ids_of[kind])
    }
    result = {}
    for position, metric in enumerate(("auc", "pauc")):
        result[metric] = _summary(
            ids_of,
            {name: areas[position] for name, areas in per_id.items()},
            {kind: areas[position] for kind, areas in per_type.items()},
            all_clips[position],
            confidence,
        )
    settings = {"max_fpr": max_fpr, "n_bootstrap": n_bootstrap, "confidence": confidence, "seed": seed}
    return result | {"counts": counts, "undefined": undefined} | settings


def _checked(scores, labels, machine_types, machine_ids) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The four columns as arrays: scores (n,) float64, labels (n,) 0/1, types (n,), full ID names (n,)."""
    lengths = {
        "scores": len(scores),
        "labels": len(labels),
        "machine_types": len(machine_types),
        "machine_ids": len(machine_ids),
    }
    if len(set(lengths.values())) != 1:
        raise ValueError(f"Expected one entry a clip in each argument, got {lengths}.")
    if len(scores) == 0:
        raise ValueError("No clips: expected at least one score with its label, machine type and machine ID.")
    # In float64, exact for float32 scores: neither ties nor their order change.
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"Scores have shape {scores.shape}; expected one number a clip, shape (clips,).")
    for index in np.flatnonzero(~np.isfinite(scores)):
        raise ValueError(f"The score at index {index} is {scores[index]}; expected a finite number.")
    for index, label in enumerate(labels):
        if label is None or label not in (0, 1):
            raise ValueError(
                f"The label at index {index} is {label!r}; expected 0 (normal) or 1 (anomalous). "
                "Leave out clips whose label is unknown."
            )
    types = [str(machine_type) for machine_type in machine_types]
    names = [_full_name(index, *pair) for index, pair in enumerate(zip(types, machine_ids, strict=False))]
    return scores, np.asarray(labels, dtype=np.int64), np.asarray(types), np.asarray(names)


def _full_name(index: int, machine_type: str, machine_id) -> str:
    """`fan_id_00` from "00", "id_00" or "fan_id_00" of type fan; also from the number 0."""
    owner, _, number = str(machine_id).rpartition("id_")
    if owner not in ("", f"{machine_type}_"):
        raise ValueError(
            f"The machine ID at index {index} is {machine_id!r}, but the machine type there is "
            f"{machine_type!r}; expected an ID of that type, such as '{machine_type}_id_00' or '00'."
        )
    return f"{machine_type}_id_{number.zfill(2)}"


def _resampled(
    name: str, scores: np.ndarray, labels: np.ndarray, n_bootstrap: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One machine ID's scores (n,), labels (n,) and how often each clip occurs in each sample.

    Row 0 of the counts (1 + n_bootstrap, n) is the data itself, so one computation gives the figure and its
    replicates. The generator is keyed on the ID and the class: an ID's interval does not change with the
    other machines evaluated beside it.
    """
    order = np.lexsort((scores, labels))
    scores, labels = scores[order], labels[order]
    counts = np.ones((1 + n_bootstrap, len(scores)), dtype=np.int32)
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        if len(members):
            generator = np.random.default_rng([seed, label, *name.encode()])
            drawn = generator.integers(len(members), size=(n_bootstrap, len(members)))
            drawn += np.arange(n_bootstrap)[:, None] * len(members)
            occurrences = np.bincount(drawn.ravel(), minlength=drawn.size)
            counts[1:, members] = occurrences.reshape(n_bootstrap, len(members))
    return scores, labels, counts


def _together(clips: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clips of several machine IDs as those of one."""
    scores, labels, counts = zip(*clips, strict=False)
    return np.concatenate(scores), np.concatenate(labels), np.concatenate(counts, axis=1)


def _roc_areas(
    scores: np.ndarray, labels: np.ndarray, counts: np.ndarray, max_fpr: float
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """AUC and pAUC (samples,) each of every row of counts (samples, n), or None twice without both classes.

    The scores are sorted once for all samples: a sample is a set of weights on the same thresholds.
    """
    if len(set(labels)) < 2:
        return None, None
    order = np.argsort(-scores)
    # Clips of one score are passed together: the ROC curve is a straight line across a tie.
    thresholds = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    anomalous = labels[order].astype(np.int32)
    auc, pauc = [], []
    # In slices that stay in the cache: 1000 replicates of 10,868 clips take 0.9 s, in one piece 2.2 s.
    for rows in np.array_split(counts, -(-len(counts) // 64)):
        rows = rows[:, order]
        hits = np.add.reduceat(rows * anomalous, thresholds, axis=1)
        false_alarms = np.add.reduceat(rows * (1 - anomalous), thresholds, axis=1)
        auc.append(_standardised_area(hits, false_alarms, 1.0))
        pauc.append(_standardised_area(hits, false_alarms, max_fpr))
    return np.concatenate(auc), np.concatenate(pauc)


def _standardised_area(hits: np.ndarray, false_alarms: np.ndarray, max_fpr: float) -> np.ndarray:
    """Area (samples,) under the ROC curve up to max_fpr, scaled so that chance is 0.5 and the best 1.

    `hits` and `false_alarms` (samples, thresholds) are the anomalous and the normal clips that each
    threshold, in falling order, adds. With a max_fpr of 1 this is the AUC itself.
    """
    true_positives = hits.cumsum(axis=1)
    false_positives = false_alarms.cumsum(axis=1)
    limit = max_fpr * false_positives[:, -1:]
    # The part of each segment of the curve left of the limit: its width, and its share of the segment.
    width = np.minimum(false_positives, limit) - np.minimum(false_positives - false_alarms, limit)
    share = width / np.maximum(false_alarms, 1)
    area = (width * (true_positives - hits + 0.5 * share * hits)).sum(axis=1)
    largest = limit[:, 0] * true_positives[:, -1]
    by_chance = 0.5 * max_fpr * largest
    return 0.5 * (1 + (area - by_chance) / (largest - by_chance))


def _summary(
    ids_of: dict[str, list[str]],
    per_id: dict[str, np.ndarray | None],
    pooled: dict[str, np.ndarray | None],
    all_clips: np.ndarray | None,
    confidence: float,
) -> dict:
    """The result's entry of one metric, from samples (1 + n_bootstrap,) of each ID, pooled type and all."""
    official = {kind: _mean(per_id[name] for name in ids_of[kind]) for kind in ids_of}
    worst = {}
    for kind in ids_of:
        defined = {name: samples[0] for name in ids_of[kind] if (samples := per_id[name]) is not None}
        worst[kind] = min(defined, key=lambda name: defined[name], default=None)

    per_type = {
        kind: {
            "official": _point(official[kind]),
            "official_ci95": _interval(official[kind], confidence),
            "pooled": _point(pooled[kind]),
            "pooled_ci95": _interval(pooled[kind], confidence),
            "worst_id": _point(per_id.get(worst[kind])),
            "worst_id_name": worst[kind],
        }
        for kind in ids_of
    }
    mean_official = _mean(official.values())
    mean_pooled = _mean(pooled.values())
    return {
        "per_id": {name: _point(samples) for name, samples in per_id.items()},
        "per_id_ci95": {name: _interval(samples, confidence) for name, samples in per_id.items()},
        "per_type": per_type,
        "mean": {
            "official": _point(mean_official),
            "official_ci95": _interval(mean_official, confidence),
            "pooled": _point(mean_pooled),
            "pooled_ci95": _interval(mean_pooled, confidence),
            "worst_id": _point(_mean(per_id.get(name) for name in worst.values())),
            "all_clips_pooled": _point(all_clips),
        },
    }


def _mean(samples) -> np.ndarray | None:
    defined = [one for one in samples if one is not None]
    return np.mean(defined, axis=0) if defined else None


def _point(samples: np.ndarray | None) -> float | None:
    return None if samples is None else float(samples[0])


def _interval(samples: np.ndarray | None, confidence: float) -> list[float] | None:
    if samples is None or len(samples) == 1:
        return None
    outside = (1 - confidence) / 2
    return np.quantile(samples[1:], [outside, 1 - outside]).tolist()


def _count(labels: np.ndarray) -> dict[str, int]:
    return {"normal": int((labels == 0).sum()), "anomalous": int((labels == 1).sum())}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class AsdAuc(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("float64"),
                    # An integer column would turn a label of 0.7 into 0 without a word.
                    "references": datasets.Value("float64"),
                    "machine_types": datasets.Value("string"),
                    "machine_ids": datasets.Value("string"),
                }
            ),
            reference_urls=["https://dcase.community/challenge2020/task-unsupervised-detection-of-anomalous-sounds"],
        )

    def _compute(self, predictions, references, machine_types, machine_ids, **settings) -> dict:
        return asd_auc(predictions, references, machine_types, machine_ids, **settings)
