"""The tab Compare: two sounds of one machine on the same scales."""

from typing import Any

import gradio as gr
from errors import on_page, to_json
from parts import FOLLOWS, Example, Place, examples, follow, machine_choice, pictures, rate_choice, sound_input
from service import answer_both, read_sound
from texts import told
from wording import label


def compare_tab(own: gr.State, offered: dict[str, Example]) -> Place:
    # Columns, which stand one below the other on a phone.
    with gr.Row():
        with gr.Column(min_width=300):
            first = sound_input(label("compare.first"))
        with gr.Column(min_width=300):
            second = sound_input(label("compare.second"))
    below_sounds = gr.Column()
    with gr.Row():
        with gr.Column(min_width=300):
            machine = machine_choice()
        with gr.Column(min_width=300):
            rate = rate_choice()
    with below_sounds:
        examples(offered, machine, first, second)
    drawn = pictures("compare", told("compare.hint"))
    inputs = [first, second, machine, rate, own]
    gr.on([first.change, second.change, machine.input, rate.input], compare, inputs, drawn, **FOLLOWS)
    follow(own, machine, compare, inputs, drawn)
    return Place(machine, rate, (first, second), offered)


@on_page()
def compare(first: str | None, second: str | None, machine: str, rate: float, detector: Any) -> str:
    if first is None or second is None:
        return ""
    return to_json(answer_both((read_sound(first), read_sound(second)), machine, rate, detector))
