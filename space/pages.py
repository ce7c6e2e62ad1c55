"""The page: its header and its tabs. Each tab has a file of its own."""

import gradio as gr
from about import about_text, notice
from api import api
from compare_tab import compare_tab
from enroll_tab import enroll_tab
from files_tab import files_tab
from history_tab import history_tab
from listen_tab import listen_tab
from live_tab import live_tab
from offered import EXAMPLES, LONG_EXAMPLE, PAIRS
from parts import Session
from settings import MODEL_ID
from timeline_tab import timeline_tab


TITLE = "Does this machine sound right?"


def build_page() -> gr.Blocks:
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        session = Session.begin()
        own = session.detector
        header()
        with gr.Tabs():
            with gr.Tab("Listen"):
                listen_tab(session, EXAMPLES)
            with gr.Tab("Live"):
                live_tab(own)
            with gr.Tab("Compare"):
                compare_tab(own, PAIRS)
            with gr.Tab("Files"):
                files_tab(session)
            with gr.Tab("Timeline"):
                timeline_tab(session, LONG_EXAMPLE)
            with gr.Tab("Enroll"):
                enroll_tab(session, page)
            with gr.Tab("History"):
                history_tab()
            with gr.Tab("About"):
                gr.Markdown(about_text(MODEL_ID), elem_classes="asd-about")
        api()
    return page


def header() -> None:
    with gr.Row(elem_classes="asd-head"):
        gr.HTML(
            f"<h1>{TITLE}</h1><p>A detector of anomalous machine sounds that was taught normal operation alone. Drop in "
            "a recording: the app says whether the machine sounds normal, how sure the verdict is, and why.</p>",
            apply_default_css=False,
        )
        theme = gr.Button("◐ Theme", size="sm", min_width=84, scale=0)
        theme.click(None, js="() => { document.body.classList.toggle('dark') }")
    if text := notice(MODEL_ID):
        gr.HTML(f'<p class="asd-notice"><strong>Demonstration.</strong> {text}</p>', apply_default_css=False)
