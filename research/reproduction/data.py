"""The clips as arrays, made once and mapped by every process that trains or scores a peer."""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from dcase2020_task2 import label_name, list_clips
from feature_extraction import AttentionAsdFeatureExtractor, AudioReadError
from research.baselines import Clips


# The archive of log-mels does not name its machine type.
LOG_MEL_TYPE = "ToyCar"


@dataclass
class Split:
    """The clips of a split.

    Args:
        clips: log-mels and, where there are some, waveforms.
        rows: for each clip its `path`, `machine_type`, `machine_id`, `label` (fan_id_00) and `is_anomaly`.
    """

    clips: Clips
    rows: list[dict[str, Any]]


def load_split(folder: Path, split: str) -> Split:
    """Map what `prepare_sounds` or `prepare_log_mels` wrote into memory; nothing is read yet."""
    rows = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))
    log_mels, waveforms = (folder / f"{split}_{name}.npy" for name in ("log_mels", "waveforms"))
    clips = Clips(
        log_mels=np.load(log_mels, mmap_mode="r"),
        waveforms=np.load(waveforms, mmap_mode="r") if waveforms.exists() else None,
        machines=[row["label"] for row in rows],
    )
    return Split(clips, rows)


def prepare_sounds(data_dir: Path, cache_dir: Path, clip_seconds: float) -> Path:
    """Write waveforms and log-mels of a folder in the DCASE layout, and return the folder that `load_split` takes.

    Test clips without a label are left out, and those of machine IDs without a normal training clip. Nothing can be
    measured on them. Unreadable files are named and left out.

    Args:
        data_dir: folder in the DCASE 2020 Task 2 layout.
        cache_dir: where the arrays go, into a folder that is named after the data and its digest.
        clip_seconds: length of a clip.

    Raises:
        ValueError: no training clip, or no machine ID with normal and anomalous test clips.
    """
    listed = list_clips(data_dir)
    folder = cache_dir / f"{data_dir.resolve().name}-{clip_seconds:g}s-{listed.digest[:12]}"
    feature_extractor = AttentionAsdFeatureExtractor(clip_length=round(clip_seconds * 16_000))
    training = [row for row in listed.rows if row["split"] == "train"]
    trained = {row["label"] for row in training}
    test = [
        row
        for row in listed.rows
        if row["split"] == "test" and row["label"] in trained and row["is_anomaly"] is not None
    ]
    normal, anomalous = ({row["label"] for row in test if row["is_anomaly"] == label} for label in (False, True))
    if not normal & anomalous:
        raise ValueError(
            f"{data_dir}: {len(training)} training clips, and {len(test)} labelled test clips of the same machine IDs, "
            f"none with both normal and anomalous ones. Expected {data_dir}/<machine type>/train/normal_id_XX_*.wav and "
            ".../test/{normal,anomaly}_id_XX_*.wav."
        )
    for split, rows in (("train", training), ("test", test)):
        _write_sounds(folder, split, rows, feature_extractor)
    return folder


def _write_sounds(
    folder: Path, split: str, rows: list[dict[str, Any]], feature_extractor: AttentionAsdFeatureExtractor
) -> None:
    if (folder / f"{split}.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    samples = feature_extractor.clip_length
    frames = 1 + samples // feature_extractor.hop_length
    shapes = {"waveforms": (samples,), "log_mels": (feature_extractor.num_mel_bins, frames)}
    arrays = {name: _new_array(folder / f"{split}_{name}.npy", len(rows), shape) for name, shape in shapes.items()}
    kept = []
    for row in tqdm(rows, desc=f"Reading {split} clips", unit="clip"):
        try:
            waveform = feature_extractor.read_clip(row["path"])
        except AudioReadError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        arrays["waveforms"][len(kept)] = waveform.numpy()
        arrays["log_mels"][len(kept)] = feature_extractor.log_mel(waveform).numpy()
        kept.append(row)
    for name, array in arrays.items():
        array.flush()
        if len(kept) < len(rows):
            np.save(folder / f"{split}_{name}.npy", array[: len(kept)].copy())
    _write_rows(folder, split, kept)


def prepare_log_mels(log_mel_dir: Path, cache_dir: Path) -> Path:
    """Write the log-mels of two archives as `prepare_sounds` does, and return the folder that `load_split` takes.

    Args:
        log_mel_dir: folder with `train.npz` and `test.npz`, each with `log_mel` (clips, bins, frames) in dB, `machine_id`,
            `is_anomaly` and `filename`.
        cache_dir: where the arrays go.

    Raises:
        ValueError: an archive is missing or has other arrays.
    """
    digest = hashlib.sha256()
    for split in ("train", "test"):
        path = log_mel_dir / f"{split}.npz"
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file. Expected an archive of log_mel, machine_id, is_anomaly and filename."
            )
        stat = path.stat()
        digest.update(f"{split}{stat.st_size}{stat.st_mtime_ns}".encode())
    folder = cache_dir / f"{log_mel_dir.resolve().name}-{digest.hexdigest()[:12]}"
    for split in ("train", "test"):
        if not (folder / f"{split}.json").exists():
            _write_log_mels(folder, split, log_mel_dir / f"{split}.npz")
    return folder


def _write_log_mels(folder: Path, split: str, archive: Path) -> None:
    content = np.load(archive)
    missing = {"log_mel", "machine_id", "is_anomaly", "filename"} - set(content.files)
    if missing:
        raise ValueError(f"{archive}: has no {', '.join(sorted(missing))}, only {', '.join(content.files)}.")
    log_mels = content["log_mel"]
    folder.mkdir(parents=True, exist_ok=True)
    array = _new_array(folder / f"{split}_log_mels.npy", len(log_mels), log_mels.shape[1:])
    array[:] = log_mels
    array.flush()
    columns = (content[name].tolist() for name in ("filename", "machine_id", "is_anomaly"))
    _write_rows(
        folder,
        split,
        [
            {
                "path": name,
                "machine_type": LOG_MEL_TYPE,
                "machine_id": f"{number:02d}",
                "label": label_name(LOG_MEL_TYPE, f"{number:02d}"),
                "is_anomaly": is_anomaly,
            }
            for name, number, is_anomaly in zip(*columns, strict=True)
        ],
    )


def _new_array(path: Path, clips: int, shape: Sequence[int]) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(clips, *shape))


def _write_rows(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows last and at once: where their file exists, the arrays are whole."""
    partial = folder / f"{split}.json.partial"
    partial.write_text(json.dumps(rows), encoding="utf-8")
    os.replace(partial, folder / f"{split}.json")
