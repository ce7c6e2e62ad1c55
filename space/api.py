"""The named endpoints, for gradio_client and as tools of the MCP server. Both show these docstrings to callers."""

from pathlib import Path
from typing import Any

import enrolling
import gradio as gr
import service
from errors import for_program, to_json
from gradio.processing_utils import save_base64_to_cache, ssrf_protected_download
from gradio_client.utils import is_file_obj_with_meta
from service import judge, listener, read_normal, read_sound
from settings import MAX_BASE64, MAX_ENROLLED_CLIPS, MODEL_QUEUE, TEMPORARY


def recordings_input() -> gr.File:
    """Make an input for several sound files: uploaded ones, or texts as the MCP server hands them on, URLs and base64.

    Gradio's own input for several files cannot be called through the MCP server: its converter does not find the files in a
    list.
    """
    recordings = gr.File(file_count="multiple")
    text = "a URL, or the file as data:audio/wav;base64,..."
    changed: Any = recordings  # not by a class of its own, which the browser would take for a foreign component
    changed.data_model = None  # checked in `paths_of`, with a message that names the value
    changed.api_info = lambda: {"type": "array", "items": {"type": "string", "description": text}}
    changed.example_payload = lambda: ["https://example.com/normal_1.wav", "https://example.com/normal_2.wav"]
    changed.preprocess = paths_of
    return recordings


def paths_of(payload: Any) -> list[str]:
    """Return the paths of the files that an input got."""
    files = payload if isinstance(payload, list) else [] if payload is None else [payload]
    if len(files) > MAX_ENROLLED_CLIPS:
        raise gr.Error(f"{len(files)} recordings: expected at most {MAX_ENROLLED_CLIPS}.", print_exception=False)
    return [path_of(file, number) for number, file in enumerate(files, start=1)]


def path_of(file: Any, number: int) -> str:
    expected = "expected an uploaded sound file, a URL, or data:audio/wav;base64,..."
    if is_file_obj_with_meta(file):
        path = Path(str(file["path"])).resolve()
        if path.is_relative_to(Path(TEMPORARY).resolve()):
            return str(path)
    elif isinstance(file, str) and file.startswith("data:") and len(file) <= MAX_BASE64:
        try:
            return save_base64_to_cache(file, TEMPORARY, f"recording_{number}.wav")
        except (ValueError, IndexError):
            raise gr.Error(f"Recording {number} is no base64: {expected}.", print_exception=False) from None
    elif isinstance(file, str) and file.startswith(("http://", "https://")):
        try:
            return ssrf_protected_download(file, TEMPORARY)
        except Exception as error:  # whatever the network or the other server did
            message = f"Recording {number}, {file[:200]}, cannot be fetched ({error or type(error).__name__})."
            raise gr.Error(message, print_exception=False) from None
    shown = file if isinstance(file, str) else f"of type {type(file).__name__}"
    raise gr.Error(f"Recording {number} is {str(shown)[:60]!r}: {expected}.", print_exception=False)


def api() -> None:
    """Make the endpoints."""
    with gr.Row(visible=False):
        recording, recordings = gr.Audio(type="filepath"), recordings_input()
        machine, rate, name = gr.Textbox(""), gr.Number(None), gr.Textbox()
        files = gr.File(file_count="multiple")
        outputs: list[Any] = [gr.JSON(), gr.JSON()]
        found, known = outputs
        # JSON as it is: a text stays a text, where Gradio would parse it. A rate is checked with a message of its own.
        found.postprocess = known.postprocess = lambda content: content
        rate.preprocess = lambda payload: payload
        gr.Button().click(detect, [recording, machine, rate], found, api_name="detect", **MODEL_QUEUE)
        gr.Button().click(enroll, [recordings, name], files, api_name="enroll", **MODEL_QUEUE)
        gr.Button().click(machines, None, known, api_name="machines")


@for_program
def detect(
    recording: str, machine: str = "", false_alarm_rate: float | None = None, request: gr.Request | None = None
) -> dict | list | str:
    """Tell whether a recording of a machine sounds as this machine does in normal operation.

    Args:
        recording: a sound file (such as WAV, FLAC, OGG, MP3) of at most 10 minutes.
        machine: the recorded machine, one of `machines`; empty to take the most similar one.
        false_alarm_rate: the share of normal recordings that may be called anomalous, such as 0.01; by default the model's.

    Returns:
        verdict ("normal", "anomalous" or "cannot tell"), score, threshold, p_value, machine, why, and the windows of a
        recording longer than the model's clips.
    """
    if recording is None:
        raise ValueError("recording is missing: expected a sound file.")
    rate = false_alarm_rate
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float))):
        raise ValueError(f"false_alarm_rate={str(rate)[:60]!r}: expected a number such as 0.01, or nothing.")
    return for_caller(judge(read_sound(recording), machine, rate), request)


def machines(request: gr.Request | None = None) -> dict | list | str:
    """Names of the machines that the model knows.

    Returns:
        The names that `detect` takes as `machine`.
    """
    return for_caller(listener.pipe.detector.machines, request)


@for_program
def enroll(recordings: list[str], name: str) -> list[str]:
    """Make a detector for a machine of your own from a few recordings of its normal operation.

    Args:
        recordings: 1 to 30 sound files of normal operation only, at most 30 minutes in all.
        name: what the machine is to be called.

    Returns:
        scoring_config.json and scoring.safetensors, to put beside the model's files.
    """
    if not recordings:
        raise ValueError("There are no recordings: expected one or more of the machine in normal operation.")
    detector, *_ = service.enroll((name or "").strip(), read_normal(recordings))
    return enrolling.save(detector)


def for_caller(content: dict | list, request: gr.Request | None) -> dict | list | str:
    """Return JSON as text for a caller of the MCP server, who would get Python's notation from Gradio."""
    is_mcp = request is not None and request.headers.get("x-gradio-user") == "mcp"
    return to_json(content) if is_mcp else content


__all__ = ["api"]
