"""What the pages and the API answer. The pages get JSON as text, which pictures.js draws."""

import functools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from listening import Detector, Listener, Sound
from settings import IS_DEMO, MAX_ENROLLED_CLIPS, MAX_ENROLLED_SECONDS, MAX_SECONDS, MODEL_ID, TEMPORARY, spaces


# On the page, and what the pipeline takes for it.
AUTOMATIC = ("Name it for me", "")

listener = Listener(MODEL_ID, MAX_SECONDS)


def on_gpu(function: Callable) -> Callable:
    """Let ZeroGPU run a function in a process of its own. Arrays, words and detectors go in and come out."""
    return function if spaces is None else spaces.GPU(function)


judge, answer, answer_window = map(on_gpu, (listener.judge, listener.answer, listener.answer_window))
answer_both, enroll_sounds = map(on_gpu, (listener.compare, listener.enroll))


# Errors


def error_for_program(function: Callable) -> Callable:
    """Tell a program what is wrong with a sound or a name."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return call


def error_on_page(*others: Any) -> Callable:
    """Show what is wrong with a sound or a name where the answer would be. Further outputs get `others`."""

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args, **kwargs):
            try:
                return function(*args, **kwargs)
            except ValueError as error:
                problem = to_json({"error": str(error)})
                return (problem, *others) if others else problem

        return call

    return decorate


def to_json(content: dict | list) -> str:
    return json.dumps(content, allow_nan=False, ensure_ascii=False)


def for_caller(content: dict | list, request: gr.Request | None) -> dict | list | str:
    """Return JSON as text for a caller of the MCP server, who would get Python's notation from Gradio."""
    is_mcp = request is not None and request.headers.get("x-gradio-user") == "mcp"
    return to_json(content) if is_mcp else content


# The API. Gradio and the MCP server show these docstrings to callers.


@error_for_program
def detect(
    recording: str, machine: str = "", false_alarm_rate: float | None = None, request: gr.Request | None = None
) -> dict | list | str:
    """Tell whether a recording of a machine sounds as this machine does in normal operation.

    Args:
        recording: a sound file (WAV, FLAC, OGG, MP3) of at most 10 minutes.
        machine: the recorded machine, one of `machines`; empty to take the most similar one.
        false_alarm_rate: the share of normal recordings that may be called anomalous, such as 0.01; by default the model's.

    Returns:
        verdict ("normal", "anomalous" or "cannot tell"), score, threshold, p_value, machine, why, and the windows of a
        recording longer than the model's clips.
    """
    if recording is None:
        raise ValueError("recording is missing: expected a sound file.")
    return for_caller(judge(listener.read(recording), machine, false_alarm_rate), request)


def machines(request: gr.Request | None = None) -> dict | list | str:
    """Names of the machines that the model knows.

    Returns:
        The names that `detect` takes as `machine`.
    """
    return for_caller(listener.pipe.detector.machines, request)


@error_for_program
def enroll(recordings: list[str], name: str) -> list[str]:
    """Make a detector for a machine of your own from a few recordings of its normal operation.

    Args:
        recordings: 1 to 30 sound files of normal operation only, at most 30 minutes in all.
        name: what the machine is to be called.

    Returns:
        scoring_config.json and scoring.safetensors, to put beside the model's files.
    """
    return detector_files(enrolled_detector(recordings, (name or "").strip()))


# The pages


@error_on_page()
def listen(recording: str | None, machine: str, rate: float, detector: Detector | None) -> str:
    if recording is None:
        return ""
    return to_json(answer(listener.read(recording), machine, rate, detector))


@error_on_page()
def compare(first: str | None, second: str | None, machine: str, rate: float) -> str:
    if first is None or second is None:
        return ""
    return to_json(answer_both((listener.read(first), listener.read(second)), machine, rate))


@error_on_page("", None)
def show_timeline(
    recording: str | None, machine: str, rate: float, detector: Detector | None
) -> tuple[str, str, dict | None]:
    """Return the timeline, the window with the highest score, and what `show_window` needs."""
    if recording is None:
        return "", "", None
    sound = listener.read(recording)
    whole = answer(sound, machine, rate, detector)
    result = whole["result"]
    window = answer_window(sound, result, whole["chosen"], detector)
    timeline = {key: whole[key] for key in ("name", "result", "typical", "chosen")}
    return to_json(timeline), to_json(window), result


@error_on_page()
def show_window(recording: str | None, result: dict | None, detector: Detector | None, event: gr.EventData) -> str:
    """Return the window of the timeline that the user chose."""
    if recording is None or result is None:
        return ""
    index = min(max(int(event.index), 0), max(len(result["windows"]) - 1, 0))
    return to_json(answer_window(listener.read(recording), result, index, detector))


@error_on_page(*[gr.skip()] * 7)
def enroll_on_page(recordings: list[str] | None, name: str) -> tuple:
    """Enroll a machine, and show what can be done with its detector.

    Returns:
        the summary, the detector, the machine's name, the files to download, the program that uses them, a field to test
        the detector, and the choices of machine in two other tabs.
    """
    name = (name or "").strip()
    detector = enrolled_detector(recordings, name)
    count = len(recordings or [])
    lines = [
        f"Made from {count} {'recording' if count == 1 else 'recordings'}. In this session it can be "
        "chosen under Listen and Long recording, too.",
        f"An alarm is set to 1 in {round(1 / detector.false_alarm_rate)} normal recordings. The more recordings, the "
        "better it knows what is normal: ten are good, from different days even more so.",
    ]
    choices = machine_choices(detector)
    return (
        to_json({"machine": name, "lines": lines}),
        detector,
        name,
        gr.File(detector_files(detector), visible=True, interactive=False),
        gr.Code(program(name), visible=True),
        gr.Audio(None, visible=True),
        gr.Dropdown(choices=choices),
        gr.Dropdown(choices=choices),
    )


def enrolled_detector(recordings: list[str] | None, name: str) -> Detector:
    """Return the model's detector with one machine more.

    Raises:
        ValueError: there is no name, no recording, or too much of them; or a recording or the name cannot be used.
    """
    if not recordings:
        raise ValueError("There are no recordings: expected one or more of the machine in normal operation.")
    if len(recordings) > MAX_ENROLLED_CLIPS:
        raise ValueError(f"{len(recordings)} recordings: expected at most {MAX_ENROLLED_CLIPS}.")
    if not name:
        raise ValueError("The machine has no name: type one.")
    return enroll_sounds(name, read_all(recordings))


def read_all(recordings: list[str]) -> list[Sound]:
    """Read recordings to enroll, as long as they keep the limit together."""
    sounds, seconds = [], 0.0
    for path in recordings:
        sounds.append(listener.read(path))
        seconds += listener.duration_s(sounds[-1])
        if seconds > MAX_ENROLLED_SECONDS:
            raise ValueError(
                f"{os.path.basename(path)}: with it the recordings last longer than {MAX_ENROLLED_SECONDS // 60} minutes "
                "in all. Leave some out, or cut them."
            )
    return sounds


def detector_files(detector: Detector) -> list[str]:
    """Write a detector for download, and return the paths of its files."""
    folder = tempfile.mkdtemp(prefix="detector-", dir=TEMPORARY)
    detector.save_pretrained(folder)
    return sorted(str(file) for file in Path(folder).iterdir())


def machine_choices(detector: Detector | None = None) -> list[Any]:
    """Return what can be chosen as a recording's machine, by default of the model's own detector."""
    return [AUTOMATIC, *(detector or listener.pipe.detector).machines]


def default_rate() -> float:
    """Return the share of false alarms that the model's detector is set to."""
    return listener.pipe.detector.false_alarm_rate


def program(machine: str) -> str:
    """Return the Python program that uses a downloaded detector."""
    model = "space/demo_model" if IS_DEMO else MODEL_ID
    return f"""from transformers import pipeline

detect = pipeline("anomalous-sound-detection", model={json.dumps(model)}, trust_remote_code=True)
# The folder with the two files that you downloaded.
detect.detector = type(detect.detector).from_pretrained("my_detector")

result = detect("recording.wav", machine={json.dumps(machine, ensure_ascii=False)})
print(result["verdict"], result["p_value"], result["reason"])
"""
