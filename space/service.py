"""The one model of the app, and the functions that run the network: on ZeroGPU each in a process of its own."""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import enrolling
from listening import Listener
from reading import Sound, read, read_all, suffixes
from settings import IS_DEMO, MAX_ENROLLED_SECONDS, MAX_SECONDS, MODEL_ID, spaces


try:
    listener = Listener(MODEL_ID)
except (OSError, ValueError) as error:
    why = str(error).partition("\n")[0].rstrip(".")
    raise SystemExit(
        f"MODEL_ID {MODEL_ID}: the model cannot be loaded ({why}). Expected a "
        "folder that train.py wrote, or a repository on the Hub, as you/attention-asd."
    ) from error
SUFFIXES = suffixes(listener.extractor)


def on_gpu(function: Callable) -> Callable:
    """Let ZeroGPU run a function. Arrays, words and detectors go in and come out."""
    return function if spaces is None else spaces.GPU(function)


@on_gpu
def study(sounds, rate):
    return enrolling.study(listener, sounds, rate)


@on_gpu
def enroll(name, sounds, detector=None):
    return enrolling.enroll(listener, name, sounds, detector)


judge, answer, answer_window = map(on_gpu, (listener.judge, listener.answer, listener.answer_window))
answer_both = on_gpu(listener.compare)


def read_sound(path: str) -> Sound:
    return read(listener.extractor, path, MAX_SECONDS)


def read_normal(paths: list[str]) -> list[Sound]:
    """Read the recordings of one machine's normal operation."""
    return list(read_all(listener.extractor, paths, MAX_SECONDS, MAX_ENROLLED_SECONDS))


@functools.cache
def model_facts() -> dict[str, str]:
    """Return the model's name and a version for reports: the commit on the Hub, or a digest of its files."""
    commit = getattr(listener.pipe.model.config, "_commit_hash", None)
    if commit is None:
        digest = hashlib.sha256()
        for name in ("config.json", "model.safetensors", "scoring_config.json", "scoring.safetensors"):
            file = Path(MODEL_ID) / name
            digest.update(file.read_bytes() if file.is_file() else b"")
        commit = digest.hexdigest()
    name = "demonstration model" if IS_DEMO else os.path.basename(MODEL_ID) if os.path.isdir(MODEL_ID) else MODEL_ID
    return {"model": name, "version": commit[:12]}


def version_of(detector: Any, machine: str) -> str:
    """Return the version of the model, and a digest of the machine's normal sound where the user enrolled the machine.

    Scores of two versions are not comparable.
    """
    version, own = model_facts()["version"], listener.pipe.detector
    sound = None if detector is None else normal_sound(detector, machine)
    # A name of the model's own enrolled machines may be enrolled anew.
    is_own = sound is None or (machine in own.machines and normal_sound(own, machine) == sound)
    return version if is_own else f"{version}-{sound}"


def normal_sound(detector: Any, machine: str) -> str | None:
    """Return a digest of a machine's normal sound; `None` where the detector knows no spectra."""
    level = detector.normal_level(machine)
    return None if level is None else hashlib.sha256(level[0].tobytes()).hexdigest()[:6]


__all__ = [
    "SUFFIXES",
    "answer",
    "answer_both",
    "answer_window",
    "enroll",
    "judge",
    "listener",
    "model_facts",
    "read_normal",
    "read_sound",
    "study",
    "version_of",
]
