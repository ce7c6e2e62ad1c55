"""Deciding a recording: its windows together keep the false-alarm rate, and what cannot be judged is not."""

import numpy as np
import pytest
import torch
from machine_world import NAMES, World

from modeling import ClipOutputs


def test_recording_of_many_windows_keeps_the_false_alarm_rate():
    alarms = {1: [], 30: []}
    for seed in range(20):
        world = World(seed)
        detector = world.detector(held_out=200)
        for windows, verdicts in alarms.items():
            decisions = [detector.decide_recording(world.clips(0, windows), NAMES[0], 0.05)[0] for _ in range(15)]
            verdicts += [decision.verdict == "anomalous" for decision in decisions]
    # Thirty windows without adjustment would be 0.78.
    assert np.mean(alarms[1]) < 0.1 and np.mean(alarms[30]) < 0.12


def test_fault_in_some_windows_is_found_and_placed():
    world = World()
    detector = world.detector()
    clips = ClipOutputs.concatenate([world.clips(0, 20), world.clips(0, 3, fault=2.0), world.clips(0, 7)])
    recording, windows = detector.decide_recording(clips, NAMES[0], 0.01)
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
        clips = ClipOutputs.concatenate([world.clips(0, 3), world.clips(0, 3, fault=0.7)])
        recording, windows = detector.decide_recording(clips, NAMES[0], rate, "knn")
        for decision in (recording, *windows):
            assert (decision.score > decision.threshold) == (decision.verdict == "anomalous")
            verdicts.add((decision.method, decision.verdict))
    assert verdicts == {("fitted tail", "anomalous"), ("fitted tail", "normal")}


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
    recording, windows = world.detector().decide_recording(ClipOutputs(embeddings, clips.cosines), NAMES[0])
    assert [window.verdict for window in windows] == ["cannot tell", "normal"]
    assert "not finite" in windows[0].note and recording == windows[1]


def test_clips_are_decided_one_by_one_as_recordings_of_one_window():
    world = World()
    detector = world.detector(with_spectra=True)
    clips = ClipOutputs.concatenate([world.clips(0, 3), world.clips(1, 2, fault=1.0)])
    one_by_one = [detector.decide_recording(clips[place])[0] for place in range(len(clips))]
    assert detector.decide(clips) == one_by_one
