"""The tab Timeline: the scores of all windows, and the maps of the one that the user chose."""

from typing import Any

import gradio as gr
from beside import with_normal
from errors import on_page, to_json
from history import remember
from parts import (
    FOLLOWS,
    Example,
    Place,
    Session,
    examples,
    file_url,
    follow,
    machine_choice,
    pictures,
    rate_choice,
    sound_input,
)
from service import answer, answer_window, read_sound
from settings import MAX_SECONDS, SESSION_SECONDS
from texts import told
from wording import label


def timeline_tab(session: Session, offered: dict[str, Example]) -> Place:
    own = session.detector
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            recording = sound_input(label("timeline.sound", minutes=MAX_SECONDS // 60))
            machine = machine_choice()
            examples(offered, machine, recording)
            rate = rate_choice()
        with gr.Column(scale=3, min_width=320):
            timeline = pictures("timeline", told("timeline.hint"))
            window = pictures("part")
    result = gr.State(None, time_to_live=SESSION_SECONDS)
    inputs, outputs = [recording, machine, rate, own, session.recordings], [timeline, window, result]
    gr.on([recording.change, machine.input, rate.input], show_timeline, inputs, outputs, **FOLLOWS)
    follow(own, machine, show_timeline, inputs, outputs)
    timeline.select(
        show_window, [recording, result, own, session.recordings], window, show_progress="minimal", **FOLLOWS
    )
    return Place(machine, rate, (recording,), offered)


@on_page("", None)
def show_timeline(
    recording: str | None, machine: str, rate: float, detector: Any, sources: dict[str, list[str]]
) -> tuple[str, str, dict | None]:
    """Return the timeline, the window with the highest score, and what `show_window` needs."""
    if recording is None:
        return "", "", None
    sound = read_sound(recording)
    whole = answer(sound, machine, rate, detector)
    result = whole["result"]
    window = with_normal(answer_window(sound, result, whole["chosen"], detector), sources, recording)
    window["result"]["reason"] = None  # it stands above: the recording's reason is this window's
    timeline = {key: whole[key] for key in ("name", "result", "typical", "chosen")} | {"url": file_url(recording)}
    timeline["remember"] = remember(sound, result, detector, "timeline")
    return to_json(timeline), to_json(window), result


@on_page()
def show_window(
    recording: str | None, result: dict | None, detector: Any, sources: dict[str, list[str]], event: gr.EventData
) -> str:
    """Return the window of the timeline that the user chose."""
    if recording is None or result is None:
        return ""
    index = chosen_index(event, max(len(result["windows"]), 1), "window")
    return to_json(with_normal(answer_window(read_sound(recording), result, index, detector), sources, recording))


def chosen_index(event: gr.EventData, count: int, what: str) -> int:
    """Return which of `count` things the user chose.

    Raises:
        ValueError: the browser sent something else.
    """
    index = getattr(event, "index", None)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise ValueError(f"{what} {index!r}: expected a whole number from 0 to {count - 1}.")
    return index
