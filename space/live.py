"""What a microphone has brought so far: the last window of its sound, and its verdicts. Nothing here grows with time."""

import base64
import time
from collections import Counter, deque
from typing import Any

import numpy as np
from drawing import level_layer, level_range, log_mel_of
from settings import MAX_CHUNK_SECONDS, MAX_LIVE_ALARMS


class Live:
    """The sound of one microphone since it was switched on.

    Windows follow one another, as in the tab Timeline: windows that overlap would raise more false alarms than were asked
    for.

    Args:
        extractor: the model's feature extractor.
        rate: the microphone's sampling rate in Hz.

    Attributes:
        latest: the verdict on the last whole window, with `start_s` and `end_s` since the beginning; `None` before.
        counts: how many windows got each verdict.
        alarms: the last alarms, each as `latest` with `time`, in seconds since 1970.
    """

    def __init__(self, extractor: Any, rate: int):
        self.extractor, self.rate = extractor, rate
        self.recent = self.pending = np.empty(0, np.float32)
        self.heard = 0
        self.scale: tuple[float, float] | None = None
        self.latest: dict[str, Any] | None = None
        self.counts: Counter[str] = Counter()
        self.alarms: deque[dict[str, Any]] = deque(maxlen=MAX_LIVE_ALARMS)

    @property
    def clip_seconds(self) -> float:
        return self.extractor.clip_length / self.extractor.sampling_rate

    @property
    def clip_samples(self) -> int:
        """How many samples of the microphone make a window."""
        return round(self.clip_seconds * self.rate)

    def hear(self, samples: np.ndarray, rate: int) -> list[tuple[float, np.ndarray]]:
        """Take the next sound `(samples,)`; return the windows that became whole, each with its start in seconds.

        The windows are resampled whole: a chunk that is resampled by itself has a click at each end.
        """
        if rate != self.rate:  # another microphone
            self.heard = round(self.heard / self.rate * rate)
            self.rate = rate
            self.skip(0)
        first = self.heard - len(self.pending)
        self.heard += len(samples)
        self.pending = np.concatenate([self.pending, samples])
        self.recent = np.concatenate([self.recent, samples])[-self.clip_samples :]
        whole = len(self.pending) // self.clip_samples
        windows = [self.pending[i * self.clip_samples : (i + 1) * self.clip_samples] for i in range(whole)]
        self.pending = self.pending[whole * self.clip_samples :].copy()
        return [((first + i * self.clip_samples) / rate, self.resampled(window)) for i, window in enumerate(windows)]

    def skip(self, lost: int) -> None:
        """Begin a window anew after `lost` samples that were not heard: a seam would sound unusual."""
        self.heard += lost
        self.recent = self.pending = np.empty(0, np.float32)

    def resampled(self, window: np.ndarray) -> np.ndarray:
        found = np.concatenate(list(self.extractor.resample([window], self.rate)))
        return found[: self.extractor.clip_length]

    def note(self, start_s: float, result: dict[str, Any]) -> None:
        """Keep the verdict on a window."""
        self.latest = {**result, "start_s": start_s, "end_s": start_s + result["duration_s"]}
        self.counts[result["verdict"]] += 1
        if result["verdict"] == "anomalous":
            names = ("start_s", "end_s", "machine", "score", "threshold", "p_value", "reason")
            self.alarms.append({"time": time.time(), **{name: self.latest[name] for name in names}})

    def picture(self) -> dict[str, Any]:
        """Return what the browser draws: the log-mel of the last window's length, and the verdicts."""
        sound = self.resampled(self.recent)
        level = log_mel_of(self.extractor, sound)
        # The scale only widens, so that a color keeps its meaning while one looks.
        low, high = level_range(level)
        if self.scale is not None:
            low, high = min(low, self.scale[0]), max(high, self.scale[1])
        self.scale = low, high
        heard_s = self.heard / self.rate
        view = {
            "start_s": max(heard_s - self.clip_seconds, 0.0),
            "seconds": self.clip_seconds,
            "rate": self.extractor.sampling_rate,
            "hop_s": self.extractor.hop_length / self.extractor.sampling_rate,
            "mel_hz": np.round(self.extractor.mel_frequencies, 1).tolist(),
            "layers": {"log_mel": level_layer(level, low, high)},
        }
        return {
            "view": view,
            "heard_s": heard_s,
            "next_s": (self.clip_samples - len(self.pending)) / self.rate,
            "latest": self.latest,
            "counts": dict(self.counts),
            "alarms": list(self.alarms),
        }


def decoded(samples: Any, rate: Any) -> np.ndarray:
    """Return what the browser sent, base64 of 16-bit samples, as `(samples,)` in [-1, 1].

    Raises:
        ValueError: it is something else, or too much.
    """
    expected = f"expected at most {MAX_CHUNK_SECONDS} s of 16-bit samples at 8 to 192 kHz"
    if not isinstance(rate, int) or not 8000 <= rate <= 192_000:
        raise ValueError(f"The microphone has a rate of {str(rate)[:20]} Hz: {expected}.")
    if not isinstance(samples, str) or len(samples) > 4 * MAX_CHUNK_SECONDS * rate:
        raise ValueError(f"What the microphone sent is no sound, or too long: {expected}.")
    try:
        return np.frombuffer(base64.b64decode(samples, validate=True), "<i2").astype(np.float32) / 32768
    except ValueError as error:
        raise ValueError(f"What the microphone sent is no sound: {expected}.") from error


__all__ = ["Live", "decoded"]
