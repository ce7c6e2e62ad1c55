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

from .rows import FORMATS, HEADERS


FORMAT_OF_SUFFIX = {".jsonl": "json", ".csv": "csv"}


class Results(ABC):
    """Writes rows one after the other, and counts them by verdict.

    Args:
        form: a key of [`FORMATS`].

    Attributes:
        done: recordings that need not be scored again.
    """

    def __init__(self, form: str):
        self.form = form
        self.counts: Counter[str] = Counter()
        self.done: set[str] = set()

    @abstractmethod
    def write(self, line: str) -> None:
        """Write a line, so that it is there whatever happens next."""

    def add(self, row: dict[str, Any]) -> None:
        """Write a row and count it; an error goes to standard error as well, unless a table shows it."""
        self.count(row)
        self.write(FORMATS[self.form](row))
        if "error" in row and self.form != "table":
            tqdm.write(f"error: {row['error']}", file=sys.stderr)

    def count(self, row: dict[str, Any]) -> None:
        """Count a row by its verdict, or as unreadable."""
        self.counts["unreadable" if row.get("error") else row["verdict"]] += 1

    @property
    def summary(self) -> str:
        """The counts in words: `1 anomalous, 4 normal`."""
        return ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items())) or "nothing"

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


class ResultsFile(Results):
    """Appends rows to a file, each whole, in one write, and counts them with those that are there.

    When the program starts again, a line that was cut off is removed.

    Args:
        path: `FILE.jsonl` or `FILE.csv`.
        settings: the settings that all rows of a file share.

    Raises:
        ValueError: the file holds something else, or rows with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        super().__init__(FORMAT_OF_SUFFIX[path.suffix])
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "a+b", buffering=0)  # noqa: SIM115  # open as long as results come
        text = self.whole_lines()
        try:
            rows = parse_rows(text, self.form)
            for row in rows:
                self.done.add(row["file"])
                self.count(row)
        except (ValueError, KeyError):
            raise ValueError(f"{path}: not written by this program; choose another file.") from None
        check_settings(path, rows, settings)
        if self.form in HEADERS and not text:
            self.write(HEADERS[self.form])

    def whole_lines(self) -> str:
        """Read the file, and cut off a last line that does not end."""
        self.file.seek(0)
        content = self.file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.file.truncate(len(whole))
        return whole.decode("utf-8", "surrogateescape")

    def write(self, line: str) -> None:
        """Append a line in one write."""
        self.file.write((line + "\n").encode("utf-8", "surrogateescape"))


def parse_rows(text: str, form: str) -> list[dict[str, Any]]:
    """Parse lines of CSV or JSON.

    Raises:
        ValueError: a line is no JSON.
    """
    if form == "csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.split("\n")[:-1]]


def check_settings(path: Path, rows: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Check that the rows of a file have the same settings as those to come: they could not be told apart.

    Raises:
        ValueError: they have others.
    """
    for option, asked in settings.items():
        before = {str(row[option]) for row in rows if row.get(option) not in (None, "")}
        if before and before != {str(asked)}:
            raise ValueError(
                f"{path} holds results with {option} {', '.join(sorted(before))}, not {asked}: choose another file."
            )
