"""Writes the machine room: clips in the layout of DCASE 2020 Task 2, their ground truth and a manifest.

Nothing needs undoing after a killed run. The manifest is written first and says whose folder this is; a clip
is whole when its file has the right size; the ground truth is written last, in one step. The same call then
completes what is missing, and a finished folder costs one look at each file.
"""

import io
import json
import os
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .clips import MACHINE_IDS, MACHINE_TYPES, check_seed_and_length, planned_fault, render_clip
from .signals import SAMPLING_RATE


MANIFEST = "machine_room.json"
GROUND_TRUTH = "ground_truth.json"
VERSION = 1  # of the sounds: another version gives other bytes for the same seed
WAV_HEADER_BYTES = 44


def clip_names(
    machine_types: Sequence[str],
    ids_per_type: int,
    train_clips: int,
    test_normal_clips: int,
    test_anomalous_clips: int,
) -> list[str]:
    """The names of all clips, in the order in which they are made."""
    parts = (
        ("train/normal", train_clips),
        ("test/normal", test_normal_clips),
        ("test/anomaly", test_anomalous_clips),
    )
    return [
        f"{machine_type}/{part}_id_{machine_id}_{index:08d}.wav"
        for machine_type in machine_types
        for machine_id in MACHINE_IDS[machine_type][:ids_per_type]
        for part, count in parts
        for index in range(count)
    ]


def wav_bytes(waveform: np.ndarray) -> bytes:
    """A waveform (samples,) within [-1, 1) as a mono 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLING_RATE)
        file.writeframes(np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def write_json(path: Path, content: dict) -> None:
    """In one step: a reader finds the whole file or none."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def claim(output_dir: Path, settings: dict) -> None:
    """Makes `output_dir` the folder of a machine room with these settings, or finds that it is.

    Raises:
        ValueError: the folder holds something else.
    """
    path = output_dir / MANIFEST
    manifest = {"generator": "machine_room (synthetic)", "version": VERSION, "settings": settings}
    if not path.exists():
        # The partial manifest of a killed run, or of one that starts at this moment, is no reason to refuse.
        if output_dir.exists() and any(not p.name.startswith(f".{MANIFEST}") for p in output_dir.iterdir()):
            raise ValueError(f"{output_dir} holds files but no {MANIFEST}; choose a new or an empty folder.")
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, manifest)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found = {"version": found["version"], **found["settings"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error!r}); delete {output_dir} or choose another folder.") from error
    wanted = {"version": VERSION, **settings}
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        listed = ", ".join(f"{name} {found.get(name)} (asked for: {wanted[name]})" for name in different)
        raise ValueError(
            f"{output_dir} holds a machine room with other settings: {listed}. "
            "Ask for the same settings, choose another folder, or delete this one."
        )


def generate_machine_room(
    output_dir: str | os.PathLike,
    *,
    seed: int = 0,
    clip_seconds: float = 10.0,
    machine_types: Sequence[str] = MACHINE_TYPES,
    ids_per_type: int = 3,
    train_clips: int = 24,
    test_normal_clips: int = 8,
    test_anomalous_clips: int = 8,
    num_workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Writes a data set of synthetic machines in the layout of DCASE 2020 Task 2, or completes or reuses one.

    `<type>/{train,test}/{normal,anomaly}_id_XX_NNNNNNNN.wav`, 16 kHz mono 16 bit; `ground_truth.json`, which
    says of every anomalous clip what is wrong, when and at which frequencies; `machine_room.json`, the
    settings. A clip is a pure function of the seed, the clip's length and its name, so more clips, IDs or
    types never change the others.

    Args:
        output_dir: a new or empty folder, or one with the same settings.
        seed: 0 or more; another seed gives other machines.
        clip_seconds: length of every clip, at least 2, in which every machine moves and every fault shows.
        machine_types: which of the six types.
        ids_per_type: machine IDs of each type, 1 to 7 (as in DCASE, the ToyConveyor has at most 6).
        train_clips: normal training clips of each ID.
        test_normal_clips: normal test clips of each ID.
        test_anomalous_clips: anomalous test clips of each ID.
        num_workers: threads, by default one for each core. The result is the same. (Threads, because numpy
            and scipy let go of the interpreter: two gave 1.65 times the speed of one, two processes 1.85
            times, and threads start at once and are safe beside torch.)
        progress: show a progress bar.

    Returns:
        `output_dir` as a path.

    Raises:
        ValueError: a setting is out of range, or the folder holds something else.

    Example:
        >>> folder = generate_machine_room("machines", clip_seconds=2.0, ids_per_type=1, train_clips=4)
    """
    check_seed_and_length(seed, clip_seconds)
    if not 1 <= ids_per_type <= 7:
        raise ValueError(f"ids_per_type is {ids_per_type}; expected 1 to 7.")
    if num_workers is None:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        num_workers = len(cores)
    if min(train_clips, test_normal_clips, test_anomalous_clips) < 0 or num_workers < 1:
        raise ValueError(
            f"train_clips is {train_clips}, test_normal_clips {test_normal_clips}, test_anomalous_clips "
            f"{test_anomalous_clips}, num_workers {num_workers}; expected 0 clips or more and 1 worker or "
            "more."
        )
    unknown = [name for name in machine_types if name not in MACHINE_TYPES]
    if unknown or not machine_types:
        raise ValueError(f"machine_types is {list(machine_types)}; choose from {', '.join(MACHINE_TYPES)}.")

    output_dir = Path(output_dir)
    settings = {
        "seed": seed,
        "clip_seconds": float(clip_seconds),
        "machine_types": list(machine_types),
        "ids_per_type": ids_per_type,
        "train_clips": train_clips,
        "test_normal_clips": test_normal_clips,
        "test_anomalous_clips": test_anomalous_clips,
    }
    claim(output_dir, settings)

    names = clip_names(machine_types, ids_per_type, train_clips, test_normal_clips, test_anomalous_clips)
    whole_size = WAV_HEADER_BYTES + 2 * round(clip_seconds * SAMPLING_RATE)
    has_truth = (output_dir / GROUND_TRUTH).exists()

    def is_done(name: str) -> bool:
        path = output_dir / name
        return path.exists() and path.stat().st_size == whole_size and (has_truth or "/normal_" in name)

    def make(name: str) -> tuple[str, dict | None]:
        waveform, truth = render_clip(name, fault=planned_fault(name, seed), seed=seed, clip_seconds=clip_seconds)
        (output_dir / name).write_bytes(wav_bytes(waveform))
        return name, truth

    missing = [name for name in names if not is_done(name)]
    for folder in {(output_dir / name).parent for name in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            made = pool.map(make, missing)
            shown = tqdm(made, "synthetic clips", len(missing), unit="clip", disable=not (progress and missing))
            truths = {name: truth for name, truth in shown if truth}
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupted run does not make the rest first
    if not has_truth:
        write_json(output_dir / GROUND_TRUTH, truths)
    return output_dir
