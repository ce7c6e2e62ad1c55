"""The pipeline: recordings in every form, long ones, bad ones, and the same verdict wherever it is asked for."""

import contextlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_detector import RATE, machine_sound, small_pipeline

import modeling.pipeline_attention_asd as pipeline_module
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel
from modeling.pipeline_attention_asd import cut_windows


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def detect():
    return small_pipeline()


@pytest.fixture(scope="module")
def directory(detect, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    detect.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recordings")
    soundfile.write(path / "normal.wav", machine_sound(220.0, 1000), RATE, subtype="FLOAT")
    soundfile.write(path / "faulty.wav", machine_sound(220.0, 1001, hiss=0.1), RATE, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def server(folder):
    """A web server of the recordings' folder, with a few paths that misbehave."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def do_GET(self):
            if self.path == "/to-file":
                self.send_response(302)
                self.send_header("Location", f"file://{folder}/normal.wav")
                self.end_headers()
            elif self.path == "/to-ftp":
                self.send_response(302)
                self.send_header("Location", "ftp://127.0.0.1/normal.wav")
                self.end_headers()
            elif self.path == "/moved.wav":
                self.send_response(302)
                self.send_header("Location", "/normal.wav")
                self.end_headers()
            elif self.path == "/drip.wav":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    for _ in range(1000):
                        self.wfile.write(b"R")
                        time.sleep(0.05)
            else:
                super().do_GET()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_normal_recording_is_normal_and_a_faulty_one_anomalous_with_a_reason(detect, folder):
    normal, faulty = detect([str(folder / "normal.wav"), folder / "faulty.wav"], machine="fan_id_00")
    assert (normal["verdict"], normal["reason"], normal["windows"]) == ("normal", None, [])
    assert faulty["verdict"] == "anomalous" and faulty["p_value"] < 0.01 < normal["p_value"]
    assert faulty["score"] > faulty["threshold"] == normal["threshold"] > normal["score"]
    # The fault is noise at all frequencies, 14 dB above the machine's own (0.12 to 0.02).
    assert "hiss" in faulty["reason"] and "dB above this machine's normal" in faulty["reason"]
    assert 10 < faulty["regions"][0]["level_db"] < 20
    assert (faulty["method"], faulty["calibration_clips"], faulty["false_alarm_rate"]) == ("fitted tail", 12, 0.01)
    json.dumps([normal, faulty], allow_nan=False)


def test_every_form_of_a_recording_gives_the_same_result(detect, folder, server):
    waveform = machine_sound(220.0, 1000)
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE, format="WAV", subtype="FLOAT")
    forms = [
        folder / "normal.wav",
        str(folder / "normal.wav"),
        f"{server}/normal.wav",
        f"{server}/moved.wav",
        buffer.getvalue(),
        waveform,
        torch.from_numpy(waveform),
        np.stack([waveform, 0 * waveform]),
        np.stack([waveform, 0 * waveform], axis=1),
        {"raw": waveform, "sampling_rate": RATE},
        {"array": waveform, "sampling_rate": RATE, "path": None},
    ]
    expected = detect(forms[0])
    assert expected["machine"] == "fan_id_00"
    assert [detect(form) for form in forms] == [expected] * len(forms)
    assert detect(forms) == [expected] * len(forms)
    assert list(detect(form for form in forms)) == [expected] * len(forms)
    assert detect(waveform.tolist()) == expected
    assert detect([]) == []


def test_array_at_another_rate_is_resampled_as_its_file_is(detect, tmp_path):
    times = np.arange(2 * 44_100) / 44_100
    sound = 0.1 * np.sin(2 * np.pi * 220.0 * times).astype(np.float32)
    soundfile.write(tmp_path / "cd.wav", np.stack([sound] * 8, axis=1), 44_100, subtype="FLOAT")
    from_file = detect(tmp_path / "cd.wav")
    assert len(from_file["windows"]) == 2 and from_file["duration_s"] == pytest.approx(2.0, abs=0.01)
    assert detect({"raw": np.stack([sound] * 8), "sampling_rate": 44_100}) == from_file


@pytest.mark.parametrize("samples", [1, 999, 1000, 1001, 1999, 2000, 2001, 4300])
@pytest.mark.parametrize("block", [1, 300, 1000, 5000])
def test_windows_of_a_stream_are_those_of_the_feature_extractor(detect, samples, block):
    signal = np.arange(samples, dtype=np.float32)
    windows = list(cut_windows((signal[i : i + block] for i in range(0, samples, block)), 1000))
    last = max(samples - 1000, 0)
    assert [start for start, _ in windows] == [*range(0, last, 1000), last]
    for start, window in windows:
        np.testing.assert_array_equal(window, signal[start : start + 1000])


def test_fault_in_a_long_recording_is_placed_on_its_timeline(detect):
    parts = [machine_sound(220.0, 2000 + i, hiss=0.1 if i in (5, 6) else 0.0) for i in range(12)]
    result = detect(np.concatenate([*parts, parts[0][: RATE // 2]]), machine="fan_id_00")
    timeline = [(window["start_s"], window["end_s"], window["verdict"]) for window in result["windows"]]
    assert timeline[-2:] == [(11.0, 12.0, "normal"), (11.5, 12.5, "normal")]
    assert [start for start, _, verdict in timeline if verdict == "anomalous"] == [5.0, 6.0]
    assert result["verdict"] == "anomalous" and result["duration_s"] == 12.5
    assert result["reason"].startswith(("From 5.0 s", "From 6.0 s"))


def test_batch_size_changes_memory_and_nothing_else(detect):
    sound = machine_sound(220.0, 3000, seconds=5.0)
    one, all_at_once = detect(sound, batch_size=1), detect(sound, batch_size=16)
    assert one["verdict"] == all_at_once["verdict"]
    assert one["score"] == pytest.approx(all_at_once["score"], abs=1e-6)


def test_long_recording_is_scored_in_constant_memory(detect, tmp_path):
    """Python's and NumPy's memory: ten times the length may not need twice the peak."""
    peaks = []
    for seconds in (130, 1300):
        with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1, "PCM_16") as file:
            for part in range(seconds // 10):
                file.write(machine_sound(220.0, part, seconds=10.0))
        recording = detect.open_recording(tmp_path / "long.wav")
        tracemalloc.start()
        count = sum(1 for _ in recording.windows(RATE))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == seconds
    assert peaks[1] < 1.5 * peaks[0]


def test_many_channels_at_a_high_rate_take_no_more_memory(detect, tmp_path):
    """5 s of 8 channels at the highest rate that FLAC has are 105 MB of float32."""
    rate = 655_350
    with soundfile.SoundFile(tmp_path / "high.flac", "w", rate, 8, "PCM_16") as file:
        for _ in range(5):
            file.write(np.zeros((rate, 8), np.int16))
    tracemalloc.start()
    assert sum(map(len, detect.feature_extractor.stream_audio(tmp_path / "high.flac"))) == 5 * RATE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_silence_is_no_verdict(detect):
    for silence in (np.zeros(RATE, np.float32), np.full(3 * RATE, 0.25, np.float32)):
        result = detect(silence, machine="fan_id_00")
        assert (result["verdict"], result["note"]) == ("cannot tell", "it is silent")
        json.dumps(result, allow_nan=False)
    half = np.concatenate([machine_sound(220.0, 1), np.zeros(RATE, np.float32)])
    assert [window["verdict"] for window in detect(half)["windows"]] == ["normal", "cannot tell"]


def test_short_recording_is_judged(detect):
    result = detect(machine_sound(220.0, 8, seconds=0.2), machine="fan_id_00")
    assert result["duration_s"] == 0.2 and result["verdict"] in ("normal", "anomalous")


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ("missing.wav", "missing.wav: no such file"),
        (b"", "audio data: cannot be read"),
        (b"not a sound", "audio data: cannot be read"),
        (np.array([]), "empty"),
        (np.full(RATE, np.nan), "not finite"),
        (np.zeros((2, 3, 4)), "3 dimensions"),
        ({"raw": np.zeros(5)}, "'sampling_rate'"),
        ({"raw": np.zeros(5), "sampling_rate": 0}, "1,000 to 1,000,000"),
        ({"raw": [0.1], "sampling_rate": 1_000_000}, "audio array: is empty at the model's sampling rate"),
        (3.5, "type float"),
        ("ftp://127.0.0.1/x.wav", "expected an http or https URL"),
        ("file:///etc/hostname", "expected an http or https URL"),
    ],
)
def test_bad_recording_is_an_error_that_names_it(detect, recording, message):
    with pytest.raises(ValueError, match=message):
        detect(recording)


def test_urls_have_limits(detect, server, monkeypatch):
    for path in ("/missing.wav", "/to-file", "/to-ftp"):
        with pytest.raises(ValueError, match=f"{server}{path}: cannot be downloaded"):
            detect(server + path)
    with pytest.raises(ValueError, match=f"{server}/: cannot be read as audio"):
        detect(f"{server}/")
    monkeypatch.setattr(pipeline_module, "MAX_DOWNLOAD_BYTES", 1000)
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        detect(f"{server}/normal.wav")


def test_a_server_that_drips_is_left_when_the_time_is_up(detect, server, monkeypatch):
    monkeypatch.setattr(pipeline_module, "DOWNLOAD_SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(ValueError, match="/drip.wav: cannot be downloaded .it took longer"):
        detect(f"{server}/drip.wav")
    assert time.monotonic() - start < 5


def test_bad_option_is_an_error_that_names_it(detect, folder):
    with pytest.raises(ValueError, match="expected one of fan_id_00, fan_id_02, pump_id_00"):
        detect(folder / "normal.wav", machine="fan_id_17")
    with pytest.raises(ValueError, match="false_alarm_rate=2"):
        detect(folder / "normal.wav", false_alarm_rate=2)
    with pytest.raises(TypeError, match="threshold"):
        detect(folder / "normal.wav", threshold=0.5)


def test_attention_map_is_the_networks(detect):
    sound = machine_sound(220.0, 4000)
    result = detect(sound, return_attention_maps=True)
    with torch.no_grad():
        outputs = detect.model(**detect.feature_extractor(sound, sampling_rate=RATE))
    assert list(result["attention_maps"]) == ["log_mel", "wavegram"]
    assert np.array_equal(list(result["attention_maps"].values()), outputs.attention_maps[0].numpy())


def test_machine_is_enrolled_from_recordings_and_kept(detect, directory, tmp_path):
    fresh = type(detect)(
        model=detect.model,
        feature_extractor=detect.feature_extractor,
        detector=AnomalyDetector.from_pretrained(directory),
    )
    # One recording of 3.5 s counts as three clips: its last window overlaps the one before.
    fresh.enroll("press 7", [machine_sound(900.0, 1), machine_sound(900.0, 2, seconds=3.5)])
    fresh.save_pretrained(tmp_path)
    again = type(detect)(
        model=detect.model,
        feature_extractor=detect.feature_extractor,
        detector=AnomalyDetector.from_pretrained(tmp_path),
    )
    result = again(machine_sound(900.0, 77), machine="press 7")
    assert result["calibration_clips"] == 4 and result["verdict"] == "normal"
    assert again.detector.normal_level("press 7") is not None
    with pytest.raises(ValueError, match="silent at 0.0 s"):
        fresh.enroll("dead microphone", [np.zeros(RATE)])
    with pytest.raises(ValueError, match="no clips"):
        fresh.enroll("nothing", [])


def test_verdict_is_the_same_in_python_in_the_pipeline_of_a_fresh_process_and_in_score_py(directory, folder, tmp_path):
    file = folder / "faulty.wav"
    model = AttentionAsdModel.from_pretrained(directory)
    feature_extractor = AttentionAsdFeatureExtractor.from_pretrained(directory)
    detector = AnomalyDetector.from_pretrained(directory)
    with torch.no_grad():
        outputs = model(**feature_extractor(feature_extractor.read_audio(file), sampling_rate=RATE))
    in_python = detector.decide(outputs, machine="fan_id_00")[0].to_dict()

    program = f"""
import json
from transformers import pipeline
detect = pipeline("anomalous-sound-detection", model={str(directory)!r}, trust_remote_code=True)
print(json.dumps(detect({str(file)!r}, machine="fan_id_00")))
detect.save_pretrained("again")
print(pipeline(model="again", trust_remote_code=True)({str(file)!r}, machine="fan_id_00")["score"])
"""
    # An empty directory, and nothing of the project on the path.
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": ""}
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    in_pipeline, score_when_saved_again = map(json.loads, run.stdout.splitlines())

    command = [
        sys.executable,
        ROOT / "score.py",
        file,
        "--model",
        directory,
        "--machine",
        "fan_id_00",
        "--format",
        "json",
    ]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    in_score_py = json.loads(run.stdout)

    assert in_score_py.pop("file") == str(file)
    assert in_score_py == in_pipeline
    assert {key: in_pipeline[key] for key in in_python} == in_python
    assert score_when_saved_again == in_python["score"]
    assert in_python["verdict"] == "anomalous"


@pytest.mark.slow
def test_thirty_minutes_become_a_timeline_that_covers_them_and_finds_the_fault(detect, tmp_path):
    sound = np.tile(machine_sound(220.0, 7, seconds=60), 30)
    fault = slice(1000 * RATE, 1003 * RATE)
    sound[fault] += 0.5 * np.random.default_rng(0).standard_normal(3 * RATE)
    soundfile.write(tmp_path / "shift.wav", sound, RATE, subtype="PCM_16")
    result = detect(tmp_path / "shift.wav", machine="fan_id_00")
    starts = [window["start_s"] for window in result["windows"]]
    assert result["duration_s"] == pytest.approx(1800)
    assert starts == sorted(starts) and len(starts) == 1800 and result["windows"][-1]["end_s"] == pytest.approx(1800)
    highest = max(result["windows"], key=lambda window: window["score"])
    assert 999 <= highest["start_s"] <= 1003
