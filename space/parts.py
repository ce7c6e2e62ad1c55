"""Parts that several tabs have: inputs, examples, and places for pictures."""

import html
import json
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from service import SUFFIXES, listener
from settings import EXAMPLES_DIR, MODEL_QUEUE, SESSION_SECONDS
from wording import label


# On the page, and what the pipeline takes for it.
AUTOMATIC = (label("machine.automatic"), "")
RATES = (0.1, 0.05, 0.01, 0.001)

# What the page asks for is no endpoint, and of several changes the last one counts.
PRIVATE: dict[str, Any] = {"api_visibility": "private", **MODEL_QUEUE}
FOLLOWS: dict[str, Any] = {**PRIVATE, "trigger_mode": "always_last"}
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


# The browser fetches the files of the session's detector into its own storage.
KEEP = "files => { asd.keep(files); return []; }"
FORGET = "() => { asd.forgetDetector(); return []; }"


@dataclass(frozen=True)
class Session:
    """What a user brought.

    Attributes:
        detector: the detector that knows the user's machines, too; `None` where there are none.
        recordings: by machine, the paths of the recordings that it was enrolled from since the page was opened.
        files: the detector's files, to be downloaded and kept.
        kept: the detector as text, on its way back from the browser's storage. `restore` empties the field, as Gradio
            keeps the values of all fields for every session.
    """

    detector: gr.State
    recordings: gr.State
    files: gr.File
    kept: gr.Textbox

    @classmethod
    def begin(cls) -> "Session":
        return cls(
            gr.State(None, time_to_live=SESSION_SECONDS),
            gr.State({}, time_to_live=SESSION_SECONDS),
            gr.File(label=label("enroll.files"), interactive=False, elem_classes="asd-given", render=False),
            gr.Textbox(visible="hidden", container=False),
        )


@dataclass(frozen=True)
class Example:
    """Synthetic sounds that a tab offers.

    Attributes:
        title: what the page calls them.
        sounds: a file for each sound input of the tab.
        machine: of the demonstration model, the one that they are of.
    """

    title: Any
    sounds: tuple[str, ...]
    machine: str

    @property
    def known_machine(self) -> str:
        """The machine, or an empty text where a model of other machines does not know it."""
        return self.machine if self.machine in listener.pipe.detector.machines else ""

    @property
    def paths(self) -> list[str]:
        return [str(EXAMPLES_DIR / name) for name in self.sounds]


@dataclass(frozen=True)
class Place:
    """What a link can fill in on a tab.

    Attributes:
        machine: the choice of machine.
        rate: the choice of false alarms.
        sounds: the inputs for sounds.
        offered: the examples, by their names in links.
    """

    machine: gr.Dropdown
    rate: gr.Radio
    sounds: tuple[gr.File, ...] = ()
    offered: dict[str, Example] = field(default_factory=dict)


def pictures(kind: str, hint: list[Any] | None = None, functions: list[Any] | None = None) -> gr.HTML:
    """Make the place where space/pictures/ draws an answer of this kind.

    Args:
        kind: of the answer.
        hint: what stands there before there is one: a text and its values, as `told` returns them.
        functions: of the app, which the pictures may call.
    """
    return gr.HTML(
        html_template=f'<div class="asd" data-hint="{html.escape(json.dumps(hint))}"></div>',
        # Gradio finds the event's name in the text.
        js_on_load=f"asd.mount(element, {json.dumps(kind)}, props, watch, trigger, server); /* triggers 'select' */",
        server_functions=functions,
        apply_default_css=False,
        padding=False,
    )


def machine_choices(detector: Any = None) -> list[tuple[Any, str]]:
    """Return what can be chosen as a recording's machine, by default of the model's own detector."""
    return [AUTOMATIC, *((name, name) for name in (detector or listener.pipe.detector).machines)]


def machine_choice() -> gr.Dropdown:
    return gr.Dropdown(
        machine_choices(),
        value="",
        label=label("column.machine"),
        info=label("machine.info"),
    )


def offered_machines(detector: Any, chosen: str) -> gr.Dropdown:
    """Offer the machines of another detector. What is chosen stays, even if it was chosen after this was asked for."""
    choices = machine_choices(detector)
    is_known = chosen in (value for _, value in choices)
    return gr.Dropdown(choices=choices) if is_known else gr.Dropdown(choices=choices, value="")


def rate_choice() -> gr.Radio:
    default = listener.pipe.detector.false_alarm_rate
    choices = [
        (label("rate.in", share=1, all=round(1 / rate)), rate) for rate in sorted({*RATES, default}, reverse=True)
    ]
    return gr.Radio(choices, value=default, label=label("rate.label"), info=label("rate.info"))


def sound_input(title: Any) -> gr.File:
    """Make an input for a sound: a file of any kind that the model's code reads, or what the microphone records.

    Gradio's own field for audio refuses the MP4, WebM and 3GP of phones and browsers, because these may hold a film.
    """
    recording = gr.File(file_types=SUFFIXES, label=title, height=150)
    with gr.Accordion(label("sound.microphone"), open=False):
        microphone = gr.Audio(type="filepath", sources=["microphone"], show_label=False, buttons=[])
    microphone.stop_recording(lambda path: (path, None), microphone, [recording, microphone], **QUIET)
    return recording


def sounds_input(title: Any) -> gr.File:
    """Make an input for several sound files, of all kinds that the model's code reads."""
    return gr.File(file_count="multiple", file_types=SUFFIXES, label=title, height=150)


def file_url(path: str) -> str:
    """Return where the browser gets a file that the user gave."""
    return f"/gradio_api/file={path}"


def examples(offered: dict[str, Example], machine: gr.Dropdown, *sounds: gr.File) -> None:
    """Offer synthetic sounds, each with the machine that it is of."""
    with gr.Column(elem_classes="asd-examples", min_width=200):
        gr.HTML(label("examples.title"), apply_default_css=False)
        with gr.Row():
            for example in offered.values():
                button = gr.Button(example.title, size="sm", scale=0, min_width=60)
                button.click(
                    lambda example=example: [example.known_machine, *example.paths], None, [machine, *sounds], **QUIET
                )


def follow(own: gr.State, machine: gr.Dropdown, function: Any, inputs: list[Any], outputs: Any) -> None:
    """Offer the machines that the user enrolled as soon as they change, and judge anew what is shown."""
    offered = own.change(offered_machines, [own, machine], machine, api_visibility="private", show_progress="hidden")
    offered.then(function, inputs, outputs, **FOLLOWS)
