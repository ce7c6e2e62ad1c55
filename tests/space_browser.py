"""A browser for the tests of the Space: a real Chromium, and what a person does on the page.

A test module takes these fixtures by `pytest_plugins = ["space_app", "space_browser"]`.
"""

import json
import os
from typing import NoReturn

import pytest
from space_app import until

from research.space.page import choose_machine as choose
from research.space.page import chromium as run_chromium
from research.space.page import give, open_page, open_tab, panel


TABS = ["Listen", "Live", "Compare", "Files", "Timeline", "Enroll", "History", "About"]


def lacking(what: str) -> NoReturn:
    """Skip the test, or fail where everything is installed for the tests and nothing may be skipped in silence."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


# A browser


@pytest.fixture(scope="module")
def chromium(sounds):
    try:
        with run_chromium(sounds / "faulty.wav") as browser:
            yield browser
    except ImportError as error:
        lacking(str(error))


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
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self.note_request)
        open_page(page, self.url + query)
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


def choose_machine(page, name: str = "fan_id_00") -> None:
    choose(page, name)


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


def is_dark(page) -> bool:
    return page.evaluate("document.body.classList.contains('dark')")


def in_both_themes(page):
    """Yield "light" and "dark" while the page is so, and leave it light as it was."""
    for name, other_is_dark in (("light", True), ("dark", False)):
        yield name
        page.get_by_role("button", name="Theme").click()
        until(lambda dark=other_is_dark: is_dark(page) == dark)
        page.wait_for_timeout(300)  # the pictures are drawn again


def serious_faults(page) -> list[tuple[str, list]]:
    """What axe finds on the page as it is, each with the elements."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        lacking("axe-playwright-python is missing: pip install -e .[test]")
    return [
        (fault["id"], [node["target"] for node in fault["nodes"]])
        for fault in Axe().run(page).response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


__all__ = [
    "TABS",
    "Visits",
    "answer",
    "choose_machine",
    "colors",
    "give",
    "in_both_themes",
    "is_dark",
    "lacking",
    "open_tab",
    "panel",
    "serious_faults",
    "verdict",
]
