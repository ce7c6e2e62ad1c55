"""A lasting change is found, one bad clip is none, and false alarms keep to their bound."""

import numpy as np
import pytest

from modeling.drift_attention_asd import Change, DriftTest
from scoring.drift import DriftWatch


def first_change(values: np.ndarray, alpha: float = 0.01, seed: int = 0) -> tuple[int, Change] | None:
    """The number of values until a change is reported, and the change; `None` where none is."""
    test = DriftTest(alpha, seed)
    for count, value in enumerate(values.tolist(), start=1):
        if change := test.update(value, str(count - 1)):
            return count, change
    return None


@pytest.mark.parametrize("with_ties", [False, True])
def test_false_alarms_stay_within_their_bound_however_long_one_looks(with_ties):
    """150 machines without any change, 300 recordings each, looked at after every recording."""
    generator = np.random.default_rng(1)
    values = generator.normal(size=(150, 300)).round(0 if with_ties else 9)
    alarms = sum(first_change(row, alpha=0.1, seed=seed) is not None for seed, row in enumerate(values))
    # Ville's bound is a mean of 15 of 150. That many more by chance: once in a thousand times.
    assert alarms <= 15 + 12


@pytest.mark.parametrize("shift", [2.0, -2.0])
def test_a_lasting_shift_is_found_soon_and_dated(shift):
    """By two standard deviations after 50 recordings: found within 40 more, and dated within 3 of the first."""
    for seed in range(20):
        values = np.random.default_rng([2, seed]).normal(size=90)
        values[50:] += shift
        found = first_change(values, seed=seed)
        assert found is not None and found[0] > 50
        assert abs(int(found[1].since) - 50) <= 3 and abs(found[1].shift - shift) < 1


def test_slow_wear_is_found():
    values = np.random.default_rng(3).normal(size=250)
    values[50:] += 0.02 * np.arange(200)
    found = first_change(values)
    assert found is not None and found[1].shift > 0


def test_single_bad_clips_are_no_drift():
    values = np.random.default_rng(4).normal(size=300)
    values[[60, 61, 150, 240]] = 100.0
    assert first_change(values) is None


def test_after_a_change_the_new_state_is_the_normal_one():
    values = np.random.default_rng(5).normal(size=400)
    values[100:] += 4
    values[300:] -= 4
    test = DriftTest()
    changes = [change for count, value in enumerate(values) if (change := test.update(value, str(count)))]
    assert [abs(int(change.since) - at) <= 3 for change, at in zip(changes, (100, 300), strict=True)] == [True, True]
    assert [change.shift > 0 for change in changes] == [True, False]


def rows(count: int, louder_from: int, scores: np.random.Generator, machine: str = "fan_id_00") -> list[dict]:
    return [
        {
            "file": f"{i:03d}.wav",
            "machine": machine,
            "score": scores.normal(),
            "level_db": i % 3 - 6 * (i >= louder_from),
        }
        for i in range(count)
    ]


def test_softer_recordings_are_told_from_worse_scores_and_machines_are_apart():
    watch, generator = DriftWatch(), np.random.default_rng(6)
    steady = rows(120, 999, generator, "pump_id_00")
    softer = rows(120, 60, generator)
    sentences = [watch.take(row) for pair in zip(steady, softer, strict=True) for row in pair]
    assert [s for s in sentences if s] == ["fan_id_00: level has changed since 060.wav: 6.0 dB softer"]
    worse = rows(120, 999, generator)
    for row in worse[60:]:
        row["score"] += 3
    # As CSV has the rows of an earlier run.
    as_text = [{name: str(value) for name, value in row.items()} for row in worse]
    watch = DriftWatch()
    sentences = [s for row in as_text if (s := watch.take(row))]
    assert len(sentences) == 1 and sentences[0].startswith("fan_id_00: score has drifted since 06")


def test_what_has_no_score_plays_no_part():
    watch = DriftWatch()
    for row in (
        {"file": "silent.wav", "machine": "fan_id_00", "score": None, "level_db": -80.0},
        {"file": "broken.wav", "error": "broken.wav: cannot be read"},
        {"file": "unknown.wav", "machine": "", "score": "", "level_db": "-30"},
    ):
        assert watch.take(row) is None
    assert not watch.scores and not watch.levels
