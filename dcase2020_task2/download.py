"""Fetch the archives of DCASE 2020 Challenge Task 2 from Zenodo into one folder in the DCASE layout.

Every archive is checked against its published md5. An interrupted download is resumed. An interrupted extraction is
started over, and never leaves a folder that looks whole. The code is written here because pooch compares the md5 but
does not resume, and the download manager of `datasets` does neither.
"""

import os
import warnings
from collections.abc import Collection
from pathlib import Path

from filelock import FileLock

from .archives import (
    ARCHIVES,
    EVALUATION_LABELS_COUNT,
    EVALUATION_LABELS_RECORD,
    MAX_LABELS_BYTES,
    SELECTIONS,
    ZENODO,
    Archive,
    ArchiveError,
)
from .clips import MACHINE_TYPES
from .extraction import extract, is_whole
from .folder import EVALUATION_LABELS_NAME, STATE_DIR, read_evaluation_labels
from .transfer import download


def fetch(
    directory: str | os.PathLike,
    parts: Collection[str] = SELECTIONS["development"],
    machine_types: Collection[str] = MACHINE_TYPES,
    *,
    archives: Collection[Archive] = ARCHIVES,
    base_url: str = ZENODO,
) -> None:
    """Download, check and extract archives into `directory/<machine type>/{train,test}`.

    A part that is complete in the folder is not fetched again. Several parts may share a folder. An archive is removed
    after its extraction.

    Args:
        directory: the folder to fill. It is made if it does not exist.
        parts: among "development", "additional_training" and "evaluation". The last also brings the published labels,
            `eval_data_list.csv`.
        machine_types: the machine types to fetch.
        archives: the table of archives and their md5.
        base_url: the server. It has the files at `<base_url>/records/<record>/files/<name>`.

    Raises:
        ArchiveError: see `download` and `extract`.
    """
    directory = Path(os.path.abspath(os.path.expanduser(directory)))
    wanted = [
        archive
        for archive in archives
        if archive.part in parts and archive.machine_type in machine_types and not is_whole(directory, archive)
    ]
    labels_wanted = "evaluation" in parts and not (directory / EVALUATION_LABELS_NAME).exists()
    if not wanted and not labels_wanted:
        return
    state = directory / STATE_DIR
    state.mkdir(parents=True, exist_ok=True)
    with FileLock(state / "lock"):
        if labels_wanted:
            _fetch_evaluation_labels(directory, base_url)
        for archive in wanted:
            if is_whole(directory, archive):  # another process fetched it while this one waited for the lock
                continue
            path = state / archive.name
            download(_url(base_url, archive.record, archive.name), path, archive.md5)
            extract(path, archive, directory)


def _fetch_evaluation_labels(directory: Path, base_url: str) -> None:
    path = directory / STATE_DIR / EVALUATION_LABELS_NAME
    path.unlink(missing_ok=True)
    download(
        _url(base_url, EVALUATION_LABELS_RECORD, EVALUATION_LABELS_NAME), path, md5=None, max_bytes=MAX_LABELS_BYTES
    )
    try:
        count = len(read_evaluation_labels(path))
    except ValueError as error:
        raise ArchiveError(f"The evaluation labels cannot be read: {error}") from error
    if count != EVALUATION_LABELS_COUNT:
        warnings.warn(
            f"{EVALUATION_LABELS_NAME} labels {count} clips where {EVALUATION_LABELS_COUNT} were published: "
            f"compare it with record {EVALUATION_LABELS_RECORD} on Zenodo before you report figures.",
            stacklevel=2,
        )
    os.replace(path, directory / EVALUATION_LABELS_NAME)


def _url(base_url: str, record: int, name: str) -> str:
    return f"{base_url.rstrip('/')}/records/{record}/files/{name}"
