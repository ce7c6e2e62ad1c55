"""A model for one machine alone: the bundled model, with this machine enrolled.

The network learns by telling machines apart, so one machine teaches it nothing. The bundled model was trained on others.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evaluation.loading import LoadedModel, best_device, load_model, load_network
from evaluation.splits import Splits
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdConfig
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline
from modeling.saving_attention_asd import replacing_files

from .arguments import Arguments
from .finish import write_results_and_card


BUNDLED_MODEL = Path(__file__).resolve().parents[1] / "space" / "demo_model"
# What a run on one machine decides itself. Everything else is said of the training of the bundled model.
OWN_ARGUMENTS = (
    "output_dir",
    "data_dir",
    "machine_types",
    "short_clips",
    "channels",
    "push_to_hub",
    "hub_model_id",
    "hub_private",
)


def make_model_of_one_machine(arguments: Arguments, splits: Splits) -> list[str]:
    """Write the bundled model into `--output_dir`, with the one machine of `splits` enrolled in its detector.

    Args:
        arguments: of the run; those about the training have no effect.
        splits: the clips of the machine.

    Returns:
        A message for each file that cannot be used.

    Raises:
        ValueError: the clone has no bundled model, or no recording of the machine can be used.
    """
    (machine,) = splits.train_machines
    network, known = load_bundled_model(arguments)
    results = json.loads((BUNDLED_MODEL / "all_results.json").read_text(encoding="utf-8"))
    results.pop("test", None)
    free_label(network.model.config, machine)
    # The machines of the Space's examples are none of the user's.
    examples = results.pop("enrolled_machines", [])
    names = {name: other_name(name, machine) for name in known.machines if name not in examples}
    detect = AnomalousSoundDetectionPipeline(
        model=network.model,
        feature_extractor=network.feature_extractor,
        detector=known.with_names(names),
        device=network.model.device,
    )
    heard = detect.hear_all([row["path"] for row in splits.train])
    for error in heard.errors.values():
        print(f"left out: {error}", file=sys.stderr)
    tested = detect.enroll_heard(machine, heard)
    # Another machine of the user's name may be the user's itself, recorded by somebody else: no rival.
    others = [name for name in detect.detector.machines if name != other_name(machine, machine)]
    detect.detector = detect.detector.with_names({name: name for name in others})

    network = save_model(detect, arguments)
    results["enrolled_machines"] = [machine]
    command = " ".join(["train.py", *sys.argv[1:]])
    results["enrollment"] = {"data": splits.name, "recordings": tested.recordings, "command": command}
    write_results_and_card(Path(arguments.output_dir), network, splits, detect.detector, results)
    print(
        f"{splits.folder} has one machine alone, {machine}: the network learns by telling machines apart, so nothing was "
        f"trained, and {machine} was enrolled on the bundled model instead, from {tested.recordings} recordings."
    )
    print(*tested.sentences(), sep="\n")
    return list(heard.errors.values())


def load_bundled_model(arguments: Arguments) -> tuple[LoadedModel, AnomalyDetector]:
    """Return the bundled network, with a feature extractor that reads as the run asks for, and its detector.

    Raises:
        ValueError: the clone has no bundled model.
    """
    if not (BUNDLED_MODEL / "model.safetensors").is_file():
        raise ValueError(
            f"{BUNDLED_MODEL}: holds no model to enroll one machine on. Give clips of two machine IDs or more, or get the "
            "folder back with git checkout."
        )
    loaded = load_model(BUNDLED_MODEL, best_device())
    if loaded.detector is None:
        raise ValueError(f"{BUNDLED_MODEL}: holds no detector. Get the folder back with git checkout.")
    extractor = AttentionAsdFeatureExtractor(
        clip_length=loaded.model.config.clip_length, short_clips=arguments.short_clips, channels=arguments.channels
    )
    return replace(loaded, feature_extractor=extractor), loaded.detector


def other_name(name: str, machine: str) -> str:
    """Return a machine's name beside that of the user's machine."""
    return f"bundled_{name}" if name == machine else name


def free_label(config: AttentionAsdConfig, machine: str) -> None:
    """Rename the class of another machine that has the name of the user's: the network knows nothing of the user's."""
    config.id2label = {label: other_name(name, machine) for label, name in config.id2label.items()}
    config.label2id = {name: label for label, name in config.id2label.items()}


def save_model(detect: AnomalousSoundDetectionPipeline, arguments: Arguments) -> LoadedModel:
    """Write model, detector, code and arguments into `--output_dir`, and load the network again.

    Network and detector take their places together: a save that fails leaves no weights beside another model's detector.
    """
    output_dir = Path(arguments.output_dir)
    training: dict[str, Any] = json.loads((BUNDLED_MODEL / "training_args.json").read_text(encoding="utf-8"))
    training |= {name: value for name, value in asdict(arguments).items() if name in OWN_ARGUMENTS}
    with replacing_files(output_dir) as scratch:
        detect.save_pretrained(scratch)
        (scratch / "training_args.json").write_text(json.dumps(training, indent=2) + "\n", encoding="utf-8")
    return load_network(output_dir, detect.model.device)
