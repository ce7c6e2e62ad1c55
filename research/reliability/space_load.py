"""The Space for minutes, with several clients that send good and bad inputs: each gets its own answer, and one."""

import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from engines import load_pipeline
from research.space.server import SPACE, SpaceServer

from .damage import generator_of
from .load import Load, Measured
from .small_model import MACHINES, SAMPLING_RATE, recording, write_model, write_recordings
from .trials import Tally


CLIENTS = 4
# A client's pause between two requests, on average.
PAUSE_SECONDS = 1.0
ANSWER_SECONDS = 120.0
RECORDINGS = 8
BROKEN = (
    b"",
    b"{",
    b"[]",
    b'{"data": 7}',
    b'{"data": [{"path": "/etc/passwd"}, "", null]}',
    b'{"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "", null]}',
)


class SpaceLoad(Load):
    """The app of `space/` as a server, and clients of its endpoints on this machine.

    Args:
        seed: part of the key of everything random.
        folder: an empty folder to work in.

    Raises:
        ImportError: Gradio is not installed.
    """

    title = "The Space, with several clients that send good and bad inputs"

    def __init__(self, seed: int, folder: Path):
        import gradio_client

        self.seed, self.folder = seed, folder
        self.handle = gradio_client.handle_file
        self.model = write_model(folder / "model", write_recordings(folder / "recordings", clips=8))
        self.expected = self.judge_recordings()
        (folder / "no_sound.wav").write_bytes(b"this is no sound\n" * 20)
        self.requests: dict[str, tuple[float, Callable[[Any, np.random.Generator], str]]] = {
            "detect": (0.5, self.detect),
            "detect, given up": (0.1, self.give_up),
            "no sound": (0.1, self.send_nonsense),
            "unknown machine": (0.1, self.name_unknown),
            "broken request": (0.1, self.send_broken),
            "machines": (0.07, self.ask_machines),
            "enroll": (0.03, self.enroll),
        }

    def judge_recordings(self) -> dict[Path, dict[str, Any]]:
        """Make recordings, and judge each without the Space."""
        pipe, expected = load_pipeline(self.model), {}
        for number in range(RECORDINGS):
            hiss = 0.2 if number % 3 == 0 else 0.0
            parts = [
                recording(MACHINES[number % 2], 7000 + 10 * number + second, hiss) for second in range(1 + number % 3)
            ]
            path = self.folder / f"recording_{number}.wav"
            soundfile.write(path, np.concatenate(parts), SAMPLING_RATE)
            expected[path] = pipe(str(path))
        return expected

    def run(self, until: float) -> Tally:
        """See `Load`."""
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
        measured, server = Measured(), SpaceServer(self.folder / "server", SPACE, MODEL_ID=str(self.model))
        is_over = threading.Event()
        clients = [
            threading.Thread(target=self.be_client, args=(server, number, is_over, measured))
            for number in range(CLIENTS)
        ]
        try:
            for client in clients:
                client.start()
            with measured.cut_off_by_signal():
                while time.monotonic() < until:
                    measured.look_at_memory(server.process.pid)
                    time.sleep(0.5)
            is_over.set()
            for client in clients:
                client.join()
        finally:
            is_over.set()
            server.stop()
        # Gradio prints one for what no client of its own sends. The app's code is not on its way.
        for printed in server.log.read_text(encoding="utf-8").split("Traceback (most recent call last)")[1:]:
            if str(SPACE) in printed:
                measured.fail(-1, f"the app printed {printed[:2000]}")
        if server.temporary.exists():
            measured.fail(-1, "files of users outlived the server")
        return measured.finish()

    def be_client(self, server: SpaceServer, number: int, is_over: threading.Event, measured: Measured) -> None:
        """Send requests one after the other, as one user's program does."""
        generator = generator_of(self.seed, number)
        client = server.client()
        kinds, weights = list(self.requests), [weight for weight, _ in self.requests.values()]
        while not is_over.is_set():
            kind = str(generator.choice(kinds, p=weights))
            began = time.monotonic()
            try:
                outcome = self.requests[kind][1](client, generator)
            except Exception as error:
                measured.fail(number, f"{kind}: {type(error).__name__}: {error}")
            else:
                measured.count(kind, outcome)
                if outcome == "answered":
                    measured.latencies.append(time.monotonic() - began)
            time.sleep(generator.exponential(PAUSE_SECONDS))

    # Requests. Each returns what came of it, and raises where the answer is wrong.

    def detect(self, client: Any, generator: np.random.Generator) -> str:
        path = some(generator, list(self.expected))
        job = client.submit(self.handle(str(path)), "", None, api_name="/detect")
        answer, expected = job.result(timeout=ANSWER_SECONDS), self.expected[path]
        assert len(job.outputs()) == 1, f"{len(job.outputs())} answers"
        assert answer["verdict"] == expected["verdict"], (answer["verdict"], expected["verdict"])
        assert math.isclose(answer["score"], expected["score"], rel_tol=1e-4), (answer["score"], expected["score"])
        return "answered"

    def give_up(self, client: Any, generator: np.random.Generator) -> str:
        job = client.submit(self.handle(str(some(generator, list(self.expected)))), "", None, api_name="/detect")
        time.sleep(generator.uniform(0, 0.3))
        job.cancel()
        try:
            job.result(timeout=ANSWER_SECONDS)
        # ValueError: gradio_client where the answer comes at the same moment. KeyError: where Gradio's message comes that the
        # job is canceled, which is empty.
        except (CancelledError, ValueError, KeyError):
            return "given up"
        return "answered before"

    def send_nonsense(self, client: Any, generator: np.random.Generator) -> str:
        return refused(client, (self.handle(str(self.folder / "no_sound.wav")), "", None), "no_sound.wav")

    def name_unknown(self, client: Any, generator: np.random.Generator) -> str:
        path, name = some(generator, list(self.expected)), f"machine {generator.integers(1000)}"
        return refused(client, (self.handle(str(path)), name, None), name)

    def send_broken(self, client: Any, generator: np.random.Generator) -> str:
        """Send what no client of Gradio sends."""
        body = some(generator, BROKEN)
        address = f"{client.src}gradio_api/call/detect"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310  # http on loopback
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:  # noqa: S310
                assert response.status == 200, response.status
                return "queued, answer not fetched"
        except urllib.error.HTTPError as error:
            assert 400 <= error.code < 600, error.code
            return "refused"

    def ask_machines(self, client: Any, generator: np.random.Generator) -> str:
        known = client.predict(api_name="/machines")
        assert sorted(known) == sorted(MACHINES), known
        return "answered"

    def enroll(self, client: Any, generator: np.random.Generator) -> str:
        normal = [path for path, result in self.expected.items() if result["verdict"] == "normal"]
        paths = [normal[place] for place in generator.permutation(len(normal))[:3]]
        files = client.predict([self.handle(str(path)) for path in paths], "mine", api_name="/enroll")
        assert {Path(file).name for file in files} == {"scoring_config.json", "scoring.safetensors"}, files
        for file in files:
            Path(file).unlink()
        return "answered"


def some(generator: np.random.Generator, values: Sequence[Any]) -> Any:
    """Draw one of several values."""
    return values[int(generator.integers(len(values)))]


def refused(client: Any, arguments: tuple[Any, ...], name: str) -> str:
    """Send a bad input to `/detect`: the answer is an error that names it."""
    from gradio_client.exceptions import AppError

    try:
        answer = client.predict(*arguments, api_name="/detect")
    except AppError as error:
        assert name in str(error), error
        return "refused"
    raise AssertionError(f"answered {answer}")
