"""The wheel and the source distribution: what they hold, and that the wheel's command runs where no clone is."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from attention_asd.__main__ import COMMANDS


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """A folder with the wheel and the source distribution of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--target", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def unpacked(distributions, tmp_path_factory) -> Path:
    """A folder that holds what the wheel puts into site-packages, and nothing else."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


def run_command(unpacked: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "attention_asd", *arguments]
    return subprocess.run(command, cwd=unpacked, env=environment, capture_output=True, text=True)


def test_a_wheel_puts_one_package_of_this_project_into_an_environment(unpacked):
    names = sorted(path.name for path in unpacked.iterdir())
    assert names[0] == "attention_asd"
    assert len(names) == 2 and names[1].endswith(".dist-info")


def test_a_wheel_holds_all_that_its_commands_need(unpacked):
    clone = unpacked / "attention_asd" / "clone"
    for program, _ in COMMANDS.values():
        assert (clone / program).exists(), program
    assert (clone / "model_card.md").is_file()
    for template in (ROOT / "training" / "repository").iterdir():
        assert template.name == "__pycache__" or (clone / "training" / "repository" / template.name).is_file()
    assert (clone / "engines" / "native_attention_asd.c").is_file()
    # Links in a clone are files in a wheel.
    assert {path.name for path in (ROOT / "space" / "demo_model").iterdir() if path.name != "__pycache__"} <= {
        path.name for path in (clone / "space" / "demo_model").iterdir() if path.is_file()
    }


def test_a_source_distribution_holds_the_repository(distributions):
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    wanted = {"train.py", "score.py", "model_card.md", "tests/conftest.py", "constraints.txt", "docs/decisions.md"}
    assert wanted <= names


def test_the_wheel_of_a_source_distribution_is_the_wheel_of_the_clone(distributions, tmp_path):
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (again,), (wheel,) = (tmp_path / "dist").iterdir(), distributions.glob("*.whl")
    assert contents(again) == contents(wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.slow
def test_a_wheel_is_installed_judges_a_recording_and_is_removed_without_a_trace(distributions, tmp_path):
    import numpy as np
    import soundfile

    recording = tmp_path / "noise.wav"
    soundfile.write(recording, np.random.default_rng(0).normal(scale=0.1, size=160000), 16000)
    environment = tmp_path / "environment"
    venv.create(environment)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    # The packages that the wheel needs are those of this environment.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    before = set(environment.rglob("*"))
    pip = [sys.executable, "-m", "pip", "--python", str(environment)]
    wheel = str(next(distributions.glob("*.whl")))
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)

    command = Path(sysconfig.get_path("scripts", vars={"base": str(environment)})) / "attention-asd"
    model = packages / "attention_asd" / "clone" / "space" / "demo_model"
    arguments = [str(command), "score", str(recording), "--model", str(model), "--format", "json"]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(arguments, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert '"verdict": "cannot tell"' in result.stdout

    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "attention-asd"], check=True)
    assert set(environment.rglob("*")) == before


def test_every_command_of_a_wheel_explains_itself(unpacked, warm_python, tmp_path):
    program = str(unpacked / "attention_asd" / "__main__.py")
    started = {name: warm_python.start([program, name, "--help"], tmp_path, PYTHONPATH=None) for name in COMMANDS}
    for name, process in started.items():
        help_text, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert help_text.startswith(f"usage: attention-asd {name} "), help_text
        # An example in the help can be typed as it stands.
        assert f"python {COMMANDS[name][0]}" not in help_text


def test_a_program_of_a_clone_explains_itself_by_its_own_name(warm_python, tmp_path):
    help_text, _ = warm_python.start([str(ROOT / "score.py"), "--help"], tmp_path).communicate(timeout=120)
    assert help_text.startswith("usage: score.py ") and "python score.py recording.wav" in help_text


def test_an_unknown_command_is_refused_and_the_known_ones_are_named(unpacked):
    result = run_command(unpacked, "scores")
    assert result.returncode == 2
    assert "scores" in result.stderr and "score, train" in result.stderr


def test_help_names_every_command(unpacked):
    result = run_command(unpacked, "--help")
    assert result.returncode == 0
    for command in COMMANDS:
        assert f"    {command} " in result.stdout
