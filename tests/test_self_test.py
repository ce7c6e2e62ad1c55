"""What a machine's recordings are worth: the self-test, and the look at clips before a machine is made of them."""

import json

import numpy as np
import pytest
import soundfile
import torch
from machine_world import CONFIG, NAMES, NEW, SIZE, World
from small_detector import RATE, machine_sound, small_pipeline

from evaluation.tables import self_tests_table
from modeling import AnomalyDetector, ClipOutputs
from modeling.clip_checks_attention_asd import look_at, sort_out
from modeling.conditions_attention_asd import is_clipped
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline
from modeling.self_test_attention_asd import SelfTest


@pytest.fixture(scope="module")
def detect() -> AnomalousSoundDetectionPipeline:
    return small_pipeline(clips=8)


@pytest.mark.parametrize("clips", [1, 2, 4, 30])
@pytest.mark.parametrize("name", ["fan_id_77", "press"])
def test_every_enrollment_ends_with_short_sentences(clips, name):
    world = World()
    detector = world.detector()
    tested = detector.enroll(name, world.clips(NEW, clips), [f"/secret/place/{n}.wav" for n in range(clips)])
    for rate in (0.01, 0.05, 0.1):
        sentences = tested.sentences(rate)
        assert all(len(sentence.split()) <= 25 and sentence.endswith(".") for sentence in sentences), sentences
        text = " ".join(sentences)
        assert "secret" not in text and " None " not in text.replace("None of them", "")
        if clips < 1 / rate:
            assert f"{round(1 / rate)} recordings would be enough" in text
        assert ("cannot be told: no other machine of its type is known" in text) == (name == "press")
        assert ("Altered sounds could not be tried" in text) == (clips < 4)


def test_false_alarms_are_those_of_recordings_that_were_left_out():
    shares = []
    for seed in range(5):
        world = World(seed)
        detector = world.detector()
        tested = detector.enroll("press", world.clips(NEW, 40))
        shares.append(tested.at_rate(0.1).false_alarms / tested.recordings)
    assert 0.02 < np.mean(shares) < 0.2


def test_machines_that_sound_different_would_raise_an_alarm_and_a_twin_would_not():
    world = World()
    detector = world.detector()
    tested = detector.self_test(NAMES[0])
    assert tested.at_rate(0.05).others == tested.at_rate(0.05).same_type == 1.0
    assert "about 10 of 10 faults would be heard" in tested.summary(0.05)
    detector.enroll("press_id_00", world.clips(NEW, 30))
    twin = detector.enroll("press_id_01", world.clips(NEW, 30))
    assert twin.at_rate(0.05).same_type < 0.1 and twin.at_rate(0.05).heard is None
    assert "cannot be told: others of its type sound like this one" in " ".join(twin.sentences(0.05))


def test_more_recordings_are_said_to_find_more():
    world = World(spread=0.6)
    tested = world.detector().enroll("fan_id_77", world.clips(NEW, 4))
    for found in tested.at:
        assert found.same_type_with_more >= found.same_type
        assert all(found.altered_with_more[name] >= share for name, share in found.altered.items())
    assert tested.more == 20


def test_a_recording_unlike_the_rest_is_named():
    world = World()
    detector = world.detector()
    clips = ClipOutputs.concatenate([world.clips(NEW, 5), world.clips(NEW, 1, fault=3.0), world.clips(NEW, 4)])
    names = [f"folder/{n}.wav" for n in range(10)]
    assert detector.enroll("press", clips, names).unusual == ("5.wav",)
    assert detector.enroll("press", world.clips(NEW, 10)[np.arange(3)], names[:3]).unusual == ()


def test_noise_that_would_pass_as_normal_is_warned_of_in_the_test_and_in_verdicts():
    world = World()
    clips = ClipOutputs.concatenate([world.clips(machine, 20) for machine in range(len(NAMES))])
    noisy = world.clips(NEW, 10)
    noise = torch.stack([noisy.spectra[:2], world.clips(NEW, 2).spectra + 40.0 * torch.rand(1, 6, SIZE)])
    # Noise that has every resonance of this machine: no recording of it tells one from the other.
    detector = AnomalyDetector.fit(CONFIG, clips, np.repeat(NAMES, 20), noise=noise, false_alarm_rate=0.05)
    tested = detector.enroll("hiss", noisy)
    assert tested.noise["white noise"] == "normal" and tested.passing_noise[0] == "white noise"
    assert any("Do not rely on this machine" in sentence for sentence in tested.sentences())
    decision = detector.decide(noisy[[4]], "hiss")[0]
    assert decision.verdict == "normal" and "would pass as this machine" in decision.note
    assert detector.self_test(NAMES[0]).passing_noise == []
    assert "not tried" in " ".join(world.detector().self_test(NAMES[0]).sentences())


def test_the_self_test_is_saved_with_the_detector_and_stands_on_the_card(tmp_path):
    world = World()
    detector = world.detector()
    detector.enroll("press", world.clips(NEW, 6), [f"{n}.wav" for n in range(6)])
    detector.save_pretrained(tmp_path)
    loaded = AnomalyDetector.from_pretrained(tmp_path)
    for name in (*NAMES, "press"):
        tested = loaded.self_test(name)
        assert tested == detector.self_test(name)
        assert SelfTest.from_dict(json.loads(json.dumps(tested.to_dict()))) == tested
    # Machines that are loaded can be tried in the self-test of a new one.
    again = world.clips(NEW, 6)
    assert loaded.enroll("lathe", again) == detector.enroll("lathe", again)
    table = self_tests_table({"press": loaded.self_test("press")})
    assert "| press | 6 | " in table and "cannot be told" in table
    assert self_tests_table({}) is None


def test_a_detector_without_spectra_says_what_it_cannot_tell():
    tested = World().detector(with_spectra=False).self_test(NAMES[0])
    assert tested.backend == "arcface" and tested.at_rate(0.05).false_alarms is not None
    assert "No other machine" not in tested.summary() and "cannot be told" in tested.summary()


# Clips, before a machine is made of them


def test_silent_clipped_and_copied_clips_are_named():
    sound = machine_sound(300.0, 1)
    loud = np.clip(30.0 * sound, -0.99, 0.99)
    clips = (sound, loud, np.zeros(RATE, np.float32), sound, machine_sound(300.0, 2))
    looks = [look_at([clip], is_clipped(clip)) for clip in clips]
    names = [f"a/{name}.wav" for name in ("good", "loud", "dead", "copy", "other")]
    kept, sentences = sort_out(looks, names, ["fan"] * 5)
    assert kept == [0, 1, 4]
    assert sentences == [
        "Silent, left out: dead.wav.",
        "Copy of another, left out: copy.wav.",
        "Clipped, record at a lower gain: loud.wav.",
    ]
    # The same sound of two machines is no copy, and not more than three names are listed.
    assert sort_out([looks[0], looks[0]], names[:2], ["fan", "pump"])[0] == [0, 1]
    assert sort_out([looks[2]] * 5, names, ["fan"] * 5)[1] == [
        "Silent, left out: good.wav, loud.wav, dead.wav and 2 more."
    ]
    assert look_at([sound, np.zeros(RATE, np.float32)], False).silent == 0.5


def test_enrolling_goes_on_without_recordings_that_cannot_be_used(detect, tmp_path):
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", machine_sound(900.0, number), RATE)
    (tmp_path / "torn.wav").write_bytes((tmp_path / "0.wav").read_bytes()[:20])
    (tmp_path / "copy.wav").write_bytes((tmp_path / "0.wav").read_bytes())
    soundfile.write(tmp_path / "dead.wav", np.zeros(RATE), RATE)
    paths = [tmp_path / f"{name}.wav" for name in ("0", "torn", "1", "dead", "copy", "2")]
    tested = detect.enroll("press", paths)
    assert tested.recordings == 3 and tested == detect.detector.self_test("press")
    assert tested.sentences()[:3] == [
        "Cannot be used, left out: torn.wav.",
        "Silent, left out: dead.wav.",
        "Copy of another, left out: copy.wav.",
    ]
    with pytest.raises(ValueError, match="fewer than two recordings are left.*torn.wav"):
        detect.enroll("lathe", paths[:2])
    assert "lathe" not in detect.detector.machines
