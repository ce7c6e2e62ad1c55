"""Train this project's log-mel-only network on clips that are log-mels alone, and score the test clips.

    python -m research.reproduction.fit_log_mel_network --log_mel_dir DIR --clips CLIPS --output_dir RUN --epochs N [--seed 0]

RUN gets the model, evaluation/scores.csv, the back ends' scores and, last, measured.json.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from evaluation.command import run
from evaluation.evaluate_model import write_scores
from evaluation.loading import load_network
from evaluation.score_clips import ScoredClips
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdModel, AttentionAsdOutput
from training.allocator import keep_freed_memory

from .data import LOG_MEL_TYPE, Split, load_split
from .log_mel_study import train_on_log_mels
from .measure import network_call, noise, reference_call, side_by_side, write_back_end_scores, write_measured


BATCH_SIZE = 32


@torch.no_grad()
def forward(model: AttentionAsdModel, test: Split) -> Iterator[tuple[list[dict[str, Any]], AttentionAsdOutput]]:
    """Yield batches of rows with the network's output; the scores are those of the claimed machine IDs."""
    for start in range(0, len(test.rows), BATCH_SIZE):
        rows = test.rows[start : start + BATCH_SIZE]
        features = torch.from_numpy(test.clips.log_mels[start : start + BATCH_SIZE].copy())
        labels = torch.tensor([model.config.label2id[row["label"]] for row in rows])
        yield rows, model(input_features=features, labels=labels)


def fit_log_mel_network(log_mel_dir: Path, clips: Path, output_dir: Path, **recipe: Any) -> None:
    """Train the log-mel-only network, score the test clips and measure the time of a clip.

    Args:
        log_mel_dir: folder with train.npz.
        clips: the same clips, prepared.
        output_dir: where the model and its scores go.
        recipe: what `train_on_log_mels` takes: epochs, batch_size, learning_rate, validation_fraction and seed.
    """
    archive = log_mel_dir / "train.npz"
    seconds = train_on_log_mels(archive, output_dir, machine_type=LOG_MEL_TYPE, resume=True, **recipe)
    model = load_network(output_dir).model
    scored = ScoredClips()
    outputs = list(forward(model, load_split(clips, "test")))
    for rows, output in outputs:
        if output.anomaly_scores is None:
            raise ValueError(f"{output_dir}: the network gave no scores of clips whose machine IDs it was told.")
        scores = output.anomaly_scores.tolist()
        scored.rows += [{**row, "score": score} for row, score in zip(rows, scores, strict=True)]
    evaluation = output_dir / "evaluation"
    evaluation.mkdir(exist_ok=True)
    write_scores(scored, evaluation, None)
    write_back_end_scores(output_dir, outputs, None)
    length = model.config.clip_length
    waveform = noise(length)
    system = network_call(model, AttentionAsdFeatureExtractor(clip_length=length), waveform)
    times = side_by_side({"system": system, "reference": reference_call(length, waveform)})
    write_measured(output_dir, model.num_parameters(), times, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log_mel_dir", type=Path, required=True, help="folder with train.npz and test.npz")
    parser.add_argument("--clips", type=Path, required=True, help="the same clips, prepared")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the model and its scores go")
    parser.add_argument("--epochs", type=int, required=True, help="passes over the training clips")
    parser.add_argument("--batch_size", type=int, required=True, help="clips in an update")
    parser.add_argument("--learning_rate", type=float, required=True, help="AdamW's, at the start")
    parser.add_argument("--validation_fraction", type=float, required=True, help="share of the clips that is held out")
    parser.add_argument("--seed", type=int, default=0, help="key of everything random (0)")
    keep_freed_memory()
    fit_log_mel_network(**vars(parser.parse_args()))


if __name__ == "__main__":
    run(main)
