"""The same stretch of a normal recording, to be heard beside what alarmed."""

import os
from typing import Any

from drawing import as_16_bit, as_text, cut_window
from offered import NORMAL_SOUNDS
from service import listener, read_sound


def with_normal(found: dict[str, Any], sources: dict[str, list[str]], judged: str | None) -> dict[str, Any]:
    """Return an answer with a normal recording of its machine in `view`, where one is at hand and something alarmed.

    Args:
        found: what the browser draws of a sound.
        sources: by machine, the recordings that it was enrolled from since the page was opened. Of the model's own
            machines there are statistics alone, and of the synthetic ones the example.
        judged: the path of the sound itself, which is not to be heard beside itself.
    """
    result, view = found["result"], found["view"]
    if result["regions"]:
        machine = result["machine"]
        paths = [*sources.get(machine, []), *filter(None, [NORMAL_SOUNDS.get(machine)])]
        view["normal"] = next(
            (stretch(path, view["start_s"]) for path in paths if path != judged and os.path.isfile(path)), None
        )
    return found


def stretch(path: str, start_s: float) -> dict[str, Any]:
    """Return one clip of a recording from `start_s` on, or the last there is."""
    sound = read_sound(path)
    rate, length = listener.extractor.sampling_rate, listener.extractor.clip_length
    window = cut_window(listener.extractor, sound.samples, min(start_s, max(len(sound.samples) - length, 0) / rate))
    return {"name": sound.name, "samples": as_text(as_16_bit(window))}


__all__ = ["with_normal"]
