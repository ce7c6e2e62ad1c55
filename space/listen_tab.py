"""The tab Listen: one sound, its verdict, and why."""

from typing import Any

import gradio as gr
from errors import on_page, to_json
from parts import FOLLOWS, examples, follow, machine_choice, pictures, rate_choice, sound_input
from service import answer, read_sound


def listen_tab(own: gr.State, offered: dict[str, Any]) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            recording = sound_input("Sound of a machine")
            machine = machine_choice()
            examples(offered, recording, machine)
            rate = rate_choice()
        with gr.Column(scale=3, min_width=320):
            hint = "Drop in a sound, record one, or pick an example. The answer appears here."
            drawn = pictures("listen", hint)
    inputs = [recording, machine, rate, own]
    gr.on([recording.change, machine.input, rate.input], listen, inputs, drawn, **FOLLOWS)
    follow(own, machine, listen, inputs, drawn)


@on_page()
def listen(recording: str | None, machine: str, rate: float, detector: Any) -> str:
    if recording is None:
        return ""
    return to_json(answer(read_sound(recording), machine, rate, detector))
