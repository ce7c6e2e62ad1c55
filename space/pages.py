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
from wording import ENGLISH, composed, label, say


# Name of an example in a link -> its label, its sounds, and the machine of the demonstration model that they are of.
EXAMPLES = {
    "fan": Example(label("example.fan"), ("fan_normal.flac",), "synthetic_fan_04"),
    "fan_clogged": Example(label("example.fan_clogged"), ("fan_clogged.flac",), "synthetic_fan_04"),
    "pump": Example(label("example.pump"), ("pump_normal.flac",), "synthetic_pump_00"),
    "pump_clogged": Example(label("example.pump_clogged"), ("pump_clogged.flac",), "synthetic_pump_00"),
    "conveyor": Example(label("example.conveyor"), ("conveyor_normal.flac",), "synthetic_conveyor_02"),
    "conveyor_low_voltage": Example(
        label("example.conveyor_low_voltage"), ("conveyor_low_voltage.flac",), "synthetic_conveyor_02"
    ),
}
PAIRS = {
    "fan": Example(label("example.fan_pair"), ("fan_normal.flac", "fan_clogged.flac"), "synthetic_fan_04"),
    "pump": Example(label("example.pump_pair"), ("pump_normal.flac", "pump_clogged.flac"), "synthetic_pump_00"),
}
LONG_EXAMPLES = {"fan": Example(label("example.fan_long"), ("fan_60_s.flac",), "synthetic_fan_04")}


def build_page() -> gr.Blocks:
    with gr.Blocks(title=say(ENGLISH, "page.title"), analytics_enabled=False) as page:
        session = Session.begin()
        own = session.detector
        header()
        said = pictures("unknown")
        places: dict[str, Place | None] = {}
        with gr.Tabs() as tabs:
            with gr.Tab(label("tab.listen"), id="listen"):
                places["listen"] = listen_tab(session, EXAMPLES)
            with gr.Tab(label("tab.live"), id="live"):
                places["live"] = live_tab(own)
            with gr.Tab(label("tab.compare"), id="compare"):
                places["compare"] = compare_tab(own, PAIRS)
            with gr.Tab(label("tab.files"), id="files"):
                places["files"] = files_tab(own)
            with gr.Tab(label("tab.timeline"), id="timeline"):
                places["timeline"] = timeline_tab(own, LONG_EXAMPLES)
            with gr.Tab(label("tab.enroll"), id="enroll"):
                places["enroll"], restored = None, enroll_tab(session, page)
            with gr.Tab(label("tab.history"), id="history"):
                places["history"] = None
                history_tab()
            with gr.Tab(label("tab.about"), id="about"):
                places["about"] = None
                about = composed("about", lambda write: about_text(MODEL_ID, write))
                gr.Markdown(about, elem_classes="asd-about")
        follow_links(tabs, places, said, restored, own)
        api()
    return page


def header() -> None:
    with gr.Row(elem_classes="asd-head"):
        head = composed("head", lambda write: f"<h1>{write('page.title')}</h1><p>{write('page.lead')}</p>")
        gr.HTML(head, apply_default_css=False)
        gr.HTML(
            html_template='<div class="asd asd-tools"></div>',
            js_on_load="asd.tools(element)",
            apply_default_css=False,
            padding=False,
            min_width=220,
        )
    if told := notice(MODEL_ID):
        key, values = told
        text = composed(
            "notice",
            lambda write: f'<p class="asd-notice"><strong>{write("notice.title")}</strong> {write(key, **values)}</p>',
        )
        gr.HTML(text, apply_default_css=False)
