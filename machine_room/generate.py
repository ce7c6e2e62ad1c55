"""Writes the machine room: clips in the layout of DCASE 2020 Task 2, their ground truth and a manifest.

After a killed run, nothing has to be undone. The manifest is written first, and names the settings of the folder. A clip
is complete if its file has the right size. The ground truth is written last, in one step. The same call then makes what is
missing. In a finished folder, it only checks the size of each file.
"""

import io
import json
import os
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
    """List the names of all clips, in the order in which they are made. The counts are clips of each machine ID."""
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
    """Encode a waveform (samples,) within [-1, 1) as a mono 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLING_RATE)
        file.writeframes(np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file; see [`write_whole`]."""
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader finds the complete file or none.

    Raises:
        OSError: the file cannot be written, as on a full disk. The message names the file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def claim(output_dir: Path, settings: dict[str, Any]) -> None:
    """Make `output_dir` the folder of a machine room with these settings, or find that it is one.

    Args:
        output_dir: the folder.
        settings: all settings that change the clips or their number.

    Raises:
        ValueError: the folder holds something else, or has other settings.
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
    """Write a data set of synthetic machines in the layout of DCASE 2020 Task 2, or complete or reuse one.

    The clips are `<type>/{train,test}/{normal,anomaly}_id_XX_NNNNNNNN.wav`, 16 kHz mono 16 bit. `ground_truth.json` says of
    every anomalous clip what is wrong, when and at which frequencies. `machine_room.json` holds the settings. A clip depends
    on the seed, the clips' length and its name alone, so more clips, IDs or types never change the others.

    Args:
        output_dir: a new or empty folder, or one with the same settings.
        seed: 0 or more; another seed gives other machines.
        clip_seconds: length of every clip, at least 2.
        machine_types: which of the six types.
        ids_per_type: machine IDs of each type, 1 to 7 (as in DCASE, the ToyConveyor has at most 6).
        train_clips: normal training clips of each ID.
        test_normal_clips: normal test clips of each ID.
        test_anomalous_clips: anomalous test clips of each ID.
        num_workers: number of threads, by default one for each core. The clips do not depend on it.
        progress: show a progress bar.

    Returns:
        `output_dir` as a path.

    Raises:
        ValueError: a setting is out of range, the folder holds something else, or has other settings.

    Example:
        >>> folder = generate_machine_room("machines", clip_seconds=2.0, ids_per_type=1, train_clips=4)
    """
    if num_workers is None:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        num_workers = len(cores)
    counts = {
        "train_clips": train_clips,
        "test_normal_clips": test_normal_clips,
        "test_anomalous_clips": test_anomalous_clips,
    }
    check_seed_and_length(seed, clip_seconds)
    check_counts(machine_types, ids_per_type, counts, num_workers)
    output_dir = Path(output_dir)
    settings = {
        "seed": seed,
        "clip_seconds": float(clip_seconds),
        "machine_types": list(machine_types),
        "ids_per_type": ids_per_type,
        **counts,
    }
    claim(output_dir, settings)
    names = clip_names(machine_types, ids_per_type, **counts)
    make_missing_clips(output_dir, names, seed, clip_seconds, num_workers, progress)
    return output_dir


def check_counts(machine_types: Sequence[str], ids_per_type: int, counts: dict[str, int], num_workers: int) -> None:
    """Check the machine types, and the numbers of IDs, clips and workers.

    Raises:
        ValueError: a setting is out of range.
    """
    if not 1 <= ids_per_type <= 7:
        raise ValueError(f"ids_per_type is {ids_per_type}; expected 1 to 7.")
    if min(counts.values()) < 0 or num_workers < 1:
        raise ValueError(
            f"train_clips is {counts['train_clips']}, test_normal_clips {counts['test_normal_clips']}, "
            f"test_anomalous_clips {counts['test_anomalous_clips']}, num_workers {num_workers}; expected 0 clips or more "
            "and 1 worker or more."
        )
    unknown = [name for name in machine_types if name not in MACHINE_TYPES]
    if unknown or not machine_types:
        raise ValueError(f"machine_types is {list(machine_types)}; choose from {', '.join(MACHINE_TYPES)}.")


def make_missing_clips(
    output_dir: Path, names: list[str], seed: int, clip_seconds: float, num_workers: int, progress: bool
) -> None:
    """Write the clips of `names` that are missing or cut short, and then the ground truth if it is missing."""
    complete_size = WAV_HEADER_BYTES + 2 * round(clip_seconds * SAMPLING_RATE)
    has_truth = (output_dir / GROUND_TRUTH).exists()

    def is_done(name: str) -> bool:
        path = output_dir / name
        return path.exists() and path.stat().st_size == complete_size and (has_truth or "/normal_" in name)

    def make(name: str) -> tuple[str, dict[str, Any] | None]:
        waveform, truth = render_clip(name, fault=planned_fault(name, seed), seed=seed, clip_seconds=clip_seconds)
        write_whole(output_dir / name, wav_bytes(waveform))
        return name, truth

    missing = [name for name in names if not is_done(name)]
    for folder in {(output_dir / name).parent for name in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    # numpy and scipy release the interpreter's lock: two threads gave 1.65 times the speed of one, two processes 1.85 times.
    # Threads start at once and are safe beside torch.
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            made = pool.map(make, missing)
            shown = tqdm(made, "synthetic clips", len(missing), unit="clip", disable=not (progress and missing))
            truths = {name: truth for name, truth in shown if truth}
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupted run must not make the other clips first
    if not has_truth:
        write_json(output_dir / GROUND_TRUTH, truths)
