"""JSON files of a model or a user, read with errors that name the file."""

import json
import os
from pathlib import Path
from typing import Any


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        OSError: there is no such file, or it cannot be opened.
        ValueError: it holds something else. The message names the file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON ({error}). Repair the file, or get it again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}: expected one JSON object, {{...}}.")
    return content
