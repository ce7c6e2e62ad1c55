"""The app in a real Chromium, as people use it. A test module takes the fixtures of this file and of `space_app` as plugins."""

import json
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


CHROMIUM = shutil.which("chromium")
# Without these, Chromium looks for Google's hosts at every start.
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
).split()
TABS = ["Listen", "Live", "Compare", "Files", "Timeline", "Enroll", "History", "About"]


def lacking(what: str) -> NoReturn:
    """Skip the test, or fail where everything is installed for the tests and nothing may be skipped in silence."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


# A browser


@pytest.fixture(scope="module")
def chromium(sounds):
    try:
        import playwright.sync_api as playwright
    except ImportError:
        lacking("playwright: pip install -e .[test]")
    if CHROMIUM is None:
        lacking("Debian's chromium: apt-get install chromium")
    with playwright.sync_playwright() as run:
        microphone = f"--use-file-for-fake-audio-capture={sounds / 'faulty.wav'}"
        browser = run.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, microphone])
        yield browser
        browser.close()


class Visits:
    """Opens the app in a browser, and notes what goes wrong there.

    Attributes:
        complaints: errors in the console and of the page's own code.
        provoked: how complaints begin that the test provokes. They may come at any time.
        foreign: requests that left the machine.
    """

    def __init__(self, browser, url: str):
        self.browser, self.url = browser, url
        self.contexts, self.complaints, self.provoked, self.foreign = [], [], [], []

    def __call__(
        self, width: int = 1280, height: int = 900, scheme: str = "light", query: str = "", locale: str = "en-US"
    ):
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            locale=locale,
            permissions=["microphone"],
            has_touch=width < 700,
        )
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self.note_request)
        page.goto(self.url + query)
        page.get_by_role("tab").first.wait_for()
        page.wait_for_timeout(500)  # Gradio's own start
        return page

    def note_request(self, request) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.foreign.append(request.url)


@pytest.fixture
def visit(chromium, space):
    """A function that opens the app. Afterwards: no error in the console, and no request that left the machine."""
    visits = Visits(chromium, space.url)
    yield visits
    for context in visits.contexts:
        context.close()
    assert [text for text in visits.complaints if not text.startswith(tuple(visits.provoked))] == []
    assert visits.foreign == []


def panel(page):
    return page.locator("[role=tabpanel]:visible")


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    page.get_by_role("tab", name=name, selected=True).wait_for()
    page.wait_for_timeout(300)


def give(page, path: Path | list[Path]) -> None:
    """Choose a file in the first empty field of the open tab, and wait until it is there."""
    # Not by counting the empty fields: a field for several files is followed by one for more of them.
    field = panel(page).locator("input[type=file]").first.element_handle()
    field.set_input_files(path)
    page.wait_for_function("field => !field.isConnected", arg=field)


def choose_machine(page, name: str = "fan_id_00") -> None:
    panel(page).get_by_role("combobox", name="Machine").click()
    page.get_by_role("option", name=name).click()


def verdict(page) -> str:
    return panel(page).locator(".asd-verdict").first.inner_text()


def answer(page) -> dict:
    """The pipeline's JSON that the page shows."""
    return json.loads(panel(page).locator(".asd-downloads pre").first.text_content())


def colors(page, index: int) -> int:
    """How many colors the picture has."""
    return panel(page).locator(".asd-plot canvas:not(.asd-over)").nth(index).evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )  # fmt: skip
