"""The Space: drop in a machine's sound, see whether it is normal, and why.

    python space/app.py                               # the bundled demonstration model
    MODEL_ID=you/attention-asd python space/app.py    # a repository on the Hub, or a directory that train.py wrote

The pages are in this file, what is done with a sound in listening.py, what is drawn of it in pictures.js.
"""

import os
import tempfile


# Read when these packages are imported. Nothing is told to anybody; and all files of users lie in a folder of the app's
# own, which it may sweep.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
TEMPORARY = os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="space-")

try:
    import spaces  # on ZeroGPU; before torch
except ImportError:
    spaces = None

import atexit
import functools
import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gradio as gr
import torch
from about import about_text, is_synthetic
from listening import MAX_ENROLLED_CLIPS, MAX_ENROLLED_SECONDS, MAX_SECONDS, Listener


HERE = Path(__file__).resolve().parent
DEMO_MODEL = HERE / "demo_model"
EXAMPLES = {
    "Fan": "fan_normal.wav",
    "Fan, clogged": "fan_clogged.wav",
    "Pump": "pump_normal.wav",
    "Pump, clogged": "pump_clogged.wav",
    "Conveyor": "conveyor_normal.wav",
    "Conveyor, low voltage": "conveyor_low_voltage.wav",
}
PAIRS = {"Fan, before and after": ("Fan", "Fan, clogged"), "Pump, before and after": ("Pump", "Pump, clogged")}
LONG_EXAMPLE = {"Fan that clogs, 30 s": "fan_30_s.flac"}
AUTOMATIC = ("Name it for me", "")
RATES = {"1 in 10": 0.1, "1 in 20": 0.05, "1 in 100": 0.01, "1 in 1000": 0.001}
MAX_FILE_SIZE = "100mb"
# Files of users are looked through every minute, and deleted half an hour after they were last handed out.
SWEEP_SECONDS, KEEP_SECONDS = 60, 1800
SESSION_SECONDS = 3600
MAX_SESSIONS, MAX_WAITING = 500, 200

MODEL_ID = os.environ.get("MODEL_ID") or str(DEMO_MODEL)
if MODEL_ID == str(DEMO_MODEL) and not DEMO_MODEL.is_dir():
    sys.exit(f"{DEMO_MODEL} is missing: set MODEL_ID to a model, or make it as README.md says.")

# Two answers at once, each on half of the cores. Gradio counts by function, or by `concurrency_id`: whatever runs the
# network has the same one.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
AT_ONCE = 1 if torch.cuda.is_available() else 2
MODEL_QUEUE = {"concurrency_id": "model", "concurrency_limit": AT_ONCE}
torch.set_num_threads(max(CORES // AT_ONCE, 1))

listener = Listener(MODEL_ID)


def on_gpu(function: Callable) -> Callable:
    """ZeroGPU runs it in a process of its own: what goes in and comes out are arrays, words and detectors."""
    return function if spaces is None else spaces.GPU(function)


judge, answer, answer_window = map(on_gpu, (listener.judge, listener.answer, listener.answer_window))
answer_both, enroll_clips = map(on_gpu, (listener.compare, listener.enroll))


def told(function: Callable) -> Callable:
    """What is wrong with a sound or a name, told to a program."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return call


def shown(*others) -> Callable:
    """The same, shown where the answer would be; the other outputs get `others`."""

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args, **kwargs):
            try:
                return function(*args, **kwargs)
            except ValueError as error:
                problem = packed({"error": str(error)})
                return (problem, *others) if others else problem

        return call

    return decorate


def spoken_name(path: str) -> str:
    name = os.path.basename(path)
    return "The recording" if name == "audio.wav" else name


# What the pages and the API call


@told
def detect(
    recording: str, machine: str = "", false_alarm_rate: float | None = None, request: gr.Request = None
) -> dict:
    """Tell whether a recording of a machine sounds as this machine does in normal operation.

    Args:
        recording: a sound file (WAV, FLAC, OGG, MP3) of at most 10 minutes.
        machine: the machine that it is of, one of `machines`; empty to take the closest one.
        false_alarm_rate: the share of normal recordings that may be called anomalous, such as 0.01; by default the model's.

    Returns:
        verdict ("normal", "anomalous" or "cannot tell"), score, threshold, p_value, machine, why, and the windows of a
        recording longer than the model's clips.
    """
    if recording is None:
        raise ValueError("recording is missing: expected a sound file.")
    return for_caller(judge(listener.read(recording), machine, false_alarm_rate), request)


def machines(request: gr.Request = None) -> list[str]:
    """Names of the machines that the model knows.

    Returns:
        The names that `detect` takes as `machine`.
    """
    return for_caller(listener.pipe.detector.machines, request)


@told
def enroll(recordings: list[str], name: str) -> list[str]:
    """Make a detector for a machine of your own from a few recordings of its normal operation.

    Args:
        recordings: 1 to 30 sound files of normal operation only, at most 30 minutes in all.
        name: what the machine is to be called.

    Returns:
        scoring_config.json and scoring.safetensors, to put beside the model's files.
    """
    return detector_files(enrolled_detector(recordings, (name or "").strip()))


@shown()
def listen(recording: str | None, machine: str, rate: float, detector) -> str:
    if recording is None:
        return ""
    return packed(answer(listener.read(recording), spoken_name(recording), machine, rate, detector))


@shown()
def compare(first: str | None, second: str | None, machine: str, rate: float) -> str:
    if first is None or second is None:
        return ""
    names = [spoken_name(path) for path in (first, second)]
    return packed(answer_both([listener.read(path) for path in (first, second)], names, machine, rate))


@shown("", None)
def look_through(recording: str | None, machine: str, rate: float, detector) -> tuple[str, str, dict | None]:
    """The timeline, the window with the highest score, and what the next choice of a window needs."""
    if recording is None:
        return "", "", None
    waveform, name = listener.read(recording), spoken_name(recording)
    whole = answer(waveform, name, machine, rate, detector)
    result = whole["result"]
    window = answer_window(waveform, name, result, whole["chosen"], detector)
    timeline = {key: whole[key] for key in ("name", "result", "typical", "chosen")}
    return packed(timeline), packed(window), result


@shown()
def look_at_window(recording: str | None, result: dict | None, detector, event: gr.EventData) -> str:
    if recording is None or result is None:
        return ""
    index = min(max(int(event.index), 0), max(len(result["windows"]) - 1, 0))
    return packed(answer_window(listener.read(recording), spoken_name(recording), result, index, detector))


@shown(*[gr.skip()] * 7)
def enroll_here(recordings: list[str] | None, name: str):
    name = (name or "").strip()
    detector = enrolled_detector(recordings, name)
    choices = [AUTOMATIC, *detector.machines]
    lines = [
        f"Made from {len(recordings)} {'recording' if len(recordings) == 1 else 'recordings'}. In this session it can be "
        "chosen under Listen and Long recording, too.",
        f"An alarm is set to 1 in {round(1 / detector.false_alarm_rate)} normal recordings. The more recordings, the "
        "better it knows what is normal: ten are good, from different days even more so.",
    ]
    return (
        packed({"machine": name, "lines": lines}),
        detector,
        name,
        gr.File(detector_files(detector), visible=True, interactive=False),
        gr.Code(snippet(name), visible=True),
        gr.Audio(None, visible=True),
        gr.Dropdown(choices=choices),
        gr.Dropdown(choices=choices),
    )


def enrolled_detector(recordings: list[str] | None, name: str):
    if not recordings:
        raise ValueError("There are no recordings: expected one or more of the machine in normal operation.")
    if len(recordings) > MAX_ENROLLED_CLIPS:
        raise ValueError(f"{len(recordings)} recordings: expected at most {MAX_ENROLLED_CLIPS}.")
    if not name:
        raise ValueError("The machine has no name: type one.")
    waveforms, seconds = [], 0.0
    for path in recordings:
        waveforms.append(listener.read(path))
        seconds += len(waveforms[-1]) / listener.extractor.sampling_rate
        if seconds > MAX_ENROLLED_SECONDS:
            raise ValueError(
                f"{os.path.basename(path)}: with it the recordings last longer than {MAX_ENROLLED_SECONDS // 60} minutes "
                "in all. Leave some out, or cut them."
            )
    return enroll_clips(name, waveforms)


def detector_files(detector) -> list[str]:
    folder = tempfile.mkdtemp(prefix="detector-", dir=TEMPORARY)
    detector.save_pretrained(folder)
    return sorted(str(file) for file in Path(folder).iterdir())


def snippet(machine: str) -> str:
    model = "space/demo_model" if MODEL_ID == str(DEMO_MODEL) else MODEL_ID
    return f"""from transformers import pipeline

detect = pipeline("anomalous-sound-detection", model={json.dumps(model)}, trust_remote_code=True)
# The folder with the two files that you downloaded.
detect.detector = type(detect.detector).from_pretrained("my_detector")

result = detect("recording.wav", machine={json.dumps(machine, ensure_ascii=False)})
print(result["verdict"], result["p_value"], result["reason"])
"""


def for_caller(content: dict | list, request: gr.Request | None) -> dict | list | str:
    """JSON for a caller of the MCP server, which would get Python's notation from Gradio."""
    is_mcp = request is not None and request.headers.get("x-gradio-user") == "mcp"
    return packed(content) if is_mcp else content


def packed(content: dict | list) -> str:
    return json.dumps(content, allow_nan=False, ensure_ascii=False)


# The pages


def pictures(kind: str, hint: str = "") -> gr.HTML:
    """Where pictures.js draws an answer of this kind."""
    return gr.HTML(
        html_template=f'<div class="asd"><p class="asd-empty">{hint}</p></div>',
        js_on_load=f"asd.mount(element, {json.dumps(kind)}, props, watch, trigger); /* triggers 'select' */",
        apply_default_css=False,
        padding=False,
    )


def machine_choice() -> gr.Dropdown:
    return gr.Dropdown([AUTOMATIC, *machines()], value="", label="Machine", info="Which machine the recording is of")


def rate_choice() -> gr.Radio:
    default = listener.pipe.detector.false_alarm_rate
    choices = sorted({**RATES, f"1 in {round(1 / default)}": default}.items(), key=lambda choice: -choice[1])
    return gr.Radio(choices, value=default, label="False alarms", info="Normal recordings that may raise an alarm")


def sound(label: str) -> gr.Audio:
    return gr.Audio(type="filepath", sources=["upload", "microphone"], label=label, buttons=[])


def examples(files: dict[str, str | list[str]], *inputs: gr.Audio) -> None:
    """Synthetic sounds to begin with: what they are called, and the files for the inputs."""
    rows = [[names] if isinstance(names, str) else names for names in files.values()]
    paths = [[str(HERE / "examples" / name) for name in row] for row in rows]
    gr.Examples(paths, list(inputs), label="Synthetic examples", example_labels=list(files))


def listen_page(own: gr.State) -> gr.Dropdown:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            recording = sound("Sound of a machine")
            examples(EXAMPLES, recording)
            machine, rate = machine_choice(), rate_choice()
        with gr.Column(scale=3, min_width=320):
            hint = "Drop in a sound, record one, or pick an example. The answer appears here."
            drawn = pictures("listen", hint)
    gr.on(
        [recording.change, machine.input, rate.input],
        listen,
        [recording, machine, rate, own],
        drawn,
        api_visibility="private",
        trigger_mode="always_last",
        **MODEL_QUEUE,
    )
    return machine


def compare_page() -> None:
    with gr.Row():
        first, second = sound("First sound"), sound("Second sound")
    pairs = {label: [EXAMPLES[name] for name in names] for label, names in PAIRS.items()}
    examples(pairs, first, second)
    with gr.Row():
        machine, rate = machine_choice(), rate_choice()
    drawn = pictures("compare", "Choose two sounds: they are drawn on the same scales, with their difference.")
    gr.on(
        [first.change, second.change, machine.input, rate.input],
        compare,
        [first, second, machine, rate],
        drawn,
        api_visibility="private",
        trigger_mode="always_last",
        **MODEL_QUEUE,
    )


def enrol_page(own: gr.State, others: list[gr.Dropdown]) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            recordings = gr.File(
                file_count="multiple", file_types=["audio"], label="Normal recordings of your machine", height=200
            )
            name = gr.Textbox(label="Name of the machine", placeholder="press_3", max_length=100)
            button = gr.Button("Enrol", variant="primary")
        with gr.Column(scale=3, min_width=320):
            summary = pictures(
                "enrolled",
                "A few recordings of normal operation are enough for a first detector of your own machine. The network "
                "stays as it is; nothing is trained, nothing is kept on the server.",
            )
            files = gr.File(label="Your detector", visible=False, interactive=False)
            code = gr.Code(
                # Without a language: the colours of Python are too faint to read.
                label="Use it in Python", language=None, interactive=False, visible=False, wrap_lines=True,
            )  # fmt: skip
            test = gr.Audio(
                type="filepath", sources=["upload", "microphone"], label="Test it with another recording",
                buttons=[], visible=False,
            )  # fmt: skip
            drawn = pictures("listen")
    # What was enrolled, whatever is typed afterwards; the detector's own rate of false alarms.
    enrolled_name, enrolled_rate = gr.State(""), gr.State(None)
    button.click(
        enroll_here,
        [recordings, name],
        [summary, own, enrolled_name, files, code, test, *others],
        api_visibility="private",
        **MODEL_QUEUE,
    )
    test.change(
        listen,
        [test, enrolled_name, enrolled_rate, own],
        drawn,
        api_visibility="private",
        trigger_mode="always_last",
        **MODEL_QUEUE,
    )


def long_page(own: gr.State) -> gr.Dropdown:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            recording = sound(f"Recording of up to {MAX_SECONDS // 60} minutes")
            examples(LONG_EXAMPLE, recording)
            machine, rate = machine_choice(), rate_choice()
        with gr.Column(scale=3, min_width=320):
            timeline = pictures("timeline", "Every window of the recording gets its score; alarms are marked.")
            window = pictures("part")
    result = gr.State(None, time_to_live=SESSION_SECONDS)
    gr.on(
        [recording.change, machine.input, rate.input],
        look_through,
        [recording, machine, rate, own],
        [timeline, window, result],
        api_visibility="private",
        trigger_mode="always_last",
        **MODEL_QUEUE,
    )
    timeline.select(
        look_at_window,
        [recording, result, own],
        window,
        api_visibility="private",
        trigger_mode="always_last",
        show_progress="minimal",
        **MODEL_QUEUE,
    )
    return machine


def api() -> None:
    """Named endpoints, for gradio_client and as tools of the MCP server."""
    with gr.Row(visible=False):
        recording, recordings = gr.Audio(type="filepath"), gr.File(file_count="multiple")
        machine, rate, name = gr.Textbox(""), gr.Number(None), gr.Textbox()
        found, known, files = gr.JSON(), gr.JSON(), gr.File(file_count="multiple")
        # JSON as it is: a text stays a text, where Gradio would parse it.
        found.postprocess = known.postprocess = lambda content: content
        gr.Button().click(detect, [recording, machine, rate], found, api_name="detect", **MODEL_QUEUE)
        gr.Button().click(enroll, [recordings, name], files, api_name="enroll", **MODEL_QUEUE)
        gr.Button().click(machines, None, known, api_name="machines")


def build() -> gr.Blocks:
    with gr.Blocks(title="Does this machine sound right?", analytics_enabled=False) as app:
        own = gr.State(None, time_to_live=SESSION_SECONDS)
        with gr.Row(elem_classes="asd-head"):
            gr.HTML(
                "<h1>Does this machine sound right?</h1><p>A detector of anomalous machine sounds that was taught normal "
                "operation alone. Drop in a recording: it says what it hears, how sure it is, and why.</p>",
                apply_default_css=False,
            )
            theme = gr.Button("◐ Theme", size="sm", min_width=84, scale=0)
            theme.click(None, js="() => { document.body.classList.toggle('dark') }")
        if is_synthetic(MODEL_ID):
            gr.HTML(
                '<p class="asd-notice"><strong>Demonstration.</strong> This model was trained on synthetic machines, '
                "written by formula. It shows how the app works; it knows nothing about real machines.</p>",
                apply_default_css=False,
            )
        with gr.Tabs():
            with gr.Tab("Listen"):
                listened = listen_page(own)
            with gr.Tab("Compare"):
                compare_page()
            # The choices of machine on the other pages are made first, so that enrolling can add to them.
            with gr.Tab("Long recording"):
                looked_through = long_page(own)
            with gr.Tab("Enrol"):
                enrol_page(own, [listened, looked_through])
            with gr.Tab("About"):
                gr.Markdown(about_text(MODEL_ID), elem_classes="asd-about")
        api()
    app.queue(max_size=MAX_WAITING, default_concurrency_limit=AT_ONCE)
    return app


THEME = gr.themes.Default(
    primary_hue=gr.themes.colors.blue,
    neutral_hue=gr.themes.colors.slate,
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    # The theme's own grey and blues are too faint to read: contrasts of 2.6 and 3.7.
    link_text_color_dark="*secondary_300",
    body_text_color_subdued="*neutral_600",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
)


def page_head() -> str:
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "pictures.js"))
    return f'<style id="asd-style">{style}</style><script id="asd-script">{script}</script>'


def sweep_forever() -> None:
    """Delete what users left. Gradio's own `delete_cache` does not know of a file that was uploaded twice."""
    while True:
        time.sleep(SWEEP_SECONDS)
        oldest = time.time() - KEEP_SECONDS
        for path in sorted(Path(TEMPORARY).rglob("*"), reverse=True):  # what is in a folder before the folder
            with suppress(OSError):  # a folder that is not empty, or a file that has just gone
                if path.stat().st_ctime < oldest:
                    path.rmdir() if path.is_dir() else path.unlink()


def main() -> None:
    atexit.register(shutil.rmtree, TEMPORARY, ignore_errors=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=sweep_forever, daemon=True).start()
    gr.set_static_paths([HERE / "examples"])
    build().launch(
        theme=THEME,
        head=page_head(),
        mcp_server=True,
        max_file_size=MAX_FILE_SIZE,
        state_session_capacity=MAX_SESSIONS,
        footer_links=["api", "settings"],
        ssr_mode=False,
        share=False,
    )


if __name__ == "__main__":
    main()
