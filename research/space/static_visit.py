"""The page that judges in the browser, on a web server of its own, and a visit that judges sounds there."""

import functools
import http.server
import json
import threading
from pathlib import Path
from typing import Any


# The browser's own clock notes when the page's state changes.
MARKS = """new MutationObserver(() => performance.mark(document.documentElement.dataset.state))
  .observe(document, { subtree: true, attributeFilter: ["data-state"] })"""
FETCHED = """() => {
  const [{ startTime: ready }] = performance.getEntriesByName("ready");
  const all = ["navigation", "resource"].flatMap(kind => performance.getEntriesByType(kind));
  return [ready / 1000, all.map(one => [one.name, one.encodedBodySize, one.responseEnd <= ready])];
}"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class StaticSite:
    """`python -m http.server` for a folder, on loopback, which can be stopped while a page is open.

    Attributes:
        url: where the page answers.
    """

    def __init__(self, folder: Path):
        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class StaticVisit:
    """An open page, which holds everything that it needs, and notes what goes wrong there.

    Args:
        browser: playwright's browser.
        url: where the page is served.
        settings: of the browser's context, such as `viewport`.

    Attributes:
        ready_s: seconds from the page's address until the page takes a sound.
        fetched: address, bytes, and whether it came before that, of all that the page fetched.
        complaints: errors in the console and of the page's own code.
        foreign: requests to anybody but the page's own server.
    """

    def __init__(self, browser: Any, url: str, **settings: Any):
        self.complaints, self.foreign, self.url = [], [], url
        self.context = browser.new_context(permissions=["microphone"], **settings)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self.note_request)
        self.page.add_init_script(MARKS)
        self.page.goto(url)
        self.page.locator("html:is([data-state=complete], [data-state=failed])").wait_for(state="attached")
        if self.page.locator("html").get_attribute("data-state") == "failed":
            raise RuntimeError(f"{url}: {self.page.inner_text('#loading')}")
        self.ready_s, self.fetched = self.page.evaluate(FETCHED)

    def note_request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.foreign.append(request.url)

    def judge(self, path: Path, machine: str | None = None, rate: float = 0.01) -> dict[str, Any]:
        """Return what the page answers about a file: the payload of its pictures, or an `error`."""
        self.page.evaluate("() => { document.getElementById('file').value = '' }")
        # Chosen without an event, so that the sound before is not judged anew.
        choose = "([id, wanted]) => { document.getElementById(id).value = wanted }"
        names = self.page.locator("#machine option").all_inner_texts()
        self.page.evaluate(choose, ["machine", "-1" if machine is None else str(names.index(machine) - 1)])
        self.page.evaluate(choose, ["rate", json.dumps(rate)])
        return self.answer_to(lambda: self.page.set_input_files("#file", path))

    def answer_to(self, action: Any) -> dict[str, Any]:
        """Return the page's answer to what a visitor does."""
        self.page.evaluate("() => { delete document.documentElement.dataset.answer }")
        action()
        self.page.locator("html[data-answer]").wait_for(state="attached")
        return json.loads(self.page.evaluate("() => document.documentElement.dataset.answer"))


__all__ = ["StaticSite", "StaticVisit"]
