"""Run the network over the clips of a data set."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor, AudioReadError
from modeling import AttentionAsdModel, AttentionAsdOutput, ClipOutputs


@dataclass
class ScoredClips:
    """The paper's score of each clip, for the machine ID it claims, and what could not be scored.

    `rows` are the data set's rows with `score` and `predicted`, the index of the closest machine ID. `attention_mean` and
    `attention_std`, `(channels, num_mel_bins)`, are over all clips and frames: Figure 4 of the paper. `outputs` are what
    the detector decides by, in the order of `rows`.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    attention_mean: np.ndarray | None = None
    attention_std: np.ndarray | None = None
    outputs: ClipOutputs | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    unknown_machine_ids: dict[str, int] = field(default_factory=dict)


def score_clips(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    rows: Iterable[dict[str, Any]],
    batch_size: int = 16,
    progress: bool = True,
) -> ScoredClips:
    """Score every row whose machine ID the model knows. Unreadable files are named in the result and passed over."""
    scored = ScoredClips()
    attention = RunningMoments()
    parts = []
    for clips, output in forward_batches(model, feature_extractor, rows, scored, batch_size, progress):
        predicted = output.cosines.argmax(1).tolist()
        for row, score, closest in zip(clips, output.anomaly_scores.tolist(), predicted, strict=True):
            scored.rows.append({**row, "score": score, "predicted": closest})
        parts.append(ClipOutputs.of(output))
        if output.attention_maps is not None:
            attention.add(output.attention_maps)
    if parts:
        scored.outputs = ClipOutputs.concatenate(parts)
    if attention.count:
        scored.attention_mean, scored.attention_std = attention.mean_and_std()
    return scored


@torch.no_grad()
def forward_batches(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    rows: Iterable[dict[str, Any]],
    scored: ScoredClips,
    batch_size: int,
    progress: bool,
) -> Iterator[tuple[list[dict[str, Any]], AttentionAsdOutput]]:
    """Every batch of readable clips of known machine IDs, with the network's output."""
    model.eval()
    rows = list(rows)
    batch: list[tuple[dict[str, Any], torch.Tensor]] = []
    with tqdm(total=len(rows), desc="Scoring", unit="clip", disable=not progress) as bar:
        for index, row in enumerate(rows):
            machine = f"{row['machine_type']}_id_{row['machine_id']}"
            if machine not in model.config.label2id:
                scored.unknown_machine_ids[machine] = scored.unknown_machine_ids.get(machine, 0) + 1
            else:
                try:
                    waveform = torch.from_numpy(feature_extractor.read_audio(row["path"]))
                    batch.append((row, feature_extractor.fit_length(waveform)))
                except AudioReadError as error:
                    scored.unreadable[row["path"]] = str(error)
            if batch and (len(batch) == batch_size or index == len(rows) - 1):
                clips, waveforms = zip(*batch, strict=True)
                values = torch.stack(waveforms).to(model.device)
                labels = [model.config.label2id[f"{clip['machine_type']}_id_{clip['machine_id']}"] for clip in clips]
                features = feature_extractor.log_mel(values)
                labels = torch.tensor(labels, device=model.device)
                yield list(clips), model(input_values=values, input_features=features, labels=labels)
                batch = []
            bar.update()


class RunningMoments:
    """Mean and standard deviation of attention maps by channel and mel bin, in one pass and float64."""

    def __init__(self):
        self.count, self.sum, self.square_sum = 0, 0.0, 0.0

    def add(self, attention_maps: torch.Tensor) -> None:
        maps = attention_maps.cpu().double()
        self.count += maps.shape[0] * maps.shape[-1]
        self.sum = self.sum + maps.sum((0, -1)).numpy()
        self.square_sum = self.square_sum + maps.square().sum((0, -1)).numpy()

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.sum / self.count
        return mean, np.sqrt(np.maximum(self.square_sum / self.count - mean**2, 0.0))
