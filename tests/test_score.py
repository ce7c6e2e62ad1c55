"""score.py as it is used: files, folders, streams, archives that are interrupted, several processes."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from score_process import next_row, run_here, send, start
from small_detector import RATE, machine_sound, small_pipeline
from sound_server import sound_server

import score
from scoring.inputs import find_recordings
from scoring.rows import anomalous_stretches, as_table


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    small_pipeline().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four normal recordings, a faulty one, and what people send besides."""
    path = tmp_path_factory.mktemp("recordings")
    (path / "pump").mkdir()
    for i in range(3):
        soundfile.write(path / f"normal {i}.wav", machine_sound(220.0, 500 + i), RATE)
    soundfile.write(path / "pump" / "id_00_00000007.flac", machine_sound(1700.0, 500), RATE)
    soundfile.write(path / "zz_faulty.wav", machine_sound(220.0, 600, hiss=0.1), RATE)
    return path


@pytest.fixture
def bad_folder(tmp_path) -> Path:
    path = tmp_path / "bad"
    path.mkdir()
    sound = machine_sound(220.0, 700)
    (path / "1_empty.wav").write_bytes(b"")
    (path / "2_text.wav").write_text("this is not a sound")
    soundfile.write(path / "3_nan.wav", np.where(np.arange(RATE) == 99, np.nan, sound), RATE, subtype="FLOAT")
    soundfile.write(path / "4_eight_channels.wav", np.stack([sound] * 8, axis=1), RATE)
    soundfile.write(path / "5_short.wav", sound[: RATE // 5], RATE)
    soundfile.write(path / "6_zeros.wav", np.zeros(RATE), RATE)
    return path


def test_files_folders_and_globs_are_scored_in_their_order(capsys, model, folder):
    inputs = [folder / "zz_faulty.wav", folder, folder / "**" / "*.flac"]
    code, rows, stderr = run_here(capsys, *inputs, "--model", model)
    names = ["zz_faulty.wav", "normal 0.wav", "normal 1.wav", "normal 2.wav", "id_00_00000007.flac"]
    assert [Path(row["file"]).name for row in rows] == names
    # Without a machine named nothing is an alarm.
    assert [row["verdict"] for row in rows] == ["cannot tell"] + ["normal"] * 4
    assert code == 0 and "4 normal" in stderr


def test_exit_code_says_what_was_found(capsys, model, folder, bad_folder):
    arguments = ["--model", model, "--machine", "fan_id_00"]
    assert run_here(capsys, folder / "normal 0.wav", *arguments)[0] == 0
    assert run_here(capsys, folder / "zz_faulty.wav", *arguments)[0] == 1
    assert run_here(capsys, folder / "zz_faulty.wav", bad_folder / "2_text.wav", *arguments)[0] == 2


def test_bad_inputs_are_named_and_passed_over(capsys, model, bad_folder, tmp_path):
    (tmp_path / "nothing").mkdir()
    inputs = [bad_folder, tmp_path / "nothing", tmp_path / "missing.wav", tmp_path / "*.ogg"]
    code, rows, stderr = run_here(capsys, *inputs, "--model", model, "--machine", "fan_id_00")
    errors = [row.get("error", "") for row in rows]
    for error, expected in zip(
        errors,
        [
            "1_empty.wav: cannot be read",
            "2_text.wav: cannot be read",
            "3_nan.wav: cannot be read as audio (1 samples",
        ],
        strict=False,
    ):
        assert expected in error
    eight, short, zeros = rows[3:6]
    assert eight["verdict"] == "normal" and eight["duration_s"] == 1.0
    assert (short["duration_s"], short["verdict"]) == (0.2, "cannot tell") and "1 s or more" in short["note"]
    assert (zeros["verdict"], zeros["note"]) == ("cannot tell", "it is silent")
    assert "nothing: no recordings in this folder" in errors[6]
    assert "missing.wav: no such file" in errors[7] and "*.ogg: no such file" in errors[8]
    assert code == 2 and "6 unreadable" in stderr and all(error in stderr for error in errors if error)


def test_unknown_machine_is_an_error_that_lists_the_known_ones(model, folder):
    process = start(folder, "--model", model, "--machine", "fan_id_17")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2 and not stdout
    assert b"machine='fan_id_17' is not known: expected one of fan_id_00, fan_id_02, pump_id_00" in stderr
    assert b"Traceback" not in stderr


def test_a_detector_that_cannot_be_loaded_is_no_alarm(model, folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])
    process = start(folder, "--model", broken)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2 and stderr.startswith(b"error: ") and b"Traceback" not in stderr


def test_a_model_that_is_not_there_is_told_by_its_name(folder, tmp_path):
    process = start(folder, "--model", tmp_path / "mine")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2 and b"Traceback" not in stderr
    assert f"error: {tmp_path / 'mine'}: no folder of this name is here".encode() in stderr


def test_machine_is_read_from_the_path_when_asked_for_and_its_label_is_not(capsys, model, folder, tmp_path):
    path = tmp_path / "fan" / "test" / "anomaly_id_02_00000001.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, machine_sound(610.0, 800), RATE)
    arguments = ["--model", model, "--machine", "from-path"]
    code, rows, _ = run_here(capsys, path, folder / "pump", *arguments)
    assert [(row["machine"], row["verdict"]) for row in rows] == [("fan_id_02", "normal"), ("pump_id_00", "normal")]
    assert code == 0
    code, rows, _ = run_here(capsys, folder / "normal 0.wav", *arguments)
    assert code == 2 and "not the name of a clip" in rows[0]["error"]


def test_table_and_csv_hold_what_json_holds(model, folder, capsys, monkeypatch):
    arguments = [str(folder / "*.wav"), "--model", str(model), "--machine", "fan_id_00"]
    _, rows, _ = run_here(capsys, *arguments)
    for form in ("csv", "table"):
        monkeypatch.setattr(sys, "argv", ["score.py", *arguments, "--format", form])
        score.main()
        output = capsys.readouterr().out
        if form == "csv":
            table = list(csv.DictReader(io.StringIO(output)))
            assert [row["file"] for row in table] == [row["file"] for row in rows]
            assert [float(row["score"]) for row in table] == [row["score"] for row in rows]
        else:
            lines = output.splitlines()
            assert lines[0].startswith("verdict")
            assert sum(line.startswith("anomalous") for line in lines) == 1
            assert any("dB above this machine's normal" in line for line in lines)


def test_false_alarm_rate_and_back_end_are_those_asked_for(capsys, model, folder):
    file = folder / "normal 0.wav"
    _, (strict,), _ = run_here(capsys, file, "--model", model, "--false_alarm_rate", "0.1", "--backend", "arcface")
    _, (default,), _ = run_here(capsys, file, "--model", model)
    assert (strict["false_alarm_rate"], strict["backend"]) == (0.1, "arcface")
    assert (default["false_alarm_rate"], default["backend"]) == (0.01, "spectrum")
    with pytest.raises(ValueError, match="false_alarm_rate=7"):
        run_here(capsys, file, "--model", model, "--false_alarm_rate", "7")


def test_long_recording_has_a_timeline(capsys, model, tmp_path):
    parts = [machine_sound(220.0, 900 + i, hiss=0.1 if i in range(4, 8) else 0.0) for i in range(10)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), RATE)
    _, (row,), _ = run_here(capsys, tmp_path / "long.wav", "--model", model, "--machine", "fan_id_00")
    assert [w["start_s"] for w in row["windows"] if w["verdict"] == "anomalous"] == [4.0, 5.0, 6.0, 7.0]
    assert anomalous_stretches(row) == "4-8"


def test_pictures_are_written(capsys, model, folder, tmp_path):
    pictures = tmp_path / "pictures"
    _, rows, _ = run_here(capsys, folder / "zz_faulty.wav", folder / "pump", "--model", model, "--picture", pictures)
    names = sorted(path.name for path in pictures.iterdir())
    assert len(names) == 2 and names[0].startswith("id_00_00000007-") and names[1].startswith("zz_faulty-")
    assert all((pictures / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert "attention_maps" not in rows[0]
    # A picture that cannot be written takes no verdict away.
    (pictures / names[1]).unlink()
    (pictures / names[1]).mkdir()
    _, (row,), errors = run_here(capsys, folder / "zz_faulty.wav", "--model", model, "--picture", pictures)
    assert row["verdict"] == rows[0]["verdict"] and "was judged, but has no picture" in errors


def test_a_recording_by_url_is_fetched_once_for_verdict_and_picture(capsys, model, tmp_path):
    parts = [machine_sound(220.0, 900 + i, hiss=(0.0, 0.2, 0.1, 0.1)[i]) for i in range(4)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), RATE)
    pictures = tmp_path / "pictures"
    with sound_server(tmp_path) as server:
        arguments = ["--model", model, "--machine", "fan_id_00", "--picture", pictures]
        code, (row,), _ = run_here(capsys, f"{server.url}/long.wav", *arguments)
    assert code == 1 and row["reason"].startswith("From 1.0 s")
    assert server.requests["/long.wav"] == 1 and len(list(pictures.iterdir())) == 1


def test_a_recording_by_url_is_judged_at_every_start_as_nobody_knows_whether_it_changed(capsys, model, tmp_path):
    with sound_server(tmp_path) as server:
        for hiss in (0.0, 0.2):
            soundfile.write(tmp_path / "now.wav", machine_sound(220.0, 950, hiss=hiss), RATE)
            code, _, _ = run_here(
                capsys,
                f"{server.url}/now.wav",
                "--model",
                model,
                "--machine",
                "fan_id_00",
                "--output",
                tmp_path / "v.csv",
            )
            assert code == int(hiss > 0)


def test_a_table_shows_control_characters_of_a_name_as_escapes():
    row = {"file": "clears\x1b[2J the\nscreen.wav", "error": "clears\x1b[2J the\nscreen.wav: no sound"}
    assert as_table(row) == f"{'unreadable':<12} clears\\x1b[2J the\\nscreen.wav: no sound"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_interrupted_archive_goes_on_where_it_stopped(model, folder, bad_folder, tmp_path, suffix, monkeypatch, capsys):
    """Killed after three results and in the middle of a line: in the end every recording is there once, in order."""
    archive = [str(folder), str(bad_folder)]
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"again{suffix}"
    codes = [run_here(capsys, *archive, "--model", model, "--output", whole)[0]]
    lines = whole.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:4]) + lines[4][:25])
    codes.append(run_here(capsys, *archive, "--model", model, "--output", output)[0])
    assert output.read_bytes() == whole.read_bytes()
    # A run that finds everything done counts what was found before.
    codes.append(run_here(capsys, *archive, "--model", model, "--output", output)[0])
    assert output.read_bytes() == whole.read_bytes()
    assert codes == [2, 2, 2]
    (tmp_path / f"other{suffix}").write_text("something else\nmine\n")
    with pytest.raises(ValueError, match="not written by this version of score.py"):
        run_here(capsys, *archive, "--model", model, "--output", tmp_path / f"other{suffix}")


@pytest.mark.slow
def test_archive_of_2000_recordings_with_20_broken_ones_survives_being_killed(capsys, model, tmp_path):
    """1,980 verdicts and 20 named errors, and the very same file when killed on the way and started again."""
    archive, whole, again = tmp_path / "archive", tmp_path / "whole.jsonl", tmp_path / "again.jsonl"
    sounds = [tmp_path / f"{i}.wav" for i in range(20)]
    for i, sound in enumerate(sounds):
        soundfile.write(sound, machine_sound(220.0, 1000 + i), RATE)
    archive.mkdir()
    for i in range(2_000):
        path = archive / f"{i:04d}.wav"
        if i % 100 == 57:
            path.write_bytes(sounds[i % 20].read_bytes()[:20])
        else:
            path.hardlink_to(sounds[i % 20])
    arguments = [archive, "--model", model, "--machine", "fan_id_00"]

    code, _, stderr = run_here(capsys, *arguments, "--output", whole)
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    assert code == 2 and [Path(row["file"]).name for row in rows] == [f"{i:04d}.wav" for i in range(2_000)]
    errors = {Path(row["file"]).name: row["error"] for row in rows if "error" in row}
    assert list(errors) == [f"{i:04d}.wav" for i in range(57, 2_000, 100)]
    assert all(f"{name}: cannot be read" in error and error in stderr for name, error in errors.items())
    assert all(row["verdict"] in ("normal", "anomalous") for row in rows if "error" not in row)

    killed = start(*arguments, "--output", again)
    deadline = time.monotonic() + 120
    while not again.exists() or again.read_bytes().count(b"\n") < 300:
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and 300 <= again.read_bytes().count(b"\n") < 2_000
    code, _, _ = run_here(capsys, *arguments, "--output", again)
    assert code == 2 and again.read_bytes() == whole.read_bytes()


def raw_sound(rate: int) -> np.ndarray:
    times = np.arange(2 * rate) / rate
    noise = np.random.default_rng([5]).normal(size=len(times))
    return 0.1 * sum(np.sin(2 * np.pi * 220 * n * times) / n for n in (1, 2, 3)) + 0.02 * noise


def test_raw_stream_is_scored_window_by_window_as_it_arrives(model):
    """The first result is there while the stream is still open, as from a microphone."""
    data = (raw_sound(RATE) * 32767).astype("<i2").tobytes()
    process = start("-", "--model", model, "--machine", "fan_id_00", "--format", "json", stdin=subprocess.PIPE)
    send(process, data[: len(data) // 2])
    first = next_row(process)
    assert process.poll() is None
    assert (first["start_s"], first["end_s"], first["machine"]) == (0.0, 1.0, "fan_id_00")
    send(process, data[len(data) // 2 :] + data[: len(data) // 4])
    stdout, stderr = process.communicate(timeout=60)
    assert [json.loads(line)["start_s"] for line in stdout.splitlines()] == [1.0, 1.5], stderr
    assert process.returncode in (0, 1)


def test_raw_stream_of_floats_at_another_rate_is_resampled(capsys, model, monkeypatch):
    data = raw_sound(44_100).astype("<f4").tobytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    options = ["--model", model, "--sample_format", "f32le", "--sampling_rate", 44_100]
    _, rows, _ = run_here(capsys, "-", *options)
    assert [row["start_s"] for row in rows] == [0.0, 1.0] and rows[1]["end_s"] == pytest.approx(2.0, abs=0.01)
    assert {row["machine"] for row in rows} == {"fan_id_00"}


def test_every_window_of_a_stream_has_a_picture(capsys, model, monkeypatch, tmp_path):
    data = raw_sound(RATE).astype("<f4").tobytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    run_here(capsys, "-", "--model", model, "--sample_format", "f32le", "--picture", tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.split("-")[0] for name in names] == ["standard input, 0", "standard input, 1"]


def test_empty_stream_is_an_error(capsys, model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    code, rows, _ = run_here(capsys, "-", "--model", model)
    assert code == 2 and "no samples arrived" in rows[0]["error"]


@pytest.mark.slow
def test_several_processes_share_an_archive_and_keep_its_order(model, folder, bad_folder, tmp_path):
    output = tmp_path / "verdicts.jsonl"
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [ROOT / "score.py", folder, bad_folder, folder / "missing.wav", "--model", model, "--output", output]
    run = subprocess.run([*launcher, *command], env=environment, capture_output=True, text=True, timeout=120)
    names = [Path(json.loads(line)["file"]).name for line in output.read_text().splitlines()]
    expected = [Path(path).name for path in find_recordings([str(folder), str(bad_folder)]).recordings] + [
        "missing.wav"
    ]
    assert names == expected, run.stderr
    assert run.returncode != 0


def test_usage_errors_say_what_to_do(capsys, monkeypatch):
    for arguments, message in (
        ([], "give files and folders"),
        (["a.wav", "--watch", "folder"], "give files and folders"),
        (["-", "a.wav"], "goes alone"),
        (["a.wav", "--output", "x.txt"], "ends in .jsonl or .csv"),
        (["a.wav", "--batch_size", "0"], "--batch_size: 0: expected a whole number above 0"),
        (["--watch", "folder", "--settle", "nan"], "--settle nan: expected a number of seconds"),
        (["a.wav", "--notify", "https://example.org"], "--notify goes with --watch"),
        (["-", "--notify", "ftp://example.org/secret"], "--notify: expected an address that begins with https://HOST"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            score.parse_arguments([*arguments, "--model", "m"])
        assert exit_info.value.code == 2 and message in capsys.readouterr().err
