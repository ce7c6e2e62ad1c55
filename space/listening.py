"""What the app does with a sound: the pipeline judges it, and what the network saw becomes pictures.

Every verdict, score and reason is the pipeline's; nothing here decides.
"""

import base64
import copy
import os
from typing import Any

import numpy as np
import torch
from transformers import pipeline


TASK = "anomalous-sound-detection"
# A sound at the ear's pace; a shift's worth of minutes belongs into score.py.
MAX_SECONDS = 10 * 60
MAX_ENROLLED_CLIPS, MAX_ENROLLED_SECONDS = 30, 30 * 60
# The normal recordings' middle score, for the picture of score against threshold.
MIDDLE = 0.5


class Listener:
    """The pipeline of one model, shared by all users, with limits on what is read.

    Args:
        model_id: directory or repository of the model, with its own code.
    """

    def __init__(self, model_id: str):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipe = pipeline(TASK, model=model_id, trust_remote_code=True, device=device)
        self.extractor = self.pipe.feature_extractor

    def with_detector(self, detector: Any | None):
        """The pipeline, with the detector of a user who enrolled a machine."""
        if detector is None:
            return self.pipe
        arguments = {"feature_extractor": self.extractor, "device": self.pipe.device}
        return type(self.pipe)(model=self.pipe.model, detector=detector, **arguments)

    def read(self, path: str) -> np.ndarray:
        """A file as `(samples,)` at the model's sampling rate.

        Raises:
            ValueError: the file is no sound, or longer than the limit; the message names the file, not its folder.
        """
        limit, blocks, total = MAX_SECONDS * self.extractor.sampling_rate, [], 0
        try:
            for block in self.extractor.stream_audio(path):
                blocks.append(block)
                total += len(block)
                if total > limit:
                    raise ValueError(
                        f"{os.path.basename(path)}: longer than {MAX_SECONDS // 60} minutes. Cut it, or score it with "
                        "score.py, which has no limit."
                    )
        except ValueError as error:
            raise ValueError(str(error).replace(path, os.path.basename(path))) from None
        return np.concatenate(blocks)

    def judge(
        self, waveform: np.ndarray, machine: str | None, false_alarm_rate: float | None, detector: Any | None = None
    ) -> dict[str, Any]:
        """The pipeline's answer for `(samples,)`, as it is."""
        return self.with_detector(detector)(waveform, machine=machine or None, false_alarm_rate=false_alarm_rate)

    def enroll(self, name: str, waveforms: list[np.ndarray]) -> Any:
        """A detector of its own that knows one more machine, from recordings of its normal operation."""
        own = self.with_detector(copy.deepcopy(self.pipe.detector))
        own.enroll(name, waveforms)
        return own.detector

    def answer(
        self,
        waveform: np.ndarray,
        name: str,
        machine: str | None,
        false_alarm_rate: float | None,
        detector: Any | None = None,
    ) -> dict[str, Any]:
        """What the browser draws: the pipeline's `result`, and the `view` of the window with the highest score."""
        result = self.judge(waveform, machine, false_alarm_rate, detector)
        windows = result["windows"]
        chosen = max(range(len(windows)), key=lambda i: windows[i]["score"] or 0.0) if windows else 0
        start_s = windows[chosen]["start_s"] if windows else 0.0
        return {"chosen": chosen, **self.describe(waveform, name, result, start_s, detector)}

    def answer_window(
        self, waveform: np.ndarray, name: str, result: dict[str, Any], index: int, detector: Any | None = None
    ) -> dict[str, Any]:
        """The same for one window of a recording; its verdict is the one it has within the recording's `result`."""
        window = result["windows"][index] if result["windows"] else {}
        start_s, machine = window.get("start_s", 0.0), result["machine"]
        shown = {**result, **window, "windows": [], "note": result["note"]}
        shown |= {"duration_s": window.get("end_s", result["duration_s"]) - start_s}
        if window and window["verdict"] == "anomalous":
            alone = self.judge(self.cut(waveform, start_s), machine, result["false_alarm_rate"], detector)
            shown |= {"reason": alone["reason"], "regions": alone["regions"]}
        elif window:
            shown |= {"reason": None, "regions": []}
        part = f"{name}, from {start_s:.1f} to {start_s + shown['duration_s']:.1f} s," if window else name
        return self.describe(waveform, part, shown, start_s, detector)

    def compare(
        self, waveforms: list[np.ndarray], names: list[str], machine: str | None, false_alarm_rate: float | None
    ) -> dict[str, Any]:
        """Two sounds on the same scales, and their difference in dB as far as both last."""
        answers = [
            self.answer(waveform, name, machine, false_alarm_rate)
            for waveform, name in zip(waveforms, names, strict=True)
        ]
        levels = [
            self.log_mel(self.cut(waveform, answer["view"]["start_s"]))
            for waveform, answer in zip(waveforms, answers, strict=True)
        ]
        low, high = min(level_range(level)[0] for level in levels), max(level_range(level)[1] for level in levels)
        peak = max(answer["view"]["peak"] for answer in answers)
        for answer, level in zip(answers, levels, strict=True):
            answer["view"]["layers"]["log_mel"] = layer(level, low, high, "dB", "hertz")
            answer["view"]["peak"] = peak
        frames = min(level.shape[1] for level in levels)
        difference = averaged(levels[1][:, :frames] - levels[0][:, :frames])
        reach = max(6.0, float(np.quantile(np.abs(difference), 0.99)))
        shorter = min(answers, key=lambda answer: len(answer["view"]["samples"]))
        return {
            "a": answers[0],
            "b": answers[1],
            "difference": layer(difference, -reach, reach, "dB", "hertz"),
            "difference_samples": shorter["view"]["samples"],
        }

    # What the browser needs

    def describe(
        self, waveform: np.ndarray, name: str, result: dict[str, Any], start_s: float, detector: Any | None
    ) -> dict[str, Any]:
        detector = detector or self.pipe.detector
        machine = result["machine"]
        level = None if machine is None else detector.normal_level(machine)
        typical = None if machine is None else detector.threshold(machine, MIDDLE, result["backend"])
        view = self.view(self.cut(waveform, start_s), start_s)
        view["normal_db"] = None if level is None else np.round(level[0], 1).tolist()
        return {"name": name, "result": result, "typical": typical, "view": view}

    def cut(self, waveform: np.ndarray, start_s: float) -> np.ndarray:
        start = round(start_s * self.extractor.sampling_rate)
        return waveform[start : start + self.extractor.clip_length]

    def log_mel(self, window: np.ndarray) -> np.ndarray:
        """`(bins, frames)` of what was recorded, without what fills a short clip."""
        level = self.extractor.log_mel(self.pipe.fitted(window)).numpy()
        return level[:, : len(window) // self.extractor.hop_length + 1]

    def view(self, window: np.ndarray, start_s: float) -> dict[str, Any]:
        """The network's inputs and attention maps of a window, for one time axis with its waveform."""
        with torch.no_grad():
            outputs = self.pipe.run_network([window])
        frames = len(window) // self.extractor.hop_length + 1
        level = self.log_mel(window)
        layers = {"log_mel": layer(level, *level_range(level), "dB", "hertz")}
        names = self.pipe.model.config.input_representations
        for channel, name in enumerate(names):
            if name == "wavegram":
                values = outputs.representations[0, channel, :, :frames].float().cpu().numpy()
                layers[name] = layer(values, 0.0, max(float(np.quantile(values, 0.995)), 1e-6), "", "filter")
            if outputs.attention_maps is not None:
                weights = outputs.attention_maps[0, channel, :, :frames].float().cpu().numpy()
                axis = "hertz" if name == "log_mel" else "filter"
                # The sigmoid sits on a ReLU: a weight is never below a half.
                layers[f"attention_{name}"] = layer(weights, 0.5, 1.0, "", axis)
        samples = np.round(np.clip(window, -1.0, 1.0) * 32767).astype("<i2")
        return {
            "start_s": start_s,
            "rate": self.extractor.sampling_rate,
            "hop_s": self.extractor.hop_length / self.extractor.sampling_rate,
            "mel_hz": np.round(self.extractor.mel_frequencies, 1).tolist(),
            "mean_db": np.round(level.mean(1), 1).tolist(),
            "samples": base64.b64encode(samples.tobytes()).decode(),
            "peak": max(int(np.abs(samples.astype(int)).max()), 1),
            "layers": layers,
        }


def level_range(level: np.ndarray) -> tuple[float, float]:
    """From below almost all cells to the loudest, in whole dB."""
    return float(np.floor(np.quantile(level, 0.02))), float(np.ceil(level.max())) + 1.0


def averaged(difference: np.ndarray) -> np.ndarray:
    """Over 3 bins and 7 frames, 0.2 s: cell by cell, two recordings of one noise differ by 8 dB, averaged by 2."""
    return torch.nn.functional.avg_pool2d(
        torch.from_numpy(difference)[None], (3, 7), 1, (1, 3), count_include_pad=False
    )[0].numpy()


def layer(values: np.ndarray, low: float, high: float, unit: str, axis: str) -> dict[str, Any]:
    """`(rows, frames)` as 256 steps from low to high."""
    cells = np.clip(np.round((values - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    packed = base64.b64encode(np.ascontiguousarray(cells).tobytes()).decode()
    return {
        "rows": len(cells),
        "frames": cells.shape[1],
        "low": low,
        "high": high,
        "unit": unit,
        "axis": axis,
        "cells": packed,
    }


__all__ = ["MAX_ENROLLED_CLIPS", "MAX_ENROLLED_SECONDS", "MAX_SECONDS", "Listener"]
