"""Faults of the machine room that the detector finds, each with its healthy twin and its ground truth."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcase2020_task2 import label_name, parse_clip_name
from evaluation.loading import LoadedModel
from machine_room import planned_fault, render_clip
from modeling.relevance_attention_asd import Score
from research.detectors import detector_of, normal_level_of


# Where clips count as detected.
FALSE_ALARM_RATE = 0.1


@dataclass
class Example:
    """A detected clip and what the maps need to know.

    Args:
        name: path of the clip in the machine room.
        truth: fault, severity, period and regions, from ground_truth.json.
        waveform: the clip `(samples,)`.
        twin: the clip without the fault `(samples,)`, otherwise equal to the sample.
        normal_mean: mean of the machine's normal log-mels `(bins,)` in dB.
        normal_std: their standard deviation `(bins,)` in dB.
        score: waveforms and log-mels -> anomaly scores.
        attention: waveforms and log-mels -> the attention maps of the log-mel.
        p_value: the detector's.
    """

    name: str
    truth: dict[str, Any]
    waveform: torch.Tensor
    twin: torch.Tensor
    normal_mean: torch.Tensor
    normal_std: torch.Tensor
    score: Score
    attention: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    p_value: float


class Room:
    """A folder that machine_room made, whose clips can be rendered with and without their fault.

    Args:
        folder: the folder.
        feature_extractor: reads the clips.

    Raises:
        ValueError: the clips have another length than the model takes.
    """

    def __init__(self, folder: Path, feature_extractor):
        settings = json.loads((folder / "machine_room.json").read_text(encoding="utf-8"))["settings"]
        self.folder, self.feature_extractor = folder, feature_extractor
        self.seed, self.clip_seconds = settings["seed"], settings["clip_seconds"]
        self.truths: dict[str, dict[str, Any]] = json.loads((folder / "ground_truth.json").read_text(encoding="utf-8"))
        if round(self.clip_seconds * feature_extractor.sampling_rate) != feature_extractor.clip_length:
            raise ValueError(
                f"{folder} has clips of {self.clip_seconds} s, the model takes "
                f"{feature_extractor.clip_length / feature_extractor.sampling_rate} s: make one with "
                "`python -m machine_room ROOM --clip_seconds S`."
            )

    def clip_and_twin(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a faulty clip and its healthy twin.

        Raises:
            ValueError: the clip is not what this version of machine_room renders.
        """
        waveform = self.feature_extractor.read_clip(self.folder / name)
        if (waveform - self.render(name, planned_fault(name, self.seed))).abs().max() > 2**-15:
            raise ValueError(
                f"{self.folder / name} was made by another version of machine_room: make the folder again."
            )
        return waveform, self.render(name, None)

    def render(self, name: str, fault) -> torch.Tensor:
        """Return the clip with a fault, or without one."""
        rendered = render_clip(name, fault=fault, seed=self.seed, clip_seconds=self.clip_seconds)
        return torch.from_numpy(rendered[0]).float()


def examples(loaded: LoadedModel, room: Room, backend: str, seed: int) -> Iterator[Example]:
    """Yield the detected clips in random order: the detector calls them anomalous while it passes their twins.

    Args:
        loaded: model, feature extractor and detector.
        room: the clips.
        backend: the back end that gives the score.
        seed: key of the order.
    """
    names, detector = sorted(room.truths), detector_of(loaded)
    for index in np.random.default_rng([seed, 0]).permutation(len(names)):
        name = names[index]
        machine = machine_of(name)
        waveform, twin = room.clip_and_twin(name)
        score = score_function(loaded, machine, backend)
        with torch.no_grad():
            both = torch.stack([waveform, twin])
            scores = score(both, loaded.feature_extractor.log_mel(both))
            p_values = detector.p_value(scores, machine, backend)
        if p_values[0] <= FALSE_ALARM_RATE < p_values[1]:
            mean, std = (torch.from_numpy(level) for level in normal_level_of(loaded, machine))
            attention = attention_function(loaded.model)
            yield Example(name, room.truths[name], waveform, twin, mean, std, score, attention, p_values[0].item())


def machine_of(name: str) -> str:
    """Return the machine of a clip of the machine room."""
    return label_name(name.split("/")[0], parse_clip_name(name).machine_id)


def score_function(loaded: LoadedModel, machine: str, backend: str) -> Score:
    """Return the function from waveforms and log-mels to the scores of a machine."""

    detector = detector_of(loaded)

    def score(values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        outputs = loaded.model(input_values=values, input_features=features)
        return detector.scores(outputs, machine, backend)

    return score


def attention_function(model) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the function from waveforms and log-mels to the attention maps `(clips, bins, frames)` of the log-mel."""
    channel = model.config.input_representations.index("log_mel")
    return lambda values, features: model(input_values=values, input_features=features).attention_maps[:, channel]
