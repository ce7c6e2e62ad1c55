"""The tab Live: the microphone, with a verdict on every window while it is on.

The browser sends a second of sound when the second before was answered (pictures/microphone.js). Gradio's own streaming of
audio overwrites a chunk that was not fetched in time, which leaves seams in the sound: of 68 seconds 51 arrived.
"""

import time
from typing import Any

import gradio as gr
from errors import to_json
from history import remember
from live import Live, decoded
from parts import QUIET, Place, machine_choice, offered_machines, pictures, rate_choice
from reading import Sound
from service import judge, listener
from settings import AT_ONCE, SESSION_SECONDS
from texts import told


# Places of its own: a long recording of somebody else must not hold up a microphone.
LIVE_QUEUE: dict[str, Any] = {
    **QUIET,
    "trigger_mode": "multiple",
    "concurrency_id": "live",
    "concurrency_limit": AT_ONCE,
}


def live_tab(own: gr.State) -> Place:
    clip_s = listener.extractor.clip_length / listener.extractor.sampling_rate
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            machine, rate = machine_choice(), rate_choice()
        with gr.Column(scale=3, min_width=320):
            drawn = pictures("live", told("live.hint", count=round(clip_s, 3)))
    heard = gr.State(None, time_to_live=SESSION_SECONDS)
    drawn.select(hear, [machine, rate, own, heard], [drawn, heard], **LIVE_QUEUE)
    own.change(offered_machines, [own, machine], machine, **QUIET)
    return Place(machine, rate)


def hear(machine: str, rate: float, detector: Any, heard: Live | None, event: gr.EventData) -> tuple[str, Live | None]:
    """Take sound of the microphone; return the picture so far, with a verdict on each window that became whole."""
    sent: dict[str, Any] = {name: getattr(event, name, None) for name in ("begins", "lost", "rate", "samples")}
    try:
        samples = decoded(sent["samples"], sent["rate"])
        if heard is None or sent["begins"]:
            heard = Live(listener.extractor, sent["rate"])
        if isinstance(sent["lost"], int) and 0 < sent["lost"] < SESSION_SECONDS * sent["rate"]:
            heard.skip(sent["lost"])
        rows = []
        for start_s, window in heard.hear(samples, sent["rate"]):
            sound = Sound(f"Live, from {start_s:.0f} s on", window)
            result = judge(sound, machine, rate, detector)
            heard.note(start_s, result)
            if result["verdict"] == "anomalous":
                rows += remember(sound, result, detector, "live")
        return to_json({**heard.picture(), "remember": rows}), heard
    except ValueError as error:
        return to_json({"error": str(error), "time": time.time()}), heard
