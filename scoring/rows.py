"""A row of results as text: a line of a table, of CSV or of JSON."""

import csv
import io
import json
import re
from typing import Any


# A result as JSON has it: the recording's `file`, the pipeline's answer or an `error`, and what the result rests on.
Row = dict[str, Any]

COLUMNS: tuple[str, ...] = tuple(
    "file verdict score threshold p_value false_alarm_rate machine predicted_machine similarity method "
    "calibration_clips backend duration_s level_db start_s end_s reason note anomalous_s drift error "
    "file_size file_time asked_machine engine model_digest".split()
)
TABLE_HEADER = f"{'verdict':<12} {'p-value':>8} {'score':>10} {'threshold':>10}  {'machine':<18} recording"


def as_table(row: Row) -> str:
    """Write a row for people: verdict, figures and machine in one line, remarks in lines of their own."""
    if "error" in row:
        return f"{'unreadable':<12} {without_controls(row['error'])}"
    name = without_controls(row["file"]) if "start_s" not in row else f"{row['start_s']:.1f}-{row['end_s']:.1f} s"
    widths = {"p_value": 8, "score": 10, "threshold": 10}
    figures = [f"{'-' if row[key] is None else format(row[key], '.4g'):>{width}}" for key, width in widths.items()]
    line = f"{row['verdict']:<12} {' '.join(figures)}  {row['machine'] or '-':<18} {name}"
    stretches = anomalous_stretches(row)
    remarks = [row["reason"], row["note"], stretches and f"anomalous at {stretches} s", row.get("drift")]
    return "\n".join([line, *(f"{'':<12} {remark}" for remark in remarks if remark)])


def without_controls(text: str) -> str:
    """Write control characters as escapes: the name of a file could clear a terminal, or hide a line of the table."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


def as_csv(row: Row) -> str:
    """Write a row as a line of CSV with `COLUMNS`."""
    line = io.StringIO()
    # A name with one of these two characters is quoted.
    writer = csv.DictWriter(line, COLUMNS, extrasaction="ignore", lineterminator="\r\n")
    writer.writerow({**row, "anomalous_s": anomalous_stretches(row)})
    return line.getvalue().removesuffix("\r\n")


def as_json(row: Row) -> str:
    """Write a row as a line of JSON."""
    return json.dumps(row, allow_nan=False)


def anomalous_stretches(row: Row) -> str:
    """Say where a long recording is anomalous, in seconds: `20-40 90-100`."""
    stretches: list[list[float]] = []
    for window in row.get("windows", ()):
        if window["verdict"] == "anomalous":
            if stretches and stretches[-1][1] >= window["start_s"]:
                stretches[-1][1] = window["end_s"]
            else:
                stretches.append([window["start_s"], window["end_s"]])
    return " ".join(f"{start:g}-{end:g}" for start, end in stretches)


FORMATS = {"table": as_table, "csv": as_csv, "json": as_json}
HEADERS = {"table": TABLE_HEADER, "csv": ",".join(COLUMNS)}
