"""The figures of `metrics/asd_auc` against scikit-learn, hand-made cases and the `evaluate` library."""

import doctest
import importlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from metrics.asd_auc import asd_auc


ROOM = Path(__file__).parents[1] / "metrics" / "asd_auc"


def random_clips(clips_per_id: dict[str, int], decimals: int = 12, seed: int = 0) -> dict[str, Any]:
    """The columns of random clips. Anomalous scores are higher by one deviation, and few decimals make ties."""
    generator = np.random.default_rng(seed)
    columns: dict[str, Any] = {"scores": [], "labels": [], "machine_types": [], "machine_ids": []}
    for name, clips in clips_per_id.items():
        machine_type, machine_id = name.split("_id_")
        labels = generator.permutation([0, 1] * (clips // 2))
        columns["scores"] += (generator.normal(size=len(labels)) + labels).round(decimals).tolist()
        columns["labels"] += labels.tolist()
        columns["machine_types"] += [machine_type] * len(labels)
        columns["machine_ids"] += [machine_id] * len(labels)
    return columns


def rows_of(columns: dict[str, Any], indices: Iterable[int]) -> dict[str, Any]:
    rows = list(indices)
    return {name: [values[row] for row in rows] for name, values in columns.items()}


TWO_TYPES = {"fan_id_00": 40, "fan_id_02": 90, "pump_id_00": 26, "pump_id_06": 64}


@pytest.mark.parametrize("decimals", [12, 1, 0], ids=["no ties", "some ties", "mostly ties"])
@pytest.mark.parametrize("max_fpr", [0.1, 0.037, 0.5, 1.0])
def test_every_figure_equals_scikit_learn(decimals, max_fpr):
    columns = random_clips(TWO_TYPES, decimals)
    scores, labels = np.array(columns["scores"]), np.array(columns["labels"])
    names = np.array([f"{t}_id_{i}" for t, i in zip(columns["machine_types"], columns["machine_ids"], strict=False)])
    types = np.array(columns["machine_types"])
    results = asd_auc(**columns, max_fpr=max_fpr, n_bootstrap=0)

    for metric, limit in (("auc", None), ("pauc", max_fpr)):
        figures = results[metric]
        per_id = {n: roc_auc_score(labels[names == n], scores[names == n], max_fpr=limit) for n in TWO_TYPES}
        assert figures["per_id"] == pytest.approx(per_id, abs=1e-12)
        for kind in ("fan", "pump"):
            of_type = figures["per_type"][kind]
            own = {name: value for name, value in per_id.items() if name.startswith(kind)}
            pooled = roc_auc_score(labels[types == kind], scores[types == kind], max_fpr=limit)
            assert of_type["official"] == pytest.approx(sum(own.values()) / len(own), abs=1e-12)
            assert of_type["pooled"] == pytest.approx(pooled, abs=1e-12)
            assert of_type["worst_id"] == pytest.approx(min(own.values()), abs=1e-12)
            assert of_type["worst_id_name"] == min(own, key=lambda name: own[name])
        for name in ("official", "pooled", "worst_id"):
            over_types = np.mean([figures["per_type"][kind][name] for kind in ("fan", "pump")])
            assert figures["mean"][name] == pytest.approx(over_types, abs=1e-12)
        everything = roc_auc_score(labels, scores, max_fpr=limit)
        assert figures["mean"]["all_clips_pooled"] == pytest.approx(everything, abs=1e-12)


def test_official_pooled_and_worst_differ_where_ids_have_different_scales():
    # Both IDs rank perfectly or not at all, and the second ID's scores are all above the first's.
    results = asd_auc([1, 2, 11, 11], [0, 1, 0, 1], ["fan"] * 4, ["00", "00", "02", "02"])
    fan = results["auc"]["per_type"]["fan"]
    assert results["auc"]["per_id"] == {"fan_id_00": 1.0, "fan_id_02": 0.5}
    assert (fan["official"], fan["pooled"], fan["worst_id"]) == (0.75, 0.625, 0.5)
    assert fan["worst_id_name"] == "fan_id_02"


def test_perfect_and_inverted_rankings_are_exactly_one_and_zero():
    ranking = list(range(200))
    labels = [0] * 100 + [1] * 100
    perfect = asd_auc(ranking, labels, ["fan"] * 200, ["00"] * 200, n_bootstrap=10)
    assert perfect["auc"]["per_id"]["fan_id_00"] == 1.0 == perfect["pauc"]["per_id"]["fan_id_00"]
    assert perfect["pauc"]["per_id_ci95"]["fan_id_00"] == [1.0, 1.0]
    inverted = asd_auc(ranking, labels[::-1], ["fan"] * 200, ["00"] * 200, n_bootstrap=10)
    assert inverted["auc"]["per_id"]["fan_id_00"] == 0.0


def test_interval_is_the_stratified_percentile_bootstrap():
    """Compare with the slow way: draw clips, call scikit-learn, take the percentiles."""
    columns = random_clips({"fan_id_00": 40}, decimals=1)
    scores, labels = np.array(columns["scores"]), np.array(columns["labels"])
    replicates = []
    generators = [np.random.default_rng([3, label, *b"fan_id_00"]) for label in (0, 1)]
    classes = [np.sort(scores[labels == label]) for label in (0, 1)]
    draws = [rng.integers(20, size=(200, 20)) for rng in generators]
    for normal, anomalous in zip(*draws, strict=False):
        sample = np.concatenate([classes[0][normal], classes[1][anomalous]])
        replicates.append(roc_auc_score([0] * 20 + [1] * 20, sample, max_fpr=0.1))
    results = asd_auc(**columns, n_bootstrap=200, confidence=0.9, seed=3)
    expected = np.quantile(replicates, [0.05, 0.95])
    assert results["pauc"]["per_id_ci95"]["fan_id_00"] == pytest.approx(expected, abs=1e-12)
    assert results["pauc"]["mean"]["official_ci95"] == results["pauc"]["per_id_ci95"]["fan_id_00"]


def test_interval_covers_the_true_auc_and_shrinks_with_more_clips():
    # Normals from N(0, 1), anomalies from N(1, 1): the AUC is Phi(1 / sqrt 2) = 0.7602.
    covered, widths = 0, {}
    for clips in (60, 400):
        for seed in range(40):
            results = asd_auc(**random_clips({"fan_id_00": clips}, seed=seed), n_bootstrap=300)
            low, high = results["auc"]["per_id_ci95"]["fan_id_00"]
            covered += low <= 0.7602 <= high
            widths.setdefault(clips, []).append(high - low)
    assert covered >= 68  # of 80; 95 % would be 76
    assert np.mean(widths[400]) < 0.5 * np.mean(widths[60])


def test_figures_depend_on_the_seed_and_not_on_the_order_or_on_other_machines():
    columns = random_clips(TWO_TYPES, decimals=1)
    results = asd_auc(**columns, n_bootstrap=50)
    shuffled = np.random.default_rng(1).permutation(len(columns["scores"]))
    assert asd_auc(**rows_of(columns, shuffled), n_bootstrap=50) == results

    fans = [i for i, machine_type in enumerate(columns["machine_types"]) if machine_type == "fan"]
    alone = asd_auc(**rows_of(columns, fans), n_bootstrap=50)
    assert alone["auc"]["per_type"]["fan"] == results["auc"]["per_type"]["fan"]
    assert asd_auc(**columns, n_bootstrap=50, seed=1)["auc"]["mean"] != results["auc"]["mean"]


def test_id_with_one_class_is_reported_undefined_and_left_out_of_the_means():
    columns = random_clips({"fan_id_00": 40, "fan_id_02": 40, "ToyCar_id_01": 20, "ToyCar_id_02": 20})
    columns["labels"][40:80] = [0] * 40
    columns["labels"][80:] = [1] * 20 + [0] * 20
    results = asd_auc(**columns, n_bootstrap=20)
    assert results["undefined"] == {
        "fan_id_02": "no anomalous clips",
        "ToyCar_id_01": "no normal clips",
        "ToyCar_id_02": "no anomalous clips",
        "ToyCar": "no machine ID has both normal and anomalous clips",
    }
    auc = results["auc"]
    assert auc["per_id"]["fan_id_02"] is None and auc["per_id_ci95"]["fan_id_02"] is None
    assert auc["per_type"]["fan"]["official"] == auc["per_id"]["fan_id_00"] == auc["mean"]["official"]
    toycar = auc["per_type"]["ToyCar"]
    assert toycar["official"] is toycar["worst_id"] is toycar["worst_id_name"] is None
    assert 0 <= toycar["pooled"] <= 1  # its clips together do have both classes
    assert results["counts"]["per_id"]["ToyCar_id_01"] == {"normal": 0, "anomalous": 20}
    assert results["counts"]["per_type"]["ToyCar"] == {"normal": 20, "anomalous": 20}


def test_only_normal_clips_give_no_figure_at_all():
    results = asd_auc([1.0, 2.0], [0, 0], ["fan"] * 2, ["00"] * 2)
    assert set(results["pauc"]["mean"].values()) == {None}
    assert results["pauc"]["per_type"]["fan"]["pooled"] is None
    assert results["undefined"]["fan_id_00"] == "no anomalous clips"


def test_result_is_json_with_the_settings_in_it():
    columns = random_clips(TWO_TYPES)
    columns = {
        "scores": np.array(columns["scores"], dtype=np.float32),
        "labels": np.array(columns["labels"]),
        "machine_types": np.array(columns["machine_types"]),
        "machine_ids": np.array(columns["machine_ids"]),
    }
    results = asd_auc(**columns, max_fpr=0.2, n_bootstrap=10, confidence=0.8, seed=4)
    assert json.loads(json.dumps(results)) == results
    settings = {key: results[key] for key in ("max_fpr", "n_bootstrap", "confidence", "seed")}
    assert settings == {"max_fpr": 0.2, "n_bootstrap": 10, "confidence": 0.8, "seed": 4}


@pytest.mark.parametrize("machine_id", ["00", "id_00", "fan_id_00", 0])
def test_machine_id_may_be_written_in_each_usual_way(machine_id):
    results = asd_auc([1, 2], [0, 1], ["fan"] * 2, [machine_id] * 2)
    assert list(results["auc"]["per_id"]) == ["fan_id_00"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scores": [0.1, float("nan")]}, "score at index 1 is nan"),
        ({"scores": [float("-inf"), 0.1]}, "score at index 0 is -inf"),
        ({"scores": [0.1, None]}, "score at index 1 is nan"),
        ({"scores": [0.1]}, "'scores': 1, 'labels': 2"),
        ({"scores": [[0.1], [0.2]]}, r"shape \(2, 1\)"),
        ({"labels": [0, 2]}, "label at index 1 is 2"),
        ({"labels": [0, -1]}, "label at index 1 is -1"),
        ({"labels": [0.5, 1]}, "label at index 0 is 0.5"),
        ({"labels": [0, "1"]}, "label at index 1 is '1'"),
        ({"labels": [None, 1]}, "label at index 0 is None.*Leave out clips whose label is unknown"),
        ({"machine_ids": ["00", "pump_id_00"]}, "index 1 is 'pump_id_00', but .* type there is 'fan'"),
        ({"max_fpr": 0}, "max_fpr is 0"),
        ({"max_fpr": 1.5}, "max_fpr is 1.5"),
        ({"confidence": 95}, "confidence is 95"),
        ({"n_bootstrap": -1}, "n_bootstrap is -1"),
        ({"scores": [], "labels": [], "machine_types": [], "machine_ids": []}, "No clips"),
    ],
)
def test_wrong_input_is_an_error_that_names_it(change, message):
    good = {"scores": [0.1, 0.2], "labels": [0, 1], "machine_types": ["fan"] * 2, "machine_ids": ["00"] * 2}
    with pytest.raises(ValueError, match=message):
        asd_auc(**(good | change))


def test_a_thousand_replicates_of_a_set_as_large_as_dcases_take_seconds():
    columns = random_clips({f"type{i % 6}_id_{i // 6:02d}": 474 for i in range(23)})
    start = time.process_time()
    results = asd_auc(**columns)
    assert time.process_time() - start < 10  # 0.9 s on one core
    assert results["n_bootstrap"] == 1000


def test_evaluate_loads_the_module_outside_the_project_and_gives_the_same_figures(warm_python, tmp_path):
    columns = random_clips(TWO_TYPES, decimals=1)
    (tmp_path / "columns.json").write_text(json.dumps(columns))
    code = f"""
import evaluate, json
columns = json.load(open("columns.json"))
metric = evaluate.load({str(ROOM)!r})
inputs = {{"predictions": columns.pop("scores"), "references": columns.pop("labels"), **columns}}
print(json.dumps(metric.compute(**inputs, n_bootstrap=30, seed=5)))
inputs["references"][3] = 0.7
try:
    metric.compute(**inputs)
except ValueError as error:
    print(error)
"""
    process = warm_python.start(["-c", code], tmp_path)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    result, error = stdout.splitlines()
    assert json.loads(result) == asd_auc(**columns, n_bootstrap=30, seed=5)
    assert "label at index 3 is 0.7" in error


def test_documented_examples_run_as_written(monkeypatch):
    monkeypatch.chdir(ROOM.parents[1])
    results = doctest.testmod(importlib.import_module("metrics.asd_auc.asd_auc"))
    assert (results.failed, results.attempted) == (0, 6)
