"""The Space for tests: a copy away from the repository, and the server that runs it."""

import shutil
from pathlib import Path

from research.space.server import SPACE, SpaceServer


def copy_space(folder: Path) -> Path:
    """Copy the app away from the repository, without the demonstration model."""
    return shutil.copytree(SPACE, folder, ignore=shutil.ignore_patterns("demo_model", "__pycache__"))


__all__ = ["SPACE", "SpaceServer", "copy_space"]
