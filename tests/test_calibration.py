"""From scores to p-values and thresholds: the false-alarm rate that was asked for, whatever the scores."""

import numpy as np
import pytest
import torch
from machine_world import NAMES, World
from scipy import stats

from modeling.backends_attention_asd import BACKENDS
from modeling.calibration_attention_asd import (
    Calibration,
    benjamini_hochberg,
    fit_calibration,
    fit_prior,
    student_quantile,
    student_tail,
    variance_prior,
)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("backend", ["arcface", "knn", "mahalanobis"])
def test_conformal_false_alarm_rate_does_not_exceed_the_requested_one(backend, rate):
    """A calibration for each new clip: false alarms are then independent and their number binomial."""
    trials = 4_000
    generator = np.random.default_rng([7])
    world = World(seed=1)
    pool = world.detector(held_out=2).scores(world.clips(0, 40_000), NAMES[0], backend).numpy()
    alarms = 0
    for _ in range(trials):
        drawn = generator.choice(pool, 120, replace=False)
        calibration = Calibration(backend, np.sort(drawn[:-1]), tail=None)
        alarms += calibration.p_value(drawn[-1:], rate).item() <= rate
    assert calibration.method(rate) == "conformal"
    assert stats.binomtest(alarms, trials, rate, alternative="greater").pvalue > 0.001
    # Nor by never raising one: 119 clips make 0.0083, 0.05 and 0.1 possible.
    assert alarms / trials > 0.6 * rate


@pytest.mark.parametrize("clips", [4, 10, 45])
def test_fitted_tail_keeps_the_false_alarm_rate_with_few_clips_of_gamma_distributed_scores(clips):
    """Scores from gamma distributions of another scale for each of six machines, too few of them for ranks at 1 %."""
    generator = np.random.default_rng([clips])
    rates = {0.01: [], 0.05: []}
    for _ in range(100):
        drawn = [generator.gamma(6.0, generator.uniform(0.5, 2.0), size=clips + 2_000) for _ in NAMES]
        known = [np.sort(scores[:clips]) for scores in drawn]
        prior = fit_prior("knn", known)
        for scores, own in zip(drawn, known, strict=True):
            # A rate that no rank is as rare as, so that the tail speaks.
            tail = fit_calibration("knn", own, prior, independent=clips).p_value(scores[clips:], rate=1e-6)
            for rate, alarms in rates.items():
                alarms.append((tail <= rate).mean())
    # The tail is the wider one of a lognormal distribution: on the safe side, and alarms are still raised.
    for rate, alarms in rates.items():
        assert 0.3 * rate < np.mean(alarms) < rate


@pytest.mark.parametrize("clips", [30, 250])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_threshold_is_the_inverse_of_the_p_value(backend, clips):
    world = World()
    detector = world.detector(held_out=2, with_spectra=True)
    drawn = detector.scores(world.clips(1, clips + 200), NAMES[1], backend).numpy()
    faulty = detector.scores(world.clips(1, 50, fault=0.5), NAMES[1], backend).numpy()
    own = np.sort(drawn[:clips])
    calibration = fit_calibration(backend, own, fit_prior(backend, [own, drawn[clips:]]), independent=clips)
    # Scores of the calibration clips themselves are where ties are broken.
    scores = np.concatenate([drawn, faulty])
    methods = set()
    for rate in (0.01, 0.029, 0.05, 0.1, 0.29):
        is_above = scores > calibration.threshold(rate)
        assert np.array_equal(is_above, calibration.p_value(scores, rate) <= rate + 1e-12)
        methods.add(calibration.method(rate))
    assert "conformal" in methods and ("fitted tail" in methods) == (clips == 30)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_detectors_threshold_is_where_its_p_value_reaches_the_rate(backend):
    world = World()
    for held_out in (30, 250):
        detector = world.detector(held_out=held_out, with_spectra=True)
        scores = [
            detector.scores(world.clips(1, count, fault), NAMES[1], backend) for count, fault in ((200, 0), (50, 0.5))
        ]
        scores = torch.cat(scores)
        for rate in (0.01, 0.05, 0.29):
            is_above = scores > detector.threshold(NAMES[1], rate, backend)
            assert torch.equal(is_above, detector.p_value(scores, NAMES[1], rate, backend) <= rate + 1e-12)


def test_where_nothing_is_known_there_is_no_p_value_and_no_threshold():
    calibration = Calibration("knn", np.empty(0), tail=None)
    assert np.isnan(calibration.p_value(np.array([0.1, 0.2]), 0.01)).all()
    assert calibration.threshold(0.01) is None


def test_student_tail_is_close_to_the_exact_one_and_never_too_small():
    for degrees in (2, 5, 20, 200):
        for p in (0.3, 0.1, 0.01, 0.001):
            t = stats.t.isf(p, degrees)
            approximate = student_tail(np.array([t]), degrees).item()
            assert 0.99 * p < approximate < (1.5 if degrees == 2 else 1.09) * p
            assert student_tail(np.array([student_quantile(p, degrees)]), degrees).item() == pytest.approx(p, rel=1e-4)


def test_variance_prior_weighs_machines_by_how_much_they_differ():
    generator = np.random.default_rng([9])
    same = generator.chisquare(5, size=400) / 5
    variance, degrees = variance_prior((4.0 * same).tolist(), [5] * 400)
    assert variance == pytest.approx(4.0, rel=0.1) and degrees > 100
    differing = 4.0 * same * 6.0 / generator.chisquare(6, size=400)
    assert variance_prior(differing.tolist(), [5] * 400) == pytest.approx((4.0, 6.0), rel=0.3)


def test_adjusted_p_values_are_those_of_scipy():
    p_values = np.random.default_rng([2]).uniform(size=50) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p_values), stats.false_discovery_control(p_values))
