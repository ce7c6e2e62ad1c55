"""
The detector's two files, `scoring_config.json` and `scoring.safetensors`: written, and read again to the same numbers.

Machines are numbered in the tensors: their names come from users and stay out of anything but the text. What is not
known has no tensor, is `null`, or is a row of NaN beside the rows of the other back ends.
"""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .backends_attention_asd import BACKENDS, usable_backends
from .calibration_attention_asd import Calibration, Tail
from .machines_attention_asd import KnownMachines, Machine
from .reference_attention_asd import (
    MachineReference,
    Mixture,
    ScorePrior,
    SharedReference,
    Whitening,
    spectral_origin,
)


TENSORS_FILE = "scoring.safetensors"
CONFIG_FILE = "scoring_config.json"
FORMAT_VERSION = 3


def write_detector(directory: Path, known: KnownMachines, backend: str, false_alarm_rate: float) -> None:
    """Write both files of a detector into a directory."""
    shared, machines = known.shared, list(known.by_name.values())
    backends = usable_backends(shared.whitening)
    content = {
        "format_version": FORMAT_VERSION,
        "backend": backend,
        "false_alarm_rate": false_alarm_rate,
        "backends": list(BACKENDS),
        "arcface": {"scale": shared.scale, "margin": shared.margin},
        "own_similarity": shared.own_similarity,
        "other_similarity": shared.other_similarity,
        "machines": [
            {
                "name": machine.name,
                "label": machine.reference.label,
                "is_enrolled": machine.is_enrolled,
                "unknown_below": machine.unknown_below,
                "one_clip_log_distance": machine.one_clip_log_distance,
            }
            for machine in machines
        ],
    }
    tensors = {
        "whitening.embeddings": shared.whitening.embeddings.float(),
        "whitening.spectra": None if shared.whitening.spectra is None else shared.whitening.spectra.float(),
        "priors": rows_by_backend(shared.priors, len(ScorePrior._fields)),
    }
    for index, machine in enumerate(machines):
        tensors |= {f"machines.{index}.{name}": tensor for name, tensor in machine_tensors(machine, backends).items()}
    known_tensors = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    save_file(known_tensors, directory / TENSORS_FILE, metadata={"format": "pt"})
    (directory / CONFIG_FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def machine_tensors(machine: Machine, backends: tuple[str, ...]) -> dict[str, torch.Tensor | None]:
    """A machine's tensors by their name in the file, `None` for those that are not known."""
    reference = machine.reference
    calibrations = {name: machine.calibrations[name] for name in backends}
    scores = {name: calibration.scores for name, calibration in calibrations.items()}
    tails = {name: calibration.tail for name, calibration in calibrations.items() if calibration.tail is not None}
    return {
        "embeddings": reference.embeddings,
        "centroid": reference.centroid,
        "mixture.weights": reference.mixture.weights,
        "mixture.means": reference.mixture.means,
        "mixture.variances": reference.mixture.variances,
        "spectrum": reference.spectrum,
        "level": reference.level,
        "calibration": rows_by_backend(scores, len(scores[backends[0]])),
        "tails": rows_by_backend(tails, len(Tail._fields)),
    }


def rows_by_backend(rows: dict[str, Any], size: int) -> torch.Tensor:
    """`(back ends, size)` in float64, NaN for the back ends without a row."""
    table = np.full((len(BACKENDS), size), np.nan)
    for name, row in rows.items():
        table[BACKENDS.index(name)] = row
    return torch.from_numpy(table)


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
            f"{source}: {CONFIG_FILE} and {TENSORS_FILE} cannot be read ({error}). Write them anew with "
            "scripts/fit_detector.py, or with AnomalyDetector.fit and save_pretrained."
        ) from error


def read_machines(content: dict[str, Any], tensors: dict[str, torch.Tensor]) -> KnownMachines:
    spectra = tensors.get("whitening.spectra")
    whitening = Whitening(tensors["whitening.embeddings"].double(), None if spectra is None else spectra.double())
    backends = usable_backends(whitening)
    by_machine: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        if name.startswith("machines."):
            _, index, name_of_tensor = name.split(".", 2)
            by_machine[int(index)][name_of_tensor] = tensor
    machines = [
        read_machine(record, by_machine[index], whitening, backends) for index, record in enumerate(content["machines"])
    ]
    fitted = [machine.reference for machine in machines if not machine.is_enrolled]
    priors = tensors["priors"].tolist()
    shared = SharedReference(
        whitening=whitening,
        scale=content["arcface"]["scale"],
        margin=content["arcface"]["margin"],
        priors={name: ScorePrior(*priors[BACKENDS.index(name)]) for name in backends},
        origin=spectral_origin(fitted, whitening),
        own_similarity=content["own_similarity"],
        other_similarity=content["other_similarity"],
    )
    return KnownMachines.of(shared, machines)


def read_machine(
    record: dict[str, Any], tensors: dict[str, torch.Tensor], whitening: Whitening, backends: tuple[str, ...]
) -> Machine:
    reference = MachineReference(
        name=record["name"],
        label=record["label"],
        embeddings=tensors["embeddings"],
        centroid=tensors["centroid"],
        mixture=Mixture(*(tensors[f"mixture.{field}"] for field in Mixture._fields)),
        spectrum=tensors.get("spectrum"),
        whitened_spectrum=whitening.whitened(tensors.get("spectrum")),
        level=tensors.get("level"),
    )
    return Machine(
        reference,
        read_calibrations(tensors["calibration"].numpy(), tensors["tails"].tolist(), record["is_enrolled"], backends),
        record["is_enrolled"],
        record["unknown_below"],
        record["one_clip_log_distance"],
    )


def read_calibrations(
    scores: np.ndarray, tails: list[list[float]], is_cross: bool, backends: tuple[str, ...]
) -> dict[str, Calibration]:
    """A machine's calibrations from the rows of its tensors; an empty one for back ends that cannot be used."""
    calibrations = {}
    for name, own_scores, tail in zip(BACKENDS, scores, tails, strict=True):
        is_known = name in backends and not math.isnan(tail[-1])
        own_scores = own_scores if name in backends else np.empty(0)
        calibrations[name] = Calibration(name, own_scores, Tail(*tail) if is_known else None, is_cross)
    return calibrations
