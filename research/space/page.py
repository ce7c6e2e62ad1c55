"""The Space's page in a real Chromium, and what a person does there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


CHROMIUM = shutil.which("chromium")
# Without these, Chromium looks for Google's hosts at every start.
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
).split()


@contextmanager
def chromium(microphone: Path | None = None) -> Iterator[Any]:
    """Run Chromium, and yield playwright's browser.

    Args:
        microphone: a WAV file that the microphone repeats; by default Chromium's own beeps.

    Raises:
        ImportError: playwright or Chromium is missing.
    """
    try:
        import playwright.sync_api as playwright
    except ImportError:
        raise ImportError("playwright is missing: pip install -e .[test]") from None
    if CHROMIUM is None:
        raise ImportError("Debian's chromium is missing: apt-get install chromium")
    with playwright.sync_playwright() as run:
        arguments = [*QUIET, *([f"--use-file-for-fake-audio-capture={microphone}"] if microphone else [])]
        browser = run.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def open_page(page: Any, url: str) -> None:
    """Open the app, and wait until it can be used."""
    page.set_default_timeout(60_000)
    page.goto(url)
    page.get_by_role("tab").first.wait_for()
    page.wait_for_timeout(500)  # Gradio's own start


def panel(page: Any) -> Any:
    """Return what the open tab shows."""
    return page.locator("[role=tabpanel]:visible")


def open_tab(page: Any, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=name).click()
    page.get_by_role("tab", name=name, selected=True).wait_for()
    page.wait_for_timeout(300)


def give(page: Any, path: Path | list[Path]) -> None:
    """Choose files in the first empty field of the open tab, and wait until they are there."""
    # Not by counting the empty fields: a field for several files is followed by one for more of them.
    field = panel(page).locator("input[type=file]").first.element_handle()
    field.set_input_files(path)
    page.wait_for_function("field => !field.isConnected", arg=field)


def choose_machine(page: Any, name: str) -> None:
    """Say which machine the open tab's recordings are of."""
    panel(page).get_by_role("combobox", name="Machine").click()
    page.get_by_role("option", name=name).click()


__all__ = ["chromium", "choose_machine", "give", "open_page", "open_tab", "panel"]
