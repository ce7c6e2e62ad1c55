"""`scripts/enroll.py` adds a machine to a model, from the command line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from small_detector import RATE, machine_sound, small_pipeline

from engines import load_pipeline


ROOT = Path(__file__).resolve().parents[1]


def test_a_machine_enrolled_by_the_command_is_judged_by_the_new_model_alone(tmp_path):
    model, new, recordings = tmp_path / "model", tmp_path / "new", tmp_path / "recordings"
    small_pipeline().save_pretrained(model)
    recordings.mkdir()
    for number in range(6):
        soundfile.write(recordings / f"{number}.wav", machine_sound(900.0, number), RATE)
    soundfile.write(recordings / "silent.wav", np.zeros(RATE), RATE)
    (recordings / "page.wav").write_text("<html>")
    command = [sys.executable, str(ROOT / "scripts" / "enroll.py"), "press_3", str(recordings)]
    done = subprocess.run(
        [*command, "--model", str(model), "--output_dir", str(new)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "press_3 is enrolled from 6 recordings." in done.stdout and "Silent, left out: silent.wav." in done.stdout
    assert "page.wav: cannot be read as audio (it is a page of HTML" in done.stderr
    assert "press_3" not in load_pipeline(model).detector.machines
    result = load_pipeline(new)(machine_sound(900.0, 99), machine="press_3", false_alarm_rate=0.1)
    assert result["verdict"] == "normal"


def test_a_folder_without_recordings_is_named_and_nothing_is_written(tmp_path):
    small_pipeline().save_pretrained(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    command = [sys.executable, str(ROOT / "scripts" / "enroll.py"), "press_3", str(tmp_path / "empty")]
    done = subprocess.run(
        [*command, "--model", str(tmp_path / "model"), "--output_dir", str(tmp_path / "new")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and str(tmp_path / "empty") in done.stderr
    assert not (tmp_path / "new").exists()
