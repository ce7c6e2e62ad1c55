"""What the app does with a sound: the pipeline judges it, and drawing.py makes pictures of it.

Every verdict, score and reason is the pipeline's; nothing here decides.
"""

from typing import Any

import numpy as np
import torch
from drawing import (
    above_normal_layer,
    cut_window,
    difference_layer,
    draw_window,
    level_layer,
    level_range,
    log_mel_of,
)
from reading import Sound
from transformers import pipeline


TASK = "anomalous-sound-detection"
# Half of the normal recordings score higher: the typical score in the picture of score against threshold.
MIDDLE = 0.5

# The classes of the pipeline and of its detector come with the model.
Pipeline = Any
Detector = Any


class Listener:
    """The pipeline of one model, shared by all users.

    Methods that take `detector` judge with the detector of a user who enrolled a machine, or by default the model's own.

    Args:
        model_id: directory or repository of the model, with its own code.
    """

    def __init__(self, model_id: str):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        make_pipeline: Any = pipeline  # its types know no task that comes with a model
        self.pipe: Pipeline = make_pipeline(TASK, model=model_id, trust_remote_code=True, device=device)
        self.extractor = self.pipe.feature_extractor

    def pipe_with(self, detector: Detector | None) -> Pipeline:
        """Return the pipeline, with another detector where one is given."""
        if detector is None:
            return self.pipe
        arguments = {"feature_extractor": self.extractor, "device": self.pipe.device}
        return type(self.pipe)(model=self.pipe.model, detector=detector, **arguments)

    # Answers

    def judge(
        self, sound: Sound, machine: str | None, false_alarm_rate: float | None, detector: Detector | None = None
    ) -> dict[str, Any]:
        """Return the pipeline's answer, unchanged."""
        pipe = self.pipe_with(detector)
        return pipe(sound.samples, machine=machine or None, false_alarm_rate=false_alarm_rate)

    def answer(
        self, sound: Sound, machine: str | None, false_alarm_rate: float | None, detector: Detector | None = None
    ) -> dict[str, Any]:
        """Return what the browser draws of a sound: the pipeline's `result`, and the window with the highest score."""
        result = self.judge(sound, machine, false_alarm_rate, detector)
        windows = result["windows"]
        chosen = (
            max(range(len(windows)), key=lambda i: -1.0 if windows[i]["score"] is None else windows[i]["score"])
            if windows
            else 0
        )
        start_s = windows[chosen]["start_s"] if windows else 0.0
        return {"chosen": chosen, **self.describe(sound, result, start_s, detector)}

    def answer_window(
        self, sound: Sound, result: dict[str, Any], index: int, detector: Detector | None = None
    ) -> dict[str, Any]:
        """Return what the browser draws of one window. Its verdict is the window's within the recording's `result`."""
        if not result["windows"]:
            return self.describe(sound, {**result, "windows": []}, 0.0, detector)
        window = result["windows"][index]
        start_s, duration_s = window["start_s"], window["end_s"] - window["start_s"]
        shown = {**result, **window, "windows": [], "duration_s": duration_s, "reason": None, "regions": []}
        if window["verdict"] == "anomalous":
            clip = Sound(sound.name, cut_window(self.extractor, sound.samples, start_s))
            alone = self.judge(clip, result["machine"], result["false_alarm_rate"], detector)
            shown |= {"reason": alone["reason"], "regions": alone["regions"]}
        return self.describe(sound, shown, start_s, detector)

    def compare(
        self,
        sounds: tuple[Sound, Sound],
        machine: str | None,
        false_alarm_rate: float | None,
        detector: Detector | None = None,
    ) -> dict[str, Any]:
        """Return what the browser draws of two sounds: both on the same scales, and their difference in dB.

        Both are judged as the machine that is named, or else as the one that the first sounds like.
        """
        machine = machine or self.judge(sounds[0], None, false_alarm_rate, detector)["machine"]
        answers = [self.answer(sound, machine, false_alarm_rate, detector) for sound in sounds]
        views = [answer["view"] for answer in answers]
        first, second = [
            log_mel_of(self.extractor, cut_window(self.extractor, sound.samples, view["start_s"]))
            for sound, view in zip(sounds, views, strict=True)
        ]
        ranges = [level_range(first), level_range(second)]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        peak = max(view["peak"] for view in views)
        for view, level in zip(views, (first, second), strict=True):
            view["layers"]["log_mel"] = level_layer(level, low, high)
            view["peak"] = peak
        return {
            "a": answers[0],
            "b": answers[1],
            "difference": difference_layer(first, second),
            "difference_samples": min((view["samples"] for view in views), key=len),
        }

    def describe(
        self, sound: Sound, result: dict[str, Any], start_s: float, detector: Detector | None
    ) -> dict[str, Any]:
        """Return `result` with the pictures of the window at `start_s` and what is normal for the machine."""
        known: Detector = self.pipe.detector if detector is None else detector
        machine = result["machine"]
        typical = level = None
        if machine is not None:
            typical = known.threshold(machine, false_alarm_rate=MIDDLE, backend=result["backend"])
            level = known.normal_level(machine)
        window = cut_window(self.extractor, sound.samples, start_s)
        pictures = draw_window(self.pipe, window, start_s)
        pictures["normal_db"] = None
        if level is not None:
            pictures["normal_db"] = np.round(level[0], 1).tolist()
            pictures["layers"]["above_normal"] = above_normal_layer(log_mel_of(self.extractor, window), level[0])
        return {"name": sound.name, "result": result, "typical": typical, "view": pictures}


__all__ = ["Detector", "Listener"]
