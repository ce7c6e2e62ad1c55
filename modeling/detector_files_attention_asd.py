"""
The detector's two files, `scoring_config.json` and `scoring.safetensors`: written, and read again to the same numbers.

Machines are numbered in the tensors: their names come from users and stay out of anything but the text. What is not known
has no tensor, or is `null`.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .backends_attention_asd import BACKENDS, usable_backends
from .calibration_attention_asd import Calibration, ScorePrior, StudentT
from .levels_attention_asd import NormalLevel
from .machines_attention_asd import KnownMachines, Machine, SharedKnowledge
from .reference_attention_asd import EmbeddingSpace, MachineEmbedding, Mixture
from .self_test_attention_asd import SelfTest
from .spectrum_attention_asd import MachineSpectrum, SpectrumSpace


TENSORS_FILE = "scoring.safetensors"
CONFIG_FILE = "scoring_config.json"
FORMAT_VERSION = 5

Tensors = dict[str, torch.Tensor]


# Writing


def write_detector(directory: Path, known: KnownMachines, backend: str, false_alarm_rate: float) -> None:
    """Write both files of a detector into a directory."""
    shared, machines = known.shared, list(known.by_name.values())
    content = {
        "format_version": FORMAT_VERSION,
        "backend": backend,
        "false_alarm_rate": false_alarm_rate,
        "backends": list(BACKENDS),
        "arcface": {"scale": shared.embeddings.scale, "margin": shared.embeddings.margin},
        "num_frames": shared.num_frames,
        "fitted": {name: prior_record(prior) for name, prior in shared.fitted.items()},
        "enrolled": {name: prior_record(prior) for name, prior in shared.enrolled.items()},
        "machines": [machine_record(machine) for machine in machines],
    }
    tensors: dict[str, torch.Tensor | None] = {"whitening": shared.embeddings.whitening.float()}
    tensors |= {"noise": shared.noise, "noise_clips": shared.noise_clips}
    if shared.spectra is not None:
        tensors |= {f"spectra.{name}": tensor.float() for name, tensor in vars(shared.spectra).items()}
    for index, machine in enumerate(machines):
        tensors |= {f"machines.{index}.{name}": tensor for name, tensor in machine_tensors(machine).items()}
    known_tensors = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    save_file(known_tensors, directory / TENSORS_FILE, metadata={"format": "pt"})
    (directory / CONFIG_FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def prior_record(prior: ScorePrior) -> dict[str, Any]:
    return {**vars(prior), "tail": None if prior.tail is None else prior.tail._asdict()}


def machine_record(machine: Machine) -> dict[str, Any]:
    """What the text says of a machine."""
    spectrum, level = machine.spectrum, machine.level
    record: dict[str, Any] = {
        "name": machine.name,
        "label": machine.embedding.label,
        "is_enrolled": machine.is_enrolled,
        "spectrum": None,
        "level": None,
        "self_test": machine.self_test and machine.self_test.to_dict(),
    }
    if spectrum is not None:
        record["spectrum"] = {"clips": spectrum.clips, "extra_variance": spectrum.extra_variance}
    if level is not None:
        record["level"] = {"lowest": level.lowest, "highest": level.highest, "roughness": level.roughness}
    return record


def machine_tensors(machine: Machine) -> dict[str, torch.Tensor | None]:
    """A machine's tensors by their name in the file, `None` for those that are not known."""
    mixture, spectrum, level = machine.embedding.mixture, machine.spectrum, machine.level
    scores = {f"scores.{name}": torch.from_numpy(of.scores) for name, of in machine.calibrations.items()}
    return {
        "centroid": machine.embedding.centroid,
        **{f"mixture.{name}": tensor for name, tensor in mixture._asdict().items()},
        "mean": None if spectrum is None else spectrum.mean.float(),
        "own": None if spectrum is None else spectrum.own,
        "examples": None if spectrum is None else spectrum.examples,
        "level": None if level is None else level.bins,
        **scores,
    }


# Reading


def read_detector(config_file: str, tensors_file: str, source: str) -> dict[str, Any]:
    """The parts of a detector, as the arguments of its constructor.

    Args:
        config_file, tensors_file: the paths of both files.
        source: where they come from, for the error message.

    Raises:
        ValueError: where they cannot be read or are of another version.
    """
    try:
        content = json.loads(Path(config_file).read_text(encoding="utf-8"))
        version = content["format_version"]
        if version != FORMAT_VERSION or content["backends"] != list(BACKENDS):
            raise ValueError(f"they have format version {version}, this code reads version {FORMAT_VERSION}")
        known = read_machines(content, load_file(tensors_file))
        return {
            "machines": known,
            "backend": content["backend"],
            "false_alarm_rate": content["false_alarm_rate"],
        }
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"{source}: {CONFIG_FILE} and {TENSORS_FILE} cannot be read ({error}). Fit the detector anew from normal "
            "recordings: scripts/fit_detector.py --model MODEL --data_dir DIR, or AnomalyDetector.fit and save_pretrained."
        ) from error


def read_machines(content: dict[str, Any], tensors: Tensors) -> KnownMachines:
    space = None
    if "spectra.matrix" in tensors:
        space = SpectrumSpace(*(tensors[f"spectra.{name}"].double() for name in ("matrix", "variances", "center")))
    shared = SharedKnowledge(
        embeddings=EmbeddingSpace(tensors["whitening"].double(), **content["arcface"]),
        spectra=space,
        fitted={name: read_prior(record) for name, record in content["fitted"].items()},
        enrolled={name: read_prior(record) for name, record in content["enrolled"].items()},
        noise=tensors.get("noise"),
        noise_clips=tensors.get("noise_clips"),
        num_frames=content["num_frames"],
    )
    by_machine: dict[int, Tensors] = defaultdict(dict)
    for name, tensor in tensors.items():
        if name.startswith("machines."):
            _, index, name_of_tensor = name.split(".", 2)
            by_machine[int(index)][name_of_tensor] = tensor
    return KnownMachines.of(
        shared, [read_machine(record, by_machine[index], shared) for index, record in enumerate(content["machines"])]
    )


def read_prior(record: dict[str, Any]) -> ScorePrior:
    return ScorePrior(**{**record, "tail": None if record["tail"] is None else StudentT(**record["tail"])})


def read_machine(record: dict[str, Any], tensors: Tensors, shared: SharedKnowledge) -> Machine:
    mixture = Mixture(*(tensors[f"mixture.{field}"] for field in Mixture._fields))
    spectrum, level, tested = record["spectrum"], record["level"], record["self_test"]
    scores = {name: tensors[f"scores.{name}"].numpy() for name in usable_backends(shared)}
    priors = shared.enrolled if record["is_enrolled"] else shared.fitted
    return Machine(
        name=record["name"],
        is_enrolled=record["is_enrolled"],
        embedding=MachineEmbedding(record["label"], tensors["centroid"], mixture),
        spectrum=None
        if spectrum is None
        else MachineSpectrum(tensors["mean"].double(), own=tensors["own"], examples=tensors["examples"], **spectrum),
        level=None if level is None else NormalLevel(tensors["level"], **level),
        calibrations={name: Calibration.of(name, own, priors.get(name)) for name, own in scores.items()},
        self_test=None if tested is None else SelfTest.from_dict(tested),
    )


__all__ = ["CONFIG_FILE", "TENSORS_FILE", "read_detector", "write_detector"]
