"""`score.py --watch` for minutes, while recordings arrive in every awkward way: each is judged once, and as a whole."""

import json
import math
import os
import signal
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from engines import load_pipeline

from .arrivals import ANYTHING, LATEST, PATIENCE_SECONDS, SETTLE_SECONDS, UNREADABLE, Arrival, Arrivals, Content
from .damage import generator_of
from .load import Load, Measured
from .processes import Forked
from .small_model import MACHINES, SAMPLING_RATE, recording, write_model, write_recordings
from .trials import Tally


# Between two recordings, on average.
PACE_SECONDS = 0.6
NEXT_LOOK_SECONDS = 0.1
SUFFIXES = ("wav", "flac", "aiff", "ogg")
CONTENTS, CONTENT_SECONDS = 12, 3


class WatchLoad(Load):
    """A watched folder.

    Args:
        seed: part of the key of everything random.
        folder: an empty folder to work in.
    """

    title = "score.py --watch, with recordings that arrive in awkward ways"

    def __init__(self, seed: int, folder: Path):
        self.seed, self.folder = seed, folder
        self.model = write_model(folder / "model", write_recordings(folder / "recordings", clips=8))
        self.watched, self.output = folder / "watched", folder / "rows.jsonl"
        # For each file its rows, and when each was seen.
        self.rows: dict[str, list[tuple[float, dict[str, Any]]]] = defaultdict(list)
        self.bytes_read = 0
        contents = make_contents(self.model, folder)
        self.arrivals = Arrivals(self.watched, folder / "aside", contents, lambda path: len(self.rows[path]))

    def run(self, until: float) -> Tally:
        """See `Load`. A file may take half a minute to arrive, and its row comes later still."""
        measured, arriving = Measured(), []
        command = ("--watch", self.watched, "--model", self.model, "--output", self.output, "--settle", SETTLE_SECONDS)
        process = Forked.script("score.py", *command)
        with ThreadPoolExecutor(16) as pool:
            with measured.cut_off_by_signal():
                while time.monotonic() < until:
                    generator = generator_of(self.seed, len(arriving))
                    arriving.append(pool.submit(self.arrivals.arrive, len(arriving), generator))
                    self.wait_and_look(generator.exponential(PACE_SECONDS), process, measured)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline and not all(map(self.is_answered, arriving)):
                self.wait_and_look(1.0, process, measured)
            # What would be answered twice comes now.
            self.wait_and_look(2 * SETTLE_SECONDS, process, measured)
        os.kill(process.pid, signal.SIGTERM)
        code = process.wait()
        if code not in (0, 1, 2) or "Traceback" in process.output:
            measured.fail(-1, f"score.py ended with {code}: {process.output[-2000:]}")
        self.compare(together([future.result() for future in arriving]), measured)
        return measured.finish()

    def wait_and_look(self, seconds: float, process: Forked, measured: Measured) -> None:
        """Wait, and meanwhile read new rows and the memory of the process."""
        end = time.monotonic() + seconds
        while True:
            self.read_rows()
            measured.look_at_memory(process.pid)
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, NEXT_LOOK_SECONDS))

    def read_rows(self) -> None:
        """Read the rows that have come since the last look."""
        if not self.output.exists():
            return
        with open(self.output, "rb") as file:
            file.seek(self.bytes_read)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if line.endswith(b"\n"):
                self.bytes_read += len(line)
                row = json.loads(line)
                self.rows[row["file"]].append((time.monotonic(), row))

    def is_answered(self, arriving: "Future[Arrival]") -> bool:
        """Whether a file has arrived and has all its rows."""
        if not arriving.done():
            return False
        arrival = arriving.result()
        return arrival.is_optional or len(self.rows[str(arrival.path)]) >= len(arrival.answers)

    def compare(self, arrivals: list[Arrival], measured: Measured) -> None:
        """Compare the rows of each file with what they must say."""
        for arrival in arrivals:
            rows = self.rows.pop(str(arrival.path), [])
            said = [UNREADABLE if row.get("error") else (row["verdict"], row["score"]) for _, row in rows]
            if not fits(arrival, said):
                measured.fail(
                    arrival.number, f"{arrival.manner}: {arrival.path.name} has {said}, not {arrival.answers}"
                )
                continue
            measured.latencies += [came - whole for (came, _), whole in zip(rows, arrival.whole_at, strict=False)]
            for answer in said or [None]:
                outcome = "passed over" if answer is None else UNREADABLE if answer == UNREADABLE else "judged"
                measured.count(arrival.manner, outcome)
        for name, rows in self.rows.items():
            if rows:
                measured.fail(-1, f"a row about {name}, which never arrived")


def make_contents(model: Path, folder: Path) -> list[Content]:
    """Make recordings of three seconds in several formats, and judge each as a whole."""
    pipe, contents = load_pipeline(model), []
    for number in range(CONTENTS):
        hiss = 0.2 if number % 3 == 0 else 0.0
        parts = [
            recording(MACHINES[number % 2], 5000 + 10 * number + second, hiss) for second in range(CONTENT_SECONDS)
        ]
        suffix = SUFFIXES[number % len(SUFFIXES)]
        path = folder / f"content_{number}.{suffix}"
        soundfile.write(path, np.concatenate(parts), SAMPLING_RATE)
        result = pipe(str(path))
        contents.append(Content(suffix, path.read_bytes(), (result["verdict"], result["score"])))
    return contents


def together(arrivals: list[Arrival]) -> list[Arrival]:
    """Make one of all arrivals of `latest.wav`: its rows come in the order in which it was replaced."""
    others = [arrival for arrival in arrivals if arrival.manner != LATEST]
    replaced = sorted(
        (arrival for arrival in arrivals if arrival.manner == LATEST), key=lambda arrival: arrival.whole_at
    )
    if not replaced:
        return others
    answers, whole_at = [arrival.answers[0] for arrival in replaced], [arrival.whole_at[0] for arrival in replaced]
    return [*others, Arrival(replaced[0].number, LATEST, replaced[0].path, answers, whole_at)]


def fits(arrival: Arrival, said: list[Any]) -> bool:
    """Whether the rows of a file are what they must be, none more and none less."""
    if len(said) != len(arrival.answers):
        return arrival.is_optional and not said
    return all(map(is_same, arrival.answers, said))


def is_same(expected: Any, said: Any) -> bool:
    if expected == ANYTHING or UNREADABLE in (expected, said):
        return expected in (ANYTHING, said)
    return expected[0] == said[0] and math.isclose(expected[1], said[1], rel_tol=1e-5)
