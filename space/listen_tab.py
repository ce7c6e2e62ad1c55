"""The tab Listen: one sound, its verdict, and why."""

from typing import Any

import enrolling
import gradio as gr
from beside import with_normal
from errors import on_page, to_json
from history import remember
from parts import (
    FOLLOWS,
    KEEP,
    PRIVATE,
    Example,
    Place,
    Session,
    examples,
    follow,
    machine_choice,
    pictures,
    rate_choice,
    sound_input,
)
from service import answer, enroll, read_normal, read_sound
from texts import Told, told
from wording import label


def listen_tab(session: Session, offered: dict[str, Example]) -> Place:
    own, sources, files = session.detector, session.recordings, session.files
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            recording = sound_input(label("listen.sound"))
            machine = machine_choice()
            examples(offered, machine, recording)
            rate = rate_choice()
        with gr.Column(scale=3, min_width=320):
            drawn = pictures("listen", told("listen.hint"))
    inputs = [recording, machine, rate, own, sources]
    gr.on([recording.change, machine.input, rate.input], listen, inputs, drawn, **FOLLOWS)
    follow(own, machine, listen, inputs, drawn)
    learned = drawn.select(add_to_normal, [recording, machine, own, sources], [drawn, own, sources, files], **PRIVATE)
    learned.then(None, files, None, js=KEEP)
    return Place(machine, rate, (recording,), offered)


@on_page()
def listen(recording: str | None, machine: str, rate: float, detector: Any, sources: dict[str, list[str]]) -> str:
    if recording is None:
        return ""
    sound = read_sound(recording)
    found = with_normal(answer(sound, machine, rate, detector), sources, recording)
    found["remember"] = remember(sound, found["result"], detector, "listen")
    is_taught = recording in sources.get(machine, [])
    if found["result"]["verdict"] == "anomalous" and machine in sources and not is_taught:
        found["addable"] = machine
    return to_json(found)


@on_page(*[gr.skip()] * 3)
def add_to_normal(recording: str | None, machine: str, own: Any, sources: dict[str, list[str]]) -> tuple:
    """Enroll a machine anew with a recording more, which raised an alarm and was normal."""
    if recording is None or machine not in sources:
        raise Told("listen.not_taught")
    paths = [*sources[machine], recording]
    detector, *_ = enroll(machine, read_normal(paths), own)
    return gr.skip(), detector, {**sources, machine: paths}, enrolling.save(detector)
