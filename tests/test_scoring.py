"""The statistics behind a verdict: back ends, p-values, thresholds, enrolment, windows, files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from modeling import AttentionAsdConfig, AttentionAsdModel
from modeling.calibration_attention_asd import (
    benjamini_hochberg,
    fit_priors,
    fit_tails,
    student_quantile,
    student_tail,
    tail_means,
    tail_probability,
    variance_prior,
)
from modeling.modeling_attention_asd import spectral_statistics
from modeling.scoring_attention_asd import BACKENDS, AnomalyDetector


ROOT = Path(__file__).resolve().parents[1]
NAMES = [f"fan_id_{i:02d}" for i in range(6)]
SIZE = 16
CONFIG = AttentionAsdConfig(id2label=dict(enumerate(NAMES)), embedding_size=SIZE)


class World:
    """Machines whose embeddings lie around a direction each, some of them more loosely than others."""

    def __init__(self, seed: int = 0, machines: int = len(NAMES) + 1, spread: float = 0.25):
        self.generator = np.random.default_rng([seed])
        self.directions = np.linalg.qr(self.generator.normal(size=(SIZE, SIZE)))[0][:machines]
        self.spread = spread * self.generator.permutation(np.linspace(1.0, 1.5, machines))

    def clips(self, machine: int, count: int, fault: float = 0.0) -> np.ndarray:
        noise = self.spread[machine] * self.generator.normal(size=(count, SIZE)) / np.sqrt(SIZE)
        push = self.generator.normal(size=SIZE)
        clips = self.directions[machine] + noise + fault * push / np.linalg.norm(push)
        # The embedding's length says nothing: the angular loss leaves it free.
        return clips * self.generator.uniform(1, 3, size=(count, 1))

    def cosines(self, embeddings: np.ndarray) -> np.ndarray:
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        return unit @ self.directions[: len(NAMES)].T

    def spectra(self, embeddings: np.ndarray) -> np.ndarray:
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        return np.stack([10 * unit - 40, np.roll(unit, 1, axis=1) + 6, 2 * np.roll(unit, 2, axis=1) + 4], axis=1)

    def detector(self, fitted: int = 30, held_out: int = 30, with_spectra: bool = False, **options) -> AnomalyDetector:
        embeddings = [self.clips(machine, fitted + held_out) for machine in range(len(NAMES))]
        is_held_out = np.tile(np.arange(fitted + held_out) >= fitted, len(NAMES))
        embeddings = np.concatenate(embeddings)
        names = np.repeat(NAMES, fitted + held_out)
        if with_spectra:
            options["spectra"] = self.spectra(embeddings)
        return AnomalyDetector.fit(CONFIG, embeddings, self.cosines(embeddings), names, is_held_out, **options)

    def scores(self, detector, machine: int, count: int, backend: str, fault: float = 0.0) -> torch.Tensor:
        clips = self.clips(machine, count, fault)
        return detector.scores(clips, self.cosines(clips), NAMES[machine], backend, self.spectra(clips))


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("backend", ["arcface", "knn", "mahalanobis"])
def test_conformal_false_alarm_rate_does_not_exceed_the_requested_one(backend, rate):
    """A calibration for each new clip: false alarms are then independent and their number binomial."""
    trials = 4_000
    generator = np.random.default_rng([7])
    world = World(seed=1)
    detector = world.detector(held_out=2)
    pool = world.scores(detector, 0, 40_000, backend).numpy()
    row = BACKENDS.index(backend)
    machine = detector._machines[NAMES[0]]
    alarms = 0
    for _ in range(trials):
        drawn = generator.choice(pool, 120, replace=False)
        machine.calibration = torch.zeros(len(BACKENDS), 119, dtype=torch.float64)
        machine.calibration[row] = torch.from_numpy(np.sort(drawn[:-1]))
        alarms += detector.p_value(drawn[-1:], NAMES[0], rate, backend).item() <= rate
    assert stats.binomtest(alarms, trials, rate, alternative="greater").pvalue > 0.001
    # Not by being deaf either: 119 clips make 0.0083, 0.05 and 0.1 possible.
    assert alarms / trials > 0.6 * rate


@pytest.mark.parametrize("clips", [4, 10, 45])
def test_fitted_tail_keeps_the_false_alarm_rate_with_few_clips_of_gamma_distributed_scores(clips):
    """Scores from gamma distributions of another scale for each machine, far too few of them for ranks at 1 %."""
    generator = np.random.default_rng([clips])
    row = BACKENDS.index("knn")
    rates = {0.01: [], 0.05: []}
    machines = World().detector()._machines.values()
    for _ in range(100):
        for machine in machines:
            drawn = generator.gamma(6.0, generator.uniform(0.5, 2.0), size=clips + 2_000)
            machine.calibration = torch.from_numpy(np.sort(drawn[:clips])).repeat(len(BACKENDS), 1)
            machine.following = drawn[clips:]
        priors = fit_priors(machines)
        for machine in machines:
            fit_tails(machine, priors, clips, tail_means([]))
            for rate, alarms in rates.items():
                tail = tail_probability(machine, machine.following, BACKENDS[row], by_ranks=False)
                alarms.append((tail <= rate).mean())
    # The tail is the wider one of a lognormal distribution: on the safe side, and not deaf.
    for rate, alarms in rates.items():
        assert 0.3 * rate < np.mean(alarms) < rate


def test_decision_names_its_method_and_the_clips_it_rests_on():
    clip = World().clips(0, 1)
    cosines = World().cosines(clip)
    found = {}
    for held_out in (120, 30, 2, 1):
        detector = World().detector(held_out=held_out)
        decision = detector.decide(clip, cosines, NAMES[0], false_alarm_rate=0.01)[0]
        found[held_out] = (decision.method, decision.calibration_clips, decision.verdict)
    assert found[120] == ("conformal", 120, "normal")
    assert found[30] == ("fitted tail", 30, "normal")
    assert found[2] == ("fitted tail", 2, "normal")
    # One clip a machine says nothing about how much clips vary.
    assert found[1][2] == "cannot tell"


def test_machine_without_held_out_clips_is_judged_by_the_other_machines():
    world = World()
    embeddings = np.concatenate([world.clips(machine, 40) for machine in range(len(NAMES))])
    names, held_out = np.repeat(NAMES, 40), np.tile(np.arange(40) >= 20, len(NAMES))
    held_out[names == NAMES[0]] = False
    detector = AnomalyDetector.fit(CONFIG, embeddings, world.cosines(embeddings), names, held_out)
    normal, faulty = world.clips(0, 1), world.clips(0, 1, fault=2.0)
    decisions = detector.decide(
        np.concatenate([normal, faulty]), world.cosines(np.concatenate([normal, faulty])), NAMES[0]
    )
    assert [decision.verdict for decision in decisions] == ["normal", "anomalous"]
    assert decisions[0].method == "other machines" and decisions[0].calibration_clips == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_back_end_tells_anomalies_from_normal_clips(backend):
    world = World()
    detector = world.detector(with_spectra=True)
    for machine in range(len(NAMES)):
        normal = world.scores(detector, machine, 100, backend)
        anomalous = torch.cat([world.scores(detector, machine, 10, backend, fault=1.0) for _ in range(10)])
        labels = [0] * 100 + [1] * 100
        assert roc_auc_score(labels, torch.cat([normal, anomalous])) > 0.9


@pytest.mark.parametrize("backend", BACKENDS)
def test_threshold_and_p_value_say_the_same(backend):
    world = World()
    for held_out in (30, 250):
        detector = world.detector(held_out=held_out, with_spectra=True)
        scores = torch.cat([world.scores(detector, 1, 200, backend), world.scores(detector, 1, 50, backend, fault=0.5)])
        # Scores of the calibration clips themselves are where ties are broken.
        scores = torch.cat([scores, detector._machines[NAMES[1]].calibration[BACKENDS.index(backend)]])
        for rate in (0.01, 0.029, 0.05, 0.1, 0.29):
            is_above = scores > detector.threshold(NAMES[1], rate, backend)
            assert torch.equal(is_above, detector.p_value(scores, NAMES[1], rate, backend) <= rate + 1e-12)


def test_arcface_scores_are_those_of_the_network():
    config = AttentionAsdConfig(
        clip_length=16_000,
        input_representations=["log_mel"],
        use_attention=False,
        bottlenecks=[[1, 16, 1, 2]],
        stem_channels=8,
        head_channels=32,
        embedding_size=SIZE,
        id2label=dict(enumerate(NAMES)),
    )
    torch.manual_seed(0)
    model = AttentionAsdModel(config).eval()
    features = 10 * torch.randn(24, 128, 32)
    labels = torch.arange(24) % len(NAMES)
    with torch.no_grad():
        outputs = model(input_features=features, labels=labels)
    names = [NAMES[label] for label in labels]
    detector = AnomalyDetector.fit(config, outputs.embeddings, outputs.cosines, names, np.arange(24) >= 12)
    for clip in range(24):
        score = detector.scores(outputs.embeddings[[clip]], outputs.cosines[[clip]], names[clip], "arcface")
        torch.testing.assert_close(score.float(), outputs.anomaly_scores[[clip]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("backend", "clips"),
    [("spectrum", 1), *((backend, clips) for backend in ("knn", "spectrum", "combined") for clips in (2, 4, 8))],
)
def test_machine_enrolled_from_few_clips_is_judged(backend, clips):
    """False alarms at 5 % over many enrolments, and faults found."""
    false_alarms, found = [], []
    for seed in range(15):
        world = World(seed)
        detector = world.detector(with_spectra=True)
        new = world.clips(6, clips)
        detector.enroll("press 7", new, world.cosines(new), world.spectra(new))
        normal, faulty = world.clips(6, 40), world.clips(6, 10, fault=2.0)
        for embeddings, verdicts in ((normal, false_alarms), (faulty, found)):
            clips_of = (embeddings, world.cosines(embeddings), "press 7", 0.05, backend, world.spectra(embeddings))
            decisions = detector.decide(*clips_of)
            verdicts += [decision.verdict == "anomalous" for decision in decisions]
            assert {decision.calibration_clips for decision in decisions} == {clips if clips > 1 else 0}
    assert np.mean(false_alarms) < 0.1
    assert np.mean(found) > 0.9


def test_machine_enrolled_from_one_clip_is_judged_by_its_spectra_alone():
    world = World()
    detector = world.detector(with_spectra=True)
    new = world.clips(6, 1)
    detector.enroll("press", new, world.cosines(new), world.spectra(new))
    for backend in BACKENDS:
        decision = detector.decide(new, world.cosines(new), "press", None, backend, world.spectra(new))[0]
        assert decision.verdict == ("normal" if backend == "spectrum" else "cannot tell")
    assert "enroll it again with more" in decision.note


def test_machines_are_told_apart_by_their_spectra_where_these_are_known():
    world = World()
    detector = world.detector(with_spectra=True)
    answers = {}
    for machine in range(7):
        # The embeddings are those of another machine: a network that was not trained on it may well take it for one.
        clips, misleading = world.clips(machine, 10), world.clips((machine + 1) % 6, 10)
        decisions = detector.decide(misleading, world.cosines(misleading), spectra=world.spectra(clips))
        answers[machine] = [decision.predicted_machine for decision in decisions]
    for machine, name in enumerate(NAMES):
        assert answers[machine].count(name) >= 9
    assert answers[6].count(None) >= 9
    clips = world.clips(6, 4)
    detector.enroll("press", clips, world.cosines(clips), world.spectra(clips))
    clips = world.clips(6, 10)
    decisions = detector.decide(clips, world.cosines(clips), spectra=world.spectra(clips))
    assert [decision.machine for decision in decisions].count("press") >= 9
    with pytest.raises(ValueError, match="fitted with spectra"):
        detector.enroll("other press", clips, world.cosines(clips))
    with pytest.raises(ValueError, match="fitted with spectra"):
        detector.decide(clips, world.cosines(clips), backend="arcface")


def test_spectra_are_level_fluctuation_and_change_of_every_bin():
    frames = np.random.default_rng([5]).normal(-40.0, 6.0, size=(2, 4, 50))
    spectra = spectral_statistics(torch.from_numpy(frames)).numpy()
    change = np.sqrt(np.square(np.diff(frames, axis=2)).mean(2))
    np.testing.assert_allclose(spectra, np.stack([frames.mean(2), frames.std(2), change], axis=1), rtol=1e-5)


def test_enrolment_needs_no_scikit_learn(tmp_path):
    world = World()
    world.detector().save_pretrained(tmp_path)
    program = f"""
import sys
sys.modules["sklearn"] = None
import torch
from modeling.scoring_attention_asd import AnomalyDetector
detector = AnomalyDetector.from_pretrained({str(tmp_path)!r})
clips = torch.ones(3, {SIZE}) + 0.1 * torch.eye(3, {SIZE})
detector.enroll("press", clips, torch.zeros(3, {len(NAMES)}))
print(detector.decide(clips, torch.zeros(3, {len(NAMES)}), "press")[0].verdict)
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "normal", run.stderr


def test_claimed_machine_is_judged_and_the_closest_one_named():
    world = World()
    detector = world.detector()
    clip = world.clips(2, 1)
    decision = detector.decide(clip, world.cosines(clip))[0]
    assert (decision.machine, decision.predicted_machine, decision.verdict) == (NAMES[2], NAMES[2], "normal")
    assert decision.closeness > 0.9
    decision = detector.decide(clip, world.cosines(clip), machine=NAMES[4])[0]
    assert (decision.machine, decision.predicted_machine, decision.verdict) == (NAMES[4], NAMES[2], "anomalous")


def test_sound_of_a_machine_that_is_not_enrolled_is_none_of_them():
    world = World()
    detector = world.detector()
    clips = world.clips(6, 50)
    decisions = detector.decide(clips, world.cosines(clips))
    assert {decision.predicted_machine for decision in decisions} == {None}
    assert {decision.verdict for decision in decisions} <= {"cannot tell", "anomalous"}
    refused = [decision for decision in decisions if decision.machine is None]
    assert len(refused) > 40
    assert "none of the enrolled machines" in refused[0].note and refused[0].closeness < detector.strangers
    known = [decision for machine in range(6) for decision in detector.decide(*pair(world, machine, 50))]
    assert np.mean([decision.predicted_machine is None for decision in known]) < 0.03
    detector.enroll("press", *pair(world, 6, 4))
    decisions = detector.decide(*pair(world, 6, 20))
    assert np.mean([decision.machine == "press" for decision in decisions]) > 0.9


def test_faulty_machine_is_recognised_and_found_anomalous_without_being_named():
    world = World()
    detector = world.detector()
    verdicts = []
    for machine in range(len(NAMES)):
        for fault in (1.0, 1.5):
            verdicts += [
                (d.verdict, d.machine == NAMES[machine]) for d in detector.decide(*pair(world, machine, 10, fault))
            ]
    assert np.mean([verdict == ("anomalous", True) for verdict in verdicts]) > 0.9


def pair(world: World, machine: int, count: int, fault: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    clips = world.clips(machine, count, fault)
    return clips, world.cosines(clips)


def test_recording_of_many_windows_keeps_the_false_alarm_rate():
    alarms = {1: [], 30: []}
    for seed in range(20):
        world = World(seed)
        detector = world.detector(held_out=200)
        for windows, verdicts in alarms.items():
            decisions = [detector.decide_recording(*pair(world, 0, windows), NAMES[0], 0.05)[0] for _ in range(15)]
            verdicts += [decision.verdict == "anomalous" for decision in decisions]
    # Thirty windows without adjustment would be 0.78.
    assert np.mean(alarms[1]) < 0.1 and np.mean(alarms[30]) < 0.12


def test_fault_in_some_windows_is_found_and_placed():
    world = World()
    detector = world.detector()
    clips = np.concatenate([world.clips(0, 20), world.clips(0, 3, fault=2.0), world.clips(0, 7)])
    recording, windows = detector.decide_recording(clips, world.cosines(clips), NAMES[0], 0.01)
    assert recording.verdict == "anomalous" and recording.score > recording.threshold
    assert [i for i, window in enumerate(windows) if window.verdict == "anomalous"] == [20, 21, 22]
    assert recording.score == max(window.score for window in windows)
    for window in windows:
        assert (window.score > window.threshold) == (window.verdict == "anomalous") == (window.p_value <= 0.01)


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_the_threshold_of_a_recording_is_where_its_windows_verdicts_change(rate):
    """With the fitted tail too, where several calibration clips may lie above the threshold."""
    verdicts = set()
    for seed in range(40):
        world = World(seed)
        detector = world.detector(held_out=30)
        clips = np.concatenate([world.clips(0, 3), world.clips(0, 3, fault=0.7)])
        recording, windows = detector.decide_recording(clips, world.cosines(clips), NAMES[0], rate, "knn")
        for decision in (recording, *windows):
            assert (decision.score > decision.threshold) == (decision.verdict == "anomalous")
            verdicts.add((decision.method, decision.verdict))
    assert verdicts == {("fitted tail", "anomalous"), ("fitted tail", "normal")}


def test_silent_windows_are_not_judged():
    world = World()
    detector = world.detector()
    clips = world.clips(0, 3)
    recording, windows = detector.decide_recording(clips, world.cosines(clips), NAMES[0], silent=[False, True, False])
    assert [window.verdict for window in windows] == ["normal", "cannot tell", "normal"]
    assert recording.verdict == "normal" and windows[1].note == "it is silent"
    recording, _ = detector.decide_recording(clips, world.cosines(clips), NAMES[0], silent=[True] * 3)
    assert (recording.verdict, recording.score, recording.note) == ("cannot tell", None, "it is silent")


def test_embedding_that_is_not_finite_is_no_verdict():
    world = World()
    clip = world.clips(0, 1)
    clip[0, 3] = np.nan
    decision = world.detector().decide(clip, np.zeros((1, len(NAMES))), NAMES[0])[0]
    assert decision.verdict == "cannot tell" and "not finite" in decision.note


def test_saved_detector_is_the_same_to_the_bit(tmp_path):
    world = World()
    detector = world.detector(with_spectra=True, false_alarm_rate=0.05, backend="gmm")
    new = world.clips(6, 3)
    detector.enroll("../Förderband", new, world.cosines(new), world.spectra(new))
    detector.save_pretrained(tmp_path)
    loaded = AnomalyDetector.from_pretrained(tmp_path)
    assert loaded.machines == [*NAMES, "../Förderband"]
    clips = np.concatenate([world.clips(machine, 3) for machine in range(7)])
    for backend in BACKENDS:
        for machine in loaded.machines:
            arguments = (clips, world.cosines(clips), machine, None, backend, world.spectra(clips))
            assert loaded.decide(*arguments) == detector.decide(*arguments)
    assert np.array_equal(loaded.normal_level(NAMES[0])[1], detector.normal_level(NAMES[0])[1])
    loaded.save_pretrained(tmp_path / "again")
    for name in ("scoring.safetensors", "scoring_config.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    # A machine's name is text in a file, never the name of one.
    assert not (tmp_path.parent / "Förderband").exists()


def test_answers_do_not_depend_on_what_was_asked_before(tmp_path):
    """A detector that was asked and enrolled into keeps what it worked out; one fresh from files has nothing kept."""
    world = World()
    used = world.detector(with_spectra=True)
    clips = np.concatenate([world.clips(machine, 3) for machine in range(7)])

    def enroll(detector, name: str, embeddings: np.ndarray) -> None:
        detector.enroll(name, embeddings, world.cosines(embeddings), world.spectra(embeddings))

    for machine, count in ((6, 5), (2, 1), (6, 1), (6, 4)):
        used.decide(clips, world.cosines(clips), spectra=world.spectra(clips))
        enroll(used, "press", world.clips(machine, count))
        enroll(used, "pump", world.clips(machine, 1))
    used.save_pretrained(tmp_path)
    fresh = AnomalyDetector.from_pretrained(tmp_path)
    new = world.clips(6, 1)
    for detector in (used, fresh):
        enroll(detector, "lathe", new)
    for backend in BACKENDS:
        for machine in (None, "press", "lathe"):
            arguments = (clips, world.cosines(clips), machine, None, backend, world.spectra(clips))
            assert used.decide(*arguments) == fresh.decide(*arguments)


def test_normal_level_is_that_of_all_frames():
    frames = np.random.default_rng([5]).normal(-40.0, 6.0, size=(120, 4, 50))
    detector = AnomalyDetector.fit(
        AttentionAsdConfig(id2label={0: "fan_id_00", 1: "fan_id_02"}, embedding_size=SIZE),
        np.random.default_rng([6]).normal(size=(120, SIZE)),
        np.zeros((120, 2)),
        ["fan_id_00"] * 60 + ["fan_id_02"] * 60,
        np.arange(120) % 2 == 0,
        spectra=spectral_statistics(torch.from_numpy(frames)),
    )
    mean, std = detector.normal_level("fan_id_00")
    np.testing.assert_allclose(mean, frames[:60].mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(std, frames[:60].std((0, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, c: d.decide(*c, machine="fan_id_99"), "fan_id_00, fan_id_01"),
        (lambda d, c: d.decide(*c, machine="../../etc/passwd"), "is not known"),
        (lambda d, c: d.decide(*c, false_alarm_rate=0.0), "more than 0"),
        (lambda d, c: d.decide(*c, backend="vibes"), "arcface, centre, knn"),
        (lambda d, c: d.enroll("", *c), "printable name"),
        (lambda d, c: d.enroll("a\nb", *c), "printable name"),
        (lambda d, c: d.enroll("fan_id_00", *c), "another name"),
        (lambda d, c: d.enroll("press", c[0][:0], c[1][:0]), "0 clips"),
        (lambda d, c: d.scores(c[0], c[1][:1], NAMES[0]), "expected \\(clips"),
        (lambda d, c: d.decide(*c, NAMES[0], backend="spectrum"), "needs spectra="),
        (lambda d, c: d.decide(*c, NAMES[0], backend="spectrum", spectra=np.zeros((2, 3, 4))), "without spectra"),
    ],
)
def test_error_names_the_value_and_what_was_expected(call, message):
    world = World()
    with pytest.raises(ValueError, match=message):
        call(world.detector(), pair(world, 0, 2))


def test_files_that_are_missing_or_broken_are_named(tmp_path):
    with pytest.raises(OSError, match="scoring_config.json"):
        AnomalyDetector.from_pretrained(tmp_path)
    World().detector().save_pretrained(tmp_path)
    tensors = (tmp_path / "scoring.safetensors").read_bytes()
    for broken in (b"", tensors[:100], tensors[:-8]):
        (tmp_path / "scoring.safetensors").write_bytes(broken)
        with pytest.raises(ValueError, match="scoring.safetensors cannot be read"):
            AnomalyDetector.from_pretrained(tmp_path)
    (tmp_path / "scoring.safetensors").write_bytes(tensors)
    (tmp_path / "scoring_config.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot be read"):
        AnomalyDetector.from_pretrained(tmp_path)


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
