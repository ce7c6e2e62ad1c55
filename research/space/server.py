"""The Space as a server in a process of its own, started with one command, as people start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


SPACE = Path(__file__).resolve().parents[2] / "space"


class SpaceServer:
    """`python app.py` in a folder, with the files of users below `folder`.

    Attributes:
        url: where the server answers.
        space: the folder that the server was started in.
        temporary: the folder with the files of users.
        log: what the server printed.
    """

    def __init__(self, folder: Path, space: Path, command: tuple[str, ...] = ("app.py",), **environment: str):
        self.space, self.log = space, folder / "log.txt"
        (folder / "temporary").mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        # The app must not need this project's modules.
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GRADIO_TEMP_DIR")}
        kept |= {"GRADIO_SERVER_PORT": str(port), "TMPDIR": str(folder / "temporary"), "HF_HUB_OFFLINE": "1"}
        kept |= {"HF_MODULES_CACHE": str(folder / "modules"), **environment}
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=space, env=kept, stdout=log, stderr=subprocess.STDOUT
            )
        self.wait_until_it_answers()
        (self.temporary,) = (folder / "temporary").glob("space-*")

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 120
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait(30)
                raise RuntimeError(f"the app did not start:\n{self.log.read_text()}")
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            httpx.get(f"{self.url}/config", timeout=5, trust_env=False)
        except httpx.HTTPError:
            return False
        return True

    def client(self):
        """A `gradio_client.Client` of the app."""
        import gradio_client  # the `space` extra

        # By itself it waits five seconds for an upload.
        return gradio_client.Client(self.url, verbose=False, httpx_kwargs={"timeout": 120})

    def files(self) -> list[str]:
        """The files of users that the server keeps."""
        # `rglob` fails at a folder that the app deletes meanwhile.
        found = [Path(folder, name) for folder, _, names in os.walk(self.temporary) for name in names]
        return sorted(str(path.relative_to(self.temporary)) for path in found)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
            raise


__all__ = ["SPACE", "SpaceServer"]
