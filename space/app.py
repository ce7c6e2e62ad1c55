"""The Space: drop in a machine's sound, see whether it is normal, and why.

    python space/app.py                               # the bundled demonstration model
    MODEL_ID=you/attention-asd python space/app.py    # a repository on the Hub, or a directory that train.py wrote

settings.py holds limits and the environment, memory.py gives back what is free. pages.py makes the page from a file for
each tab, api.py the endpoints. service.py holds the model: listening.py asks its pipeline, drawing.py prepares the
pictures. pictures/ draws them in the browser.
"""

import memory  # isort: skip  # before the libraries begin threads
import settings  # isort: skip  # before all libraries, which read what it sets

import atexit
import json
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Default, colors
from pages import build_page
from service import model_facts
from texts import TEXTS
from wording import TRANSLATIONS


THEME = Default(
    primary_hue=colors.blue,
    neutral_hue=colors.slate,
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    # The theme's own gray and blues are too faint to read: contrasts of 2.6 and 3.7.
    link_text_color_dark="*secondary_300",
    checkbox_border_color_dark="*neutral_400",
    body_text_color_subdued="*neutral_600",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
)


# What the browser runs, in this order, as one script with one name, `asd`.
SCRIPTS = [
    "words", "basics", "verdict", "row", "stack", "sound", "layers", "regions", "listen", "compare", "spectra", "timeline",
    "values", "live", "enrolled", "many", "report", "store", "rows", "days", "history", "tabs", "microphone", "links", "mount",
]  # fmt: skip


def page_head() -> str:
    style = (settings.HERE / "style.css").read_text(encoding="utf-8")
    parts = [(settings.HERE / "pictures" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    constants = {"MODEL": model_facts(), "TEXTS": TEXTS}
    given = "\n".join(f"const {name} = {in_script(content)};" for name, content in constants.items())
    script = f"window.asd = (() => {{\n{given}\n" + "\n".join(parts) + "\n})();"
    return f'<style id="asd-style">{style}</style><script id="asd-script">{script}</script>'


def in_script(content: Any) -> str:
    """Return JSON that ends no script."""
    return json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")


def sweep(keep_seconds: float) -> None:
    """Delete files that users left. Gradio's own `delete_cache` does not know of a file that was uploaded twice."""
    oldest = time.time() - keep_seconds
    for path in sorted(Path(settings.TEMPORARY).rglob("*"), reverse=True):  # what is in a folder before the folder
        with suppress(OSError):  # a folder that is not empty, or a file that has just gone
            if path.stat().st_ctime < oldest:
                path.rmdir() if path.is_dir() else path.unlink()


def sweep_forever() -> None:
    while True:
        time.sleep(settings.SWEEP_SECONDS)
        sweep(settings.KEEP_SECONDS)
        memory.give_back()


def main() -> None:
    atexit.register(shutil.rmtree, settings.TEMPORARY, ignore_errors=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=sweep_forever, daemon=True).start()
    gr.set_static_paths([settings.EXAMPLES_DIR])
    page = build_page().queue(max_size=settings.MAX_WAITING, default_concurrency_limit=settings.AT_ONCE)
    page.launch(
        theme=THEME,
        i18n=TRANSLATIONS,
        head=page_head(),
        mcp_server=True,
        max_file_size=settings.MAX_FILE_SIZE,
        state_session_capacity=settings.MAX_SESSIONS,
        footer_links=["api", "settings"],
        ssr_mode=False,
        share=False,
    )


if __name__ == "__main__":
    main()
