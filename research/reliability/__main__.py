"""The reliability programme: damaged sound files and models, crafted exports under sanitizers, and killed processes.

    python -m research.reliability --minutes 15 --output docs/reliability.md
    python -m research.reliability --parts kills --cases 70
    python -m research.reliability --parts models --case 1234

The parts share the minutes. Kills take most of them, because each lets a whole training, export or evaluation run. SIGINT
(Ctrl-C) and SIGTERM end the run early: its report has what was found until then.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from evaluation.command import run

from .compiled import CraftedExports
from .full_disk import FullDisk
from .kills import Kills, TwoAtOnce
from .load import Load
from .model_files import ModelFiles
from .report import commit, section_of, write_page
from .sounds import Sounds
from .space_load import SpaceLoad
from .trials import try_cases
from .watch_load import WatchLoad


# How a part is made, of a seed and an empty folder, and its share of the time.
PARTS = {
    "sounds": (Sounds, 0.1),
    "models": (ModelFiles, 0.15),
    "exports": (CraftedExports, 0.1),
    "kills": (Kills, 0.25),
    "twice": (TwoAtOnce, 0.1),
    "disk": (FullDisk, 0.1),
    "watch": (WatchLoad, 0.1),
    "space": (SpaceLoad, 0.1),
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long the programme runs (default 15)")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="by default all")
    parser.add_argument("--seed", type=int, default=0, help="key of everything random, with the case's number")
    parser.add_argument("--cases", type=int, help="try so many cases of each part, however long they take")
    parser.add_argument("--case", type=int, help="try this case alone")
    parser.add_argument("--output", type=Path, help="write a section for each part into this page, below its own text")
    return parser.parse_args(argv)


def chosen_cases(arguments: argparse.Namespace, until: float) -> tuple[Iterable[int], float]:
    """The cases that are asked for, and the time after which none begins."""
    if arguments.case is not None:
        return [arguments.case], float("inf")
    return (count(), until) if arguments.cases is None else (range(arguments.cases), float("inf"))


def main() -> int:
    """Run the programme, and return 1 where a case failed."""
    arguments = parse_arguments()
    # A shell without job control, as in a script, lets a background process ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    shares = {name: PARTS[name][1] for name in arguments.parts}
    command, revision, failed = " ".join(["python -m research.reliability", *sys.argv[1:]]), commit(), 0
    for name in arguments.parts:
        seconds = 60 * arguments.minutes * shares[name] / sum(shares.values())
        with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
            try:
                part = PARTS[name][0](arguments.seed, Path(folder))
            except ImportError as error:
                print(f"{name}: left out ({error})", file=sys.stderr)
                continue
            until = time.monotonic() + seconds
            is_load = isinstance(part, Load)
            tally = part.run(until) if is_load else try_cases(part, *chosen_cases(arguments, until))
        section = section_of(part.title, tally, command, revision)
        print(section, flush=True)
        failed += len(tally.failures)
        if arguments.output:  # after each part, as the whole takes long
            write_page(arguments.output, section, [made.title for made, _ in PARTS.values()])
        if tally.is_cut_off:
            break
    return int(failed > 0)


if __name__ == "__main__":
    run(main)
