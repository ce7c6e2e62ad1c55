"""Recording conditions are no faults: each is recognized, named, and leads to a verdict on what is left or to none."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr
import torch
from machine_world import NAMES, World
from small_detector import RATE, machine_sound, small_pipeline

from evaluation.splits import load_splits, machine_of
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import ClipOutputs
from modeling.conditions_attention_asd import count_clipped, find_hum, listen, of_true_frames
from modeling.modeling_attention_asd import spectral_statistics
from research.benchmarks.conditions import CONDITIONS, Heard, at_rate, choose, fit, hear, judge
from training.waveform_bank import WaveformBank


NAME = "fan_id_00"
EXTRACTOR = AttentionAsdFeatureExtractor(clip_length=3 * RATE)


@pytest.fixture(scope="module")
def detect():
    return small_pipeline()


def normal() -> np.ndarray:
    return machine_sound(220.0, 1000)


def faulty() -> np.ndarray:
    return machine_sound(220.0, 1001, hiss=0.1)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


# DC


def test_an_offset_is_not_heard(detect):
    plain, offset = (detect(sound, machine=NAME) for sound in (normal(), normal() + np.float32(0.1)))
    assert offset["verdict"] == plain["verdict"] == "normal"
    assert offset["score"] == pytest.approx(plain["score"], rel=0.02)


def test_a_clip_without_an_offset_stays_as_it_is_and_one_with_it_is_fitted_as_it_is_judged(tmp_path):
    clip = np.round(32768 * normal()).astype(np.int16)
    for name, samples in (("plain", clip), ("offset", clip + 3000)):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
        read = EXTRACTOR.read_sound(tmp_path / f"{name}.wav")
        # The mean of these very samples may be a step from zero.
        assert np.abs(32768 * read - clip).max() <= 10 and np.ptp(32768 * read - clip) == 0
    assert np.array_equal(EXTRACTOR.read_sound(tmp_path / "plain.wav"), clip / np.float32(32768))


# Silence


def test_silence_at_both_ends_is_left_out(detect):
    plain = detect(normal(), machine=NAME)
    with_silence = detect(np.concatenate([silence(0.3), normal(), silence(0.2)]), machine=NAME)
    assert with_silence["score"] == plain["score"] and with_silence["verdict"] == "normal"
    assert with_silence["duration_s"] == 1.5 and "0.5 s of it are silent" in with_silence["note"]


def test_windows_keep_their_place_behind_a_silence(detect):
    parts = [silence(0.5), normal(), faulty(), normal()]
    result = detect(np.concatenate(parts), machine=NAME)
    assert [(w["start_s"], w["end_s"], w["verdict"]) for w in result["windows"]] == [
        (0.5, 1.5, "normal"),
        (1.5, 2.5, "anomalous"),
        (2.5, 3.5, "normal"),
    ]


def test_a_recording_that_is_mostly_silent_is_no_verdict(detect):
    result = detect(np.concatenate([silence(1.2), faulty()]), machine=NAME)
    assert result["verdict"] == "cannot tell" and "more than half of it is silent (1.2 of 2.2 s)" in result["note"]
    gaps = np.concatenate([normal()[: RATE // 2], silence(1.2), normal()[: RATE // 2]])
    assert "more than half of it is silent" in detect(gaps, machine=NAME)["note"]


def test_noise_of_the_lowest_bits_is_silence_wherever_one_looks(detect):
    """Of two steps of 16 bits or less, as a microphone leaves that is off."""
    faint = (np.random.default_rng([1]).integers(-2, 3, RATE) / 32768).astype(np.float32)
    result = detect(faint, machine=NAME)
    assert (result["verdict"], result["score"], result["note"]) == ("cannot tell", None, "it is silent")
    with pytest.raises(ValueError, match="Silent, left out"):
        detect.enroll("press", [faint, faint])


# Length


def test_less_than_a_second_is_no_verdict_and_no_machine(detect):
    result = detect(faulty()[: RATE // 5], machine=NAME)
    assert (result["verdict"], result["score"], result["duration_s"]) == ("cannot tell", None, 0.2)
    assert "only 0.2 s of sound: 1 s or more are needed" in result["note"]
    with pytest.raises(ValueError, match=r"only 0\.5 s of sound"):
        detect.enroll("press", [normal()[: RATE // 2]])


def test_a_short_sound_is_described_by_what_was_recorded_and_not_by_its_repetitions():
    world = World()
    sounds = [machine_sound(220.0, i, seconds=seconds) for i, seconds in enumerate((3.0, 1.5))]
    outputs = replace(world.clips(0, 2), spectra=torch.zeros(2, 6, 128))
    heard = of_true_frames(outputs, sounds, EXTRACTOR)
    assert heard.frames.tolist() == [94, 47] and not heard.spectra[0].any()
    expected = spectral_statistics(EXTRACTOR.log_mel(torch.from_numpy(sounds[1])[None]))[0]
    torch.testing.assert_close(heard.spectra[1].float(), expected)
    assert of_true_frames(outputs, sounds[:1] * 2, EXTRACTOR) is outputs


def test_the_bank_knows_what_was_recorded_of_a_short_clip(tmp_path):
    for index, seconds in enumerate((1.5, 4.0)):
        soundfile.write(tmp_path / f"{index}.wav", machine_sound(220.0, index, seconds=seconds), RATE)
    paths = [str(tmp_path / f"{index}.wav") for index in range(2)]
    for _ in range(2):  # decoded, and found again
        bank = WaveformBank(paths, [0, 0], EXTRACTOR, cache_dir=tmp_path / "cache", progress=False)
        assert bank.lengths.tolist() == [1.5 * RATE, 3 * RATE]


def test_the_bank_leaves_out_what_enrolling_refuses(tmp_path):
    sounds = {
        "short": normal()[: RATE // 2],
        "gaps": np.concatenate([normal(), silence(3.0), normal()]),
        "dead": silence(3.0),
        "good": machine_sound(220.0, 3, seconds=3.0),
    }
    paths = [str(tmp_path / f"{name}.wav") for name in sounds]
    for path, sound in zip(paths, sounds.values(), strict=True):
        soundfile.write(path, sound, RATE)
    bank = WaveformBank(paths, [0] * len(paths), EXTRACTOR, cache_dir=tmp_path / "cache", progress=False)
    assert "only 0.5 s of sound" in bank.errors[paths[0]] and "more than half of it is silent" in bank.errors[paths[1]]
    assert bank.rows == [2, 3] and [bank.looks[path].silent for path in paths[2:]] == [1.0, 0.0]


def test_a_shorter_recording_needs_a_higher_score_and_machines_of_short_clips_none():
    world = World()
    detector = world.detector()
    clip = world.clips(0, 1, fault=0.5)
    frames = torch.tensor([40])
    whole, short = (detector.decide(c, NAMES[0])[0] for c in (clip, replace(clip, frames=frames)))
    assert short.score == whole.score and short.threshold > whole.threshold and short.p_value > whole.p_value
    assert "much shorter than the machine's normal recordings" in short.note
    assert (short.score >= short.threshold) == (short.p_value <= short.false_alarm_rate)
    detector.enroll("press", replace(world.clips(6, 8), frames=frames.repeat(8)))
    probe = world.clips(6, 1)
    assert detector.decide(replace(probe, frames=frames), "press")[0].threshold == detector.threshold("press")


# Clipping and hum


def test_an_alarm_about_a_clipped_recording_is_none(detect):
    sound = 3.0 * faulty()
    assert detect(sound / 8, machine=NAME)["verdict"] == "anomalous"
    result = detect(np.clip(sound, -0.4, 0.4), machine=NAME)
    assert result["verdict"] == "cannot tell" and result["reason"] is None
    assert "the recording is clipped" in result["note"] and "lower the recorder's gain" in result["note"]


@pytest.mark.parametrize("hertz", [50.0, 220.5, 1000.0])
def test_the_top_of_a_tone_is_not_clipped(hertz):
    tone = 0.1 * np.sin(2 * np.pi * hertz * np.arange(10 * RATE) / RATE + 1.0)
    assert count_clipped(np.round(tone * 32768).astype(np.float32) / 32768) == 0


def test_a_hum_of_the_mains_is_named():
    generator, times = np.random.default_rng(0), np.arange(10 * RATE) / RATE
    sound = 0.01 * generator.normal(size=len(times))
    assert find_hum(sound, RATE) is None
    for mains in (50, 60):
        hum = sum(np.sin(2 * np.pi * mains * order * times) / order for order in (1, 2, 3))
        heard = listen([(sound + 0.01 * hum).astype(np.float32)], EXTRACTOR)
        assert heard.conditions.hum_hz == mains
        assert f"multiples of {mains} Hz" in heard.conditions.notes(is_alarm=True)[0]
        assert heard.conditions.notes(is_alarm=False) == []


# The band


def test_a_recording_of_a_lower_rate_is_judged_by_what_it_has(detect):
    def at_8_khz(sound: np.ndarray) -> dict:
        return {"raw": soxr.resample(sound, RATE, 8_000, "VHQ"), "sampling_rate": 8_000}

    result = detect(at_8_khz(normal()), machine=NAME)
    assert result["verdict"] == "normal"
    assert "holds nothing above 4.0 kHz (a codec or a low sampling rate). The rest was judged" in result["note"]
    result = detect(at_8_khz(faulty()), machine=NAME)
    assert (result["verdict"], result["reason"]) == ("cannot tell", None)
    assert "The rest is unlike this machine, which a codec does as well" in result["note"]
    result = detect(at_8_khz(normal()))
    assert result["verdict"] == "cannot tell" and "Name the machine to have the rest judged" in result["note"]


def test_a_fault_in_half_of_the_bins_is_no_louder_recording():
    world = World()
    clip = world.clips(0, 1)
    spectra = clip.spectra.clone()
    spectra[:, 0, :9] += 12.0
    decision = world.detector().decide(replace(clip, spectra=spectra), NAMES[0])[0]
    assert decision.note is None or "louder" not in decision.note


# Real recordings

HARMLESS = ("gain -20 dB", "gain +20 dB", "44.1 kHz", "48 kHz", "MP3, 128 kbit/s, 44.1 kHz", "Opus, 48 kHz")
HARMLESS += ("DC offset of 0.1", "2 s of silence first", "8 kHz", "first 2 s", "clipped at 1 %", "polarity reversed")
HARMLESS += ("gain +12 dB", "MP3, 128 kbit/s, 16 kHz")
REFUSED = ("first 0.2 s", "first 0.5 s", "6 s of silence first")


def test_real_normal_recordings_raise_no_more_alarms_under_other_conditions(shared_data):
    splits, extractor = load_splits(shared_data / "machine_clips"), AttentionAsdFeatureExtractor()
    detector = fit(splits.train, extractor)
    known = [row for row in splits.test if machine_of(row) in detector.machines]
    rows = choose([row for row in known if not row["is_anomaly"]], 12)
    verdicts: dict[str, list[str]] = {}
    for row in rows:
        samples, hertz = soundfile.read(row["path"])
        for condition in CONDITIONS:
            if condition.name in ("as recorded", *HARMLESS, *REFUSED):
                heard = hear(condition.record(samples, hertz), extractor)
                verdicts.setdefault(condition.name, []).append(judge(detector, heard, machine_of(row), 0.05).verdict)
    alarms = {name: of.count("anomalous") for name, of in verdicts.items()}
    assert len(alarms) == 1 + len(HARMLESS) + len(REFUSED)
    assert max(alarms.values()) <= alarms["as recorded"] + 1
    assert all(verdicts[name].count("normal") >= 9 for name in HARMLESS)
    assert all(set(verdicts[name]) == {"cannot tell"} for name in REFUSED)


def test_a_real_machine_enrolled_at_another_sampling_rate_raises_no_more_alarms(shared_data):
    splits, extractor = load_splits(shared_data / "machine_clips"), AttentionAsdFeatureExtractor()
    fans = [row for row in splits.train if machine_of(row) == "fan_id_00"][:16]
    detector = fit([row for row in splits.train if row["machine_type"] in ("pump", "valve")], extractor)
    normal_clips = [row for row in splits.test if machine_of(row) == "fan_id_00" and row["is_anomaly"] is False]

    def heard_at(hertz: int, row: dict) -> Heard:
        samples, rate = soundfile.read(row["path"])
        return hear(at_rate(hertz).record(samples, rate), extractor)

    alarms = {}
    for enrolled_at in (16_000, 48_000):
        clips = ClipOutputs.concatenate([heard_at(enrolled_at, row).outputs for row in fans])
        detector.enroll("fan", clips)
        for judged_at in (16_000, 48_000):
            decisions = [judge(detector, heard_at(judged_at, row), "fan", 0.05) for row in normal_clips]
            alarms[enrolled_at, judged_at] = sum(decision.verdict == "anomalous" for decision in decisions)
    assert len(normal_clips) >= 3 and max(alarms.values()) <= alarms[16_000, 16_000]
