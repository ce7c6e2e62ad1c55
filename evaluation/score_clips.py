"""Run the network over the clips of a data set."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor, AudioReadError
from modeling import AttentionAsdModel, AttentionAsdOutput, ClipOutputs

from .splits import Row, machine_of


@dataclass
class ScoredClips:
    """The paper's score of each clip, for the machine ID that the clip claims, and what could not be scored.

    Attributes:
        rows: the data set's rows with `score` and `predicted`, the index of the closest machine ID. `score` is `None` for
            a machine that is enrolled alone, of which the network knows nothing.
        attention_mean, attention_std: `(channels, num_mel_bins)` over all clips and frames, for Figure 4 of the paper.
        outputs: what the detector decides by, in the order of `rows`.
        unreadable: path and message of each file that could not be read.
        unknown_machine_ids: the number of clips of each machine ID that the model does not know.
    """

    rows: list[Row] = field(default_factory=list)
    attention_mean: np.ndarray | None = None
    attention_std: np.ndarray | None = None
    outputs: ClipOutputs | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    unknown_machine_ids: dict[str, int] = field(default_factory=dict)


def score_clips(
    model: AttentionAsdModel,
    feature_extractor: AttentionAsdFeatureExtractor,
    rows: Iterable[Row],
    batch_size: int = 16,
    progress: bool = True,
    enrolled: Collection[str] = (),
) -> ScoredClips:
    """Score every row whose machine ID the model knows, or that is among the `enrolled` ones of its detector.

    Unreadable files are named in the result and passed over.
    """
    scored = ScoredClips()
    attention = RunningMoments()
    parts = []
    for clips, output in forward_batches(model, feature_extractor, rows, scored, batch_size, progress, enrolled):
        parts.append(ClipOutputs.of(output))
        predicted = parts[-1].cosines.argmax(1).tolist()
        scores = output.anomaly_scores.tolist()  # pyright: ignore[reportOptionalMemberAccess]  the network gives them
        for row, score, closest in zip(clips, scores, predicted, strict=True):
            is_known = machine_of(row) in model.config.label2id
            scored.rows.append({**row, "score": score if is_known else None, "predicted": closest})
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
    rows: Iterable[Row],
    scored: ScoredClips,
    batch_size: int,
    progress: bool,
    enrolled: Collection[str] = (),
) -> Iterator[tuple[list[Row], AttentionAsdOutput]]:
    """Yield every batch of readable clips of known or enrolled machine IDs, with the network's output.

    What could not be scored is noted in `scored`.
    """
    model.eval()
    rows = list(rows)
    batch: list[tuple[Row, torch.Tensor]] = []
    with tqdm(total=len(rows), desc="Scoring", unit="clip", disable=not progress) as bar:
        for index, row in enumerate(rows):
            machine = machine_of(row)
            if machine not in model.config.label2id and machine not in enrolled:
                scored.unknown_machine_ids[machine] = scored.unknown_machine_ids.get(machine, 0) + 1
            else:
                try:
                    batch.append((row, feature_extractor.read_clip(row["path"])))
                except AudioReadError as error:
                    scored.unreadable[row["path"]] = str(error)
            if batch and (len(batch) == batch_size or index == len(rows) - 1):
                clips, waveforms = zip(*batch, strict=True)
                values = torch.stack(waveforms).to(model.device)
                # The score of an enrolled machine's clip as that of another machine is not used.
                labels = [model.config.label2id.get(machine_of(clip), 0) for clip in clips]
                features = feature_extractor.log_mel(values)
                labels = torch.tensor(labels, device=model.device)
                yield list(clips), model(input_values=values, input_features=features, labels=labels)
                batch = []
            bar.update()


class RunningMoments:
    """Mean and standard deviation of attention maps by channel and mel bin, in one pass and float64."""

    def __init__(self):
        self.count, self.sum, self.square_sum = 0, np.zeros(()), np.zeros(())

    def add(self, attention_maps: torch.Tensor) -> None:
        maps = attention_maps.cpu().double()
        self.count += maps.shape[0] * maps.shape[-1]
        self.sum = self.sum + maps.sum((0, -1)).numpy()
        self.square_sum = self.square_sum + maps.square().sum((0, -1)).numpy()

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.sum / self.count
        return mean, np.sqrt(np.maximum(self.square_sum / self.count - mean**2, 0.0))
