"""Fetch the archives of DCASE 2020 Challenge Task 2 from Zenodo into one folder in the DCASE layout.

Every archive is checked against its published md5. An interrupted download is resumed. An interrupted extraction is
started over, and never leaves a folder that looks whole. The code is written here because pooch compares the md5 but
does not resume, and the download manager of `datasets` does neither.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import stat
import time
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets.utils import tqdm
from filelock import FileLock

from .clips import MACHINE_TYPES, parse_clip_name
from .folder import EVALUATION_LABELS_NAME, SPLITS, STATE_DIR, read_evaluation_labels


ZENODO = "https://zenodo.org"
EVALUATION_LABELS_RECORD = 3951620
EVALUATION_LABELS_COUNT = 7103

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60
MAX_FUTILE_ATTEMPTS = 5
# Request timeout, too many requests (Zenodo's rate limit), and passing failures of the server.
RETRIED_STATUS = (408, 429, 500, 502, 503, 504)


class ArchiveError(RuntimeError):
    """An archive could not be downloaded, is not the published one, or cannot be extracted safely."""


class _Interrupted(Exception):
    """A transfer that ended early. Another attempt may succeed."""

    def __init__(self, message: str, retry_after_s: float = 0.0):
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Archive:
    """One published archive.

    Attributes:
        part: the part of the data set: "development", "additional_training" or "evaluation".
        machine_type: the machine type, such as "fan".
        record: the Zenodo record.
        name: the file name.
        md5: the published md5, in hexadecimal digits.
    """

    part: str
    machine_type: str
    record: int
    name: str
    md5: str


def _archives(part: str, record: int, prefix: str, md5: dict[str, str]) -> tuple[Archive, ...]:
    return tuple(Archive(part, kind, record, f"{prefix}_{kind}.zip", md5[kind]) for kind in MACHINE_TYPES)


# The md5 are those that the three Zenodo records state.
ARCHIVES = (
    *_archives(
        "development",
        3678171,
        "dev_data",
        {
            "fan": "649bdfc06263ae7a838963f43b6641e6",
            "pump": "90e7091ef722b7238a7f1009365779cd",
            "slider": "da24a757719f0d94d5aa2d646bbfdc86",
            "valve": "34d2672f55bb041589ef79c10dc89934",
            "ToyCar": "4dec75ca8d9f666aa9e4c1894a740501",
            "ToyConveyor": "03b6aa1bfd09a39d53af0ba39f71fa91",
        },
    ),
    *_archives(
        "additional_training",
        3727685,
        "eval_data_train",
        {
            "fan": "567798854130c8019df8b664c095ed1e",
            "pump": "4e33ae9c0db5cc88437675f5e317caee",
            "slider": "f84f186f4295fc23754abcdd1b0580a7",
            "valve": "057cdd560caffb8305449541afd28c6d",
            "ToyCar": "a5d4ccd498af70b04dd74b644b820006",
            "ToyConveyor": "0e808ac0b761e9fb13d5e0c65caff00d",
        },
    ),
    *_archives(
        "evaluation",
        3841772,
        "eval_data_test",
        {
            "fan": "1eb9356a768cadfd0f2e59a5c57e578b",
            "pump": "23a8f8f924be218c69df67fe07360348",
            "slider": "0193c769073840332ce3aad84b1ccaa2",
            "valve": "f69c551d2088691050d20cccca9d631c",
            "ToyCar": "bea2bdd612f616be8f2b8eb087b32c7c",
            "ToyConveyor": "ccfcc9847c7d3404d7ee9d6d9e0b2ba2",
        },
    ),
)

# The parts of each published selection.
SELECTIONS = {
    "development": ("development",),
    "additional_training": ("additional_training",),
    "evaluation": ("evaluation",),
    "all": ("development", "additional_training"),
}


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
        if archive.part in parts and archive.machine_type in machine_types and not _is_whole(directory, archive)
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
            if _is_whole(directory, archive):  # another process fetched it while this one waited for the lock
                continue
            path = state / archive.name
            download(_url(base_url, archive.record, archive.name), path, archive.md5)
            extract(path, archive, directory)


def download(url: str, path: Path, md5: str | None, retry_wait_s: float = 1.0) -> None:
    """Download one file, and check its md5. The download goes on where an earlier one stopped (`<path>.part`).

    If `path` exists, only its md5 is checked. Broken connections and passing server errors are tried again, until
    `MAX_FUTILE_ATTEMPTS` attempts in a row brought no new byte.

    Args:
        url: the address.
        path: the file to write.
        md5: the expected md5, in hexadecimal digits; None to check nothing and to start from the beginning.
        retry_wait_s: seconds before the first new attempt. The time doubles with every attempt without progress.

    Raises:
        ArchiveError: the server refuses, all attempts have failed, or the md5 is another. In the last case the file is
            removed.
    """
    part = path.with_name(path.name + ".part")
    if md5 is None:
        part.unlink(missing_ok=True)  # without md5, the two halves may be of different files
    futile, longest = 0, _size(part)
    while not path.exists():
        try:
            _transfer(url, part)
            os.replace(part, path)
        except _Interrupted as error:
            futile = 0 if _size(part) > longest else futile + 1
            longest = max(longest, _size(part))
            if futile == MAX_FUTILE_ATTEMPTS:
                raise ArchiveError(
                    f"{url}: gave up after {futile} attempts in a row without progress ({error}). What came "
                    f"is kept in {part}: run the same command again to go on from there."
                ) from error
            time.sleep(max(error.retry_after_s, retry_wait_s * 2**futile))
    if md5 is not None and (got := _md5(path)) != md5:
        path.unlink()
        raise ArchiveError(
            f"{path.name}: the md5 is {got}, expected {md5}. The file came from {url} and was removed. Run "
            "the same command again; if the md5 stays the same, the server does not hold the published file."
        )


def _transfer(url: str, part: Path) -> None:
    """Append to `part` the bytes of `url` that it lacks. A server without Range support sends all bytes again."""
    have = _size(part)
    response = _open(url, have)
    if response is None:
        return
    with response:
        start = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        name = part.name.removesuffix(".part")
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while chunk := _read(response):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(part) < total:  # http.client takes an early end for the end
        raise _Interrupted(f"the connection ended after {_size(part)} of {total} bytes")


def _open(url: str, have: int) -> http.client.HTTPResponse | None:
    """Ask for the bytes of `url` from `have` on; None where the server says that there are no more."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file is whole, or the md5 will tell
            return None
        if error.code in RETRIED_STATUS:
            wait = error.headers.get("Retry-After", "")
            raise _Interrupted(f"HTTP {error.code} {error.reason}", float(wait) if wait.isdigit() else 0) from error
        raise ArchiveError(
            f"{url}: the server answered {error.code} {error.reason}. Check the address in a browser."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"{type(error).__name__}: {error}") from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"{type(error).__name__}: {error}") from error


def extract(path: Path, archive: Archive, directory: Path) -> None:
    """Extract the clips of an archive into `directory/<machine type>/{train,test}`, and remove the archive.

    The archive is first extracted into a hidden folder, then its clips are moved into place. During the moves a file
    `*.merging` exists, and `list_clips` refuses a folder with such a file.

    Args:
        path: the archive's file.
        archive: its entry in the table of archives.
        directory: the folder to fill.

    Raises:
        ArchiveError: the archive is damaged, holds no clip, or has an entry that would leave the folder (an absolute path,
            `..`, a link). The archive is removed, and none of its clips is in place.
    """
    state = directory / STATE_DIR
    extracting, merging = state / f"{archive.name}.extracting", _merging(directory, archive)
    shutil.rmtree(extracting, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as file:
            members = _members(file, archive)
            bar = tqdm(members.items(), desc=f"Extracting {archive.name}", unit="clip", disable=None)
            for target, info in bar:
                (extracting / target).parent.mkdir(parents=True, exist_ok=True)
                with file.open(info) as source, (extracting / target).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
        merging.touch()
        for target in members:
            (directory / target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(extracting / target, directory / target)
        record = {"md5": archive.md5, "clips": list(members)}
        _record(directory, archive).write_text(json.dumps(record))
    except ArchiveError:
        path.unlink()
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        path.unlink()
        raise ArchiveError(
            f"{archive.name} is damaged or cut short ({error}) and was removed. Run the same command again."
        ) from error
    finally:
        shutil.rmtree(extracting, ignore_errors=True)
    merging.unlink()
    path.unlink()  # last: the archive is kept until the extraction counts as finished


def _members(file: zipfile.ZipFile, archive: Archive) -> dict[str, zipfile.ZipInfo]:
    """Map the places in the folder to the clips of an archive. Every entry is checked first."""
    members = {}
    for info in file.infolist():
        name = info.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in parts:
            reason = "leads out of the folder"
        elif stat.S_ISLNK(info.external_attr >> 16):
            reason = "is a link"
        else:
            reason = None
        if reason is not None:
            raise ArchiveError(
                f"{archive.name}: the entry {info.filename!r} {reason}: this is not the published archive. "
                "Nothing was extracted, and the archive was removed. Fetch it from another server."
            )
        if info.is_dir() or len(parts) < 2 or parts[-2] not in SPLITS:
            continue
        try:
            parse_clip_name(parts[-1])
        except ValueError:
            continue
        members["/".join((archive.machine_type, *parts[-2:]))] = info
    if not members:
        raise ArchiveError(
            f"{archive.name} holds no clip and was removed. Expected entries such as "
            f"{archive.machine_type}/train/normal_id_00_00000000.wav."
        )
    return members


def _fetch_evaluation_labels(directory: Path, base_url: str) -> None:
    path = directory / STATE_DIR / EVALUATION_LABELS_NAME
    path.unlink(missing_ok=True)
    download(_url(base_url, EVALUATION_LABELS_RECORD, EVALUATION_LABELS_NAME), path, md5=None)
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


def _is_whole(directory: Path, archive: Archive) -> bool:
    """Whether the archive was extracted and moved into place here, and every clip still exists."""
    if _merging(directory, archive).exists() or not _record(directory, archive).exists():
        return False
    record = json.loads(_record(directory, archive).read_text())
    return record["md5"] == archive.md5 and all((directory / clip).exists() for clip in record["clips"])


def _merging(directory: Path, archive: Archive) -> Path:
    return directory / STATE_DIR / f"{archive.name}.merging"


def _record(directory: Path, archive: Archive) -> Path:
    return directory / STATE_DIR / f"{archive.name}.json"


def _url(base_url: str, record: int, name: str) -> str:
    return f"{base_url.rstrip('/')}/records/{record}/files/{name}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
