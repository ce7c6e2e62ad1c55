"""The app that the tests of the Space share: a small model, recordings, and a server that runs a copy of `space/`.

A test module takes these fixtures by `pytest_plugins = ["space_app"]`.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_detector import RATE, machine_sound, small_pipeline
from space_server import SpaceServer, copy_space
from transformers import pipeline


make_pipeline: Any = pipeline  # its types know no task that comes with a model
MEASURED: dict[str, Any] = {
    "data": "machine_room (synthetic)",
    "train_clips": 72,
    "epochs": 20,
    "parameters": 12345,
    "test": {
        "labelled_clips": 48,
        "auc": {"per_type": {"fan": {"official": 0.731, "official_ci95": [0.6, 0.8], "worst_id": 0.7}}},
        "pauc": {"per_type": {"fan": {"official": 0.61, "official_ci95": [0.5, 0.7], "worst_id": 0.6}}},
    },
}
for part in ("auc", "pauc"):
    MEASURED["test"][part]["mean"] = MEASURED["test"][part]["per_type"]["fan"]


@pytest.fixture(scope="module")
def nothing_goes_through_a_proxy():
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NO_PROXY", "127.0.0.1")
        environment.setenv("no_proxy", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    small_pipeline().save_pretrained(path)
    (path / "all_results.json").write_text(json.dumps(MEASURED))
    return path


@pytest.fixture(scope="module")
def detect(model):
    """The pipeline, on as many threads as the app: their number changes the last bits of a score."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(len(os.sched_getaffinity(0)) // 2, 1))
    yield make_pipeline("anomalous-sound-detection", model=str(model), trust_remote_code=True)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")

    def write(name: str, *parts: np.ndarray) -> None:
        soundfile.write(folder / name, np.concatenate(parts), RATE, subtype="PCM_16")

    write("normal.wav", machine_sound(220.0, 1000))
    write("faulty.wav", machine_sound(220.0, 1001, hiss=0.1))
    write("long.wav", *[machine_sound(220.0, 1010 + i, hiss=0.1 if i in (3, 4) else 0.0) for i in range(8)])
    for i in range(6):
        write(f"mine_{i}.wav", machine_sound(900.0, 1020 + i))
    write("mine_faulty.wav", machine_sound(900.0, 1030, hiss=0.3))
    write("silent.wav", np.zeros(3 * RATE))
    (folder / "broken.wav").write_text("this is not a sound")
    return folder


@pytest.fixture(scope="module")
def space(model, nothing_goes_through_a_proxy, tmp_path_factory):
    """The app, copied away from the repository."""
    folder = tmp_path_factory.mktemp("app")
    server = SpaceServer(folder, copy_space(folder / "space"), MODEL_ID=str(model))
    yield server
    server.stop()
    assert not server.temporary.exists(), "files of users outlived the app"


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
