"""score.py --watch: a recording is judged when it is whole, again when it changes, and an alarm reaches its receiver."""

import contextlib
import http.server
import io
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from score_process import next_row, start
from small_detector import RATE, machine_sound, small_pipeline

from scoring.notify import Notifier
from scoring.watching import LOOK_SECONDS, PATIENCE, WatchedFolder, is_open_for_writing, is_whole


SETTLE = 0.5


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    small_pipeline().save_pretrained(path)
    return path


def sound_file(*key: int, hiss: float = 0.0, seconds: float = 1.0, form: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, machine_sound(220.0, *key, hiss=hiss, seconds=seconds), RATE, format=form)
    return buffer.getvalue()


class Arrivals:
    """A watched folder whose recordings arrive in a list, from a thread."""

    def __init__(self, folder: Path, settle_seconds: float = SETTLE):
        self.found: queue.Queue[str] = queue.Queue()
        watched = WatchedFolder(folder, settle_seconds, stands=lambda path: False)
        recordings = watched.recordings()
        threading.Thread(target=lambda: [self.found.put(Path(path).name) for path in recordings], daemon=True).start()

    def next(self, seconds: float = 10.0) -> str:
        return self.found.get(timeout=seconds)

    def nothing_for(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self.found.empty()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell who writes")
def test_a_recording_is_not_whole_while_a_recorder_has_it_open(tmp_path):
    """A recorder that writes header and samples every while: no part is taken, and at its end all is, at once."""
    arrivals = Arrivals(tmp_path)
    with soundfile.SoundFile(tmp_path / "a.wav", "w", RATE, 1) as file:
        for part in range(2):
            file.write(machine_sound(220.0, part))
            file.flush()
            assert arrivals.nothing_for(3 * SETTLE)
    assert arrivals.next() == "a.wav" and arrivals.nothing_for(2 * SETTLE)


def test_a_recording_is_whole_when_its_header_says_so_or_when_it_stays_unchanged(tmp_path):
    path = str(tmp_path / "a")
    for form in ("WAV", "RF64", "AIFF"):
        whole = sound_file(1, form=form)
        Path(path).write_bytes(whole)
        # Whether it is open for writing is known on Linux alone; elsewhere every recording has to settle.
        assert is_whole(path, len(whole), 0.0, 5.0) == (is_open_for_writing(path) is False)
        Path(path).write_bytes(whole[:-100])
        assert not is_whole(path, len(whole) - 100, 5.0, 5.0)
        assert is_whole(path, len(whole) - 100, PATIENCE * 5.0, 5.0)
    for content in (sound_file(1, form="FLAC"), b"RIFF\0\0\0\0WAVE and more", b"RIFF\xff\xff\xff\xffWAVE"):
        Path(path).write_bytes(content)
        assert not is_whole(path, len(content), 4.9, 5.0) and is_whole(path, len(content), 5.0, 5.0)
    assert not is_whole(path, 0, 1e9, 5.0)


def test_an_upload_that_pauses_is_waited_for_and_a_replaced_recording_is_given_again(tmp_path):
    arrivals = Arrivals(tmp_path)
    whole = sound_file(1)
    (tmp_path / "upload.wav").write_bytes(b"")
    (tmp_path / ".upload.flac").write_bytes(sound_file(2, form="FLAC"))
    (tmp_path / "._upload.wav").write_bytes(whole)
    assert arrivals.nothing_for(3 * SETTLE)
    (tmp_path / "upload.wav").write_bytes(whole[:9000])
    assert arrivals.nothing_for(3 * SETTLE)
    with open(tmp_path / "upload.wav", "ab") as file:
        file.write(whole[9000:])
    assert arrivals.next() == "upload.wav"
    for key in range(2):
        (tmp_path / "incoming").write_bytes(sound_file(key))
        os.replace(tmp_path / "incoming", tmp_path / "latest.wav")
        assert arrivals.next() == "latest.wav"
    # A recorder that lost its power: what is there is taken in the end.
    (tmp_path / "cut.wav").write_bytes(whole[:9000])
    assert arrivals.next() == "cut.wav"


def test_recordings_of_a_folder_that_was_away_are_not_given_again(tmp_path):
    folder, away = tmp_path / "disk", tmp_path / "away"
    folder.mkdir()
    (folder / "a.wav").write_bytes(sound_file(1))
    arrivals = Arrivals(folder)
    assert arrivals.next() == "a.wav"
    folder.rename(away)
    assert arrivals.nothing_for(2.5 * LOOK_SECONDS)
    (away / "b.wav").write_bytes(sound_file(2))
    away.rename(folder)
    assert arrivals.next() == "b.wav"  # and not a.wav, which would come before


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes rows on /hook, after two failures on /busy; redirects elsewhere, never answers on /slow."""

    received: queue.Queue[tuple[str, dict]]
    failures: int

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/slow":
            time.sleep(60)
        type(self).received.put((self.path, content))
        if self.path == "/moved":
            self.send_response(307)
            self.send_header("Location", "/hook")
        elif self.path == "/busy" and type(self).failures:
            type(self).failures -= 1
            self.send_response(503)
        else:
            self.send_response(404 if self.path == "/secret" else 200)
        self.end_headers()

    def log_message(self, format, *args):
        pass


@contextlib.contextmanager
def receiver() -> Iterator[tuple[str, queue.Queue]]:
    """A web server's address, and what was posted to it."""
    handler = type("Handler", (Receiver,), {"received": queue.Queue(), "failures": 2})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler.received
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "posts", "message"),
    [
        ("/hook", 1, ""),
        ("/busy", 3, ""),
        ("/secret", 1, "did not take the row of a.wav (it answers 404)"),
        ("/moved", 1, "did not take the row of a.wav (it answers 307, a redirect, which is not followed)"),
    ],
)
def test_a_row_is_posted_again_where_that_helps_and_never_elsewhere(capsys, path, posts, message):
    with receiver() as (url, received):
        notifier = Notifier(f"{url.replace('//', '//user:password@')}{path}")
        notifier.send({"file": "a.wav", "verdict": "anomalous"})
        notifier.finish()
    rows = list(received.queue)
    assert rows == [(path, {"file": "a.wav", "verdict": "anomalous"})] * posts
    stderr = capsys.readouterr().err
    assert message in stderr and bool(stderr) == bool(message)
    assert "password" not in stderr and "secret" not in stderr


def test_watched_folder_tells_its_receiver_of_alarms_and_goes_on_without_one(model, tmp_path):
    """Alarms are posted, a receiver that is gone loses no verdict, and Ctrl-C ends with the code of what was found."""
    folder, output = tmp_path / "arriving", tmp_path / "verdicts.jsonl"
    folder.mkdir()
    (folder / "a.wav").write_bytes(sound_file(510))
    # A shell that runs the tests in the background has Ctrl-C ignored in all that they start.
    heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    options = ["--model", model, "--machine", "fan_id_00", "--settle", SETTLE, "--drift", "--format", "json"]
    with receiver() as (url, received):
        process = start("--watch", folder, *options, "--notify", f"{url}/hook", **heeds)
        assert next_row(process)["file"] == str(folder / "a.wav")
        (folder / "b.wav").write_bytes(sound_file(610, hiss=0.1))
        row = next_row(process)
        assert (row["file"], row["verdict"], row["duration_s"]) == (str(folder / "b.wav"), "anomalous", 1.0)
        assert received.get(timeout=10) == ("/hook", row) and received.empty()
    (folder / "c.wav").write_bytes(sound_file(611, hiss=0.1))
    (folder / "notes.txt").write_text("no sound")
    assert next_row(process)["file"] == str(folder / "c.wav")
    (folder / "d.flac").write_bytes(sound_file(511, form="FLAC"))
    assert next_row(process)["file"] == str(folder / "d.flac")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1 and b"2 anomalous, 2 normal; passed over: 1 .txt" in stderr
    assert b"127.0.0.1 did not take the row of" in stderr and b"c.wav (ConnectError, 3 times)" in stderr
    assert b"Traceback" not in stderr and not output.exists()
