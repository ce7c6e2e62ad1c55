"""What the app does with a sound: the pipeline judges it, and drawing.py makes pictures of it.

Every verdict, score and reason is the pipeline's; nothing here decides.
"""

import copy
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from drawing import cut_window, difference_layer, draw_window, level_layer, level_range, log_mel_of
from transformers import pipeline


TASK = "anomalous-sound-detection"
# Gradio's name for a recording of the microphone.
MICROPHONE_FILE = "audio.wav"
# Half of the normal recordings score higher: the typical score in the picture of score against threshold.
MIDDLE = 0.5

# The classes of the pipeline and of its detector come with the model.
Pipeline = Any
Detector = Any


@dataclass(frozen=True)
class Sound:
    """A recording as one signal, `samples` (samples,) at the model's sampling rate, and its name on the page."""

    name: str
    samples: np.ndarray


class Listener:
    """The pipeline of one model, shared by all users.

    Methods that take `detector` judge with the detector of a user who enrolled a machine, or by default the model's own.

    Args:
        model_id: directory or repository of the model, with its own code.
        max_seconds: the longest recording that is read.
    """

    def __init__(self, model_id: str, max_seconds: int):
        self.max_seconds = max_seconds
        device = "cuda" if torch.cuda.is_available() else "cpu"
        make_pipeline: Any = pipeline  # its types know no task that comes with a model
        self.pipe: Pipeline = make_pipeline(TASK, model=model_id, trust_remote_code=True, device=device)
        self.extractor = self.pipe.feature_extractor

    def read(self, path: str) -> Sound:
        """Read a sound file.

        Raises:
            ValueError: the file is no sound, or is longer than the limit. The message names the file without its folder.
        """
        file_name = os.path.basename(path)
        limit, blocks, total = self.max_seconds * self.extractor.sampling_rate, [], 0
        try:
            for block in self.extractor.stream_audio(path):
                blocks.append(block)
                total += len(block)
                if total > limit:
                    raise ValueError(
                        f"{file_name}: longer than {self.max_seconds // 60} minutes. Cut it, or score it with "
                        "score.py, which has no limit."
                    )
        except ValueError as error:
            raise ValueError(str(error).replace(path, file_name)) from None
        return Sound("The recording" if file_name == MICROPHONE_FILE else file_name, np.concatenate(blocks))

    def duration_s(self, sound: Sound) -> float:
        return len(sound.samples) / self.extractor.sampling_rate

    def pipe_with(self, detector: Detector | None) -> Pipeline:
        """Return the pipeline, with another detector where one is given."""
        if detector is None:
            return self.pipe
        arguments = {"feature_extractor": self.extractor, "device": self.pipe.device}
        return type(self.pipe)(model=self.pipe.model, detector=detector, **arguments)

    def enroll(self, name: str, sounds: list[Sound]) -> Detector:
        """Return a new detector that knows one machine more, from recordings of the machine's normal operation."""
        own = self.pipe_with(copy.deepcopy(self.pipe.detector))
        own.enroll(name, [sound.samples for sound in sounds])
        return own.detector

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
        part = Sound(f"{sound.name}, from {start_s:.1f} to {start_s + duration_s:.1f} s,", sound.samples)
        return self.describe(part, shown, start_s, detector)

    def compare(
        self, sounds: tuple[Sound, Sound], machine: str | None, false_alarm_rate: float | None
    ) -> dict[str, Any]:
        """Return what the browser draws of two sounds: both on the same scales, and their difference in dB."""
        answers = [self.answer(sound, machine, false_alarm_rate) for sound in sounds]
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
        pictures = draw_window(self.pipe, cut_window(self.extractor, sound.samples, start_s), start_s)
        pictures["normal_db"] = None if level is None else np.round(level[0], 1).tolist()
        return {"name": sound.name, "result": result, "typical": typical, "view": pictures}


__all__ = ["Detector", "Listener", "Sound"]
