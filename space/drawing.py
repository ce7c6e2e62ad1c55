"""What the browser draws of a window of sound: waveform, log-mel, Wavegram and attention maps on one time axis."""

import base64
from typing import Any

import numpy as np
import torch


def cut_window(extractor: Any, samples: np.ndarray, start_s: float) -> np.ndarray:
    """Return one clip of `(samples,)` from `start_s` on, or what there is of one."""
    start = round(start_s * extractor.sampling_rate)
    return samples[start : start + extractor.clip_length]


def log_mel_of(extractor: Any, window: np.ndarray) -> np.ndarray:
    """Return the log-mel `(bins, frames)` of the recorded samples, without what fills a short clip."""
    level = extractor.log_mel(extractor.fit_length(torch.from_numpy(window))).numpy()
    return level[:, : num_frames(extractor, window)]


def num_frames(extractor: Any, window: np.ndarray) -> int:
    return len(window) // extractor.hop_length + 1


def draw_window(pipe: Any, window: np.ndarray, start_s: float) -> dict[str, Any]:
    """Return the pictures of a window that starts at `start_s`, with the axes that they share.

    Args:
        pipe: the model's pipeline.
        window: `(samples,)` at the model's sampling rate, one clip at most.
        start_s: start of the window within the recording, in seconds.
    """
    extractor = pipe.feature_extractor
    level = log_mel_of(extractor, window)
    samples = as_16_bit(window)
    return {
        "start_s": start_s,
        "rate": extractor.sampling_rate,
        "hop_s": extractor.hop_length / extractor.sampling_rate,
        "mel_hz": np.round(extractor.mel_frequencies, 1).tolist(),
        "mean_db": np.round(level.mean(1), 1).tolist(),
        "samples": as_text(samples),
        "peak": max(int(np.abs(samples.astype(int)).max()), 1),
        "layers": {"log_mel": level_layer(level, *level_range(level)), **network_layers(pipe, window)},
    }


def as_16_bit(samples: np.ndarray) -> np.ndarray:
    return np.round(np.clip(samples, -1.0, 1.0) * 32767).astype("<i2")


def as_text(array: np.ndarray) -> str:
    """Return the bytes of an array in base64, for JSON."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def network_layers(pipe: Any, window: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return the layers that the network makes: the Wavegram and the attention map of every representation."""
    with torch.no_grad():
        outputs = pipe.run_network([window])
    frames = num_frames(pipe.feature_extractor, window)
    layers = {}
    for channel, name in enumerate(pipe.model.config.input_representations):
        if name == "wavegram":
            values = outputs.representations[0, channel, :, :frames].float().cpu().numpy()
            layers[name] = layer(values, 0.0, max(float(np.quantile(values, 0.995)), 1e-6), "", "filter")
        if outputs.attention_maps is not None:
            weights = outputs.attention_maps[0, channel, :, :frames].float().cpu().numpy()
            # The sigmoid sits on a ReLU: a weight is never below a half.
            layers[f"attention_{name}"] = layer(weights, 0.5, 1.0, "", "hertz" if name == "log_mel" else "filter")
    return layers


def difference_layer(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Return the second log-mel minus the first in dB, as far as both last, on a scale with 0 in its middle."""
    frames = min(first.shape[1], second.shape[1])
    return centered_layer(averaged(second[:, :frames] - first[:, :frames]))


def above_normal_layer(level: np.ndarray, normal: np.ndarray) -> dict[str, Any]:
    """Return a log-mel minus the machine's normal level `(bins,)` in dB, on a scale with 0 in its middle."""
    return centered_layer(averaged(level - normal[:, None].astype(level.dtype)))


def centered_layer(difference: np.ndarray) -> dict[str, Any]:
    reach = max(6.0, float(np.quantile(np.abs(difference), 0.99)))
    return level_layer(difference, -reach, reach)


def averaged(difference: np.ndarray) -> np.ndarray:
    """Average over 3 bins and 7 frames, 0.2 s. Two recordings of one noise differ by 8 dB in a cell, averaged by 2."""
    return torch.nn.functional.avg_pool2d(
        torch.from_numpy(difference)[None], (3, 7), 1, (1, 3), count_include_pad=False
    )[0].numpy()


def level_range(level: np.ndarray) -> tuple[float, float]:
    """Return a scale for a log-mel, from below almost all cells to the loudest, in whole dB."""
    return float(np.floor(np.quantile(level, 0.02))), float(np.ceil(level.max())) + 1.0


def level_layer(level: np.ndarray, low: float, high: float) -> dict[str, Any]:
    return layer(level, low, high, "dB", "hertz")


def layer(values: np.ndarray, low: float, high: float, unit: str, axis: str) -> dict[str, Any]:
    """Return `(rows, frames)` in 256 steps from low to high, ready for JSON."""
    cells = np.clip(np.round((values - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    return {
        "rows": len(cells),
        "frames": cells.shape[1],
        "low": low,
        "high": high,
        "unit": unit,
        "axis": axis,
        "cells": as_text(cells),
    }


__all__ = [
    "above_normal_layer",
    "as_16_bit",
    "as_text",
    "cut_window",
    "difference_layer",
    "draw_window",
    "level_layer",
    "level_range",
    "log_mel_of",
]
