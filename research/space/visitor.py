"""A user of the Space without a browser: the requests that the page sends, with a session of its own."""

import json
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx


class Visitor:
    """One user's session.

    Args:
        url: where the app answers.
        timeout: seconds that the user waits for an answer.
    """

    def __init__(self, url: str, timeout: float = 600.0):
        self.url, self.session = url, secrets.token_hex(6)
        self.http = httpx.Client(base_url=f"{url}/gradio_api", timeout=timeout, trust_env=False)
        config = self.http.get(f"{url}/config").raise_for_status().json()
        # The page's own functions have no public name; the first of several that share one is the tab's.
        self.functions = {item["api_name"]: item["id"] for item in reversed(config["dependencies"])}

    def upload(self, paths: Iterable[Path]) -> list[dict[str, Any]]:
        """Upload files, and return what stands for them in a request."""
        paths = list(paths)
        files = [("files", (path.name, path.read_bytes(), "audio/wav")) for path in paths]
        there = self.http.post("/upload", files=files).raise_for_status().json()
        meta = {"_type": "gradio.FileData"}
        return [{"path": at, "orig_name": path.name, "meta": meta} for at, path in zip(there, paths, strict=True)]

    def ask(self, name: str, *inputs: Any) -> list[Any]:
        """Call a function of the page, wait for its turn, and return its outputs.

        Raises:
            RuntimeError: the app refused, or the function failed.
        """
        message = {"data": list(inputs), "fn_index": self.functions[name], "session_hash": self.session}
        joined = self.http.post("/queue/join", json=message).raise_for_status().json()
        with self.http.stream("GET", "/queue/data", params={"session_hash": self.session}) as events:
            for line in events.iter_lines():
                said = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if said.get("msg") == "process_completed" and said.get("event_id") == joined["event_id"]:
                    if not said["success"]:
                        raise RuntimeError(f"{name}: {said['output'].get('error')}")
                    return said["output"]["data"]
        raise RuntimeError(f"{name}: the app ended the connection without an answer.")

    def fetch(self, files: Iterable[dict[str, Any]]) -> None:
        """Download what the app made, as the page does that keeps a detector."""
        for file in files:
            self.http.get(file["url"]).raise_for_status()

    def timed(self, name: str, *inputs: Any) -> tuple[list[Any], float]:
        """Do as `ask` does, and return the seconds that it took, too."""
        began = time.monotonic()
        return self.ask(name, *inputs), time.monotonic() - began

    def close(self) -> None:
        """End all connections."""
        self.http.close()


__all__ = ["Visitor"]
