"""What is remembered of verdicts: rows for the browser's own storage, or in a folder that the owner of the app names."""

import hashlib
import logging
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from history_folder import Folder, Timeout
from reading import Sound
from service import listener, version_of
from settings import HISTORY_DIR, MAX_DRIFT_VALUES
from texts import told


# Of the pipeline's answer.
COLUMNS = (
    *("verdict", "p_value", "score", "threshold", "false_alarm_rate", "machine", "duration_s", "level_db"),
    *("reason", "note"),
)


try:
    folder = Folder(HISTORY_DIR) if HISTORY_DIR else None
except ValueError as error:
    sys.exit(str(error))


def remember(sound: Sound, result: dict[str, Any], detector: Any, heard_by: str) -> list[dict[str, Any]]:
    """Remember a verdict: in the folder, or by rows for the browser to keep.

    Args:
        sound: the recording.
        result: the pipeline's answer. One without a machine belongs to no machine's history.
        detector: which gave it; `None` for the model's own.
        heard_by: the tab that it came by.

    Returns:
        What the browser is to keep: nothing, where the folder took the row.
    """
    if result["machine"] is None:
        return []
    row = {
        # The same sound is the same recording, whatever its file is called: of two verdicts about it the last counts.
        "key": hashlib.blake2b(sound.samples.tobytes(), digest_size=12).hexdigest(),
        "time": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        "heard_by": heard_by,
        "file": sound.name,
        **{name: result[name] for name in COLUMNS},
        "version": version_of(detector, result["machine"]),
    }
    if folder is None:
        return [row]
    try:
        folder.add([row])
    except (OSError, Timeout) as error:
        logging.error("%s: a verdict is not in the history (%s).", folder.path, error)
        return [row]
    return []


# For the page


def kept_in_folder(_: Any = None) -> dict[str, Any]:
    """Return the rows that the folder holds, as texts; `None` where there is no folder."""
    if folder is None:
        return {"texts": None}
    try:
        return {"texts": folder.texts()}
    except OSError as error:
        return {"texts": [], "error": told("history.no_folder", why=error.strerror)}


def drift(series: Any) -> dict[str, Any]:
    """Return what the model's own test for drift says of each series of values, which are in the order of time."""
    if not isinstance(series, list) or not all(isinstance(values, list) for values in series):
        return {"error": told("history.no_numbers")}
    if sum(len(values) for values in series) > MAX_DRIFT_VALUES:
        return {"error": told("history.too_many", most=MAX_DRIFT_VALUES)}
    if not all(type(value) in (int, float) and abs(value) < 1e30 for values in series for value in values):
        return {"error": told("history.no_numbers")}
    try:
        test = import_module(f"{type(listener.pipe).__module__.rpartition('.')[0]}.drift_attention_asd").DriftTest
    except ImportError:
        return {"error": told("history.no_test")}
    return {"limit": 1 / test().alpha, "found": [watched(test(), values) for values in series]}


def watched(test: Any, values: list[float]) -> dict[str, Any]:
    """Return the evidence of a change after each value, and the changes: when each was found, and since when it is."""
    evidence, changes = [], []
    for index, value in enumerate(values):
        change = test.update(value, str(index))
        evidence.append(round(1 / test.alpha if change else float(test.capital.sum()), 3))
        if change:
            changes.append({"found": index, "since": int(change.since), "shift": change.shift})
    return {"evidence": evidence, "changes": changes}


__all__ = ["drift", "kept_in_folder", "remember"]
