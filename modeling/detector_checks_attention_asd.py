"""What a detector's files claim, checked before it is believed: a damaged or hostile file must not become a verdict."""

import json
import re
from collections.abc import Mapping
from typing import Any

import torch


# No number of a detector comes near. Larger ones would overflow in sums of squares.
LARGEST = 1e12
# Sizes of the tensors: h of the embedding, D of the spectra, b mel bins, k components of a machine's mixture; * any.
SHAPES = {
    "whitening": "hh",
    "noise": "b",
    "noise_clips": "26b",
    "spectra.matrix": "DD",
    "spectra.variances": "D",
    "spectra.center": "D",
    "machines.centroid": "h",
    "machines.mixture.weights": "k",
    "machines.mixture.means": "kh",
    "machines.mixture.variances": "kh",
    "machines.mean": "D",
    "machines.own": "*D",
    "machines.examples": "*D",
    "machines.level": "2b",
}
# Their roots and logarithms are taken.
POSITIVE = ("spectra.variances", "machines.mixture.weights", "machines.mixture.variances")


def parse_json(text: str) -> dict[str, Any]:
    """Read a JSON object whose numbers are finite, and none larger than `LARGEST`.

    Raises:
        ValueError: it is no such object.
    """
    try:
        content = json.loads(text, parse_int=whole_number, parse_float=number, parse_constant=number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    return content


def number(text: str) -> float:
    value = float(text)
    if not abs(value) <= LARGEST:
        raise ValueError(f"{text[:20]} is no number of a detector")
    return value


def whole_number(text: str) -> int:
    return int(number(text))


def demand(holds: bool, what: str) -> None:
    """Raise a ValueError that names `what` if it does not hold."""
    if not holds:
        raise ValueError(f"{what} is impossible")


def check_numbers(
    record: Mapping[str, Any], place: str, *, above_0: str = "", from_0: str = "", any_sign: str = ""
) -> None:
    """Entries of a record are numbers of this range; names are given in one string."""
    for names, is_in_range in (
        (above_0, lambda value: value > 0),
        (from_0, lambda value: value >= 0),
        (any_sign, lambda value: True),
    ):
        for name in names.split():
            value = record[name]
            demand(isinstance(value, (int, float)) and is_in_range(value), f"{name} of {place}")


def check_content(content: Mapping[str, Any]) -> None:
    """Check the numbers and names of `scoring_config.json`.

    Raises:
        ValueError: one is impossible. The message names it.
        LookupError, TypeError, AttributeError: one is missing or of another type.
    """
    check_numbers(content, "the detector", above_0="false_alarm_rate num_frames")
    check_numbers(content["arcface"], "arcface", above_0="scale", from_0="margin")
    for kind in ("fitted", "enrolled"):
        for backend, prior in content[kind].items():
            check_numbers(
                prior, backend, above_0="variance degrees", from_0="location_clips count", any_sign="location"
            )
            if prior["tail"] is not None:
                check_numbers(prior["tail"], f"{backend}'s tail", above_0="degrees scale", any_sign="location")
    demand(isinstance(content["machines"], list) and len(content["machines"]) > 0, "the list of machines")
    names = [machine["name"] for machine in content["machines"]]
    demand(all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names), "a machine's name")
    for machine in content["machines"]:
        check_machine(machine)


def check_machine(machine: Mapping[str, Any]) -> None:
    """Check what `scoring_config.json` says of one machine."""
    place, spectrum, level = machine["name"], machine["spectrum"], machine["level"]
    if machine["label"] is not None:
        check_numbers(machine, place, from_0="label")
    if spectrum is not None:
        check_numbers(spectrum, place, above_0="clips", from_0="extra_variance")
    if level is not None:
        check_numbers(level, place, any_sign="lowest highest")
        if level["roughness"] is not None:
            check_numbers(level, place, any_sign="roughness")
        if level["frames"] is not None:
            check_numbers(level, place, above_0="frames")


def check_tensors(tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that tensors are finite numbers, positive where they have to be, and fit each other.

    Raises:
        ValueError: one is impossible. The message names it.
    """
    sizes: dict[str, int] = {"2": 2, "6": 6}
    for name, tensor in tensors.items():
        demand(tensor.is_floating_point() and bool(tensor.isfinite().all()), name)
        kind = re.sub(r"^machines\.\d+\.", "machines.", name)
        demand(kind not in POSITIVE or bool((tensor > 0).all()), name)
        letters = SHAPES.get(kind, "*" * tensor.ndim)
        demand(tensor.ndim == len(letters), name)
        for letter, size in zip(letters, tensor.shape, strict=True):
            key = name.split(".mixture.")[0] if letter == "k" else letter
            demand(letter == "*" or sizes.setdefault(key, size) == size, f"the shape {tuple(tensor.shape)} of {name}")


__all__ = ["check_content", "check_tensors", "parse_json"]
