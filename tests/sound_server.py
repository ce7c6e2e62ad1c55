"""A web server of a folder of recordings, with a few paths that misbehave. It counts what it is asked for."""

import contextlib
import http.server
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class SoundServer:
    """A server's address, and how often each path was asked for."""

    url: str = ""
    requests: Counter = field(default_factory=Counter)


@contextlib.contextmanager
def sound_server(folder: Path) -> Iterator[SoundServer]:
    """Serve a folder, with some paths that misbehave.

    `/moved.wav` leads to its `normal.wav`. `/drip.wav` sends twenty bytes a second, and `/drip-header.wav` does so in its
    headers. `/cut/50` ends after 50 % of `normal.wav`, and so does `/cut-without-length/50`. `/page` answers with a page.
    A query is passed over.
    """
    server = SoundServer()
    redirects = {
        "/moved.wav": "/normal.wav",
        "/to-file": f"file://{folder}/normal.wav",
        "/to-ftp": "ftp://127.0.0.1/normal.wav",
        "/for-ever": "/for-ever",
    }

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def do_GET(self):
            server.requests[self.path] += 1
            self.path = self.path.split("?")[0]
            if self.path in redirects:
                self.send_response(302)
                self.send_header("Location", redirects[self.path])
                self.end_headers()
            elif self.path == "/drip.wav":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    drip(self.wfile)
            elif self.path == "/drip-header.wav":
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
                    drip(self.wfile)
            elif self.path.startswith(("/cut/", "/cut-without-length/")):
                data = (folder / "normal.wav").read_bytes()
                self.send_response(200)
                if self.path.startswith("/cut/"):
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) * int(self.path.rsplit("/", 1)[1]) // 100])
            elif self.path == "/page":
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<!doctype html><title>Sign in</title>")
            else:
                super().do_GET()

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        server.url = f"http://127.0.0.1:{httpd.server_port}"
        yield server
        httpd.shutdown()


def drip(file) -> None:
    """Send a byte every 50 ms, for 50 s."""
    for _ in range(1000):
        file.write(b"R")
        time.sleep(0.05)
