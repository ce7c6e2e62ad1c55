"""A maintenance engineer's first day with the Space, played in a real Chromium with real recordings.

    python -m research.space.engineer --data_dir DATA --machines slider_id_02 --model MODEL --output R.md

DATA is in the DCASE 2020 Task 2 layout. Each machine is enrolled from its first 8 normal training recordings. Then all its
test recordings are judged in the tab Files, the detector is downloaded, the page is loaded again, and another browser gets the
detector from the two files. Both browsers judge again. The program fails if a verdict or a p-value differs.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from evaluation.command import run
from research.benchmarks.report import describe_machine, markdown

from .page import choose_machine, chromium, give, open_page, open_tab, panel
from .server import SPACE, SpaceServer


NORMAL = 8
# What the browser offers for download, and takes back.
DETECTOR = ("scoring_config.json", "scoring.safetensors")
# The engineer's own name for the machine.
NAME = "my_machine"
WAIT_MS = 600_000


def main() -> int:
    """Play all machines, print or write the page, and return 1 where an answer changed."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="engineer-") as folder:
        server = SpaceServer(Path(folder), SPACE, MODEL_ID=str(arguments.model.resolve()) if arguments.model else "")
        try:
            known = server.client().predict(api_name="/machines")
            clips = {machine: machine_clips(arguments.data_dir, machine) for machine in arguments.machines}
            with chromium(next(iter(clips.values()))["test"][0]) as browser:
                days = [
                    Day(server.url, machine, found, Path(folder) / machine).play(browser) | {"known": machine in known}
                    for machine, found in clips.items()
                ]
        finally:
            server.stop()
    text = page_of(days)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    print(text)
    return int(not all(day["is_same"] for day in days))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument("--machines", required=True, nargs="+", help="machines of DATA, such as slider_id_02")
    parser.add_argument("--model", type=Path, help="a model that does not know them (the Space's own)")
    parser.add_argument("--output", type=Path, help="write the tables into this file, too")
    return parser.parse_args()


def machine_clips(data_dir: Path, machine: str) -> dict[str, list[Path]]:
    """Return a machine's recordings: the first normal ones of `train`, and all of `test`.

    Raises:
        ValueError: there are too few, or none of a kind.
    """
    kind, _, machine_id = machine.partition("_id_")
    train = sorted((data_dir / kind / "train").glob(f"normal_id_{machine_id}_*.wav"))[:NORMAL]
    test = sorted((data_dir / kind / "test").glob(f"*_id_{machine_id}_*.wav"))
    if len(train) < NORMAL or not test:
        raise ValueError(
            f"{data_dir}: expected {NORMAL} normal recordings of {machine} in {kind}/train and some in {kind}/test, found "
            f"{len(train)} and {len(test)}."
        )
    return {"train": train, "test": test}


class Day:
    """One machine, from its normal recordings to the same verdicts in another browser.

    Args:
        url: where the app answers.
        machine: the machine of the recordings, for the table.
        clips: its recordings, `train` and `test`.
        folder: a new folder for what is downloaded.
    """

    def __init__(self, url: str, machine: str, clips: dict[str, list[Path]], folder: Path):
        self.url, self.machine, self.clips, self.folder = url, machine, clips, folder
        self.steps: dict[str, float] = {}
        folder.mkdir()

    def play(self, browser: Any) -> dict[str, Any]:
        """Do all steps; return their seconds, what Enroll said, the rows of Files, and whether they came out alike."""
        page = self.timed("Open the page", lambda: self.visit(browser))
        self.timed(f"Add {NORMAL} recordings, see each judged by the others", lambda: self.add(page))
        said = self.timed("Enroll", lambda: self.enroll(page))
        first = self.timed("Judge all test recordings", lambda: self.judge(page))
        self.timed("Download the detector", lambda: self.download(page))
        self.timed("Load the page again: the machine is back", lambda: self.reload(page))
        second = self.timed("Judge again", lambda: self.judge(page))
        other = self.visit(browser)
        self.timed("Upload the detector in another browser", lambda: self.upload(other))
        third = self.timed("Judge there", lambda: self.judge(other))
        for opened in (page, other):
            opened.context.close()
        is_same = first == second == third
        return {"machine": self.machine, "steps": self.steps, "said": said, "rows": first, "is_same": is_same}

    def timed(self, step: str, act: Any) -> Any:
        began = time.monotonic()
        result = act()
        self.steps[step] = time.monotonic() - began
        return result

    def visit(self, browser: Any) -> Any:
        page = browser.new_context().new_page()
        open_page(page, self.url)
        page.set_default_timeout(WAIT_MS)
        return page

    def add(self, page: Any) -> None:
        open_tab(page, "Enroll")
        give(page, self.clips["train"])
        panel(page).locator(".asd-table tbody tr").nth(NORMAL - 1).wait_for()
        panel(page).get_by_text("Each recording was judged by").wait_for()

    def enroll(self, page: Any) -> list[str]:
        panel(page).get_by_label("Name of the machine").fill(NAME)
        panel(page).get_by_role("button", name="Enroll", exact=True).click()
        panel(page).get_by_text(f"{NAME} is enrolled").wait_for()
        return panel(page).locator(f".asd-card:has-text('{NAME} is enrolled') p:not(.asd-hint)").all_inner_texts()

    def judge(self, page: Any) -> list[dict[str, Any]]:
        open_tab(page, "Files")
        choose_machine(page, NAME)
        give(page, self.clips["test"])
        panel(page).get_by_text(f"{len(self.clips['test'])} judged:").wait_for()
        with page.expect_download() as saved:
            panel(page).get_by_role("button", name="Save JSON").click()
        return json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))

    def download(self, page: Any) -> None:
        open_tab(page, "Enroll")
        for name in DETECTOR:
            with page.expect_download() as saved:
                panel(page).locator(f"a[download='{name}']").first.click()
            saved.value.save_as(self.folder / name)

    def reload(self, page: Any) -> None:
        page.reload()
        page.get_by_role("tab", name="Listen").wait_for()
        open_tab(page, "Enroll")
        panel(page).get_by_text(f"{NAME} is back").wait_for()

    def upload(self, page: Any) -> None:
        open_tab(page, "Enroll")
        panel(page).get_by_text("Bring a detector back").click()
        panel(page).locator("input[type=file]").nth(1).set_input_files([self.folder / name for name in DETECTOR])
        panel(page).get_by_text(f"{NAME} is back").wait_for()


# The page


def page_of(days: list[dict[str, Any]]) -> str:
    """Return what was done and found, as Markdown."""
    machine = describe_machine()
    known = sorted(day["machine"] for day in days if day["known"])
    unknown = "The model knew " + ", ".join(known) if known else "The model did not know these machines"
    parts = [
        f"Measured {time.strftime('%Y-%m-%d', time.gmtime())}: `python -m research.space.engineer {' '.join(sys.argv[1:])}`",
        f"{machine['processor']}, {machine['cores']} cores, load average {machine['load_average']:.1f} at the end. {unknown}.",
        markdown([verdict_row(day) for day in days]),
        "What the app said when it enrolled them:",
        "\n".join(f"- {day['machine']}: {' '.join(day['said'])}" for day in days),
        "Seconds of each step:",
        markdown(
            [
                {"step": step, **{day["machine"]: round(day["steps"][step], 1) for day in days}}
                for step in days[0]["steps"]
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def verdict_row(day: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the first table: how often a verdict was given on normal and on anomalous recordings."""
    row: dict[str, Any] = {"machine": day["machine"], "enrolled from": NORMAL}
    for label, words in (("normal", "normal recordings"), ("anomaly", "faulty recordings")):
        verdicts = Counter(one.get("verdict", "unreadable") for one in day["rows"] if one["file"].startswith(label))
        row[words] = ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items()))
    return row | {"the same after the reload and in another browser": "yes" if day["is_same"] else "no"}


if __name__ == "__main__":
    run(main)
