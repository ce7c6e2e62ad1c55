"""The distance by spectra, beside plain NumPy that writes every covariance out."""

import numpy as np
import pytest
import torch
from scipy import optimize
from sklearn.covariance import LedoitWolf

from modeling.modeling_attention_asd import spectral_statistics
from modeling.spectrum_attention_asd import (
    MAX_OWN,
    OWN_PRIOR,
    NearestMachine,
    anomaly_score,
    compared,
    describe,
    fit_space,
    log_distance,
    pooled,
    similarity,
    unlikelihood,
)


BINS = 16


def spectra_of(count: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    """Spectra of one machine, `(count, 6, BINS)`: neighboring bins vary together."""
    generator = np.random.default_rng([seed])
    mix = (
        np.eye(6 * BINS) + 0.4 * np.eye(6 * BINS, k=1) + 0.2 * np.random.default_rng([99]).normal(size=(6 * BINS,) * 2)
    )
    place = 3.0 * generator.normal(size=6 * BINS) - 20.0
    clips = place + spread * generator.normal(size=(count, 6 * BINS)) @ mix
    return torch.from_numpy(clips.reshape(count, 6, BINS))


def three_machines() -> tuple[torch.Tensor, np.ndarray]:
    parts = [compared(spectra_of(count, seed)) for seed, count in enumerate((30, 40, 50))]
    return torch.cat(parts), np.repeat(["a", "b", "c"], [30, 40, 50])


def test_clips_are_compared_by_mean_and_changes_without_their_level_and_the_highest_bins():
    spectra = spectra_of(3, 0)
    kept = spectra.numpy()[:, :, : BINS * 31 // 32]
    mean = kept[:, 0] - np.median(kept[:, 0], axis=1, keepdims=True)
    expected = np.concatenate([mean, *(kept[:, row] for row in (2, 3, 4, 5))], axis=1)
    np.testing.assert_allclose(compared(spectra).numpy(), expected, rtol=1e-12)
    louder = spectra.clone()
    louder[:, 0] += 12.0
    torch.testing.assert_close(compared(louder), compared(spectra))
    assert compared(torch.zeros(2, 6, 128)).shape == (2, 5 * 124)


def test_the_distance_of_a_fitted_machine_is_mahalanobis_by_the_shrunk_covariance_of_standardized_clips():
    statistics, machines = three_machines()
    space = fit_space(statistics, machines)
    x, clips = statistics.numpy(), compared(spectra_of(20, 7)).numpy()
    means = {name: x[machines == name].mean(0) for name in "abc"}
    residuals = np.concatenate([x[machines == name] - means[name] for name in "abc"])
    degrees = len(x) - 3
    deviation = np.sqrt(np.square(residuals).sum(0) / degrees)
    covariance = LedoitWolf(assume_centered=True).fit(residuals / deviation).covariance_ * len(x) / degrees
    inverse = np.linalg.inv(covariance * np.outer(deviation, deviation))

    def squares(center):
        return np.einsum("ci,ij,cj->c", clips - center, inverse, clips - center) / x.shape[1]

    machine = describe(space, statistics[machines == "b"] @ space.matrix, is_enrolled=False)
    coordinates = torch.from_numpy(clips) @ space.matrix
    expected = np.log(squares(means["b"]) * 40 / 41)
    np.testing.assert_allclose(log_distance(space, machine, coordinates).numpy(), expected, rtol=1e-4, atol=1e-5)
    center = np.mean(list(means.values()), axis=0)
    expected = np.exp(expected) / np.sqrt(squares(center))
    np.testing.assert_allclose(anomaly_score(space, machine, coordinates).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 8, 60])
def test_an_enrolled_machine_adds_its_own_variation_to_the_shared_one(count):
    space = fit_space(*three_machines())
    own = compared(spectra_of(count, 5, spread=2.0)) @ space.matrix
    clips = compared(spectra_of(10, 6)) @ space.matrix
    machine = describe(space, own, is_enrolled=True)
    variances, y = space.variances.numpy(), own.numpy()
    scatter = y - y.mean(0)
    spread = (2.0 * variances + np.square(scatter).sum(0)) / (count + 1)
    extra = 0.0
    if np.mean(spread / variances) > 1.0:
        extra = optimize.brentq(lambda t: np.mean(spread / (variances + t)) - 1.0, 0.0, 1e3, xtol=1e-12)
    assert machine.extra_variance == pytest.approx(extra, rel=1e-9, abs=1e-9) and (extra > 0.0) == (count > 1)
    covariance = (OWN_PRIOR * np.diag(variances + extra) + scatter.T @ scatter) / (count - 1 + OWN_PRIOR)
    deviations = clips.numpy() - y.mean(0)
    squares = np.einsum("ci,ij,cj->c", deviations, np.linalg.inv(covariance), deviations)
    expected = np.log(squares / y.shape[1] * count / (count + 1))
    np.testing.assert_allclose(log_distance(space, machine, clips).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_machine_enrolled_from_many_clips_keeps_its_strongest_directions():
    space = fit_space(*three_machines())
    for count in (2, 30, MAX_OWN + 50):
        own = compared(spectra_of(count, 5)) @ space.matrix
        machine = describe(space, own, is_enrolled=True)
        assert machine.own.shape == (min(MAX_OWN, count - 1, own.shape[1]), own.shape[1])


def test_a_machine_unlike_all_others_is_judged_by_its_own_variation():
    """Its normal clips vary five times as much as the others': with more of them, they are no longer far away."""
    space = fit_space(*three_machines())
    loose = compared(spectra_of(140, 5, spread=5.0)) @ space.matrix
    distances = [
        log_distance(space, describe(space, loose[:count], is_enrolled=True), loose[100:]).mean().item()
        for count in (1, 4, 16, 100)
    ]
    assert distances[0] > 2.0 and abs(distances[-1]) < 0.3
    assert distances == sorted(distances, reverse=True)


def test_similarity_is_the_cosine_seen_from_the_center():
    statistics, machines = three_machines()
    space = fit_space(statistics, machines)
    described = {
        name: describe(space, statistics[machines == name] @ space.matrix, is_enrolled=False) for name in "abc"
    }
    clip = compared(spectra_of(1, 1)) @ space.matrix
    similarities = {name: similarity(space, machine, clip).item() for name, machine in described.items()}
    assert max(similarities, key=lambda name: similarities[name]) == "b" and similarities["b"] > 0.8
    assert similarities["a"] < 0.0 and similarities["c"] < 0.0


def test_the_nearest_of_many_machines_is_the_most_likely_one():
    space = fit_space(*three_machines())
    machines = [describe(space, compared(spectra_of(3, seed)) @ space.matrix, is_enrolled=True) for seed in range(100)]
    nearest = NearestMachine(space, machines)
    for seed in range(0, 100, 7):
        clip = compared(spectra_of(4, seed))[3:] @ space.matrix
        assert nearest(clip) == int(np.argmin([unlikelihood(space, machine, clip).item() for machine in machines]))


def test_spectra_of_a_recording_are_those_of_its_windows_together():
    log_mel = torch.from_numpy(np.random.default_rng([3]).normal(-40.0, 6.0, size=(1, BINS, 4000)))
    whole = spectral_statistics(log_mel)
    windows = torch.cat([spectral_statistics(part) for part in log_mel.split(1000, dim=2)])
    torch.testing.assert_close(pooled(windows), whole, rtol=0.02, atol=0.02)
    torch.testing.assert_close(pooled(windows)[:, 0], whole[:, 0])
