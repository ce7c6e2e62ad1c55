"""Clips out of an archive: every entry is checked before the first one is written, and a folder never looks whole halfway."""

import json
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from datasets.utils import tqdm

from .archives import MAX_ARCHIVE_BYTES, Archive, ArchiveError
from .clips import parse_clip_name
from .folder import SPLITS, STATE_DIR


# What zipfile raises for archives that are damaged or made by hand: its own, and those of what it calls.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError, struct.error)


def extract(path: Path, archive: Archive, directory: Path) -> None:
    """Extract the clips of an archive into `directory/<machine type>/{train,test}`, and remove the archive.

    The archive is first extracted into a hidden folder, then its clips are moved into place. During the moves a file
    `*.merging` exists, and `list_clips` refuses a folder with such a file.

    Args:
        path: the archive's file.
        archive: its entry in the table of archives.
        directory: the folder to fill.

    Raises:
        ArchiveError: the archive is damaged, encrypted or too large, holds no clip or one clip twice, or has an entry that
            would leave the folder (an absolute path, `..`, a link). The archive is removed, and none of its clips is in
            place.
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
        _record(directory, archive).write_text(json.dumps(record), encoding="utf-8")
    except ArchiveError:
        path.unlink()
        raise
    except DAMAGED as error:
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
    members: dict[str, zipfile.ZipInfo] = {}
    left = MAX_ARCHIVE_BYTES
    for info in file.infolist():
        left -= info.file_size
        target = _place(info, archive)
        reason = _objection(info)
        if target is not None and target in members:
            reason = reason or f"is a second {target}"
        elif left < 0:
            reason = reason or f"makes more than {MAX_ARCHIVE_BYTES} bytes of clips"
        if reason is not None:
            raise ArchiveError(
                f"{archive.name}: the entry {info.filename!r} {reason}: this is not the published archive. "
                "Nothing was extracted, and the archive was removed. Fetch it from another server."
            )
        if target is not None:
            members[target] = info
    if not members:
        raise ArchiveError(
            f"{archive.name} holds no clip and was removed. Expected entries such as "
            f"{archive.machine_type}/train/normal_id_00_00000000.wav."
        )
    return members


def _objection(info: zipfile.ZipInfo) -> str | None:
    """What speaks against an entry of an archive, in words that follow its name; `None` for nothing."""
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in PurePosixPath(name).parts:
        return "leads out of the folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by another method ({info.compress_type}) than Deflate"
    return None


def _place(info: zipfile.ZipInfo, archive: Archive) -> str | None:
    """The place in the folder of an entry that is a clip; `None` for another entry."""
    parts = PurePosixPath(info.filename.replace("\\", "/")).parts
    if info.is_dir() or len(parts) < 2 or parts[-2] not in SPLITS:
        return None
    try:
        parse_clip_name(parts[-1])
    except ValueError:
        return None
    return "/".join((archive.machine_type, *parts[-2:]))


def is_whole(directory: Path, archive: Archive) -> bool:
    """Whether the archive was extracted and moved into place here, and every clip still exists."""
    if _merging(directory, archive).exists() or not _record(directory, archive).exists():
        return False
    try:
        record = json.loads(_record(directory, archive).read_text(encoding="utf-8"))
    except ValueError:  # half written, when the power went
        return False
    return record["md5"] == archive.md5 and all((directory / clip).exists() for clip in record["clips"])


def _merging(directory: Path, archive: Archive) -> Path:
    return directory / STATE_DIR / f"{archive.name}.merging"


def _record(directory: Path, archive: Archive) -> Path:
    return directory / STATE_DIR / f"{archive.name}.json"
