"""
The detector's two files, `scoring_config.json` and `scoring.safetensors`: written, and read again to the same numbers.

Machines are numbered in the tensors: their names come from users and stay out of anything but the text. What is not known
has no tensor, or is `null`. The text names by digest the tensors and the network's weights that it belongs to.
"""

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from .backends_attention_asd import BACKENDS, checked_backend, usable_backends
from .calibration_attention_asd import Calibration, ScorePrior, StudentT, checked_rate
from .detector_checks_attention_asd import check_content, check_tensors, parse_json
from .digests_attention_asd import file_digest
from .levels_attention_asd import NormalLevel
from .machines_attention_asd import KnownMachines, Machine, SharedKnowledge
from .reference_attention_asd import EmbeddingSpace, MachineEmbedding, Mixture
from .self_test_attention_asd import SelfTest
from .spectrum_attention_asd import MachineSpectrum, SpectrumSpace


TENSORS_FILE = "scoring.safetensors"
CONFIG_FILE = "scoring_config.json"
FORMAT_VERSION = 5

FIT_ANEW = (
    "Fit the detector anew from normal recordings: python scripts/fit_detector.py --model MODEL --data_dir DIR; or "
    "AnomalyDetector.fit and save_pretrained."
)

# What reading a damaged file raises.
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, SafetensorError)

Tensors = dict[str, torch.Tensor]


# Writing


def write_detector(
    directory: Path, known: KnownMachines, backend: str, false_alarm_rate: float, weights: str | None
) -> None:
    """Write both files of a detector into a scratch folder of `replacing_files`.

    Args:
        directory: the folder.
        known, backend, false_alarm_rate: the detector.
        weights: the digest of the network's weights that it belongs to, see `weights_digest`; `None` where nobody knows.
    """
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
    content["sha256"] = {"tensors": file_digest(directory / TENSORS_FILE), "weights": weights}
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
        "is_copy": machine.is_copy,
        "spectrum": None,
        "level": None,
        "self_test": machine.self_test and machine.self_test.to_dict(),
    }
    if spectrum is not None:
        record["spectrum"] = {"clips": spectrum.clips, "extra_variance": spectrum.extra_variance}
    if level is not None:
        record["level"] = {name: value for name, value in vars(level).items() if name != "bins"}
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
        ValueError: where they cannot be read, are of another version or do not belong together.
    """
    try:
        content = parse_json(Path(config_file).read_text(encoding="utf-8"))
        version = content["format_version"]
        if version != FORMAT_VERSION or content["backends"] != list(BACKENDS):
            raise ValueError(f"they have format version {version}, this code reads version {FORMAT_VERSION}")
        # Read whole: Windows does not replace a file that is mapped into memory.
        data = Path(tensors_file).read_bytes()
        if content["sha256"]["tensors"] != hashlib.sha256(data).hexdigest():
            raise ValueError("they are of two detectors, or one was cut off")
        check_content(content)
        tensors = load(data)
        check_tensors(tensors)
        return {
            "machines": read_machines(content, tensors),
            "backend": checked_backend(content["backend"]),
            "false_alarm_rate": checked_rate(content["false_alarm_rate"]),
            "weights": content["sha256"]["weights"],
        }
    except DAMAGE as error:
        what = f"{error} is missing" if isinstance(error, LookupError) else error
        raise ValueError(f"{source}: {CONFIG_FILE} and {TENSORS_FILE} cannot be read ({what}). {FIT_ANEW}") from error


def check_weights(source: str, weights: str | None, beside: str | None) -> None:
    """Refuse a detector that lies beside other weights than its statistics were made with.

    Args:
        source: where they lie, for the error message.
        weights: the digest that the detector's files name; `None` where nobody knew.
        beside: the digest of the weights beside them; `None` where there are none.

    Raises:
        ValueError: the digests differ.
    """
    if None not in (weights, beside) and weights != beside:
        raise ValueError(
            f"{source}: {CONFIG_FILE} was made with other weights than those of the network beside it: files of two models "
            f"are mixed, as after a training or a save that was cut off. {FIT_ANEW}"
        )


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
    # The first files of this version have no copies.
    is_copy = record.get("is_copy", False)
    priors = shared.priors(record["is_enrolled"], is_copy)
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
        is_copy=is_copy,
    )


__all__ = ["CONFIG_FILE", "TENSORS_FILE", "check_weights", "read_detector", "write_detector"]
