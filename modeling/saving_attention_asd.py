"""Saving: the files of a model directory, each whole or not at all, and the code that reads them beside them."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from torch import nn


if TYPE_CHECKING:
    # transformers finds imports in the text, and copies what it finds. So whoever loads the model has all of its code, and
    # can save the model again.
    from .pipeline_attention_asd import AnomalousSoundDetectionPipeline  # noqa: F401  # never imported, see above


CODE_PATTERN = "*_attention_asd.py"
# The last files to be replaced, in this order: each names what it belongs to, so that a save cut off between two of them is
# noticed.
LAST_FILES = ("config.json", "model.safetensors", "scoring.safetensors", "scoring_config.json", "export.json")
WEIGHTS_PATTERN = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")

FULL = (errno.ENOSPC, errno.EDQUOT)
# How safetensors says the same, today and before 0.6: the numbers of Linux, and of Windows.
FULL_IN_WORDS = re.compile(r"(os error|Os \{ code:) (28|122|112)\b")


@contextmanager
def naming_full_disk(path: str | os.PathLike) -> Iterator[None]:
    """Name what is being written when the disk is full: neither Python's error nor that of safetensors does.

    Args:
        path: what is being written.

    Raises:
        OSError: the disk, or the user's share of it, is full.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        is_full = error.errno in FULL if isinstance(error, OSError) else FULL_IN_WORDS.search(str(error))
        if not is_full:
            raise
        what_to_do = "The disk is full. Make space and start again; what was there before is whole"
        raise OSError(errno.ENOSPC, what_to_do, str(path)) from error


@contextmanager
def replacing_files(directory: str | os.PathLike) -> Iterator[Path]:
    """Write files into a scratch folder; at the end of the block they take their places in a directory.

    Until then the directory is as it was, whatever happens. Then each file is replaced at once, never written over: a
    link becomes a file, and what the link led to stays. A process that is killed may leave a folder `.saving-...`, which
    nothing reads.

    Args:
        directory: the directory, made where it is missing.

    Raises:
        OSError: the disk is full. The message names the directory.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(directory), tempfile.TemporaryDirectory(dir=directory, prefix=".saving-") as scratch:
        yield Path(scratch)
        files = [file for file in Path(scratch).iterdir() if file.is_file()]
        files.sort(key=lambda file: (LAST_FILES.index(file.name) + 1 if file.name in LAST_FILES else 0, file.name))
        for file in files:
            sync(file)
        for file in files:
            file.replace(directory / file.name)
        names = {file.name for file in files}
        if any(map(WEIGHTS_PATTERN.fullmatch, names)):
            remove_other_weights(directory, names)
        if os.name == "posix":
            sync(directory)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_other_weights(directory: Path, kept: set[str]) -> None:
    """Remove weights that an earlier save left under other names, as shards or as one file: transformers might load them."""
    for file in directory.iterdir():
        if WEIGHTS_PATTERN.fullmatch(file.name) and file.name not in kept:
            file.unlink()


def unmap(model: nn.Module) -> None:
    """Copy a model's tensors on the CPU out of the file that they were loaded from, which is mapped into memory.

    Windows does not replace a mapped file, and elsewhere a mapped file that is cut short ends the process.
    """
    for parameter in model.parameters():
        if parameter.device.type == "cpu":
            parameter.data = parameter.data.clone()
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            # A new tensor: the old one is a view, and keeps the file's whole tensor.
            if buffer.device.type == "cpu":
                setattr(module, name, buffer.clone())


def copy_code(directory: Path) -> None:
    """Copy the code beside this file, all of it, into a scratch folder of [`replacing_files`].

    transformers alone copies what the saved class imports: a model does not import its pipeline.
    """
    for code in Path(__file__).parent.glob(CODE_PATTERN):
        shutil.copyfile(code, directory / code.name)


__all__ = ["CODE_PATTERN", "copy_code", "naming_full_disk", "replacing_files", "unmap"]
