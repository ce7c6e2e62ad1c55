"""List the clips of a folder in the DCASE layout, `<machine type>/{train,test}/<clip>`, unopened."""

import csv
import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .clips import label_name, parse_clip_name


SPLITS = ("train", "test")
AUDIO_SUFFIXES = (".wav", ".flac")
EVALUATION_LABELS_NAME = "eval_data_list.csv"
# Hidden folder in a download folder, for what `download.py` has to remember. A `*.merging` in it: see there.
STATE_DIR = ".dcase2020_task2"

_LAYOUT = (
    "Expected {0}/<machine type>/{{train,test}}/{{normal,anomaly}}_id_<machine ID>_<number>.wav, "
    "for example {0}/fan/train/normal_id_00_00000000.wav."
)


@dataclass
class ClipFolder:
    """The clips of a folder.

    Attributes:
        rows: one dict a clip (path, machine_type, machine_id, label, is_anomaly, split), sorted by machine
            type, split and file name; the path is absolute.
        digest: changes with any path, size or modification time of a clip, and with the evaluation labels.
    """

    rows: list[dict]
    digest: str


def list_clips(data_dir: str | os.PathLike) -> ClipFolder:
    """List the clips of a folder in the DCASE layout, with any machine types and IDs.

    Clips without a label in their name (`id_XX_N.wav`, the evaluation test set) take it from the folder's
    `eval_data_list.csv`, if there. Hidden files are ignored. Audio files in other places or with other names
    are passed over with one warning.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no clip, half an archive, or clips in `train` that are not called normal.
    """
    root = Path(os.path.abspath(os.path.expanduser(data_dir)))
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}. {_LAYOUT.format(root)}")
    for unfinished in root.glob(f"{STATE_DIR}/*.merging"):
        raise ValueError(
            f"{root} holds only a part of {unfinished.stem}: its extraction was interrupted. Finish it with "
            "the same `python -m dcase2020_task2 download` command, or start from an empty folder."
        )

    labels_file = root / EVALUATION_LABELS_NAME
    evaluation_labels = read_evaluation_labels(labels_file) if labels_file.exists() else {}
    files: list[os.DirEntry[str] | Path] = [labels_file] if labels_file.exists() else []
    rows, passed_over = [], []
    for entry in _audio_files(str(root), depth=0):
        parts = os.path.relpath(entry.path, root).split(os.sep)
        try:
            clip = parse_clip_name(entry.name)
        except ValueError:
            clip = None
        if clip is None or len(parts) != 3 or parts[1] not in SPLITS:
            passed_over.append("/".join(parts))
            continue
        machine_type, split, name = parts
        is_anomaly = clip.is_anomaly
        if is_anomaly is None and split == "test":
            is_anomaly = evaluation_labels.get((machine_type, name))
        files.append(entry)
        rows.append(
            {
                "path": entry.path,
                "machine_type": machine_type,
                "machine_id": clip.machine_id,
                "label": label_name(machine_type, clip.machine_id),
                "is_anomaly": is_anomaly,
                "split": split,
            }
        )
    rows.sort(key=lambda row: (row["machine_type"], row["split"], os.path.basename(row["path"])))

    if not rows:
        raise ValueError(_no_clip(root, passed_over))
    if passed_over:
        warnings.warn(
            f"{root}: passed over {_count(passed_over)} whose place or name is not that of a clip: "
            f"{_first(passed_over)}. {_LAYOUT.format(root)}",
            stacklevel=2,
        )
    if wrong := [row["path"] for row in rows if row["split"] == "train" and row["is_anomaly"] is not False]:
        raise ValueError(
            f"{root}: {_count(wrong)} in train not named normal_id_<machine ID>_<number>.wav: "
            f"{_first(wrong)}. A detector learns from normal clips only: move anomalous clips to the test "
            "folder beside train, and rename clips that are known to be normal."
        )
    unlabelled = [row["path"] for row in rows if row["is_anomaly"] is None]
    if evaluation_labels and unlabelled:
        warnings.warn(
            f"{labels_file} has no label for {_count(unlabelled)}: {_first(unlabelled)}. Their is_anomaly is None.",
            stacklevel=2,
        )
    return ClipFolder(rows, _digest(files))


def read_evaluation_labels(path: str | os.PathLike) -> dict[tuple[str, str], bool]:
    """Read the published labels of the evaluation test set, `eval_data_list.csv`.

    A line with a machine type alone begins the lines of that type: clip name, original name, 0 (normal) or
    1 (anomalous).

    Returns:
        (machine type, clip name) -> whether the clip is anomalous.

    Raises:
        ValueError: a line is neither, or there is no clip at all.
    """
    labels, machine_type = {}, None
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(csv.reader(file), start=1):
            match [cell.strip() for cell in line if cell.strip()]:
                case []:
                    continue
                case [only]:
                    machine_type = only
                case [name, _, ("0" | "1") as label] if machine_type is not None:
                    labels[machine_type, name] = label == "1"
                case _:
                    raise ValueError(
                        f"{path}, line {number}: {','.join(line)[:100]!r} is neither a machine type nor "
                        "`id_XX_N.wav,original name,0 or 1` below one. Remove the file and download it again."
                    )
    if not labels:
        raise ValueError(f"{path} lists no clip. Remove the file and download it again.")
    return labels


def _audio_files(folder: str, depth: int) -> Iterator[os.DirEntry[str]]:
    """Audio files at most one level below their right place, hidden ones aside. The depth ends link loops."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if depth < 3:
                    yield from _audio_files(entry.path, depth + 1)
            elif entry.name.lower().endswith(AUDIO_SUFFIXES):
                yield entry


def _digest(files: list[os.DirEntry[str] | Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{os.fspath(file)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _no_clip(root: Path, passed_over: list[str]) -> str:
    message = f"{root} holds no clip. {_LAYOUT.format(root)}"
    if passed_over:
        message += f" It holds {_count(passed_over)} with another place or name: {_first(passed_over)}."
    if any((root / split).is_dir() for split in SPLITS):
        return f"{message} It looks like the folder of one machine type: pass the one above it, {root.parent}."
    return (
        f"{message} Pass the folder above the machine types, or fetch DCASE 2020 Task 2 into it with "
        f"`python -m dcase2020_task2 download {root}`."
    )


def _count(files: list[str]) -> str:
    return f"{len(files)} audio file{'s' * (len(files) != 1)}"


def _first(files: list[str]) -> str:
    return ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
