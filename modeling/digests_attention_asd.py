"""SHA-256 digests that say which files of a model directory belong together."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize
from transformers.utils.hub import cached_file


WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"


def file_digest(path: str | os.PathLike) -> str:
    """The digest of a file's bytes."""
    # hashlib has a function for this since Python 3.11; the model's code runs with 3.10, too.
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tensors_digest(files: Iterable[str | os.PathLike]) -> str:
    """The digest of the tensors in safetensors files, one after the other by their names.

    A network that is loaded and saved again keeps this digest, whatever transformers writes into the file's header, and in
    however many files. Another precision is another digest.

    Raises:
        ValueError: a file is damaged.
    """
    tensors: dict[str, Any] = {}
    for path in files:
        try:
            tensors |= dict(deserialize(Path(path).read_bytes()))
        except SafetensorError as error:
            raise ValueError(f"{path}: damaged ({error}). Save or download the model again.") from None
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, tensor["dtype"], tensor["shape"]]).encode())
        digest.update(tensor["data"])
    return digest.hexdigest()


def weights_digest(name_or_path: str | os.PathLike, *, subfolder: str = "", **source: Any) -> str | None:
    """The [`tensors_digest`] of a model's weights; `None` where there are none in safetensors.

    Args:
        name_or_path: directory of the model, or its name on the Hub.
        subfolder, source: as transformers finds the model: `revision`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        ValueError: the weights are damaged.
    """

    def find(name: str) -> str | None:
        return cached_file(
            name_or_path,
            name,
            subfolder=subfolder,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **source,
        )

    if weights := find(WEIGHTS_FILE):
        return tensors_digest([weights])
    index = find(INDEX_FILE)
    if index is None:
        return None
    try:
        shards = {
            Path(name).name for name in json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()
        }
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index}: damaged ({error!r}). Save or download the model again.") from None
    found = [find(name) for name in sorted(shards)]
    return None if None in found else tensors_digest([path for path in found if path])


__all__ = ["file_digest", "tensors_digest", "weights_digest"]
