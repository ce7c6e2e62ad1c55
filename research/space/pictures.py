"""Pictures of every tab and state of the Space, on a desktop, a tablet and a phone, light and dark, to be looked at.

    python -m research.space.pictures --output_dir R

Everything on the pictures is synthetic: the examples of the Space, and parts of them.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile

from evaluation.command import run

from .page import choose_machine, chromium, give, open_page, open_tab, panel
from .server import SPACE, SpaceServer


EXAMPLES = SPACE / "examples"
LONG, MACHINE = EXAMPLES / "fan_60_s.flac", "synthetic_fan_04"
SIZES = {"desktop": (1280, 900), "tablet": (820, 1180), "phone": (390, 844)}
# Seconds of the long example, which begins to clog in its middle.
NORMAL, CLOGGED = ((0, 10), (5, 15), (10, 20)), (50, 60)


def main() -> None:
    """Take all pictures."""
    arguments = parse_arguments()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as scratch:
        sounds = cut_sounds(Path(scratch))
        server = SpaceServer(Path(scratch), SPACE, MODEL_ID="")
        try:
            with chromium(sounds["clogged"][0]) as browser:
                for size in arguments.sizes:
                    take(browser, server.url, size, sounds, arguments.output_dir)
        finally:
            server.stop()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", required=True, type=Path, help="folder for the pictures")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES), help="screens (all)")
    return parser.parse_args()


def cut_sounds(folder: Path) -> dict[str, list[Path]]:
    """Write the recordings that the examples lack: `normal` ones, a `clogged` one, and a `broken` file."""
    samples, rate = soundfile.read(LONG, dtype="int16")
    paths = {"normal": [folder / f"normal_{start}_s.wav" for start, _ in NORMAL], "clogged": [folder / "clogged.wav"]}
    for path, (start, end) in zip([*paths["normal"], *paths["clogged"]], [*NORMAL, CLOGGED], strict=True):
        soundfile.write(path, samples[start * rate : end * rate], rate)
    (folder / "broken.wav").write_text("This is no sound.", encoding="utf-8")
    return paths | {"broken": [folder / "broken.wav"]}


def take(browser: Any, url: str, size: str, sounds: dict[str, list[Path]], folder: Path) -> None:
    """Go through all states on one screen, and take a picture of each in both themes."""
    width, height = SIZES[size]
    for locale, states in (("en-US", english_states), ("de-DE", german_states)):
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale=locale, permissions=["microphone"]
        )
        page = context.new_page()
        open_page(page, url)
        for state in states(page, sounds):
            for theme in ("light", "dark"):
                page.mouse.move(0, 0)
                page.wait_for_timeout(700)  # Gradio fades in what it shows, and the pictures are drawn again
                page.screenshot(path=folder / f"{size}_{theme}_{state}.png", full_page=True)
                page.locator(".asd-tools button").last.click()
        context.close()


def english_states(page: Any, sounds: dict[str, list[Path]]) -> Iterator[str]:
    """Bring the page into one state after the other, and yield the name of each."""
    for tab in ("Listen", "Live", "Compare", "Files", "Timeline", "Enroll", "History", "About"):
        open_tab(page, tab)
        yield f"{tab.lower()}_first"
    open_tab(page, "Listen")
    give(page, sounds["broken"])
    panel(page).get_by_role("alert").wait_for()
    yield "listen_broken"
    panel(page).get_by_label("Clear").click()
    click_example(page, "Fan, clogged")
    yield "listen_alarm"  # docs/space.png
    open_details(page)
    yield "listen_maps"
    open_tab(page, "Live")
    choose_machine(page, MACHINE)
    panel(page).get_by_role("button", name="Start listening").click()
    panel(page).locator(".asd-table").wait_for()
    panel(page).get_by_role("button", name="Stop listening").click()
    yield "live_alarm"
    open_tab(page, "Compare")
    click_example(page, "Pump, before and after")
    yield "compare_pump"
    open_tab(page, "Files")
    choose_machine(page, MACHINE)
    files = [*sounds["normal"], *sounds["clogged"], *sounds["broken"]]
    give(page, files)
    panel(page).get_by_text(f"{len(files)} judged:").wait_for()
    yield "files_judged"
    panel(page).get_by_role("button", name="clogged.wav", exact=True).click()
    panel(page).locator(".asd-plot canvas").first.wait_for()
    yield "files_opened"
    open_tab(page, "Timeline")
    click_example(page, "Fan that clogs, 60 s")
    panel(page).locator(".asd-strip").wait_for()
    yield "timeline_alarms"
    open_tab(page, "Enroll")
    give(page, [*sounds["normal"], *sounds["clogged"]])
    panel(page).get_by_text("Each recording was judged by").wait_for()
    yield "enroll_studied"
    panel(page).get_by_label("Name of the machine").fill("press_3")
    panel(page).get_by_role("button", name="Enroll", exact=True).click()
    panel(page).get_by_text("press_3 is enrolled").wait_for()
    yield "enroll_enrolled"
    open_tab(page, "History")
    open_details(page)
    yield "history_kept"


def german_states(page: Any, sounds: dict[str, list[Path]]) -> Iterator[str]:
    """Bring the German page into one state after the other, and yield the name of each."""
    click_example(page, "Lüfter, verstopft")
    yield "german_listen"
    open_tab(page, "Anlernen")
    give(page, sounds["normal"])
    panel(page).get_by_label("Name der Maschine").fill("press_3")
    panel(page).get_by_role("button", name="Anlernen", exact=True).click()
    panel(page).get_by_text("press_3 ist angelernt").wait_for()
    yield "german_enroll"
    open_tab(page, "Verlauf")
    yield "german_history"


def click_example(page: Any, title: str) -> None:
    panel(page).get_by_role("button", name=title, exact=True).click()
    panel(page).locator(".asd-verdict").first.wait_for()
    panel(page).locator(".asd-plot canvas").first.wait_for()


def open_details(page: Any) -> None:
    """Open what is one click away: values, attention maps, JSON."""
    for summary in panel(page).locator("summary").filter(visible=True).all():
        summary.click()


if __name__ == "__main__":
    run(main)
