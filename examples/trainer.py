#!/usr/bin/env python
"""Train the network with `transformers.Trainer`, as one trains any audio classifier, and fit its detector.

    python examples/trainer.py --output_dir runs/trainer                    # synthetic machines
    python examples/trainer.py --output_dir OUT --data_dir DIR              # recordings: DIR/<machine type>/train/*.wav
    python examples/trainer.py --output_dir OUT --resume_from_checkpoint OUT/checkpoint-20

All arguments of `TrainingArguments` work, `--push_to_hub` among them. The loop is an ordinary one: no mixup, no keyed
batches. `train.py` has the paper's recipe, resumes to the bit, and writes no pickle files. Trainer's checkpoints have some.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, HfArgumentParser, Trainer, TrainingArguments

from dcase2020_task2 import load_clips
from evaluation.command import run
from feature_extraction import AttentionAsdFeatureExtractor
from machine_room import generate_machine_room
from modeling import AnomalyDetector, AttentionAsdConfig, AttentionAsdModel, ClipOutputs


# What suits synthetic machines on two cores. Arguments override it.
DEFAULTS = {
    "num_train_epochs": 10,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "epoch",
    "report_to": "none",
    "hub_strategy": "end",
    "dataloader_pin_memory": False,
}
# The outputs that the detector needs, in the order of `AttentionAsdOutput`.
FOR_THE_DETECTOR = ("cosines", "embeddings", "spectra")


@dataclass
class DataArguments:
    """Which clips are learned."""

    data_dir: str | None = field(default=None, metadata={"help": "folder in the DCASE 2020 Task 2 layout"})
    clip_seconds: float = field(default=2.0, metadata={"help": "length of the network's clip"})
    held_out_fraction: float = field(default=0.25, metadata={"help": "share of the normal clips that are not learned"})


def main() -> None:
    kinds: Any = (DataArguments, TrainingArguments)
    parser = HfArgumentParser(kinds, description=__doc__)
    parser.set_defaults(**DEFAULTS)
    data, arguments = parser.parse_args_into_dataclasses()
    clips = load_clips(data.data_dir or synthetic_clips(Path(arguments.output_dir)))["train"]

    samples = round(16_000 * data.clip_seconds)
    config = AttentionAsdConfig(clip_length=samples, id2label=dict(enumerate(clips.features["label"].names)))
    feature_extractor = AttentionAsdFeatureExtractor(clip_length=samples)
    torch.manual_seed(arguments.seed)
    model = AttentionAsdModel(config)

    inputs = clips.map(
        lambda batch: network_inputs(batch, feature_extractor),
        batched=True,
        batch_size=32,
        remove_columns=clips.column_names,
        keep_in_memory=True,
    )
    is_held_out = np.random.default_rng(arguments.seed).random(len(clips)) < data.held_out_fraction
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=inputs.select(np.flatnonzero(~is_held_out)),
        eval_dataset=inputs.select(np.flatnonzero(is_held_out)),
        processing_class=feature_extractor,
        compute_metrics=accuracy,
    )
    trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
    trainer.save_metrics("eval", trainer.evaluate())

    detector = fit_detector(trainer, inputs, is_held_out)
    # The network first: the detector notes the weights that it belongs to, and an earlier run may have left others.
    model.save_pretrained(arguments.output_dir)
    detector.save_pretrained(arguments.output_dir)
    if arguments.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.save_model()


def synthetic_clips(output_dir: Path) -> Path:
    """Write normal clips of a few synthetic machines, and return their folder.

    Trainer pushes the whole directory but for what begins with an underscore, and its checkpoints.
    """
    return generate_machine_room(
        output_dir / "_machine_room", clip_seconds=2.0, machine_types=("fan", "pump"), ids_per_type=2, train_clips=24
    )


def network_inputs(batch: dict[str, list[Any]], feature_extractor: AttentionAsdFeatureExtractor) -> dict[str, Any]:
    """Read some clips, and return the network's inputs and their machine IDs."""
    waveforms = [feature_extractor.read_audio(path) for path in batch["path"]]
    inputs = feature_extractor(waveforms, sampling_rate=feature_extractor.sampling_rate, return_tensors="np")
    return {**inputs, "labels": batch["label"]}


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """The share of clips whose machine ID has the highest logit."""
    return {"accuracy": float(np.mean(np.argmax(prediction.predictions, axis=1) == prediction.label_ids))}


def fit_detector(trainer: Trainer, inputs: Any, is_held_out: np.ndarray) -> AnomalyDetector:
    """Fit the detector that decides to the network's outputs for all normal clips."""
    model: Any = trainer.model
    config = model.config
    ignored = [key for key in ("logits", *config.keys_to_ignore_at_inference) if key not in FOR_THE_DETECTOR]
    trainer.compute_metrics = None  # the accuracy is of the logits, which are not asked for here
    prediction = trainer.predict(inputs, ignore_keys=ignored)
    cosines, embeddings, spectra = (torch.from_numpy(array) for array in prediction.predictions)
    machines = [config.id2label[label] for label in inputs["labels"]]
    return AnomalyDetector.fit(config, ClipOutputs(embeddings, cosines, spectra), machines, is_held_out)


if __name__ == "__main__":
    run(main)
