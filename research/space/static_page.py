"""The static page in a real Chromium with the network cut, beside the pipeline: every test recording of a folder.

    python -m research.space.static_page --data_dir DATA --output R.md

DATA is in the DCASE 2020 Task 2 layout. The page of the model is built and opened. Then its server stops, and the browser
goes offline. Each test recording is dropped in, as of its machine where the model knows the machine, and the pipeline judges
the same file. The program fails if an answer differs, a request left the machine, or the page complained.
"""

import argparse
import gzip
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from dcase2020_task2 import label_name, load_clips
from engines import load_pipeline
from evaluation.command import run
from research.benchmarks.report import describe_machine, markdown
from static_space.build import build

from .page import chromium
from .server import SPACE
from .static_visit import StaticSite, StaticVisit


# Fields of the pipeline's answer that the page's has to the letter, and to five digits.
EXACT = ("verdict", "machine", "predicted_machine", "note", "method", "calibration_clips", "backend")
CLOSE = ("score", "threshold", "p_value", "similarity", "level_db", "duration_s")
OF_A_WINDOW = ("start_s", "end_s", "score", "p_value")
RELATIVE = 1e-5
# Small values, and p-values: one moves ten times as far as the logarithm of the score.
ABSOLUTE = {"p_value": 1e-4}


def main() -> int:
    """Compare all recordings, print or write the page, and return 1 where something differs."""
    arguments = parse_arguments()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    clips: Any = load_clips(arguments.data_dir)
    detect = load_pipeline(arguments.model)
    with tempfile.TemporaryDirectory(prefix="static-page-") as folder, chromium() as browser:
        build(arguments.model, Path(folder))
        found = compare_recordings(browser, Path(folder), detect, list(clips["test"]))
    text = page_of(found)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    print(text)
    return int(bool(found.differing or found.complaints or found.foreign))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument("--model", default=str(SPACE / "demo_model"), help="a model (the Space's own)")
    parser.add_argument("--output", type=Path, help="write the table into this file, too")
    return parser.parse_args()


@dataclass
class Comparison:
    """What page and pipeline said.

    Attributes:
        ready_s: seconds from the page's address until the page takes a sound.
        megabytes: what the page fetched until then, the same by gzip, and what it fetched in all.
        complaints: errors in the page's console.
        foreign: requests to anybody but the page's own server.
        seconds: of each answer of the page.
        differing: the fields that differ, by the recording's path.
        verdicts: how many recordings got the same verdict, and how many there are.
        notes: the same of notes.
        furthest: the largest relative difference of two scores.
    """

    ready_s: float
    megabytes: tuple[float, float, float]
    complaints: list[str]
    foreign: list[str]
    seconds: list[float] = field(default_factory=list)
    differing: dict[str, list[str]] = field(default_factory=dict)
    verdicts: int = 0
    notes: int = 0
    furthest: float = 0.0

    def take(self, path: str, answer: dict[str, Any], expected: dict[str, Any]) -> None:
        """Compare the page's answer with the pipeline's."""
        result = answer.get("result", {})
        self.verdicts += result.get("verdict") == expected["verdict"]
        self.notes += "note" in result and result["note"] == expected["note"]
        if result.get("score") is not None and expected["score"]:
            self.furthest = max(self.furthest, abs(result["score"] / expected["score"] - 1))
        if names := differences(answer, expected):
            self.differing[path] = names


def compare_recordings(browser: Any, folder: Path, detect: Any, recordings: Sequence[dict[str, Any]]) -> Comparison:
    """Open the page of a folder, cut the network, and let page and pipeline judge the same recordings.

    Args:
        browser: playwright's browser.
        folder: the page, as `static_space.build.build` wrote it.
        detect: the pipeline of the same model.
        recordings: rows of `load_clips`.
    """
    site = StaticSite(folder)
    visit = StaticVisit(browser, site.url)
    site.stop()
    visit.context.set_offline(True)
    found = Comparison(visit.ready_s, megabytes(visit, folder), visit.complaints, visit.foreign)
    for row in recordings:
        name = label_name(row["machine_type"], row["machine_id"])
        machine = name if name in detect.detector.machines else None
        began = time.monotonic()
        answer = visit.judge(Path(row["path"]), machine)
        found.seconds.append(time.monotonic() - began)
        found.take(row["path"], answer, detect(str(row["path"]), machine=machine))
    visit.context.close()
    return found


def megabytes(visit: StaticVisit, folder: Path) -> tuple[float, float, float]:
    """Return what the page fetched before it took a sound, the same by gzip, and what it fetched in all."""
    names = [address.removeprefix(visit.url) or "index.html" for address, _, is_needed in visit.fetched if is_needed]
    compressed = sum(len(gzip.compress((folder / name).read_bytes())) for name in names if (folder / name).is_file())
    needed = sum(size for _, size, is_needed in visit.fetched if is_needed)
    return needed / 1e6, compressed / 1e6, sum(size for _, size, _ in visit.fetched) / 1e6


def differences(answer: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return the names of the fields, but for the reason, in which the page's answer is not the pipeline's.

    Args:
        answer: what the page answered, with `result` or `error`.
        expected: the pipeline's dictionary.
    """
    if "result" not in answer:
        return [f"error: {answer['error']}"]
    result = answer["result"]
    names = [name for name in EXACT if result[name] != expected[name]]
    names += [name for name in CLOSE if not is_close(name, result[name], expected[name])]
    if len(result["windows"]) != len(expected["windows"]):
        return [*names, "windows"]
    for index, (window, other) in enumerate(zip(result["windows"], expected["windows"], strict=True)):
        far = [name for name in OF_A_WINDOW if not is_close(name, window[name], other[name])]
        far += ["verdict"] if window["verdict"] != other["verdict"] else []
        names += [f"windows[{index}].{name}" for name in far]
    return names


def is_close(name: str, found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return abs(found - expected) <= max(RELATIVE * abs(expected), ABSOLUTE.get(name, RELATIVE))


# The page


def page_of(found: Comparison) -> str:
    """Return what was compared and found, as Markdown."""
    machine, count = describe_machine(), len(found.seconds)
    first, *later = found.seconds
    needed, compressed, whole = found.megabytes
    rows = {
        "recordings": count,
        "the same verdict": f"{found.verdicts} of {count}",
        "the same notes": f"{found.notes} of {count}",
        "answers that differ in any field": len(found.differing),
        "largest relative difference of two scores": f"{found.furthest:.1e}",
        "download until the page takes a sound": f"{needed:.1f} MB ({compressed:.1f} MB by gzip)",
        "download in all": f"{whole:.1f} MB",
        "from the address until the page takes a sound": f"{found.ready_s:.1f} s",
        "from there to the first verdict": f"{first:.1f} s",
        "to a later verdict, median": f"{median(later or [first]):.1f} s",
    }
    parts = [
        f"Measured {time.strftime('%Y-%m-%d', time.gmtime())}: `python -m research.space.static_page {' '.join(sys.argv[1:])}`",
        f"{machine['processor']}, {machine['cores']} cores, load average {machine['load_average']:.1f} at the end; torch "
        f"{machine['torch']}, Python {machine['python']}.",
        markdown([{"what": what, "measured": value} for what, value in rows.items()]),
        *(f"- {path}: {', '.join(names)}" for path, names in found.differing.items()),
        *(f"- The page complained: {text}" for text in found.complaints),
        *(f"- A request left the machine: {address}" for address in found.foreign),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    run(main)
