"""Awkward ways in which recordings arrive in a folder, and what must be said of each."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


SETTLE_SECONDS = 2.0
# The longest wait for a row: a cut-off recording is judged after six times the settling.
PATIENCE_SECONDS = 90.0
UNREADABLE, ANYTHING = "unreadable", "anything"
LATEST = "latest.wav, replaced"
PIECES = 5


@dataclass(frozen=True)
class Content:
    """A recording, and the verdict and score of the whole of it."""

    suffix: str
    data: bytes
    answer: tuple[str, float]


@dataclass
class Arrival:
    """A file that arrives.

    Attributes:
        number: of the arrival.
        manner: how it arrives.
        path: the file.
        answers: what its rows must say, one after the other: the answer of a content, `UNREADABLE` or `ANYTHING`.
        whole_at: when each of its states was whole, by `time.monotonic`; empty where nobody can say.
        is_optional: whether it may also have no row.
    """

    number: int
    manner: str
    path: Path
    answers: list[Any] = field(default_factory=list)
    whole_at: list[float] = field(default_factory=list)
    is_optional: bool = False


class Arrivals:
    """Lets files arrive.

    Args:
        folder: where to.
        aside: a folder beside it, for files that are renamed.
        contents: what is in the files.
        rows: a function that gives the number of rows about a path so far.
    """

    def __init__(self, folder: Path, aside: Path, contents: list[Content], rows: Callable[[str], int]):
        self.folder, self.aside, self.contents, self.rows = folder, aside, contents, rows
        self.one_latest = threading.Lock()
        folder.mkdir()
        aside.mkdir()
        self.manners: dict[str, Callable[[Arrival, Content, np.random.Generator], None]] = {
            "copied": self.copy,
            "renamed": self.rename,
            "written slowly, kept open": self.write_slowly,
            "written slowly, closed in between": self.append_slowly,
            "of full length from the start": self.preallocate,
            LATEST: self.replace_latest,
            "changed later": self.change_later,
            "no sound": self.write_nonsense,
            "cut off": self.cut_off,
            "empty": self.write_nothing,
            "hidden": self.write_hidden,
            "taken away at once": self.take_away,
        }

    def arrive(self, number: int, generator: np.random.Generator) -> Arrival:
        """Let a file arrive in one of the manners. Returns when the file is whole."""
        manner, content = str(generator.choice(list(self.manners))), self.some_content(generator)
        arrival = Arrival(number, manner, self.folder / f"{number:06d}.{content.suffix}")
        self.manners[manner](arrival, content, generator)
        return arrival

    def some_content(self, generator: np.random.Generator, suffix: str | None = None) -> Content:
        """Draw a content, of one suffix if that is given."""
        fitting = [content for content in self.contents if suffix in (None, content.suffix)]
        return fitting[int(generator.integers(len(fitting)))]

    def now_whole(self, arrival: Arrival, content: Content) -> None:
        """Note that a file is whole, and holds this content."""
        arrival.answers.append(content.answer)
        arrival.whole_at.append(time.monotonic())

    def wait_for_rows(self, path: Path, count: int) -> None:
        """Wait until there are so many rows about a file, but not for ever."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.rows(str(path)) < count and time.monotonic() < deadline:
            time.sleep(0.1)

    # The manners

    def copy(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        arrival.path.write_bytes(content.data)
        self.now_whole(arrival, content)

    def rename(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        partial = self.aside / arrival.path.name
        partial.write_bytes(content.data)
        partial.replace(arrival.path)
        self.now_whole(arrival, content)

    def write_slowly(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        """Write as recorders do that flush every few seconds, and longer apart than the settling."""
        with open(arrival.path, "wb", buffering=0) as file:
            for piece in pieces(content.data):
                file.write(piece)
                time.sleep(float(generator.uniform(0.2, 2 * SETTLE_SECONDS)))
        self.now_whole(arrival, content)

    def append_slowly(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        """Write as uploads do that open the file for every piece."""
        for piece in pieces(content.data):
            time.sleep(float(generator.uniform(0.1, SETTLE_SECONDS / 2)))
            with open(arrival.path, "ab") as file:
                file.write(piece)
        self.now_whole(arrival, content)

    def preallocate(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        with open(arrival.path, "wb", buffering=0) as file:
            file.truncate(len(content.data))
            for piece in pieces(content.data):
                time.sleep(float(generator.uniform(0.2, SETTLE_SECONDS)))
                file.write(piece)
        self.now_whole(arrival, content)

    def replace_latest(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        """Replace a file of always the same name, as soon as the one before is judged."""
        content, arrival.path = self.some_content(generator, "wav"), self.folder / "latest.wav"
        with self.one_latest:
            before, partial = self.rows(str(arrival.path)), self.aside / f"latest_{arrival.number}.wav"
            partial.write_bytes(content.data)
            partial.replace(arrival.path)
            self.now_whole(arrival, content)
            self.wait_for_rows(arrival.path, before + 1)

    def change_later(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        """Write a file anew once it is judged."""
        self.copy(arrival, content, generator)
        self.wait_for_rows(arrival.path, 1)
        self.copy(arrival, self.some_content(generator, content.suffix), generator)

    def write_nonsense(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        arrival.path.write_bytes(b"this is no sound\n" * 20)
        arrival.answers = [UNREADABLE]

    def cut_off(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        """Leave what a recorder leaves that has lost its power."""
        arrival.path.write_bytes(content.data[: int(generator.uniform(0.3, 0.9) * len(content.data))])
        arrival.answers = [ANYTHING]

    def write_nothing(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        arrival.path.touch()

    def write_hidden(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        arrival.path = self.folder / f"._{arrival.path.name}"
        arrival.path.write_bytes(bytes(4096))

    def take_away(self, arrival: Arrival, content: Content, generator: np.random.Generator) -> None:
        arrival.path.write_bytes(content.data)
        time.sleep(float(generator.uniform(0, 1)))
        arrival.path.unlink()
        arrival.answers, arrival.is_optional = [ANYTHING], True


def pieces(data: bytes) -> list[bytes]:
    """Cut bytes into several pieces."""
    size = -(-len(data) // PIECES)
    return [data[start : start + size] for start in range(0, len(data), size)]
