"""Deciding a recording: few false alarms whatever its length, refusals of what cannot be judged, no alarm by guess."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from machine_world import CONFIG, NAMES, NEW, SIZE, World

from modeling import AnomalyDetector, ClipOutputs


def shifted(clips: ClipOutputs, level_db: float) -> ClipOutputs:
    """The clips, louder by so many dB."""
    spectra = clips.spectra.clone()
    spectra[:, 0] += level_db
    return replace(clips, spectra=spectra)


# Recordings of many windows


def test_recording_of_many_windows_keeps_the_false_alarm_rate():
    alarms = {1: [], 30: []}
    for seed in range(20):
        world = World(seed)
        detector = world.detector()
        for windows, verdicts in alarms.items():
            decisions = [detector.decide_recording(world.clips(0, windows), NAMES[0], 0.05)[0] for _ in range(15)]
            verdicts += [decision.verdict == "anomalous" for decision in decisions]
    # Thirty independent windows, each judged by itself, would be 0.78.
    assert np.mean(alarms[1]) < 0.1 and np.mean(alarms[30]) < 0.1


def test_fault_in_some_windows_is_found_and_placed():
    world = World()
    detector = world.detector()
    clips = ClipOutputs.concatenate([world.clips(0, 20), world.clips(0, 3, fault=2.0), world.clips(0, 7)])
    recording, windows = detector.decide_recording(clips, NAMES[0], 0.01)
    assert recording.verdict == "anomalous" and recording.score >= recording.threshold
    assert [i for i, window in enumerate(windows) if window.verdict == "anomalous"] == [20, 21, 22]
    assert recording.score == max(window.score for window in windows)
    assert recording.p_value == min(window.p_value for window in windows)
    for window in windows:
        assert (window.score >= window.threshold) == (window.verdict == "anomalous") == (window.p_value <= 0.01)


@pytest.mark.parametrize("backend", ["arcface", "spectrum"])
def test_the_p_value_does_not_depend_on_the_rate_and_decides_alone(backend):
    world = World()
    detector = world.detector()
    for fault in (0.0, 0.3, 0.5):
        clip = world.clips(0, 1, fault)
        decisions = [detector.decide(clip, NAMES[0], rate, backend)[0] for rate in (0.01, 0.05, 0.1, 0.5)]
        assert len({decision.p_value for decision in decisions}) == 1
        for decision in decisions:
            is_alarm = decision.p_value <= decision.false_alarm_rate
            assert decision.verdict == ("anomalous" if is_alarm else "normal")
            assert (decision.score >= decision.threshold) == is_alarm


def test_clips_are_decided_one_by_one_as_recordings_of_one_window():
    world = World()
    detector = world.detector()
    clips = ClipOutputs.concatenate([world.clips(0, 3), world.clips(1, 2, fault=1.0)])
    one_by_one = [detector.decide_recording(clips[place])[0] for place in range(len(clips))]
    assert detector.decide(clips) == one_by_one


# What cannot be judged


def test_silent_windows_are_not_judged():
    world = World()
    detector = world.detector()
    clips = world.clips(0, 3)
    recording, windows = detector.decide_recording(clips, NAMES[0], silent=[False, True, False])
    assert [window.verdict for window in windows] == ["normal", "cannot tell", "normal"]
    assert recording.verdict == "normal" and windows[1].note == "it is silent"
    recording, _ = detector.decide_recording(clips, NAMES[0], silent=[True] * 3)
    assert (recording.verdict, recording.score, recording.note) == ("cannot tell", None, "it is silent")


def test_outputs_that_are_not_finite_are_no_verdict():
    world = World()
    clips = world.clips(0, 2)
    embeddings = clips.embeddings.clone()
    embeddings[0, 3] = torch.nan
    recording, windows = world.detector().decide_recording(replace(clips, embeddings=embeddings), NAMES[0])
    assert [window.verdict for window in windows] == ["cannot tell", "normal"]
    assert "not finite" in windows[0].note and recording == windows[1]


@pytest.mark.parametrize("machine", [None, NAMES[0]])
def test_noise_is_refused(machine):
    world = World()
    noise = torch.linspace(-50.0, -40.0, SIZE)
    detector = world.detector(noise=noise.expand(2, 1, 6, SIZE))
    clip = world.clips(0, 1)
    spectra = clip.spectra.clone()
    slope = torch.linspace(0.0, 10.0, SIZE)
    spectra[0, 0] = noise + slope + 0.1 * torch.from_numpy(np.random.default_rng([4]).normal(size=SIZE))
    decision = detector.decide(replace(clip, spectra=spectra), machine)[0]
    assert (decision.verdict, decision.predicted_machine) == ("cannot tell", None)
    assert decision.note == "it is noise, with nothing of a machine in it"
    assert detector.decide(clip, machine)[0].verdict == "normal"


def test_a_machine_that_is_as_smooth_as_noise_is_not_refused():
    world = World()
    clips = world.clips(NEW, 8)
    noise = torch.linspace(-50.0, -40.0, SIZE)
    detector = world.detector(noise=noise.expand(2, 1, 6, SIZE))
    spectra = clips.spectra.clone()
    spectra[:, 0] = noise + 0.1 * torch.from_numpy(np.random.default_rng([5]).normal(size=(8, SIZE)))
    smooth = replace(clips, spectra=spectra)
    detector.enroll("press", smooth)
    assert {decision.verdict for decision in detector.decide(smooth, "press")} == {"normal"}


@pytest.mark.parametrize("machine", [None, NAMES[0]])
def test_a_sound_that_is_far_from_every_machine_is_none_of_them(machine):
    world = World()
    clip = world.clips(0, 1)
    spectra = clip.spectra.clone()
    spectra[:, 2:] += torch.from_numpy(np.random.default_rng([2]).normal(0.0, 30.0, size=(1, 4, SIZE))).abs()
    decision = world.detector().decide(replace(clip, spectra=spectra), machine)[0]
    assert (decision.verdict, decision.machine, decision.predicted_machine) == ("cannot tell", machine, None)
    assert "like none of the known machines (the closest is fan_id_" in decision.note


def test_the_sound_of_another_machine_is_named():
    """An alarm is kept: the sound is not normal for the named machine. Nothing else is said with certainty."""
    world = World()
    detector = world.detector()
    clip = world.clips(2, 1)
    decision = detector.decide(clip, NAMES[4])[0]
    assert (decision.machine, decision.predicted_machine, decision.verdict) == (NAMES[4], NAMES[2], "anomalous")
    assert decision.note == f"it sounds like {NAMES[2]}, not like {NAMES[4]}"
    # Without an alarm there is no verdict: at a rate that the clips do not support, nothing raises an alarm.
    decision = detector.decide(clip, NAMES[4], false_alarm_rate=0.0001)[0]
    assert decision.verdict == "cannot tell" and decision.note == f"it sounds like {NAMES[2]}, not like {NAMES[4]}"


def test_without_a_machine_named_nothing_is_an_alarm():
    world = World()
    detector = world.detector()
    faulty = detector.decide(ClipOutputs.concatenate([world.clips(2, 1, fault=2.0) for _ in range(20)]))
    assert {decision.verdict for decision in faulty} == {"cannot tell"}
    assert "name the machine" in faulty[0].note and "closest is fan_id_0" in faulty[0].note
    normal = detector.decide(world.clips(2, 20))
    assert {decision.machine for decision in normal} == {NAMES[2]}
    assert [decision.verdict for decision in normal].count("normal") >= 18


def test_the_level_of_a_recording_is_noted_and_does_not_decide():
    world = World()
    detector = world.detector()
    clip = world.clips(0, 1)
    plain, louder, softer = (detector.decide(shifted(clip, db), NAMES[0])[0] for db in (0.0, 9.0, -9.0))
    assert plain.note is None and plain.verdict == louder.verdict == softer.verdict == "normal"
    assert plain.p_value == pytest.approx(louder.p_value)
    assert "dB louder than this machine's normal" in louder.note
    assert "dB softer than this machine's normal" in softer.note


def test_a_rate_that_the_clips_do_not_support_is_said():
    world = World()
    detector: AnomalyDetector = world.detector(fitted=5, held_out=5)
    decision = detector.decide(world.clips(0, 1, fault=2.0), NAMES[0], 0.001)[0]
    assert decision.p_value == 1 / 61 == detector.lowest_rate(NAMES[0]) and decision.threshold is None
    # Beyond every normal clip, where no clip vouches for a p-value, nothing can be told at that rate.
    assert decision.verdict == "cannot tell" and "no false-alarm rate below 1.6 %" in decision.note
    decision = detector.decide(world.clips(0, 1), NAMES[0], 0.001)[0]
    assert decision.verdict == "normal" and "no false-alarm rate below 1.6 %" in decision.note
    decision = detector.decide(world.clips(0, 1, fault=2.0), NAMES[0], 0.02)[0]
    assert decision.verdict == "anomalous" and decision.note is None


def test_a_clear_fault_of_a_machine_of_twelve_clips_is_not_called_normal_at_the_default_rate():
    verdicts = []
    for seed in range(10):
        world = World(seed)
        detector = AnomalyDetector.fit(CONFIG, world.clips(0, 12), [NAMES[0]] * 12)
        decision = detector.decide(world.clips(0, 1, fault=4.0), NAMES[0])[0]
        assert detector.false_alarm_rate < decision.p_value == 1 / 13
        verdicts.append(decision.verdict)
    assert set(verdicts) == {"cannot tell"}
