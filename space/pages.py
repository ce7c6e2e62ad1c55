"""The page: its header and its tabs. Each tab has a file of its own."""

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
from offered import EXAMPLES, LONG_EXAMPLES, PAIRS
from parts import Place, Session, pictures
from settings import MODEL_ID
from texts import ENGLISH, say
from timeline_tab import timeline_tab
from wording import composed, label


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
                places["files"] = files_tab(session)
            with gr.Tab(label("tab.timeline"), id="timeline"):
                places["timeline"] = timeline_tab(session, LONG_EXAMPLES)
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
