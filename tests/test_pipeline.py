"""The pipeline: verdicts and reasons, long recordings, bad ones, and the same verdict wherever it is asked for."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
import torch
from small_detector import RATE, machine_sound, small_pipeline
from sound_server import sound_server
from transformers.pipelines.pt_utils import KeyDataset

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel


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
    with sound_server(folder) as serving:
        yield serving


def test_normal_recording_is_normal_and_a_faulty_one_anomalous_with_a_reason(detect, folder):
    normal, faulty = detect([str(folder / "normal.wav"), folder / "faulty.wav"], machine="fan_id_00")
    assert (normal["verdict"], normal["reason"], normal["windows"]) == ("normal", None, [])
    assert faulty["verdict"] == "anomalous" and faulty["p_value"] < 0.01 < normal["p_value"]
    assert faulty["score"] >= faulty["threshold"] == normal["threshold"] > normal["score"]
    # The fault is noise at all frequencies, 14 dB above the machine's own (0.12 to 0.02).
    assert "hiss" in faulty["reason"] and "dB above this machine's normal" in faulty["reason"]
    assert 10 < faulty["regions"][0]["level_db"] < 20
    assert (faulty["method"], faulty["calibration_clips"], faulty["false_alarm_rate"]) == (
        "own and other machines",
        36,
        0.01,
    )
    json.dumps([normal, faulty], allow_nan=False)


def test_one_recording_and_several_in_any_form_give_the_same_results(detect, folder, server):
    waveform = machine_sound(220.0, 1000)
    forms = [folder / "normal.wav", f"{server.url}/normal.wav", waveform, {"raw": waveform, "sampling_rate": RATE}]
    expected = detect(forms[0])
    assert expected["machine"] == "fan_id_00"
    assert [detect(form) for form in forms] == [expected] * len(forms)
    assert detect(forms) == [expected] * len(forms)
    assert list(detect(form for form in forms)) == [expected] * len(forms)
    assert detect(waveform.tolist()) == expected
    assert detect([]) == []


def test_a_data_set_is_taken_as_it_is_and_answered_row_by_row(detect, folder):
    paths = [str(folder / "normal.wav"), str(folder / "faulty.wav")]
    expected = detect(paths)
    waveforms = [machine_sound(220.0, 1000), machine_sound(220.0, 1001, hiss=0.1)]
    columns = {
        "path": paths,
        "audio": [{"array": waveform, "sampling_rate": RATE} for waveform in waveforms],
        "file": [{"path": path, "bytes": Path(path).read_bytes()} for path in paths],
    }
    rows: Any = datasets.Dataset.from_dict(columns)
    for form in (
        rows,
        rows.select_columns("path"),
        rows.to_iterable_dataset(),
        rows["file"],
        *([rows.to_iterable_dataset()["file"]] if hasattr(datasets.iterable_dataset, "IterableColumn") else []),
        KeyDataset(rows, "path"),
        KeyDataset(rows, "audio"),
        KeyDataset(rows, "file"),
    ):
        assert list(detect(form, num_workers=2)) == expected
    assert detect((RATE, waveforms[1]), num_workers=0) == detect([(RATE, waveforms[1])])[0] == expected[1]


def test_rows_with_torchcodecs_decoders_are_taken(detect, folder):
    try:
        importlib.import_module("torchcodec")
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"torchcodec with FFmpeg is not here: {error}")
    rows = datasets.Dataset.from_dict({"audio": [str(folder / "normal.wav")]}).cast_column("audio", datasets.Audio())
    assert list(detect(rows)) == [detect(folder / "normal.wav")]


def test_a_recording_of_a_recorder_that_lost_power_is_judged_with_a_note(detect, folder):
    wav = bytearray((folder / "faulty.wav").read_bytes())
    start = wav.index(b"data") + 4
    wav[start : start + 4] = bytes(4)
    result, whole = detect(bytes(wav)), detect(folder / "faulty.wav")
    note = "the header says 0 samples; 1.0 s were found"
    assert result["note"] == (f"{note}; {whole['note']}" if whole["note"] else note)
    assert {**result, "note": None} == {**whole, "note": None}


def test_a_recording_by_url_is_fetched_once_for_verdict_reason_and_picture(detect, folder, server):
    parts = [machine_sound(220.0, 2000 + i, hiss=(0.0, 0.2, 0.1, 0.1)[i]) for i in range(4)]
    soundfile.write(folder / "long.wav", np.concatenate(parts), RATE, subtype="FLOAT")
    result = detect.judge(f"{server.url}/long.wav", machine="fan_id_00", return_attention_maps=True)
    assert server.requests["/long.wav"] == 1
    assert result.decision.verdict == "anomalous" and result.reason.startswith("From 1.0 s")
    assert result.window.start_s == 1.0
    np.testing.assert_array_equal(result.window.waveform, parts[1])


def test_a_judged_recording_is_what_the_call_returns(detect, folder):
    options = {"machine": "fan_id_00", "batch_size": 1}
    result = detect.judge(folder / "faulty.wav", **options)
    assert result.to_dict() == detect(folder / "faulty.wav", **options)
    assert result.window is None


def test_fault_in_a_long_recording_is_placed_on_its_timeline(detect):
    parts = [machine_sound(220.0, 2000 + i, hiss=0.1 if i in range(4, 9) else 0.0) for i in range(12)]
    result = detect(np.concatenate([*parts, parts[0][: RATE // 2]]), machine="fan_id_00")
    timeline = [(window["start_s"], window["end_s"], window["verdict"]) for window in result["windows"]]
    assert timeline[-2:] == [(11.0, 12.0, "normal"), (11.5, 12.5, "normal")]
    assert [start for start, _, verdict in timeline if verdict == "anomalous"] == [4.0, 5.0, 6.0, 7.0, 8.0]
    assert result["verdict"] == "anomalous" and result["duration_s"] == 12.5
    assert result["reason"].startswith(tuple(f"From {start}.0 s" for start in range(4, 9)))


def test_batch_size_changes_memory_and_nothing_else(detect):
    sound = machine_sound(220.0, 3000, seconds=5.0)
    one, all_at_once = detect(sound, batch_size=1), detect(sound, batch_size=16)
    assert one["verdict"] == all_at_once["verdict"]
    assert one["score"] == pytest.approx(all_at_once["score"], abs=1e-6)


def test_silence_is_no_verdict(detect):
    for silence in (np.zeros(RATE, np.float32), np.full(3 * RATE, 0.25, np.float32)):
        result = detect(silence, machine="fan_id_00")
        assert (result["verdict"], result["note"]) == ("cannot tell", "it is silent")
        json.dumps(result, allow_nan=False)
    gap = np.concatenate([machine_sound(220.0, 1), np.zeros(RATE, np.float32), machine_sound(220.0, 2)])
    assert [window["verdict"] for window in detect(gap)["windows"]] == ["normal", "cannot tell", "normal"]


def test_bad_recording_is_an_error_that_names_it(detect):
    with pytest.raises(ValueError, match="missing.wav: no such file"):
        detect("missing.wav")
    row: Any = {"audio": {"path": "row.wav", "array": np.full(RATE, np.nan), "sampling_rate": RATE}}
    with pytest.raises(ValueError, match="row.wav: audio holds 16000 samples of 16000 that are not finite"):
        detect(row)
    with pytest.raises(ValueError, match="a data set of the splits train, test: expected one split"):
        detect(
            datasets.DatasetDict({"train": datasets.Dataset.from_list([row]), "test": datasets.Dataset.from_list([])})
        )


def test_bad_option_is_an_error_that_names_it(detect, folder):
    with pytest.raises(ValueError, match="expected one of fan_id_00, fan_id_02, pump_id_00"):
        detect(folder / "normal.wav", machine="fan_id_17")
    with pytest.raises(ValueError, match="false_alarm_rate=2"):
        detect(folder / "normal.wav", false_alarm_rate=2)
    with pytest.raises(ValueError, match="false_alarm_rate='0.05': expected a number"):
        detect(folder / "normal.wav", false_alarm_rate="0.05")
    with pytest.raises(ValueError, match="is not known: expected one of fan_id_00"):
        detect([folder / "normal.wav"], machine=["fan_id_00"])
    with pytest.raises(TypeError, match="threshold"):
        detect(folder / "normal.wav", threshold=0.5)
    with pytest.raises(ValueError, match="batch_size=0"):
        detect.judge(folder / "normal.wav", batch_size=0)


def test_another_engine_is_refused_and_the_message_names_the_exporter(detect, directory):
    parts = {"feature_extractor": detect.feature_extractor, "detector": detect.detector}
    with pytest.raises(ValueError, match="not loaded from files. Export it"):
        type(detect)(model=detect.model, engine="onnx", **parts)
    with pytest.raises(ValueError, match="not exported. Export it with scripts/export.py --engine onnx"):
        type(detect)(model=AttentionAsdModel.from_pretrained(directory), engine="onnx", **parts)


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
    with pytest.raises(ValueError, match="Silent, left out: recording 1"):
        fresh.enroll("dead microphone", [np.zeros(RATE)])
    with pytest.raises(ValueError, match="no clips"):
        fresh.enroll("nothing", [])
    sound = machine_sound(900.0, 3)
    for one in ("press.wav", Path("press.wav"), b"RIFF", sound, torch.from_numpy(sound), (RATE, sound), {"raw": sound}):
        with pytest.raises(ValueError, match="clips is one recording .*: expected a list of recordings"):
            fresh.enroll("press 8", one)


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
    # score.py adds what the row rests on.
    assert {key: in_score_py[key] for key in in_pipeline} == in_pipeline
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
