"""The decision layer on real machine sounds: what it must reach, and the benchmark that measures it."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from feature_extraction import AttentionAsdFeatureExtractor
from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector
from research.benchmarks.decision_layer import (
    CONFIG,
    Clips,
    control_scores,
    fit,
    fitted_tables,
    judge,
    read_log_mels,
    read_recordings,
)
from training.fit_detector import noise_spectrum


NOISES = ("white", "brown")


@pytest.fixture(scope="module")
def recordings(shared_data) -> tuple[Clips, Clips]:
    return read_recordings(shared_data / "machine_clips")


@pytest.fixture(scope="module")
def detector(recordings) -> AnomalyDetector:
    train, _ = recordings
    noise = noise_spectrum(AttentionAsdFeatureExtractor(), seed=0)
    return AnomalyDetector.fit(CONFIG, train.outputs, train.machines, noise=noise)


def official_auc(clips: Clips, scores: np.ndarray) -> float:
    labels, ids = clips.is_anomaly.astype(int).tolist(), clips.machines.tolist()
    return asd_auc(scores.tolist(), labels, clips.types.tolist(), ids, n_bootstrap=0)["auc"]["mean"]["official"]


def noise_clips(count: int) -> Clips:
    """White and brown noise of 10 s at levels from -60 to -20 dBFS."""
    extractor, generator = AttentionAsdFeatureExtractor(), np.random.default_rng([1])
    log_mels = []
    for kind in NOISES:
        for level in np.linspace(-60.0, -20.0, count):
            noise = generator.normal(size=extractor.clip_length)
            noise = np.cumsum(noise) if kind == "brown" else noise
            noise = (noise - noise.mean()) / noise.std() * 10 ** (level / 20)
            log_mels.append(extractor.log_mel(torch.from_numpy(noise.astype(np.float32))).numpy())
    return Clips.of(np.stack(log_mels), ["noise"] * len(log_mels), [True] * len(log_mels))


def test_faults_of_real_machines_are_found_at_the_false_alarm_rate_asked_for(recordings, detector):
    _, test = recordings
    scores, p_values = judge(detector, test)
    assert official_auc(test, scores) > 0.95
    for rate, found in ((0.01, 0.3), (0.05, 0.5), (0.1, 0.7)):
        alarms = p_values <= rate
        normal = alarms[~test.is_anomaly]
        assert binomtest(int(normal.sum()), len(normal), rate, alternative="greater").pvalue > 0.05
        assert alarms[test.is_anomaly].mean() > found


def test_log_mels_of_toy_cars_are_judged_as_well(shared_data):
    train, test = read_log_mels(shared_data / "toycar_log_mel")
    scores, _ = judge(fit(train), test)
    assert official_auc(test, scores) > 0.97


def test_a_real_machine_enrolled_from_eight_clips_is_judged(recordings):
    """One machine of each type, left out of the fit."""
    train, test = recordings
    out = [f"{kind}_id_02" for kind in np.unique(train.types)]
    detector = fit(train[~np.isin(train.machines, out)])
    for name in out:
        detector.enroll(name, train[np.flatnonzero(train.machines == name)[:8]].outputs)
    clips = test[np.isin(test.machines, out)]
    scores, p_values = judge(detector, clips)
    assert official_auc(clips, scores) > 0.9
    assert (p_values <= 0.05)[~clips.is_anomaly].mean() <= 0.2 and (p_values <= 0.05)[clips.is_anomaly].mean() >= 0.2


def test_noise_is_refused_whatever_machine_is_named(recordings):
    train, _ = recordings
    noise, is_new = noise_spectrum(AttentionAsdFeatureExtractor(), seed=0), train.machines == "fan_id_00"
    known = train[~is_new]
    detector = AnomalyDetector.fit(CONFIG, known.outputs, known.machines, noise=noise)
    detector.enroll("new fan", train[np.flatnonzero(is_new)[:8]].outputs)
    for named in ("new fan", "pump_id_00", None):
        decisions = detector.decide(noise_clips(4).outputs, named, 0.05)
        assert {(decision.verdict, decision.predicted_machine) for decision in decisions} == {("cannot tell", None)}


def test_real_clips_are_no_noise_and_the_normal_ones_are_their_own_machine(recordings, detector):
    _, test = recordings
    decisions = detector.decide(test.outputs, None, 0.05)
    assert not any("noise" in (decision.note or "") for decision in decisions)
    assert "anomalous" not in {decision.verdict for decision in decisions}
    normal = [
        (d.machine, name) for d, name, bad in zip(decisions, test.machines, test.is_anomaly, strict=True) if not bad
    ]
    assert np.mean([found == name for found, name in normal]) > 0.9
    named = [detector.decide(test[np.array([i])].outputs, str(test.machines[i]), 0.05)[0] for i in range(len(test))]
    alarms = [decision.verdict == "anomalous" for decision in named]
    # No alarm is swallowed by a refusal.
    assert alarms == [decision.p_value <= 0.05 for decision in named]


def test_a_machine_of_an_unknown_type_is_no_alarm_where_none_is_named(recordings):
    train, test = recordings
    verdicts = []
    for kind in np.unique(train.types):
        decisions = fit(train[train.types != kind]).decide(test[test.types == kind].outputs, None, 0.05)
        verdicts += [decision.verdict for decision in decisions]
    assert "anomalous" not in verdicts and verdicts.count("cannot tell") > 0.6 * len(verdicts)


def test_a_machine_recorded_with_other_equipment_is_judged_as_by_the_control_and_better_with_more_clips(
    recordings, shared_data
):
    detector = fit(recordings[0])
    train, test = read_log_mels(shared_data / "toycar_log_mel")
    means = []
    for count in (8, 32):
        aucs = []
        for name in train.names:
            enrolled, clips = train[np.flatnonzero(train.machines == name)[:count]], test[test.machines == name]
            detector.enroll(name, enrolled.outputs)
            both = judge(detector, clips)[0], control_scores(enrolled, clips)
            aucs.append([roc_auc_score(clips.is_anomaly, scores) for scores in both])
        means.append(np.mean(aucs, axis=0))
    (from_8, control_of_8), (from_32, control_of_32) = means
    assert from_8 > control_of_8 - 0.05 and from_32 > control_of_32 - 0.05 and from_32 > from_8 + 0.03


def test_the_number_of_threads_changes_no_verdict(recordings):
    train, test = (clips[clips.types == "pump"] for clips in recordings)
    threads, p_values = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            p_values.append(judge(fit(train), test)[1])
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(*p_values, rtol=1e-4)


def test_the_benchmark_reports_every_set(recordings):
    train, test = recordings
    chosen = ["fan_id_00", "fan_id_02", "pump_id_00"]
    few = (train[np.isin(train.machines, chosen)], test[np.isin(test.machines, chosen)])
    text = fitted_tables({"recordings": few})
    assert "| recordings | spectrum |" in text and "| recordings | control |" in text and "| 10 % |" in text
