"""From the arguments of a run to what the run needs: accelerator, clips, configuration and feature extractor."""

from pathlib import Path

import torch
from accelerate import Accelerator

from evaluation.json_files import read_json
from evaluation.splits import Splits, load_training_splits
from feature_extraction import AttentionAsdFeatureExtractor
from machine_room import generate_machine_room
from modeling import AttentionAsdConfig

from .arguments import Arguments
from .clips import TrainingClips, read_clips


def make_accelerator(arguments: Arguments) -> Accelerator:
    """Set up the device, the precision and the tracker.

    Raises:
        ValueError: the tracker is not installed.
    """
    accelerator = Accelerator(
        # Without this, accelerate looks for GPUs of its own when told to use several processes.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=None if arguments.report_to == "none" else arguments.report_to,
        project_dir=arguments.output_dir,
    )
    if arguments.report_to != "none" and not accelerator.log_with:
        raise ValueError(
            f"--report_to {arguments.report_to}: this tracker is not installed. For TensorBoard: pip install -e '.[tracking]'."
        )
    return accelerator


def load_data(arguments: Arguments, accelerator: Accelerator) -> Splits:
    """List the clips of `--data_dir`; without it, generate synthetic machines first.

    Raises:
        ValueError: there are no training clips.
    """
    with accelerator.main_process_first():
        if arguments.data_dir is None:
            folder = generate_machine_room(
                Path(arguments.output_dir) / "machine_room",
                seed=arguments.seed,
                clip_seconds=arguments.clip_seconds,
                progress=accelerator.is_main_process,
            )
        else:
            folder = Path(arguments.data_dir)
        return load_training_splits(folder, arguments.machine_types)


def make_config(arguments: Arguments, machines: list[str]) -> AttentionAsdConfig:
    """Return the network's configuration, with a class for each machine or the classes of `--labels`."""
    id2label, label2id = read_labels(arguments.labels, machines)
    return AttentionAsdConfig(
        clip_length=round(arguments.clip_seconds * 16_000),
        input_representations=arguments.input_representations,
        embedding_size=arguments.embedding_size,
        use_attention=arguments.use_attention,
        use_separable_convolutions=arguments.use_separable_convolutions,
        angular_loss=arguments.angular_loss,
        scale=arguments.scale,
        margin=arguments.margin,
        id2label=id2label,
        label2id=label2id,
    )


def read_labels(file: str | None, machines: list[str]) -> tuple[dict[int, str], dict[str, int]]:
    """Return id2label and label2id: a class for each machine, or what the file of `--labels` says.

    Raises:
        ValueError: the file cannot be read, or has no class for a machine.
    """
    if file is None:
        return dict(enumerate(machines)), {machine: label for label, machine in enumerate(machines)}
    content = read_json(file)
    try:
        id2label = {int(label): name for label, name in content["id2label"].items()}
        label2id = {name: int(label) for name, label in content["label2id"].items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError(
            f"--labels {file}: expected id2label, a name for each number, and label2id, a number for each machine ID."
        ) from None
    missing = sorted(set(machines) - set(label2id))
    if missing:
        raise ValueError(f"--labels {file}: label2id has no {', '.join(missing)}, of which there are training clips.")
    return id2label, label2id


def read_training_clips(
    arguments: Arguments,
    accelerator: Accelerator,
    splits: Splits,
    label2id: dict[str, int],
    feature_extractor: AttentionAsdFeatureExtractor,
) -> TrainingClips:
    """Read the training clips once for all processes, and hold out `--validation_fraction` of each machine ID's.

    Raises:
        ValueError: not one clip of a machine ID can be used.
    """
    with accelerator.main_process_first():
        clips = read_clips(
            splits.train,
            label2id,
            feature_extractor,
            arguments.validation_fraction,
            arguments.seed,
            progress=accelerator.is_main_process,
        )
    unread = sorted(set(splits.train_machines) - set(clips.machines.tolist()))
    if unread:
        raise ValueError(
            f"{splits.folder}: not one training clip of {', '.join(unread)} can be read and is not silent. Repair the "
            "clips, or take these machine IDs out."
        )
    return clips
