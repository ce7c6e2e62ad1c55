"""What the tests share: a small network on one-second clips, and the folder of real sounds where it is present."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


# Test modules import from it before they take it as a plugin.
pytest.register_assert_rewrite("space_app", "space_browser")
# Nothing in the tests may reach the Hub.
os.environ["HF_HUB_OFFLINE"] = "1"
# Threads split sums and so change their rounding. With one thread, here and in every process that a test starts, numbers
# can be compared to the bit. The other cores are left to the other workers of pytest-xdist.
os.environ["OMP_NUM_THREADS"] = "1"
# A GPU's kernels add in any order: two trainings with one seed differed there in their last bits.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# Each worker of pytest-xdist has a cache of its own, and the user's cache stays as it is.
HOME = tempfile.TemporaryDirectory(prefix="attention-asd-tests-")
os.environ["HF_HOME"] = HOME.name

import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import torch  # noqa: E402
from warm_python import ColdPython, WarmPython  # noqa: E402

from feature_extraction import AttentionAsdFeatureExtractor  # noqa: E402
from modeling import AttentionAsdConfig, AttentionAsdModel  # noqa: E402


ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

SMALL = {
    "clip_length": 16_000,
    "stem_channels": 8,
    "bottlenecks": [[1, 16, 1, 2], [2, 16, 1, 2], [2, 16, 1, 2]],
    "head_channels": 32,
    "attention_channels": [4, 8],
    "embedding_size": 16,
    "id2label": {0: "fan_id_00", 1: "fan_id_02", 2: "pump_id_00"},
}


@pytest.fixture
def small_config():
    """A function that makes a small network's configuration. Its arguments override the defaults."""
    return lambda **changes: AttentionAsdConfig(**{**SMALL, **changes})


@pytest.fixture
def small_model(small_config):
    """A function that makes a small network in eval mode, with random weights and random running statistics."""

    def make(**changes) -> AttentionAsdModel:
        torch.manual_seed(0)
        model = AttentionAsdModel(small_config(**changes))
        generator = torch.Generator().manual_seed(1)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        return model.eval()

    return make


@pytest.fixture
def small_extractor():
    """A feature extractor for clips of one second."""
    return AttentionAsdFeatureExtractor(clip_length=16_000)


@pytest.fixture
def noise():
    """A function that makes noise, `(clips, samples)`. Equal seeds make equal noise."""

    def make(clips: int = 2, samples: int = 16_000, seed: int = 0) -> torch.Tensor:
        return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real machine sounds. Without it, the test is skipped."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("needs the real machine sounds of ../shared/data")
    return folder


@pytest.fixture(scope="session")
def paper_fixture():
    """The folder with the authors' checkpoint and its outputs. Without it, the test is skipped."""
    folder = SHARED / "fixtures" / "paper_model"
    if not folder.is_dir():
        pytest.skip("needs the authors' fixture in ../shared/fixtures/paper_model")
    return folder


def write_sounds(folder: Path, train: int = 6, test: int = 3, seconds: float = 1.0) -> Path:
    """Write a folder in the DCASE layout: tones of two machine types with two IDs each. Anomalies hiss."""
    for number, (machine_type, machine_id) in enumerate([("fan", "00"), ("fan", "02"), ("pump", "00"), ("pump", "02")]):
        for split, label, count in (("train", "normal", train), ("test", "normal", test), ("test", "anomaly", test)):
            for index in range(count):
                path = folder / machine_type / split / f"{label}_id_{machine_id}_{index:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                generator = np.random.default_rng([number, index, len(split), len(label)])
                time = np.arange(int(seconds * 16_000)) / 16_000
                sound = 0.1 * np.sin(2 * np.pi * (200 + 300 * number) * time + generator.uniform(0, 6))
                sound += (0.1 if label == "anomaly" else 0.01) * generator.standard_normal(len(time))
                soundfile.write(path, sound, 16_000, subtype="PCM_16")
    return folder


@pytest.fixture
def sound_folder(tmp_path):
    """A function that calls [`write_sounds`] with its arguments, and returns the folder."""
    return lambda **settings: write_sounds(tmp_path / "sounds", **settings)


@pytest.fixture(scope="session")
def warm_python():
    """Python processes that start fast, see [`WarmPython`]."""
    with WarmPython(dict(os.environ)) if sys.platform.startswith("linux") else ColdPython() as warm:
        yield warm


@pytest.fixture(scope="session")
def run_script(warm_python):
    """A function that runs a script of the repository in a process of its own, and returns its output and exit code."""

    def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / script), *map(str, arguments)]
        process = warm_python.start(command, ROOT)
        stdout, stderr = process.communicate(timeout=300)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return run


def pytest_unconfigure() -> None:
    HOME.cleanup()
