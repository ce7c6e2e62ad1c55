"""A picture of a verdict: the sound that it is about, its log-mel and its attention maps."""

import hashlib
import os
import textwrap
from pathlib import Path

import numpy as np
import torch

from evaluation.figures import clip_report, save
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import Decision
from modeling.results_attention_asd import Result


REASON_WIDTH = 110
# Characters of a recording's name in its picture's: file systems take 255 bytes.
MAX_NAME = 50


def save_picture(
    result: Result, name: str, feature_extractor: AttentionAsdFeatureExtractor, folder: str | Path
) -> None:
    """Draw the window with the highest score into a PNG in `folder`.

    Args:
        result: the pipeline's, with its `window`.
        name: the recording's, for title and file name.
        feature_extractor: the model's.
        folder: made where there is none.

    Raises:
        ValueError: the result has no window.
    """
    window = result.window
    if window is None:
        raise ValueError(f"{name}: judge it with return_attention_maps=True to draw it.")
    maps = window.attention_maps
    shown = printable(name)
    title = shown if window.start_s == 0 else f"{shown} from {window.start_s:.1f} s"
    figure = clip_report(
        window.waveform,
        feature_extractor.log_mel(torch.from_numpy(window.waveform)).numpy(),
        None if maps is None else np.stack(list(maps.values())),
        feature_extractor.mel_frequencies,
        feature_extractor.sampling_rate,
        title="\n".join([title, *textwrap.wrap(result.reason or "", REASON_WIDTH)]),
        verdict_line=verdict_line(result.decision),
        channel_names=list(maps or ()),
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Recordings in different folders may have the same name.
    save(
        figure,
        folder / f"{printable(Path(name).stem)[:MAX_NAME]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}.png",
    )


def printable(name: str) -> str:
    """Return a file name without characters that cannot be drawn, such as line breaks and bytes that are no text."""
    return "".join(character if character.isprintable() else "?" for character in name)


def verdict_line(decision: Decision) -> str:
    """Say the verdict, the machine and the p-value, with what the p-value rests on, in one line."""
    verdict = decision.verdict.upper()
    if decision.p_value is None:
        return f"{verdict}: {decision.note}"
    calibration = f"{decision.method}, {decision.calibration_clips} normal clips"
    return f"{verdict} for {decision.machine}: p = {decision.p_value:.2g} ({calibration})"
