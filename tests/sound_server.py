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
    """Serve a folder; `/moved.wav` leads to its `normal.wav`, and `/drip.wav` sends twenty bytes a second."""
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
            if self.path in redirects:
                self.send_response(302)
                self.send_header("Location", redirects[self.path])
                self.end_headers()
            elif self.path == "/drip.wav":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    for _ in range(1000):
                        self.wfile.write(b"R")
                        time.sleep(0.05)
            else:
                super().do_GET()

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        server.url = f"http://127.0.0.1:{httpd.server_port}"
        yield server
        httpd.shutdown()
