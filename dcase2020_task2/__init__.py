"""DCASE 2020 Challenge Task 2, and any folder in its layout, as `datasets`."""

import importlib
from typing import TYPE_CHECKING, Any

from .clips import (
    ADDITIONAL_LABELS,
    DEVELOPMENT_LABELS,
    LABELS,
    MACHINE_TYPES,
    ClipName,
    label_name,
    parse_clip_name,
)
from .folder import list_clips


if TYPE_CHECKING:
    from .archives import ArchiveError
    from .dcase2020_task2 import Dcase2020Task2, Dcase2020Task2Config
    from .loading import load_clips

# These names are imported at their first use: `datasets` takes half a second, and scoring recordings does not need it.
MODULES = {
    "ArchiveError": "archives",
    "Dcase2020Task2": "dcase2020_task2",
    "Dcase2020Task2Config": "dcase2020_task2",
    "load_clips": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{MODULES[name]}", __name__), name)


__all__ = [
    "ADDITIONAL_LABELS",
    "DEVELOPMENT_LABELS",
    "LABELS",
    "MACHINE_TYPES",
    "ArchiveError",
    "ClipName",
    "Dcase2020Task2",
    "Dcase2020Task2Config",
    "label_name",
    "list_clips",
    "load_clips",
    "parse_clip_name",
]
