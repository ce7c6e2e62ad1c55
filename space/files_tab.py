"""The tab Files: a row for every recording, which opens its maps."""

import os
from collections.abc import Iterator
from typing import Any

import gradio as gr
from beside import with_normal
from errors import on_page, said, to_json
from history import remember
from parts import FOLLOWS, Place, Session, file_url, follow, machine_choice, pictures, rate_choice, sounds_input
from service import answer, judge, read_sound
from settings import MAX_JUDGED_FILES
from texts import told
from timeline_tab import chosen_index
from wording import label


def files_tab(session: Session) -> Place:
    own = session.detector
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            recordings = sounds_input(label("files.sounds"))
            machine, rate = machine_choice(), rate_choice()
        with gr.Column(scale=3, min_width=320):
            table = pictures("many", told("files.hint", most=MAX_JUDGED_FILES))
            opened = pictures("listen")
    inputs, outputs = [recordings, machine, rate, own], [table, opened]
    gr.on([recordings.change, machine.input, rate.input], judge_many, inputs, outputs, **FOLLOWS)
    follow(own, machine, judge_many, inputs, outputs)
    table.select(open_row, [*inputs, session.recordings], opened, show_progress="minimal", **FOLLOWS)
    return Place(machine, rate)


def judge_many(recordings: list[str] | None, machine: str, rate: float, detector: Any) -> Iterator[tuple[str, str]]:
    """Yield the table after every recording, and clear what was opened."""
    paths = recordings or []
    if len(paths) > MAX_JUDGED_FILES:
        yield to_json({"error": told("files.too_many", given=len(paths), most=MAX_JUDGED_FILES)}), ""
        return
    rows: list[dict[str, Any]] = []
    yield to_json({"rows": rows, "count": len(paths)}) if paths else "", ""
    for path in paths:
        rows.append(row_of(path, machine, rate, detector))
        yield to_json({"rows": rows, "count": len(paths)}), ""


def row_of(path: str, machine: str, rate: float, detector: Any) -> dict[str, Any]:
    """Return the pipeline's answer about a recording, or what is wrong with the recording."""
    try:
        sound = read_sound(path)
        result = judge(sound, machine, rate, detector)
    except ValueError as error:
        return {"name": os.path.basename(path), "error": said(error)}
    return {
        "name": sound.name,
        "url": file_url(path),
        "result": result,
        "remember": remember(sound, result, detector, "files"),
    }


@on_page()
def open_row(
    recordings: list[str] | None,
    machine: str,
    rate: float,
    detector: Any,
    sources: dict[str, list[str]],
    event: gr.EventData,
) -> str:
    """Return the answer about the recording that the user chose."""
    paths = recordings or []
    if not paths:
        return ""
    path = paths[chosen_index(event, len(paths), "recording")]
    return to_json(with_normal(answer(read_sound(path), machine, rate, detector), sources, path))
