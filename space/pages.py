"""The tabs of the page, and the named endpoints of the API."""

import json
from typing import Any

import gradio as gr
from about import about_text, notice
from answers import (
    compare,
    default_rate,
    detect,
    enroll,
    enroll_on_page,
    listen,
    machine_choices,
    machines,
    show_timeline,
    show_window,
)
from settings import EXAMPLES_DIR, MAX_SECONDS, MODEL_ID, MODEL_QUEUE, SESSION_SECONDS


TITLE = "Does this machine sound right?"
# Label of an example -> its sounds, and the machine of the demonstration model that they are of.
EXAMPLES = {
    "Fan": ("fan_normal.flac", "synthetic_fan_04"),
    "Fan, clogged": ("fan_clogged.flac", "synthetic_fan_04"),
    "Pump": ("pump_normal.flac", "synthetic_pump_00"),
    "Pump, clogged": ("pump_clogged.flac", "synthetic_pump_00"),
    "Conveyor": ("conveyor_normal.flac", "synthetic_conveyor_02"),
    "Conveyor, low voltage": ("conveyor_low_voltage.flac", "synthetic_conveyor_02"),
}
PAIRS = {
    "Fan, before and after": ("fan_normal.flac", "fan_clogged.flac", "synthetic_fan_04"),
    "Pump, before and after": ("pump_normal.flac", "pump_clogged.flac", "synthetic_pump_00"),
}
LONG_EXAMPLE = {"Fan that clogs, 60 s": ("fan_60_s.flac", "synthetic_fan_04")}
RATES = {"1 in 10": 0.1, "1 in 20": 0.05, "1 in 100": 0.01, "1 in 1000": 0.001}

# What the page asks for is no endpoint, and of several changes the last one counts.
PRIVATE: dict[str, Any] = {"api_visibility": "private", **MODEL_QUEUE}
FOLLOWS: dict[str, Any] = {**PRIVATE, "trigger_mode": "always_last"}


def build_page() -> gr.Blocks:
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        # The detector of a user who enrolled a machine.
        own = gr.State(None, time_to_live=SESSION_SECONDS)
        header()
        with gr.Tabs():
            with gr.Tab("Listen"):
                listened = listen_tab(own)
            with gr.Tab("Compare"):
                compare_tab()
            # The tabs whose choice of machine grows by enrolling are made first.
            with gr.Tab("Long recording"):
                looked_through = long_tab(own)
            with gr.Tab("Enroll"):
                enroll_tab(own, [listened, looked_through])
            with gr.Tab("About"):
                gr.Markdown(about_text(MODEL_ID), elem_classes="asd-about")
        api()
    return page


def header() -> None:
    with gr.Row(elem_classes="asd-head"):
        gr.HTML(
            f"<h1>{TITLE}</h1><p>A detector of anomalous machine sounds that was taught normal operation alone. Drop in "
            "a recording: the app says whether the machine sounds normal, how sure the verdict is, and why.</p>",
            apply_default_css=False,
        )
        theme = gr.Button("◐ Theme", size="sm", min_width=84, scale=0)
        theme.click(None, js="() => { document.body.classList.toggle('dark') }")
    if text := notice(MODEL_ID):
        gr.HTML(f'<p class="asd-notice"><strong>Demonstration.</strong> {text}</p>', apply_default_css=False)


# Parts that several tabs have


def pictures(kind: str, hint: str = "") -> gr.HTML:
    """Make the place where pictures.js draws an answer of this kind."""
    return gr.HTML(
        html_template=f'<div class="asd"><p class="asd-empty">{hint}</p></div>',
        js_on_load=f"asd.mount(element, {json.dumps(kind)}, props, watch, trigger); /* triggers 'select' */",
        apply_default_css=False,
        padding=False,
    )


def machine_choice() -> gr.Dropdown:
    return gr.Dropdown(machine_choices(), value="", label="Machine", info="Which machine the recording is of")


def rate_choice() -> gr.Radio:
    default = default_rate()
    choices = sorted({**RATES, f"1 in {round(1 / default)}": default}.items(), key=lambda choice: -choice[1])
    return gr.Radio(choices, value=default, label="False alarms", info="Normal recordings that may raise an alarm")


def sound_input(label: str, **settings: Any) -> gr.Audio:
    return gr.Audio(type="filepath", sources=["upload", "microphone"], label=label, buttons=[], **settings)


def examples(offered: dict[str, tuple[str, ...]], *inputs: gr.Audio | gr.Dropdown) -> None:
    """Offer synthetic sounds.

    Args:
        offered: the label of an example -> a file for every sound input, and the machine that the sounds are of.
        inputs: the inputs for the sounds, and the choice of machine.
    """
    rows = []
    for *names, machine in offered.values():
        # A model of other machines does not know those of the examples.
        rows.append([*(str(EXAMPLES_DIR / name) for name in names), machine if machine in machine_choices() else ""])
    gr.Examples(rows, list(inputs), label="Synthetic examples", example_labels=list(offered))


# The tabs


def listen_tab(own: gr.State) -> gr.Dropdown:
    """Make the tab, and return its choice of machine."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            recording = sound_input("Sound of a machine")
            machine = machine_choice()
            examples(EXAMPLES, recording, machine)
            rate = rate_choice()
        with gr.Column(scale=3, min_width=320):
            hint = "Drop in a sound, record one, or pick an example. The answer appears here."
            drawn = pictures("listen", hint)
    inputs = [recording, machine, rate, own]
    gr.on([recording.change, machine.input, rate.input], listen, inputs, drawn, **FOLLOWS)
    return machine


def compare_tab() -> None:
    with gr.Row():
        first, second = sound_input("First sound"), sound_input("Second sound")
    with gr.Row():
        machine, rate = machine_choice(), rate_choice()
    examples(PAIRS, first, second, machine)
    drawn = pictures("compare", "Choose two sounds: they are drawn on the same scales, with their difference.")
    triggers = [first.change, second.change, machine.input, rate.input]
    gr.on(triggers, compare, [first, second, machine, rate], drawn, **FOLLOWS)


def long_tab(own: gr.State) -> gr.Dropdown:
    """Make the tab, and return its choice of machine."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            recording = sound_input(f"Recording of up to {MAX_SECONDS // 60} minutes")
            machine = machine_choice()
            examples(LONG_EXAMPLE, recording, machine)
            rate = rate_choice()
        with gr.Column(scale=3, min_width=320):
            timeline = pictures("timeline", "Every window of the recording gets its score; alarms are marked.")
            window = pictures("part")
    result = gr.State(None, time_to_live=SESSION_SECONDS)
    gr.on(
        [recording.change, machine.input, rate.input],
        show_timeline,
        [recording, machine, rate, own],
        [timeline, window, result],
        **FOLLOWS,
    )
    # pictures.js triggers 'select': Gradio finds the event's name in `js_on_load`.
    timeline.select(show_window, [recording, result, own], window, show_progress="minimal", **FOLLOWS)
    return machine


def enroll_tab(own: gr.State, others: list[gr.Dropdown]) -> None:
    """Make the tab. An enrolled machine is added to the choices `others`."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            recordings = gr.File(
                file_count="multiple", file_types=["audio"], label="Normal recordings of your machine", height=200
            )
            name = gr.Textbox(label="Name of the machine", placeholder="press_3", max_length=100)
            button = gr.Button("Enroll", variant="primary")
        with gr.Column(scale=3, min_width=320):
            summary = pictures(
                "enrolled",
                "A few recordings of normal operation are enough for a first detector of your own machine. The network "
                "stays as it is; nothing is trained, nothing is kept on the server.",
            )
            files = gr.File(label="Your detector", visible=False, interactive=False)
            # Without a language: the colors of Python are too faint to read.
            code = gr.Code(label="Use it in Python", language=None, interactive=False, visible=False, wrap_lines=True)
            test = sound_input("Test it with another recording", visible=False)
            drawn = pictures("listen")
    # The name that was enrolled, whatever is typed afterwards, and the detector's own rate of false alarms.
    enrolled_name, enrolled_rate = gr.State(""), gr.State(None)
    outputs = [summary, own, enrolled_name, files, code, test, *others]
    button.click(enroll_on_page, [recordings, name], outputs, **PRIVATE)
    test.change(listen, [test, enrolled_name, enrolled_rate, own], drawn, **FOLLOWS)


# The API


def api() -> None:
    """Make the named endpoints, for gradio_client and as tools of the MCP server."""
    with gr.Row(visible=False):
        recording, recordings = gr.Audio(type="filepath"), gr.File(file_count="multiple")
        machine, rate, name = gr.Textbox(""), gr.Number(None), gr.Textbox()
        files = gr.File(file_count="multiple")
        outputs: list[Any] = [gr.JSON(), gr.JSON()]
        found, known = outputs
        # JSON as it is: a text stays a text, where Gradio would parse it.
        found.postprocess = known.postprocess = lambda content: content
        gr.Button().click(detect, [recording, machine, rate], found, api_name="detect", **MODEL_QUEUE)
        gr.Button().click(enroll, [recordings, name], files, api_name="enroll", **MODEL_QUEUE)
        gr.Button().click(machines, None, known, api_name="machines")
