"""From scores to p-values and thresholds: the false-alarm rate that was asked for, whatever the machine."""

import numpy as np
import pytest
import torch
from scipy import stats

from modeling.calibration_attention_asd import (
    Calibration,
    ScorePrior,
    StudentT,
    benjamini_hochberg,
    fit_prior,
    fit_variance,
    from_tail_scale,
    to_tail_scale,
)
from modeling.student_attention_asd import student_quantile, student_tail


RATES = (0.01, 0.05, 0.1)


class Scores:
    """Normal scores of machines that differ in mean and in variance."""

    def __init__(self, seed: int, machines: int):
        self.generator = np.random.default_rng([seed])
        self.means = 0.3 * self.generator.normal(size=machines)
        self.deviations = 0.2 * np.sqrt(8.0 / self.generator.chisquare(8, size=machines))

    def draw(self, machine: int, count: int) -> np.ndarray:
        return np.exp(self.means[machine] + self.deviations[machine] * self.generator.normal(size=count))


@pytest.mark.parametrize("clips", [0, 1, 4, 15])
def test_p_values_of_normal_scores_are_uniform(clips):
    """New machines, with so many scores of their own, beside a prior from 20 others."""
    p_values = []
    for seed in range(120):
        world = Scores(seed, machines=25)
        known = [world.draw(machine, 15) for machine in range(20)]
        prior = fit_prior("spectrum", known, [np.arange(15) // 2 for _ in known])
        for machine in range(20, 25):
            calibration = Calibration.of("spectrum", world.draw(machine, clips), prior)
            p_values.append(calibration.p_value(torch.from_numpy(world.draw(machine, 4))).numpy())
    for rate in (*RATES, 0.3, 0.5):
        # Scores of one machine and prior go together: 120 independent draws of five machines.
        share = np.array([(part <= rate).mean() for part in p_values])
        error = share.std(ddof=1) / np.sqrt(len(share))
        # The few clips that there are may be trusted too little, never too much.
        assert share.mean() < rate + 4.0 * error + 0.003
        assert share.mean() > 0.5 * rate - 4.0 * error


def test_the_p_value_is_one_monotone_function_and_the_threshold_its_inverse():
    world = Scores(0, machines=10)
    known = [world.draw(machine, 15) for machine in range(10)]
    for backend, scores in (("spectrum", known), ("arcface", [np.log1p(own) for own in known])):
        prior = fit_prior(backend, scores, [np.arange(15) for _ in scores])
        assert prior.tail is not None and prior.count == 150
        calibration = Calibration.of(backend, scores[0], prior)
        grid = torch.linspace(-2.0, 4.0, 2001, dtype=torch.float64).exp()
        p_values = calibration.p_value(grid)
        assert (p_values.diff() <= 0.0).all() and p_values.min() == 1.0 / 151.0 == calibration.lowest_rate
        for rate in (0.007, *RATES, 0.29, 0.5):
            threshold = calibration.threshold(rate)
            assert calibration.p_value(torch.tensor([threshold])).item() == pytest.approx(rate, rel=1e-6)
            assert torch.equal(grid >= threshold, p_values <= rate)
        assert calibration.threshold(0.006) is None


def test_with_few_machines_scores_follow_students_t_of_scipy():
    known = [np.random.default_rng([machine]).normal(size=5) for machine in range(3)]
    prior = fit_prior("spectrum", [np.exp(own) for own in known], [np.arange(5) for _ in known])
    assert prior.tail is None
    own = known[0]
    clips = len(own) + prior.location_clips
    location = (own.sum() + prior.location_clips * prior.location) / clips
    degrees = prior.degrees + len(own) - 1
    variance = (prior.degrees * prior.variance + np.square(own - own.mean()).sum()) / degrees * (1 + 1 / clips)
    scores = np.array([0.0, 1.0, 2.0])
    expected = np.maximum(stats.t.sf((scores - location) / np.sqrt(variance), degrees), 1 / 16)
    calibration = Calibration.of("spectrum", np.exp(own), prior)
    np.testing.assert_allclose(calibration.p_value(torch.from_numpy(np.exp(scores))), expected)


def test_a_machines_own_scores_outweigh_the_prior():
    prior = ScorePrior(0.0, 2.0, 0.01, 5.0, StudentT(20.0, 0.0, 1.0), 500)
    far = np.exp(np.random.default_rng([1]).normal(3.0, 0.5, size=200))
    score = torch.tensor([3.0]).exp()
    p_values = [Calibration.of("spectrum", far[:count], prior).p_value(score).item() for count in (0, 3, 20, 200)]
    assert p_values[0] < 0.01 and p_values == sorted(p_values) and p_values[-1] == pytest.approx(0.5, abs=0.1)
    # Two clips, each left out in turn, have one distance.
    twice, once = (Calibration.of("spectrum", far[:count], prior) for count in (2, 1))
    assert twice.threshold(0.05) == once.threshold(0.05)


def test_where_nothing_is_known_there_is_no_p_value_and_no_threshold():
    assert fit_prior("spectrum", [np.zeros(2), np.zeros(1)], [np.arange(2), np.arange(1)]) is None
    no_location = ScorePrior(0.0, 0.0, 1.0, 5.0, None, 100)
    for calibration in (Calibration.of("gmm", np.empty(0), None), Calibration.of("gmm", np.empty(0), no_location)):
        assert calibration.p_value(torch.tensor([0.1, 0.2])).isnan().all()
        assert calibration.threshold(0.01) is None and calibration.lowest_rate == 1.0


@pytest.mark.parametrize("degrees", [1.0, 2.0, 5.5, 22.0, 200.0, 784.0])
def test_students_tail_and_quantile_are_those_of_scipy(degrees):
    p_values = np.array([0.99, 0.7, 0.5, 0.3, 0.1, 0.01, 1e-3, 1e-5])
    t = stats.t.isf(p_values, degrees)
    np.testing.assert_allclose(student_tail(torch.from_numpy(t), degrees).numpy(), p_values, rtol=1e-8)
    for p_value, expected in zip(p_values[2:].tolist(), t[2:], strict=True):
        assert student_quantile(p_value, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_shared_variance_weighs_machines_by_how_much_they_differ():
    generator = np.random.default_rng([9])
    same = generator.chisquare(5, size=400) / 5
    variance, degrees = fit_variance(4.0 * same, np.full(400, 5.0))
    assert variance == pytest.approx(4.0, rel=0.1) and degrees > 100
    differing = 4.0 * same * 6.0 / generator.chisquare(6, size=400)
    assert fit_variance(differing, np.full(400, 5.0)) == pytest.approx((4.0, 6.0), rel=0.3)


@pytest.mark.parametrize("backend", ["arcface", "gmm", "spectrum"])
def test_the_scale_of_the_tail_has_an_inverse(backend):
    scores = torch.tensor([1e-3, 0.1, 1.0, 20.0], dtype=torch.float64)
    found = [from_tail_scale(backend, value) for value in to_tail_scale(backend, scores).tolist()]
    assert found == pytest.approx(scores.tolist(), rel=1e-9)


def test_adjusted_p_values_are_those_of_scipy():
    p_values = np.random.default_rng([2]).uniform(size=50) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p_values), stats.false_discovery_control(p_values))
