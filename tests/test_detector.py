"""The detector: fitted, machines enrolled from few clips, the closest machine named, wrong use refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from machine_world import CONFIG, NAMES, NEW, SIZE, World, without_spectra

from modeling import AnomalyDetector, AttentionAsdConfig, ClipOutputs
from modeling.backends_attention_asd import BACKENDS
from modeling.modeling_attention_asd import spectral_statistics
from modeling.normal_clips_attention_asd import folds_of


ROOT = Path(__file__).resolve().parents[1]


def test_decision_names_its_method_and_the_clips_it_rests_on():
    world = World()
    detector, clip = world.detector(), world.clips(0, 1)
    for backend, clips in (("spectrum", 60), ("arcface", 30)):
        decision = detector.decide(clip, NAMES[0], backend=backend)[0]
        found = (decision.method, decision.calibration_clips, decision.verdict)
        assert found == ("own and other machines", clips, "normal")


def test_the_networks_back_ends_are_calibrated_by_held_out_clips_alone():
    world = World()
    clips = ClipOutputs.concatenate([world.clips(machine, 40) for machine in range(len(NAMES))])
    names, held_out = np.repeat(NAMES, 40), np.tile(np.arange(40) >= 20, len(NAMES))
    held_out[names == NAMES[0]] = False
    detector = AnomalyDetector.fit(CONFIG, clips, names, held_out)
    both = ClipOutputs.concatenate([world.clips(0, 1), world.clips(0, 1, fault=2.0)])
    decisions = detector.decide(both, NAMES[0], 0.05, "arcface")
    assert [decision.verdict for decision in decisions] == ["normal", "anomalous"]
    assert decisions[0].method == "other machines" and decisions[0].calibration_clips == 0
    without = AnomalyDetector.fit(CONFIG, clips, names)
    assert without.decide(both, NAMES[0], 0.05, "arcface")[0].p_value is None
    assert without.decide(both, NAMES[0], 0.05)[1].verdict == "anomalous"


def test_windows_of_a_recording_share_a_fold():
    assert folds_of("aabbbc").tolist() == [0, 0, 1, 1, 1, 2]
    assert folds_of(range(100)).tolist() == (np.arange(100) // 10).tolist()
    assert folds_of([5, 4, 5, 3]).tolist() == [0, 1, 0, 2]


def test_copies_of_a_recording_do_not_vouch_for_each_other():
    """Six recordings in ten equal windows each: apart, they make the machine look steadier than it is."""
    alarms = {"apart": [], "together": []}
    for seed in range(6):
        world = World(seed)
        detector = world.detector()
        windows = ClipOutputs.concatenate([world.clips(NEW, 1)[[0] * 10] for _ in range(6)])
        detector.enroll("apart", windows)
        detector.enroll("together", windows, np.repeat(np.arange(6), 10))
        normal = world.clips(NEW, 100)
        for name, shares in alarms.items():
            shares.append((detector.p_value(detector.scores(normal, name), name) <= 0.05).double().mean().item())
    assert np.mean(alarms["together"]) < 0.07 and np.mean(alarms["apart"]) > 0.2


def test_normal_level_is_that_of_all_frames():
    frames = np.random.default_rng([5]).normal(-40.0, 6.0, size=(120, 4, 50))
    detector = AnomalyDetector.fit(
        AttentionAsdConfig(id2label={0: "fan_id_00", 1: "fan_id_02"}, embedding_size=SIZE),
        ClipOutputs(
            torch.from_numpy(np.random.default_rng([6]).normal(size=(120, SIZE))),
            torch.zeros(120, 2),
            spectral_statistics(torch.from_numpy(frames)),
        ),
        ["fan_id_00"] * 60 + ["fan_id_02"] * 60,
        np.arange(120) % 2 == 0,
    )
    mean, std = detector.normal_level("fan_id_00")
    np.testing.assert_allclose(mean, frames[:60].mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(std, frames[:60].std((0, 2)), rtol=1e-5)
    assert World().detector(with_spectra=False).normal_level(NAMES[0]) is None


# Enrollment


@pytest.mark.parametrize(
    ("backend", "clips"),
    [("spectrum", 1), *((backend, clips) for backend in ("gmm", "spectrum") for clips in (2, 4, 8))],
)
def test_machine_enrolled_from_few_clips_is_judged(backend, clips):
    """False alarms at 5 % over many enrollments, and faults detected."""
    false_alarms, detected = [], []
    for seed in range(15):
        world = World(seed)
        detector = world.detector()
        detector.enroll("press 7", world.clips(NEW, clips))
        normal, faulty = world.clips(NEW, 40), world.clips(NEW, 10, fault=2.0)
        for sounds, verdicts in ((normal, false_alarms), (faulty, detected)):
            decisions = detector.decide(sounds, "press 7", 0.05, backend)
            verdicts += [decision.verdict == "anomalous" for decision in decisions]
            assert {decision.calibration_clips for decision in decisions} == {clips if clips > 1 else 0}
    assert np.mean(false_alarms) < 0.1
    assert np.mean(detected) > 0.9


def test_machine_enrolled_from_one_clip_is_judged_by_its_spectra_alone():
    world = World()
    detector = world.detector()
    clip = world.clips(NEW, 1)
    detector.enroll("press", clip)
    for backend in BACKENDS:
        decision = detector.decide(clip, "press", backend=backend)[0]
        assert decision.verdict == ("normal" if backend == "spectrum" else "cannot tell")
        if backend != "spectrum":
            assert "enroll it again with more" in decision.note


def test_a_machine_enrolled_again_is_replaced_in_its_place():
    world = World()
    detector = world.detector()
    for name in ("press", "pump", "press"):
        detector.enroll(name, world.clips(NEW, 3))
    assert detector.machines == [*NAMES, "press", "pump"]


def test_clips_that_the_fit_has_seen_are_enrolled_as_what_they_were_fitted_as(tmp_path):
    """The shared covariance knows them, so that by themselves they seem to vary far too little."""
    world = World()
    clips = [world.clips(machine, 6) for machine in range(len(NAMES))]
    detector = AnomalyDetector.fit(CONFIG, ClipOutputs.concatenate(clips), np.repeat(NAMES, 6))
    tested = detector.enroll("copy", clips[2], remarks=["Clipped."])
    assert tested.sentences()[:2] == [
        f"These recordings are known: {NAMES[2]} was fitted on them, and is used as it was fitted.",
        "Clipped.",
    ]
    detector.save_pretrained(tmp_path)
    new, loaded = world.clips(2, 40), AnomalyDetector.from_pretrained(tmp_path)
    own, copied = (loaded.p_value(loaded.scores(new, name), name) for name in (NAMES[2], "copy"))
    assert torch.equal(own, copied) and (copied <= 0.1).double().mean() <= 0.1
    # It is the user's machine all the same: enrolled once more under its name, and taken to where the fit is the same.
    fitted = loaded.with_names({name: name for name in NAMES})
    assert fitted.adopt(loaded) == ["copy"]
    loaded.enroll("copy", world.clips(NEW, 6))
    assert loaded.self_test("copy").remarks == ()


def test_enrolling_and_deciding_need_neither_scikit_learn_nor_scipy(tmp_path):
    World().detector().save_pretrained(tmp_path)
    program = f"""
import sys
sys.modules["sklearn"] = sys.modules["scipy"] = None
import torch
from modeling.detector_attention_asd import AnomalyDetector
from modeling.outputs_attention_asd import ClipOutputs
detector = AnomalyDetector.from_pretrained({str(tmp_path)!r})
spectra = torch.arange(6 * {SIZE}).reshape(1, 6, {SIZE}) % 7 + 0.1 * torch.rand(3, 6, {SIZE})
clips = ClipOutputs(torch.ones(3, {SIZE}) + 0.1 * torch.eye(3, {SIZE}), torch.zeros(3, {len(NAMES)}), spectra)
detector.enroll("press", clips)
print(detector.decide(clips, "press")[0].verdict)
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "normal", run.stderr


def test_a_detector_without_spectra_enrolls_from_clips_that_have_them():
    world = World()
    detector = world.detector(with_spectra=False)
    detector.enroll("press", world.clips(NEW, 4))
    assert detector.decide(world.clips(NEW, 1), "press")[0].verdict == "normal"
    assert detector.normal_level("press") is not None


# Which machine it is


def test_machines_are_told_apart_by_their_spectra_where_these_are_known():
    world = World()
    detector = world.detector()
    answers = {}
    for machine in range(len(NAMES) + 1):
        # The embeddings are those of another machine: a network that was not trained on it may well take it for one.
        clips, misleading = world.clips(machine, 10), world.clips((machine + 1) % len(NAMES), 10)
        decisions = detector.decide(ClipOutputs(misleading.embeddings, misleading.cosines, clips.spectra))
        answers[machine] = [decision.machine for decision in decisions if decision.verdict == "normal"]
    for machine, name in enumerate(NAMES):
        assert len(answers[machine]) >= 9 and set(answers[machine]) == {name}
    assert answers[NEW] == []
    detector.enroll("press", world.clips(NEW, 4))
    clips = world.clips(NEW, 10)
    assert [decision.machine for decision in detector.decide(clips)].count("press") >= 9
    with pytest.raises(ValueError, match="fitted with spectra"):
        detector.enroll("other press", without_spectra(clips))
    with pytest.raises(ValueError, match="fitted with spectra"):
        detector.decide(without_spectra(clips), backend="arcface")


def test_claimed_machine_is_judged_and_the_nearest_one_named():
    world = World()
    detector = world.detector()
    clip = world.clips(2, 1)
    nearest = detector.decide(clip)[0]
    assert (nearest.machine, nearest.predicted_machine, nearest.verdict) == (NAMES[2], NAMES[2], "normal")
    assert detector.closest(clip) == (NAMES[2], nearest.similarity, True) and nearest.similarity > 0.9
    claimed = detector.decide(clip, machine=NAMES[4])[0]
    assert (claimed.machine, claimed.predicted_machine) == (NAMES[4], NAMES[2])
    # The similarity is the one to the machine in question.
    assert claimed.similarity < 0.3


def test_a_machine_that_is_not_enrolled_is_none_of_them_and_recognized_once_it_is():
    world = World()
    detector = world.detector()
    decisions = detector.decide(world.clips(NEW, 50))
    assert {decision.verdict for decision in decisions} == {"cannot tell"}
    detector.enroll("press", world.clips(NEW, 4))
    decisions = detector.decide(world.clips(NEW, 20))
    assert np.mean([decision.machine == "press" for decision in decisions]) > 0.9


def test_by_embeddings_alone_the_nearest_machine_is_named():
    world = World()
    detector = world.detector(with_spectra=False)
    for machine, name in enumerate(NAMES):
        decisions = detector.decide(world.clips(machine, 10))
        assert np.mean([(decision.verdict, decision.machine) == ("normal", name) for decision in decisions]) > 0.8


# Wrong use


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, c: d.decide(c, machine="fan_id_99"), "fan_id_00, fan_id_01"),
        (lambda d, c: d.decide(c, machine="../../etc/passwd"), "is not known"),
        (lambda d, c: d.decide(c, false_alarm_rate=0.0), "above 0"),
        (lambda d, c: d.decide(c, backend="vibes"), "arcface, gmm, spectrum"),
        (lambda d, c: d.enroll("", c), "printable name"),
        (lambda d, c: d.enroll("a\nb", c), "printable name"),
        (lambda d, c: d.enroll("fan_id_00", c), "another name"),
        (lambda d, c: d.enroll("press", c[:0]), "0 clips"),
        (lambda d, c: d.decide(c, NAMES[0], backend="spectrum"), "fitted without spectra"),
        (lambda d, c: d.threshold("fan_id_99"), "is not known"),
        (lambda d, c: d.threshold(NAMES[0], backend="vibes"), "arcface, gmm, spectrum"),
        (lambda d, c: d.fit(CONFIG, c, NAMES[:1], [True, False]), "expected one value for each"),
        (lambda d, c: d.fit(CONFIG, c, NAMES[:2], recordings=[0]), "expected one value for each"),
        (lambda d, c: d.fit(CONFIG, c, NAMES[:2], [True, False]), "hold out fewer"),
        (lambda d, c: d.enroll("press", c, [0]), "one for each of the 2 clips"),
    ],
)
def test_error_names_the_value_and_what_was_expected(call, message):
    world = World()
    with pytest.raises(ValueError, match=message):
        call(world.detector(with_spectra=False), world.clips(0, 2))


def test_too_few_recordings_for_a_detector_that_can_tell_are_refused():
    world = World()
    with pytest.raises(ValueError, match="too few recordings of normal operation"):
        AnomalyDetector.fit(
            CONFIG, ClipOutputs.concatenate([world.clips(0, 2), world.clips(1, 2)]), np.repeat(NAMES[:2], 2)
        )


def test_a_detector_with_spectra_needs_clips_that_have_them():
    world = World()
    detector, clips = world.detector(), without_spectra(world.clips(0, 2))
    for call in (detector.closest, lambda c: detector.scores(c, NAMES[0]), lambda c: detector.enroll("press", c)):
        with pytest.raises(ValueError, match="fitted with spectra"):
            call(clips)
