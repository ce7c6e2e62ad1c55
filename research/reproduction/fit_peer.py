"""Fit one peer on prepared clips, score the test clips, time it: a process of its own.

    python -m research.reproduction.fit_peer KEY --clips DIR --output_dir RUN --updates N [--batch_size 16] [--seed 0]

RUN gets scores.csv, then measured.json.
"""

import argparse
import time
from pathlib import Path

from evaluation.command import run
from evaluation.evaluate_model import write_scores
from evaluation.score_clips import ScoredClips
from feature_extraction import AttentionAsdFeatureExtractor
from research.baselines import BASELINES, Baseline
from training.allocator import keep_freed_memory

from .data import Split, load_split
from .measure import noise, reference_call, side_by_side, write_measured


def fit_peer(
    key: str, clips: Path, output_dir: Path, updates: int, batch_size: int, seed: int, data_dir: Path | None
) -> None:
    """Fit a baseline, score the test clips and measure the time of a clip.

    Args:
        key: key of the baseline in `research.baselines.BASELINES`.
        clips: folder of prepared clips.
        output_dir: where scores.csv and measured.json go.
        updates: optimiser steps in total.
        batch_size: clips a step.
        seed: key of everything random.
        data_dir: folder that the clips' paths are written relative to.

    Raises:
        ValueError: there is no such baseline, or the baseline cannot be fitted to these clips.
    """
    if key not in BASELINES:
        raise ValueError(f"{key}: no such baseline. Expected one of {', '.join(BASELINES)}.")
    train, test = load_split(clips, "train"), load_split(clips, "test")
    started = time.monotonic()
    peer = BASELINES[key](updates=updates, seed=seed, batch_size=batch_size).fit(train.clips)
    seconds = time.monotonic() - started
    scores = peer.score(test.clips).tolist()
    scored = ScoredClips([{**row, "score": score} for row, score in zip(test.rows, scores, strict=True)])
    output_dir.mkdir(parents=True, exist_ok=True)
    write_scores(scored, output_dir, data_dir)
    write_measured(output_dir, peer.num_parameters(), time_of_a_clip(peer, test), seconds)


def time_of_a_clip(peer: Baseline, test: Split) -> dict[str, float]:
    """Return the milliseconds from a clip to its score on a CPU, beside those of this project's default network."""
    peer.to("cpu")
    one = test.clips.take([0])
    hop = AttentionAsdFeatureExtractor().hop_length
    # Clips that are log-mels alone are as long as their frames say.
    length = (one.log_mels.shape[-1] - 1) * hop if one.waveforms is None else one.waveforms.shape[-1]
    feature_extractor = AttentionAsdFeatureExtractor(clip_length=length)
    waveform = noise(length)

    def system() -> None:
        feature_extractor.log_mel(waveform[None])
        peer.score(one)

    return side_by_side({"system": system, "reference": reference_call(length, waveform)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("key", help="the baseline, a key of research.baselines.BASELINES")
    parser.add_argument("--clips", type=Path, required=True, help="folder of prepared clips")
    parser.add_argument("--output_dir", type=Path, required=True, help="where scores.csv and measured.json go")
    parser.add_argument("--updates", type=int, required=True, help="optimiser steps in total")
    parser.add_argument("--batch_size", type=int, default=16, help="clips a step (16)")
    parser.add_argument("--seed", type=int, default=0, help="key of everything random (0)")
    parser.add_argument("--data_dir", type=Path, help="folder that the clips' paths are given relative to")
    arguments = parser.parse_args()
    keep_freed_memory()
    fit_peer(**vars(arguments))


if __name__ == "__main__":
    run(main)
