"""Where rows of results go: standard output, or a file that a second start goes on with."""

import csv
import io
import json
import sys
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from evaluation.lock import hold
from modeling.saving_attention_asd import naming_full_disk

from .options import FORMAT_OF_SUFFIX
from .rows import FORMATS, HEADERS, Row, without_controls


# How a file of rows begins, also one that was cut off within its first line.
BEGINNINGS = {"csv": HEADERS["csv"].encode(), "json": b'{"file": '}


class Results(ABC):
    """Writes rows one after the other, and counts them by verdict.

    Args:
        form: a key of [`FORMATS`].

    Attributes:
        counts: the number of rows by verdict, and of those that are unreadable.
        passed_over: the number of files in folders that are no recordings, by suffix.
        earlier: rows of earlier runs, in their order.
    """

    def __init__(self, form: str):
        self.form = form
        self.counts: Counter[str] = Counter()
        self.passed_over: Counter[str] = Counter()
        self.earlier: list[Row] = []

    @abstractmethod
    def write(self, line: str) -> None:
        """Write a line, so that it is there whatever happens next."""

    def add(self, row: Row) -> None:
        """Write a row and count it; an error goes to standard error as well, unless a table shows it."""
        self.count(row)
        self.write(FORMATS[self.form](row))
        if "error" in row and self.form != "table":
            tqdm.write(f"error: {without_controls(row['error'])}", file=sys.stderr)

    def count(self, row: Row) -> None:
        """Count a row by its verdict, or as unreadable."""
        self.counts["unreadable" if row.get("error") else row["verdict"]] += 1

    def stands(self, name: str, basis: Row) -> bool:
        """Tell whether a recording need not be judged again, and count its earlier row if so.

        Args:
            name: the recording's.
            basis: what a row about it rests on now.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Let other processes have the output."""

    @property
    def summary(self) -> str:
        """The counts in words: `1 anomalous, 4 normal`."""
        verdicts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items())) or "nothing"
        others = ", ".join(f"{count} {kind}" for kind, count in sorted(self.passed_over.items()))
        return f"{verdicts}; passed over: {others}" if others else verdicts

    @property
    def exit_code(self) -> int:
        """2 where an input could not be read, else 1 where something is anomalous, else 0."""
        return 2 if self.counts["unreadable"] else int(self.counts["anomalous"] > 0)


class StandardOutput(Results):
    """Prints rows, after a header where the format has one."""

    def __init__(self, form: str):
        super().__init__(form)
        if form in HEADERS:
            self.write(HEADERS[form])

    def write(self, line: str) -> None:
        """Print a line above the progress bar."""
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        """Do nothing: standard output stays open."""


class ResultsFile(Results):
    """Appends rows to a file, each whole, in one write. One process at a time has the file.

    When the program starts again, a row that was cut off is removed. Another file stays as it is.
    Of several rows about a recording the last counts.

    Args:
        path: `FILE.jsonl` or `FILE.csv`.

    Raises:
        ValueError: the file holds something else, or another process writes into it.
    """

    def __init__(self, path: Path):
        super().__init__(FORMAT_OF_SUFFIX[path.suffix])
        self.path = path
        self.lock = hold(path.with_name(f".{path.name}.lock"), str(path))
        self.file = open(path, "a+b", buffering=0)  # noqa: SIM115  # open as long as results come
        rows, part = self.rows_and_part()
        try:
            self.earlier = parse_rows(rows.decode("utf-8", "surrogateescape"), self.form)
            self.latest = {row["file"]: row for row in self.earlier}
            if not rows and not part.startswith(BEGINNINGS[self.form][: len(part)]):
                raise ValueError("it begins otherwise")
        except (ValueError, KeyError, TypeError):
            self.close()
            raise ValueError(f"{path}: not written by this version of score.py; choose another file.") from None
        # Not before the file is known to be ours: another file would lose its last line.
        self.file.truncate(len(rows))
        if self.form in HEADERS and not rows:
            self.write(HEADERS[self.form])

    def rows_and_part(self) -> tuple[bytes, bytes]:
        """Read the file: its whole rows, and a last row that does not end."""
        self.file.seek(0)
        content = self.file.read()
        end = content.rfind(b"\n") + 1
        # Within quotes of CSV, a line break belongs to a file's name and ends no row.
        while self.form == "csv" and content.count(b'"', 0, end) % 2:
            end = content.rfind(b"\n", 0, end - 1) + 1
        return content[:end], content[end:]

    def add(self, row: Row) -> None:
        """Write a row and count it. An error that is the last thing known of a recording is not written again."""
        before = self.latest.get(row["file"])
        if "error" in row and before is not None and FORMATS[self.form](before) == FORMATS[self.form](row):
            self.count(row)
            tqdm.write(f"error: {without_controls(row['error'])}", file=sys.stderr)
        else:
            super().add(row)

    def stands(self, name: str, basis: Row) -> bool:
        """Tell whether the last row about a recording is no error and rests on the same; if so, count it.

        Of a URL nobody knows here whether its recording has changed, so that none stands.
        """
        row = self.latest.get(name)
        if row is None or row.get("error") or basis["file_size"] is None or not rests_on(row, basis):
            return False
        self.count(row)
        return True

    def close(self) -> None:
        """Let other processes have the file."""
        self.file.close()
        self.lock.release()

    def write(self, line: str) -> None:
        """Append a line in one write, or, on a disk that is nearly full, in several.

        Raises:
            OSError: the disk is full. The part of the line that is there is removed at the next start.
        """
        data = (line + "\n").encode("utf-8", "surrogateescape")
        with naming_full_disk(self.path):
            while data:
                data = data[self.file.write(data) :]


def parse_rows(text: str, form: str) -> list[Row]:
    """Parse rows of CSV or JSON.

    Raises:
        ValueError: a line is no JSON, or the CSV has other columns.
    """
    if form == "csv":
        if text and not text.startswith(HEADERS[form] + "\n"):
            raise ValueError("other columns")
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.split("\n")[:-1]]


def rests_on(row: Row, basis: Row) -> bool:
    """Tell whether a row, of which CSV has all values as text, rests on the same recording, model and options."""
    return all(as_text(row.get(key)) == as_text(value) for key, value in basis.items())


def as_text(value: Any) -> str:
    return "" if value is None else str(value)
