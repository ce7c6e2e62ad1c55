"""The page: its header, its tabs, and the synthetic sounds that it offers. Each tab has a file of its own."""

import gradio as gr
from about import about_text, notice
from api import api
from compare_tab import compare_tab
from enroll_tab import enroll_tab
from files_tab import files_tab
from history_tab import history_tab
from links import follow_links
from listen_tab import listen_tab
from live_tab import live_tab
from parts import Example, Place, Session, pictures
from settings import MODEL_ID
from timeline_tab import timeline_tab


TITLE = "Does this machine sound right?"
# Name of an example in a link -> its label, its sounds, and the machine of the demonstration model that they are of.
EXAMPLES = {
    "fan": Example("Fan", ("fan_normal.flac",), "synthetic_fan_04"),
    "fan_clogged": Example("Fan, clogged", ("fan_clogged.flac",), "synthetic_fan_04"),
    "pump": Example("Pump", ("pump_normal.flac",), "synthetic_pump_00"),
    "pump_clogged": Example("Pump, clogged", ("pump_clogged.flac",), "synthetic_pump_00"),
    "conveyor": Example("Conveyor", ("conveyor_normal.flac",), "synthetic_conveyor_02"),
    "conveyor_low_voltage": Example("Conveyor, low voltage", ("conveyor_low_voltage.flac",), "synthetic_conveyor_02"),
}
PAIRS = {
    "fan": Example("Fan, before and after", ("fan_normal.flac", "fan_clogged.flac"), "synthetic_fan_04"),
    "pump": Example("Pump, before and after", ("pump_normal.flac", "pump_clogged.flac"), "synthetic_pump_00"),
}
LONG_EXAMPLES = {"fan": Example("Fan that clogs, 60 s", ("fan_60_s.flac",), "synthetic_fan_04")}


def build_page() -> gr.Blocks:
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        session = Session.begin()
        own = session.detector
        header()
        said = pictures("unknown")
        places: dict[str, Place | None] = {}
        with gr.Tabs() as tabs:
            with gr.Tab("Listen", id="listen"):
                places["listen"] = listen_tab(session, EXAMPLES)
            with gr.Tab("Live", id="live"):
                places["live"] = live_tab(own)
            with gr.Tab("Compare", id="compare"):
                places["compare"] = compare_tab(own, PAIRS)
            with gr.Tab("Files", id="files"):
                places["files"] = files_tab(own)
            with gr.Tab("Timeline", id="timeline"):
                places["timeline"] = timeline_tab(own, LONG_EXAMPLES)
            with gr.Tab("Enroll", id="enroll"):
                places["enroll"], restored = None, enroll_tab(session, page)
            with gr.Tab("History", id="history"):
                places["history"] = None
                history_tab()
            with gr.Tab("About", id="about"):
                places["about"] = None
                gr.Markdown(about_text(MODEL_ID), elem_classes="asd-about")
        follow_links(tabs, places, said, restored, own)
        api()
    return page


def header() -> None:
    with gr.Row(elem_classes="asd-head"):
        gr.HTML(
            f"<h1>{TITLE}</h1><p>A detector of anomalous machine sounds that was taught normal operation alone. Drop in "
            "a recording: the app says whether the machine sounds normal, how sure the verdict is, and why.</p>",
            apply_default_css=False,
        )
        gr.HTML(
            html_template='<div class="asd asd-tools"></div>',
            js_on_load="asd.tools(element)",
            apply_default_css=False,
            padding=False,
            min_width=220,
        )
    if text := notice(MODEL_ID):
        gr.HTML(f'<p class="asd-notice"><strong>Demonstration.</strong> {text}</p>', apply_default_css=False)
