"""What score.py is given, and its --output: nothing is missed, judged twice, lost or taken for whole that is not."""

import csv
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from score_process import next_row, run_here, send, start
from small_detector import RATE, machine_sound, small_pipeline

from scoring.inputs import find_recordings
from scoring.results import ResultsFile
from scoring.rows import COLUMNS, HEADERS, as_csv, as_json


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    small_pipeline().save_pretrained(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "recordings"
    path.mkdir()
    return path


def write_sound(path: Path | str, *key: int, hertz: float = 220.0, hiss: float = 0.0, **options) -> None:
    with open(path, "wb") as file:
        soundfile.write(file, machine_sound(hertz, *key, hiss=hiss), RATE, **{"format": "WAV", **options})


def read_rows(path: Path) -> list[dict]:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_what_a_row_rests_on_decides_whether_its_recording_is_judged_again(capsys, model, folder, tmp_path, suffix):
    output = tmp_path / f"verdicts{suffix}"
    for i in range(2):
        write_sound(folder / f"{i}.wav", 500 + i)
    (folder / "2.wav").write_bytes(b"RIFF")

    def files_judged(*options, model=model) -> tuple[int, list[str]]:
        """The exit code, and the names of the rows that a run adds."""
        before = len(read_rows(output)) if output.exists() else 0
        code, _, _ = run_here(capsys, folder, "--model", model, "--output", output, *options)
        return code, [Path(row["file"]).name for row in read_rows(output)[before:]]

    assert files_judged() == (2, ["0.wav", "1.wav", "2.wav"])
    # Nothing has changed. The broken one is looked at again, and is still broken.
    assert files_judged() == (2, [])
    write_sound(folder / "2.wav", 502)  # repaired
    assert files_judged() == (0, ["2.wav"])
    assert files_judged() == (0, [])
    write_sound(folder / "0.wav", 510, hiss=0.1)  # replaced by one of the same size
    assert files_judged() == (0, ["0.wav"])
    everything = ["0.wav", "1.wav", "2.wav"]
    options = ["--machine", "fan_id_00"]
    assert files_judged(*options) == (1, everything)
    assert files_judged(*options) == (1, [])
    assert files_judged(*options, "--false_alarm_rate", "0.1") == (1, everything)
    assert files_judged(*options, "--backend", "arcface")[1] == everything
    other = tmp_path / "other"
    shutil.copytree(model, other)
    small_pipeline(clips=30).detector.save_pretrained(other)
    assert files_judged(*options, "--backend", "arcface", model=other)[1] == everything


@pytest.mark.skipif(sys.platform == "win32", reason="such names are impossible")
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_any_file_name_is_read_written_and_known_again(capsys, model, folder, tmp_path, suffix):
    """Line breaks, quotes and bytes that are no UTF-8, as from an old archive."""
    names = [b"two\nlines.wav", b'a "quoted, name".wav', b"return\r.wav", b"\xe9t\xe9 latin 1.wav"]
    paths = sorted(os.path.join(str(folder), os.fsdecode(name)) for name in names)
    for i, path in enumerate(paths):
        write_sound(path, 500 + i)
    output = tmp_path / f"verdicts{suffix}"
    arguments = [folder, "--model", model, "--output", output, "--picture", tmp_path / "pictures"]
    for _ in range(2):
        assert run_here(capsys, *arguments)[0] == 0
        assert [row["file"] for row in read_rows(output)] == paths
    assert len(list((tmp_path / "pictures").iterdir())) == 4


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_cut_off_anywhere_no_part_of_a_row_is_taken_for_a_whole_one(tmp_path, suffix):
    """Every byte at which a killed process, or a full disk, may have ended the file."""
    path = tmp_path / f"verdicts{suffix}"
    rows = [{"file": f'a\n"b"\r,{i}\n.wav', "error": f'no\n"sound" {i}'} for i in range(3)]
    lines = [(as_csv if suffix == ".csv" else as_json)(row) + "\n" for row in rows]
    head = [HEADERS["csv"] + "\n"] if suffix == ".csv" else []
    whole = "".join(head + lines).encode()
    ends = [len("".join((head + lines)[: i + 1])) for i in range(len(head + lines))]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        results = ResultsFile(path)
        complete = max(sum(end <= cut for end in ends) - len(head), 0)
        assert [row["file"] for row in results.earlier] == [row["file"] for row in rows[:complete]]
        for row in rows[complete:]:
            results.add(row)
        results.close()
        assert path.read_bytes() == whole


def test_csv_of_other_columns_is_refused(tmp_path):
    path = tmp_path / "verdicts.csv"
    path.write_text(",".join(COLUMNS[:-1]) + "\n")
    with pytest.raises(ValueError, match="not written by this version of score.py; choose another file"):
        ResultsFile(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize(
    "content", ["one line", "name,level\nfan,3\npump,4", '{"pumps": 3}\n{"fans": 4}', 'a "quote\n']
)
def test_a_file_of_something_else_is_refused_and_stays_as_it_was(tmp_path, suffix, content):
    path = tmp_path / f"notes{suffix}"
    path.write_text(content)
    with pytest.raises(ValueError, match="choose another file"):
        ResultsFile(path)
    assert path.read_text() == content


def test_second_process_with_one_output_says_who_holds_it_and_a_killed_one_frees_it(
    capsys, model, folder, tmp_path, warm_python
):
    write_sound(folder / "a.wav", 500)
    output = tmp_path / "verdicts.jsonl"
    command = [str(ROOT / "score.py"), "--model", str(model), "--output", str(output)]
    first = warm_python.start([*command, "--watch", str(folder)], ROOT)
    try:
        deadline = time.monotonic() + 60
        while not output.exists() or not output.read_bytes().endswith(b"\n"):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        second = warm_python.start([*command, str(folder)], ROOT)
        _, stderr = second.communicate(timeout=60)
        assert second.returncode == 2
        assert f"error: {output} is in use by process {first.pid}" in stderr and "Traceback" not in stderr
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=30)
    write_sound(folder / "b.wav", 501)
    assert run_here(capsys, folder, "--model", model, "--output", output)[0] == 0
    assert [Path(row["file"]).name for row in read_rows(output)] == ["a.wav", "b.wav"]


def test_everything_in_a_folder_that_looks_like_sound_is_judged_or_named(capsys, model, folder, tmp_path):
    write_sound(folder / "ok.wav", 500)
    (folder / "linked").mkdir()
    (folder / "linked" / "back").symlink_to(folder, target_is_directory=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "other disk").symlink_to(elsewhere, target_is_directory=True)
    write_sound(elsewhere / "a.bwf", 501)
    write_sound(elsewhere / "b.WAVE", 502)
    write_sound(elsewhere / "c.aifc", 503, format="AIFF")
    named = ["x.m4a", "y.webm", "z.aac", "r.raw"]
    for name in named:
        (folder / name).write_bytes(b"\0\0\0\x20ftypM4A garbage")
    for name in (".hidden.wav", "._ok.wav", "notes.txt", "README"):
        (folder / name).write_text("no sound")
    code, rows, stderr = run_here(capsys, folder, "--model", model, "--machine", "fan_id_00")
    judged = {Path(row["file"]).name: row for row in rows}
    assert len(judged) == len(rows) == 8
    assert all(judged[name]["verdict"] in ("normal", "anomalous") for name in ("ok.wav", "a.bwf", "b.WAVE", "c.aifc"))
    assert all(str(folder / name) in judged[name]["error"] for name in named)
    assert code == 2 and "4 unreadable; passed over: 1 .txt, 2 hidden, 1 no suffix" in stderr


def test_a_pattern_gives_files_and_what_is_in_folders_each_once(folder):
    for name in ("a.wav", "pump/b.wav", "pump/deep/c.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_sound(folder / name, 500)
    (folder / "pump" / "notes.txt").write_text("no sound")
    for pattern, others in (("*", {".txt": 1}), ("**/*.wav", {})):
        found = find_recordings([str(folder / pattern)])
        assert [os.path.relpath(path, folder) for path in found.recordings] == [
            "a.wav",
            "pump/b.wav",
            "pump/deep/c.wav",
        ]
        assert found.passed_over == others


def test_drift_is_reported_once_and_a_second_start_goes_on_with_it(capsys, model, folder, tmp_path):
    """From the 25th recording on all are 12 dB softer, as after somebody moved the microphone; no score changes."""
    for i in range(60):
        sound = machine_sound(220.0, 3000 + i) * (1.0 if i < 25 else 0.25)
        soundfile.write(folder / f"{i:02d}.wav", sound, RATE)
    arguments = ["--model", model, "--machine", "fan_id_00", "--drift"]
    whole, again = tmp_path / "whole.csv", tmp_path / "again.csv"
    run_here(capsys, folder, *arguments, "--output", whole)
    reports = [(row["file"], row["drift"]) for row in read_rows(whole) if row["drift"]]
    assert [drift.replace(str(folder), "") for _, drift in reports] == [
        "fan_id_00: level has changed since /25.wav: 12.0 dB softer"
    ]
    run_here(capsys, *sorted(folder.iterdir())[:40], *arguments, "--output", again)
    run_here(capsys, folder, *arguments, "--output", again)
    assert again.read_bytes() == whole.read_bytes()


def endless_wav(samples: np.ndarray, rate: int, chunks: bytes = b"") -> bytes:
    """A WAV file as ffmpeg and arecord write into a pipe: 16 bits, without a size."""
    form = struct.pack("<HHIIHH", 1, samples.shape[1], rate, 2 * samples.size // len(samples) * rate, 4, 16)
    head = b"RIFF\xff\xff\xff\xffWAVE" + chunks + b"fmt " + struct.pack("<I", 16) + form + b"data\xff\xff\xff\xff"
    return head + (samples * 32767).astype("<i2").tobytes()


def test_wav_on_standard_input_is_decoded_as_it_arrives(model):
    """Stereo at 44.1 kHz without a size: the first verdict comes while the stream is open, and is that of the sound."""
    times = np.arange(3 * 44_100) / 44_100
    noise = 0.02 * np.random.default_rng([5]).normal(size=len(times))
    left = 0.1 * sum(np.sin(2 * np.pi * 220 * n * times) / n for n in (1, 2, 3)) + noise
    data = endless_wav(np.stack([left, np.zeros_like(left)], axis=1), 44_100, b"LIST\x04\0\0\0abcd")
    process = start("-", "--model", model, "--machine", "fan_id_00", "--format", "json", stdin=subprocess.PIPE)
    send(process, data[: len(data) // 2])
    first = next_row(process)
    assert process.poll() is None and first["end_s"] == 1.0
    stdout, stderr = process.communicate(data[len(data) // 2 :], timeout=60)
    rows = [first, *map(json.loads, stdout.splitlines())]
    assert [row["start_s"] for row in rows] == pytest.approx([0.0, 1.0, 2.0], abs=0.01), stderr
    assert {row["predicted_machine"] for row in rows} == {"fan_id_00"}


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]
    + [("MP3", "MPEG_LAYER_III")],
)
def test_sound_files_on_standard_input_get_the_verdict_of_the_file(capsys, model, tmp_path, monkeypatch, form, subtype):
    path = tmp_path / f"sound.{form.lower()}"
    write_sound(path, 500, format=form, subtype=subtype)
    _, (of_file,), _ = run_here(capsys, path, "--model", model)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    _, rows, _ = run_here(capsys, "-", "--model", model)
    assert [rows[0][key] for key in ("verdict", "machine")] == [of_file[key] for key in ("verdict", "machine")]
    assert rows[0]["score"] == pytest.approx(of_file["score"], rel=1e-3)


def test_a_damaged_sound_file_on_standard_input_is_an_error(capsys, model, monkeypatch):
    for data in (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\x7f", b"RIFF\0\0\0\0WAVEdata", b"fLaC and no more"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code, (row,), _ = run_here(capsys, "-", "--model", model)
        assert code == 2 and row["error"].startswith("standard input: ")


def test_help_and_usage_errors_do_not_wait_for_torch():
    code = "import sys, score; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout == "set()\n", run.stderr
