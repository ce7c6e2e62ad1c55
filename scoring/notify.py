"""Alarms sent to an address: the row as JSON, by POST. Scoring does not wait for the receiver."""

import logging
import queue
import sys
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from tqdm.auto import tqdm

from .rows import Row, as_json


# To connect, and between two pieces of the answer.
TIMEOUT_SECONDS = 5.0
# Pauses between the attempts.
RETRY_SECONDS = (1.0, 4.0)
# What waits for a receiver that is away. Every row is in the results all the same.
MAX_WAITING = 1000
# For the last messages, when the program ends.
END_SECONDS = 15.0


@dataclass(frozen=True)
class Message:
    """A row on its way: the recording's name, and the row as JSON."""

    name: str
    content: bytes


class Notifier:
    """Sends rows to an address, in their order, from a thread of its own.

    The address may hold a password or a secret path: messages name its host alone.

    Args:
        url: an http or https address.
    """

    def __init__(self, url: str):
        self.url, self.host = url, urlsplit(url).hostname
        # httpx would write the whole address into a log.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self.messages: queue.Queue[Message] = queue.Queue(MAX_WAITING)
        threading.Thread(target=self.work, daemon=True).start()

    def send(self, row: Row) -> None:
        """Send a row as soon as the receiver takes it."""
        try:
            self.messages.put_nowait(Message(row["file"], as_json(row).encode()))
        except queue.Full:
            self.complain(row["file"], f"{MAX_WAITING} messages are waiting")

    def work(self) -> None:
        """Deliver what is waiting. Never ends."""
        with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client:
            while True:
                message = self.messages.get()
                if (problem := self.deliver(client, message)) is not None:
                    self.complain(message.name, problem)
                self.messages.task_done()

    def deliver(self, client: httpx.Client, message: Message) -> str | None:
        """Post a message, several times where that may help; return what went wrong, or `None`."""
        problem = None
        for pause in (0.0, *RETRY_SECONDS):
            time.sleep(pause)
            try:
                headers = {"Content-Type": "application/json"}
                # The answer's content is of no interest, and may have no end.
                with client.stream("POST", self.url, content=message.content, headers=headers) as response:
                    status = response.status_code
            except Exception as error:  # whatever happens, later messages are sent
                problem = type(error).__name__
                continue
            if response.is_success:
                return None
            problem = f"it answers {status}"
            if response.has_redirect_location:
                return f"{problem}, a redirect, which is not followed"
            if status < 500 and status != httpx.codes.TOO_MANY_REQUESTS:
                return problem
        return f"{problem}, {1 + len(RETRY_SECONDS)} times"

    def complain(self, name: str, problem: str) -> None:
        """Say on standard error that a message was not delivered."""
        tqdm.write(f"--notify: {self.host} did not take the row of {name} ({problem})", file=sys.stderr)

    def finish(self) -> None:
        """Wait for the last messages, but not for long."""
        deadline = time.monotonic() + END_SECONDS
        while self.messages.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.messages.unfinished_tasks:
            left = self.messages.unfinished_tasks
            print(f"--notify: {self.host} did not take the last {left} rows in time", file=sys.stderr)
