"""The Space, used by programs: by gradio_client and by MCP, by those who mean ill, and by twenty users at once."""

import asyncio
import base64
import http.server
import json
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from huggingface_hub import SpaceCardData
from space_app import until
from space_server import SPACE, SpaceServer, copy_space

from research.space.load import use


pytest_plugins = ["space_app"]
gradio_client = pytest.importorskip("gradio_client", reason="needs gradio: pip install -e .[space]")
pytest.importorskip("gradio", reason="needs gradio: pip install -e .[space]")


# A stand-in for the `spaces` package. It pickles what a function gets and gives, as ZeroGPU does, but calls the function in
# the app's own process. At the end it prints how many functions ran at a time. A signal deletes the files of users.
ON_ZEROGPU = """
import atexit, functools, pickle, signal, sys, threading, types

lock, now, most = threading.Lock(), 0, 0

def GPU(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        global now, most
        args, kwargs = pickle.loads(pickle.dumps((args, kwargs)))
        with lock:
            now += 1
            most = max(most, now)
        try:
            return pickle.loads(pickle.dumps(function(*args, **kwargs)))
        finally:
            with lock:
                now -= 1
    return call

sys.modules["spaces"] = types.ModuleType("spaces")
sys.modules["spaces"].GPU = GPU
atexit.register(lambda: print("answers at a time:", most))

import app

signal.signal(signal.SIGUSR1, lambda *_: app.sweep(keep_seconds=0))
app.main()
"""


@pytest.fixture(scope="module")
def zerogpu_space(model, nothing_goes_through_a_proxy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zerogpu")
    server = SpaceServer(folder, copy_space(folder / "space"), ("-c", ON_ZEROGPU), MODEL_ID=str(model))
    yield server
    server.stop()
    at_once = 1 if torch.cuda.is_available() else 2
    assert f"answers at a time: {at_once}" in server.log.read_text()


@pytest.fixture(scope="module")
def client(space):
    return space.client()


# Programs


def test_gradio_client_gets_the_pipelines_json(client, sounds, detect):
    given = gradio_client.handle_file(sounds / "faulty.wav")
    expected = json.loads(json.dumps(detect(str(sounds / "faulty.wav"))))
    assert client.predict(given, api_name="/detect") == expected
    expected = json.loads(json.dumps(detect(str(sounds / "long.wav"), machine="pump_id_00", false_alarm_rate=0.05)))
    given = gradio_client.handle_file(sounds / "long.wav")
    assert client.predict(given, machine="pump_id_00", false_alarm_rate=0.05, api_name="/detect") == expected
    assert client.predict(api_name="/machines") == detect.detector.machines


def test_gradio_client_is_told_what_is_wrong(client, sounds, tmp_path):
    (tmp_path / "bare.raw").write_bytes(bytes(1000))
    with pytest.raises(gradio_client.exceptions.AppError, match="bare.raw: cannot be read as audio"):
        client.predict(gradio_client.handle_file(tmp_path / "bare.raw"), api_name="/detect")
    broken = gradio_client.handle_file(sounds / "broken.wav")
    with pytest.raises(gradio_client.exceptions.AppError, match="broken.wav: cannot be read as audio"):
        client.predict(broken, api_name="/detect")
    normal = gradio_client.handle_file(sounds / "normal.wav")
    with pytest.raises(gradio_client.exceptions.AppError, match="machine='press' is not known"):
        client.predict(normal, machine="press", api_name="/detect")
    with pytest.raises(
        gradio_client.exceptions.AppError, match="false_alarm_rate='often': expected a number such as 0.01"
    ):
        client.predict(normal, false_alarm_rate="often", api_name="/detect")
    with pytest.raises(gradio_client.exceptions.AppError, match="Recording 1 is 'normal.wav': expected an uploaded"):
        client.predict("normal.wav", "press_3", api_name="/enroll")


def test_a_small_file_of_too_many_samples_is_refused_at_once(client, tmp_path):
    # 8 channels at 655,350 Hz, a kilobyte for each second of silence.
    path = tmp_path / "wide.flac"
    with soundfile.SoundFile(path, "w", samplerate=655_350, channels=8, subtype="PCM_16") as file:
        for _ in range(50):
            file.write(np.zeros((655_350, 8), np.int16))
    started = time.monotonic()
    with pytest.raises(gradio_client.exceptions.AppError, match="wide.flac: holds more than 230 million samples"):
        client.predict(gradio_client.handle_file(path), api_name="/detect")
    assert path.stat().st_size < 10**6 and time.monotonic() - started < 15


def test_gradio_client_takes_an_enrolled_detector_home(client, sounds, detect):
    given = [gradio_client.handle_file(sounds / f"mine_{i}.wav") for i in range(3)]
    files = client.predict(given, "press_3", api_name="/enroll")
    assert sorted(Path(file).name for file in files) == ["scoring.safetensors", "scoring_config.json"]
    (config,) = [Path(file) for file in files if file.endswith(".json")]
    assert "press_3" in [machine["name"] for machine in json.loads(config.read_text())["machines"]]
    assert "press_3" not in client.predict(api_name="/machines")


def test_a_recording_beyond_ten_minutes_is_refused(client, tmp_path):
    path = tmp_path / "shift.flac"
    soundfile.write(path, np.zeros(8000 * 601, np.int16), 8000)
    with pytest.raises(gradio_client.exceptions.AppError, match="shift.flac: longer than 10 minutes"):
        client.predict(gradio_client.handle_file(path), api_name="/detect")


def test_enrolling_with_more_than_half_an_hour_is_refused(client, tmp_path):
    for i in range(4):
        soundfile.write(tmp_path / f"day_{i}.flac", np.zeros(8000 * 500, np.int16), 8000)
    given = [gradio_client.handle_file(tmp_path / f"day_{i}.flac") for i in range(4)]
    message = "day_3.flac: with it the recordings last longer than 30 minutes"
    with pytest.raises(gradio_client.exceptions.AppError, match=message):
        client.predict(given, "press_3", api_name="/enroll")


def test_every_tool_that_is_advertised_works_with_the_official_mcp_client(space, sounds, detect):
    mcp = pytest.importorskip("mcp", reason="needs mcp: pip install -e .[space]")
    http_client = pytest.importorskip("mcp.client.streamable_http")

    def as_text(name: str) -> str:
        return "data:audio/wav;base64," + base64.b64encode((sounds / name).read_bytes()).decode()

    arguments = {
        "detect": {"recording": as_text("faulty.wav"), "machine": "fan_id_00"},
        "machines": {},
        "enroll": {"recordings": [as_text("mine_0.wav"), as_text("mine_1.wav")], "name": "press_3"},
    }

    async def ask() -> tuple[dict[str, str], dict[str, Any]]:
        async with (
            http_client.streamable_http_client(f"{space.url}/gradio_api/mcp/") as (receive, send, _),
            mcp.ClientSession(receive, send) as session,
        ):
            await session.initialize()
            tools = {tool.name.rpartition("_")[2]: tool for tool in (await session.list_tools()).tools}
            answers = {name: await session.call_tool(tool.name, arguments[name]) for name, tool in tools.items()}
            wrong = {"recordings": ["C:\\normal.wav"], "name": "press_3"}
            answers["wrong"] = await session.call_tool(tools["enroll"].name, wrong)
            return {name: tool.description for name, tool in tools.items()}, answers

    with ThreadPoolExecutor(1) as thread:  # Playwright has an event loop in this one
        told, answers = thread.submit(asyncio.run, ask()).result(timeout=120)
    assert set(told) == set(arguments) and "sounds as this machine does in normal operation" in told["detect"]
    assert not any(answers[name].isError for name in arguments), answers
    expected = detect(str(sounds / "faulty.wav"), machine="fan_id_00")
    assert json.loads(answers["detect"].content[0].text) == json.loads(json.dumps(expected))
    assert json.loads(answers["machines"].content[0].text) == detect.detector.machines
    files = [content.text for content in answers["enroll"].content]
    (config,) = [
        text for text in re.findall(r"http://[^'\s]+", " ".join(files)) if text.endswith("scoring_config.json")
    ]
    assert json.load(urllib.request.urlopen(config))["machines"][-1]["name"] == "press_3"
    assert answers["wrong"].isError and "C:" in answers["wrong"].content[0].text


@pytest.mark.slow
def test_what_zerogpu_carries_to_the_gpu_and_back_can_be_pickled(zerogpu_space, sounds, detect):
    client = zerogpu_space.client()
    given = gradio_client.handle_file(sounds / "faulty.wav")
    expected = detect(str(sounds / "faulty.wav"))
    assert client.predict(given, api_name="/detect") == json.loads(json.dumps(expected))
    files = client.predict([gradio_client.handle_file(sounds / "mine_0.wav")], "press_3", api_name="/enroll")
    assert len(files) == 2


# Safety, and many users


def test_a_user_whose_requests_are_the_pages_own_is_answered_at_every_step(space, sounds):
    normal = [sounds / f"{name}.wav" for name in (*(f"mine_{i}" for i in range(6)), "mine_faulty", "normal")]
    steps = use(space.url, {"train": normal, "test": normal}, 0, threading.Barrier(1))
    assert steps.pop("error") is None and len(steps) == 6


def test_no_file_of_the_server_can_be_read_by_a_request(space, model, sounds):
    paths = ["/etc/passwd", space.space / "app.py", model / "config.json", sounds / "normal.wav", "app.py"]
    paths += [f"{space.space}/examples/../app.py", "examples/%2e%2e/app.py"]
    for path in paths:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{space.url}/gradio_api/file={path}")
        assert refused.value.code in (403, 404), path
    for path in (sounds / "normal.wav", space.space / "examples" / ".." / "app.py", "/etc/passwd"):
        assert call(space, "detect", {"path": str(path)}).startswith("event: error"), path


def test_no_request_makes_the_server_fetch_from_its_own_network(space):
    asked = []

    class Inside(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    inside = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inside)
    threading.Thread(target=inside.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{inside.server_port}/secret.wav"
    try:
        for data in ({"path": url}, {"path": "secret.wav", "url": url}):
            assert call(space, "detect", data).startswith("event: error")
    finally:
        inside.shutdown()
    assert asked == []


def call(space: SpaceServer, name: str, file: dict) -> str:
    """What the API answers to a file that was not uploaded."""
    data = {"data": [{**file, "meta": {"_type": "gradio.FileData"}}, "", None]}
    request = urllib.request.Request(
        f"{space.url}/gradio_api/call/{name}", json.dumps(data).encode(), {"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(request))["event_id"]
    return urllib.request.urlopen(f"{space.url}/gradio_api/call/{name}/{event}", timeout=30).read().decode()


@pytest.mark.slow
def test_twenty_users_at_once_are_all_answered_and_leave_no_file(zerogpu_space, sounds, detect, capsys):
    clients = [zerogpu_space.client() for _ in range(20)]
    names = ["faulty.wav", "normal.wav", "long.wav", "mine_0.wav"]
    together = threading.Barrier(20, timeout=60)

    def ask(index: int) -> tuple[dict | list, float]:
        sound = gradio_client.handle_file(sounds / names[index % 4])
        together.wait()
        start = time.monotonic()
        if index < 12:
            given = clients[index].submit(sound, api_name="/detect").result(timeout=120)
        elif index < 18:
            given = clients[index].submit([sound], "press_3", api_name="/enroll").result(timeout=120)
        else:
            given = clients[index].submit(api_name="/machines").result(timeout=120)
        return given, time.monotonic() - start

    with ThreadPoolExecutor(20) as users:
        answers = list(users.map(ask, range(20)))
    expected = [json.loads(json.dumps(detect(str(sounds / name)))) for name in names]
    given = [content for content, _ in answers]
    assert given[:12] == expected * 3
    for files in given[12:18]:
        assert sorted(Path(file).name for file in files) == ["scoring.safetensors", "scoring_config.json"]
    assert given[18:] == [detect.detector.machines] * 2
    status = Path(f"/proc/{zerogpu_space.process.pid}/status")
    memory = ""
    if status.exists():
        (peak,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        memory = f", peak memory {int(peak.split()[1]) / 1024:.0f} MiB"
    with capsys.disabled():
        print(f"\n20 users at once: slowest answer {max(seconds for _, seconds in answers):.1f} s{memory}")
    assert zerogpu_space.files() != []
    zerogpu_space.process.send_signal(signal.SIGUSR1)
    until(lambda: zerogpu_space.files() == [])


@pytest.mark.slow
def test_the_app_in_a_clone_runs_the_demonstration_model(tmp_path):
    server = SpaceServer(tmp_path, SPACE, MODEL_ID="")
    try:
        example = gradio_client.handle_file(SPACE / "examples" / "fan_clogged.flac")
        result = server.client().predict(example, "synthetic_fan_04", api_name="/detect")
        assert result["verdict"] == "anomalous" and result["machine"] == "synthetic_fan_04"
        shown = json.dumps(server.client().config)
        assert "trained on 143 recordings of 16 real machines" in shown and "CC-BY-SA-4.0" in shown
    finally:
        server.stop()


def test_a_model_that_cannot_be_loaded_is_told_by_its_name(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(RuntimeError) as failed:
        SpaceServer(tmp_path, copy_space(tmp_path / "space"), MODEL_ID=str(tmp_path / "mine"))
    said = str(failed.value)
    assert f"MODEL_ID {tmp_path / 'mine'}: the model cannot be loaded" in said and "Traceback" not in said


def test_the_front_matter_says_what_the_hub_needs():
    text = (SPACE / "README.md").read_text()
    data = SpaceCardData(**yaml.safe_load(text.split("---")[1]))
    assert data.sdk == "gradio" and data.license == "apache-2.0" and data.app_file == "app.py"
    assert len(data.to_dict()["short_description"]) <= 60
    assert f"gradio[mcp]=={data.sdk_version}" in (SPACE / "requirements.txt").read_text().splitlines()
