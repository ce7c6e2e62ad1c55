"""The tab Enroll: from recordings of normal operation to a detector of the user's own machine."""

import json
import os
from typing import Any

import enrolling
import gradio as gr
from errors import on_page, said, to_json
from parts import FOLLOWS, FORGET, KEEP, PRIVATE, QUIET, Session, pictures, sound_input, sounds_input
from service import answer, enroll, listener, read_normal, read_sound, study
from settings import IS_DEMO, MAX_ENROLLED_CLIPS, MODEL_ID, SESSION_SECONDS, SPACE_ID
from texts import Told, told
from timeline_tab import chosen_index
from wording import label


# Every recording counts, and none begins from a draft that another is about to change.
ONE_BY_ONE: dict[str, Any] = {**QUIET, "trigger_mode": "multiple", "concurrency_id": "draft", "concurrency_limit": 1}


def enroll_tab(session: Session, page: gr.Blocks) -> Any:
    """Make the tab; return the event after which what the browser kept is known."""
    own, sources, files, kept = session.detector, session.recordings, session.files, session.kept
    # The recordings of the machine that is being enrolled, as paths, and the name under which it was enrolled last.
    draft, enrolled_name = gr.State([], time_to_live=SESSION_SECONDS), gr.State("")
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            recordings = sounds_input(label("enroll.sounds"))
            microphone = gr.Audio(type="filepath", sources=["microphone"], label=label("enroll.record"), buttons=[])
            name = gr.Textbox(label=label("enroll.name"), placeholder="press_3", max_length=100)
            button = gr.Button(label("enroll.button"), variant="primary")
            with gr.Accordion(label("enroll.bring_back"), open=False):
                saved = gr.File(
                    file_count="multiple",
                    file_types=[".json", ".safetensors"],
                    label="scoring_config.json and scoring.safetensors",
                    height=120,
                )
                forget = gr.Button(label("enroll.forget"), size="sm")
        with gr.Column(scale=3, min_width=320):
            studied = pictures("studied", told("enroll.hint"))
            summary = pictures("enrolled")
            with gr.Column(visible=False) as home:
                files.render()
                # Without a language: the colors of Python are too faint to read.
                code = gr.Code(label=label("enroll.code"), language=None, interactive=False, show_line_numbers=False)
                test = sound_input(label("enroll.test"))
            drawn = pictures("listen")
    recordings.upload(add, [recordings, draft], [draft, recordings], **ONE_BY_ONE)
    microphone.stop_recording(add, [microphone, draft], [draft, microphone], **ONE_BY_ONE)
    draft.change(show_study, draft, studied, **FOLLOWS)
    studied.select(remove, draft, draft, **ONE_BY_ONE)
    outputs = [summary, own, enrolled_name, files, code, home, test]
    for made in (
        button.click(
            enroll_on_page, [draft, recordings, microphone, name, own, sources], [*outputs, sources], **PRIVATE
        ),
        saved.upload(bring_back, [saved, own], outputs, **PRIVATE),
    ):
        made.then(None, files, None, js=KEEP)
    # Once more after the answer: an enrollment that was asked for before may have ended between the two.
    forget.click(forget_machines, None, outputs, js=FORGET, **QUIET).then(None, None, None, js=FORGET)
    gr.on([test.change, own.change], try_out, [test, enrolled_name, own], drawn, **FOLLOWS)
    return page.load(restore, kept, [*outputs, kept], js="async () => [await asd.kept()]", **QUIET)


# Recordings


def add(given: list[str] | str | None, draft: list[str]) -> tuple[list[str], None]:
    """Add recordings, and empty the field that they came by."""
    paths = [given] if isinstance(given, str) else given or []
    return draft + [path for path in paths if path not in draft], None


def remove(draft: list[str], event: gr.EventData) -> list[str]:
    """Leave out the recording that the user chose."""
    try:
        index = chosen_index(event, len(draft), "recording")
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return draft[:index] + draft[index + 1 :]


@on_page()
def show_study(draft: list[str]) -> str:
    if not draft:
        return ""
    try:
        return to_json(study(checked_sounds(draft), None))
    except ValueError as error:  # the recordings stay on the page, where the one that is meant can be removed
        rows = [{"name": os.path.basename(path), "duration_s": None} for path in draft]
        return to_json({"recordings": rows, "advice": [said(error)]})


def checked_sounds(draft: list[str]) -> list[Any]:
    """Read the recordings of a draft.

    Raises:
        ValueError: there is none, or there are too many, or one cannot be used.
    """
    if not draft:
        raise Told("enroll.no_recordings")
    if len(draft) > MAX_ENROLLED_CLIPS:
        raise Told("enroll.too_many", given=len(draft), most=MAX_ENROLLED_CLIPS)
    return read_normal(draft)


# The session's detector


def outcome(answer: dict[str, Any], detector: Any, name: str) -> tuple:
    """Return what the page shows of a detector: see `outputs` in `enroll_tab`."""
    return (
        to_json(answer),
        detector,
        name,
        enrolling.save(detector),
        program(name),
        gr.Column(visible=True),
        None,
    )


@on_page(*[gr.skip()] * 7)
def enroll_on_page(
    draft: list[str],
    uploaded: list[str] | None,
    recorded: str | None,
    name: str,
    own: Any,
    sources: dict[str, list[str]],
) -> tuple:
    """Enroll a machine, beside those that the session has already."""
    # Whoever clicks at once is faster than `add`: what waits in the fields counts.
    draft = add(recorded, add(uploaded, draft)[0])[0]
    name = (name or "").strip()
    if not name:
        raise Told("enroll.no_name")
    replaced = own is not None and name in own.machines
    sounds = checked_sounds(draft)
    detector, tested, warning = enroll(name, sounds, own)
    unlike = [row for row in study(sounds, None)["recordings"] if row.get("verdict") != "normal"]
    count, rate = len(draft), round(1 / detector.false_alarm_rate)
    lines = [
        told("enroll.made", count=count),
        *([told("enroll.replaced")] if replaced else []),
        *tested,
        *([f"{warning[0].upper()}{warning[1:]}."] if warning else []),
        *([told("enroll.unlike", unlike=len(unlike), count=count)] if unlike else []),
        told("enroll.alarm", rate=rate, machine=name),
    ]
    if others := session_machines(detector, name):
        lines.append(told("enroll.others", machines=", ".join(others)))
    title = told("enroll.done_doubtful" if unlike or warning else "enroll.done", machine=name)
    answer = {"title": title, "lines": lines, "isDoubtful": bool(unlike or warning), "isKept": True}
    return (*outcome(answer, detector, name), {**sources, name: draft})


@on_page(*[gr.skip()] * 6)
def bring_back(paths: list[str] | None, own: Any) -> tuple:
    """Add the machines of a detector that was downloaded before."""
    detector, names = enrolling.load(listener, paths or [], own)
    if not names:
        raise Told("enroll.no_own")
    return outcome(back(names, told("enroll.back_chosen", count=len(names))), detector, names[-1])


@on_page(*[gr.skip()] * 7)
def restore(text: str | None) -> tuple:
    """Bring back what this browser kept when the page was last open."""
    detector, names = enrolling.from_text(listener, text) if text else (None, [])
    if not names:
        return *(gr.skip(),) * 7, ""
    return *outcome(back(names, told("enroll.back_kept")), detector, names[-1]), ""


def back(names: list[str], line: list[Any]) -> dict[str, Any]:
    title = told("enroll.back", count=len(names), machines=", ".join(names))
    return {"title": title, "lines": [line], "isKept": True}


def forget_machines() -> tuple:
    """Go back to the model's own machines. The browser forgets the others."""
    answer = {"title": told("enroll.forgotten"), "lines": [told("enroll.forgotten_hint")]}
    return to_json(answer), None, "", None, "", gr.Column(visible=False), None


def session_machines(detector: Any, name: str) -> list[str]:
    """Return the machines beside `name` that the model itself does not know."""
    return [known for known in detector.machines if known not in (*listener.pipe.detector.machines, name)]


@on_page()
def try_out(recording: str | None, name: str, own: Any) -> str:
    if recording is None or own is None:
        return ""
    return to_json(answer(read_sound(recording), name, None, own))


def program(machine: str) -> str:
    """Return the Python program that uses a downloaded detector where the reader is."""
    fetch, model = "", json.dumps(os.path.abspath(MODEL_ID) if os.path.isdir(MODEL_ID) else MODEL_ID)
    if IS_DEMO and SPACE_ID:
        fetch = "from huggingface_hub import snapshot_download\n"
        model = f'snapshot_download({json.dumps(SPACE_ID)}, repo_type="space", allow_patterns="demo_model/*") + "/demo_model"'
    return f"""{fetch}from transformers import pipeline

model = {model}
detect = pipeline("anomalous-sound-detection", model=model, trust_remote_code=True)
# The folder with the two files that you downloaded.
detect.detector = type(detect.detector).from_pretrained("my_detector")

result = detect("recording.wav", machine={json.dumps(machine, ensure_ascii=False)})
print(result["verdict"], result["p_value"], result["reason"])
"""
