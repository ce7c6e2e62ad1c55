"""The trivial control tells other sounds from those it was given, machine ID by machine ID."""

import numpy as np
import pytest

from evaluation.controls import LogMelStatistics


def clips(count: int, level: float = 0.0, spread: float = 1.0, seed: int = 0) -> np.ndarray:
    """(count, 128, 40) log-mels of noise around a level in dB, each clip some tenths of a dB off."""
    generator = np.random.default_rng([seed, count])
    drift = generator.normal(scale=0.3, size=(count, 1, 1))
    return level + drift + generator.normal(scale=spread, size=(count, 128, 40))


@pytest.fixture(scope="module")
def control() -> LogMelStatistics:
    log_mels = np.concatenate([clips(10, level=-30), clips(12, level=-26)])
    return LogMelStatistics().fit(log_mels, ["fan_id_00"] * 10 + ["fan_id_02"] * 12)


@pytest.mark.parametrize("change", [{"level": -22}, {"level": -38}, {"spread": 1.5}], ids=str)
def test_louder_quieter_and_unsteadier_clips_score_above_all_normal_ones(control, change):
    normal = [control.score(clip, "fan_id_00") for clip in clips(8, level=-30, seed=1)]
    anomalous = [control.score(clip, "fan_id_00") for clip in clips(8, **({"level": -30} | change), seed=2)]
    assert min(anomalous) > max(normal)


def test_a_clip_is_compared_with_its_own_machine_id_alone(control):
    clip = clips(12, level=-26)[0]
    assert control.score(clip, "fan_id_02") == 0
    assert control.score(clip, "fan_id_00") > 5


def test_score_is_the_euclidean_distance_of_standardised_statistics_to_the_nearest_clip():
    # One bin, three clips: means 0, 2, 4 (deviation 1.63) and standard deviations 1, 1, 1 (constant).
    log_mels = np.array([[[-1, 1]], [[1, 3]], [[3, 5]]], dtype=float)
    control = LogMelStatistics().fit(log_mels, ["pump_id_00"] * 3)
    score = control.score(np.array([[4.0, 8.0]]), "pump_id_00")  # mean 6, standard deviation 2
    assert score == pytest.approx(np.hypot((6 - 4) / np.sqrt(8 / 3), 2 - 1))


def test_clips_may_come_one_by_one_and_differ_in_length(control):
    log_mels = [*clips(10, level=-30), *clips(12, level=-26)]
    streamed = LogMelStatistics().fit((clip for clip in log_mels), ["fan_id_00"] * 10 + ["fan_id_02"] * 12)
    short = clips(1, level=-28)[0][:, :15]
    assert streamed.score(short, "fan_id_00") == control.score(short, "fan_id_00")


def test_unknown_id_and_malformed_log_mels_are_errors_that_name_them(control):
    with pytest.raises(ValueError, match="'valve_id_00'; fit.. saw .'fan_id_00', 'fan_id_02'"):
        control.score(clips(1)[0], "valve_id_00")
    with pytest.raises(ValueError, match=r"shape \(128,\)"):
        control.score(np.zeros(128), "fan_id_00")
    with pytest.raises(ValueError, match="NaN"):
        control.score(np.full((128, 40), np.nan), "fan_id_00")
    with pytest.raises(ValueError, match="3 log-mels but 2 machine IDs"):
        LogMelStatistics().fit(clips(3), ["fan_id_00"] * 2)
