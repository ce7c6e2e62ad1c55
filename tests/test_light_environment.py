"""score.py where nothing is installed but torch, transformers, soundfile, soxr, and what these bring: README names them."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path

import pytest
import soundfile
from small_detector import RATE, machine_sound, small_pipeline


ROOT = Path(__file__).resolve().parents[1]
# What the project needs for other jobs, and what comes with that.
ABSENT = (
    "accelerate av datasets evaluate gradio httpx librosa matplotlib multiprocess nncf onnx onnxruntime openvino pandas "
    "PIL psutil pyarrow scipy sklearn tensorboard torchcodec xxhash"
).split()
NEEDED = [name for name in requires("huggingface_hub") or [] if "extra ==" not in name]
if not any(name.startswith("requests") for name in NEEDED):  # before 1 there is requests among them
    ABSENT.append("requests")

# As score.py starts, in an interpreter that finds none of these packages.
START = """
import runpy, sys
from importlib.machinery import PathFinder

absent = set(sys.argv.pop(1).split(","))

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in absent else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
sys.path.insert(0, ".")
runpy.run_path("score.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    small_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def recording(tmp_path) -> Path:
    soundfile.write(tmp_path / "faulty.wav", machine_sound(220.0, 600, hiss=0.1), RATE)
    return tmp_path / "faulty.wav"


def run_light(
    *arguments, but_for: Sequence[str] = (), also: Sequence[str] = (), **changes: str
) -> subprocess.CompletedProcess:
    """score.py without the packages above `but_for` some, and without those of `also`."""
    absent = ",".join([*(name for name in ABSENT if name not in but_for), *also])
    command = [sys.executable, "-c", START, absent, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **changes}, capture_output=True, text=True)


def test_a_file_is_judged_where_nothing_but_torch_transformers_soundfile_and_soxr_is_installed(model, recording):
    done = run_light(recording, "--model", model, "--machine", "fan_id_00", "--format", "json")
    assert done.returncode == 1, done.stderr
    row = json.loads(done.stdout)
    assert row["verdict"] == "anomalous" and "hiss" in row["reason"]


def test_a_picture_needs_matplotlib_and_nothing_else(model, recording, tmp_path):
    pictures = ("--picture", tmp_path / "pictures")
    done = run_light(recording, "--model", model, *pictures, but_for=("matplotlib", "PIL"))
    assert done.returncode == 0, done.stderr
    assert [file.suffix for file in (tmp_path / "pictures").iterdir()] == [".png"]


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        (["FILE", "--picture", "DIR"], {}, "--picture needs matplotlib: pip install matplotlib"),
        (["--watch", "DIR", "--notify", "http://127.0.0.1:9"], {}, "--notify needs httpx: pip install httpx"),
        (["FILE"], {"WORLD_SIZE": "2"}, "Several processes need accelerate: pip install accelerate"),
    ],
)
def test_an_option_that_needs_another_package_names_it_before_anything_is_judged(
    model, recording, tmp_path, arguments, changes, said
):
    named = {"FILE": recording, "DIR": tmp_path}
    done = run_light(*(named.get(name, name) for name in arguments), "--model", model, **changes)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {said}")
    assert str(recording) not in done.stdout


def test_without_what_reads_sound_the_error_names_what_the_readme_and_the_card_do(model, recording):
    done = run_light(recording, "--model", model, also=("soundfile", "soxr"))
    assert done.returncode == 2
    assert "pip install soundfile soxr" in done.stdout
