"""Normal recordings, looked at before a machine is made of them: silent ones, clipped ones, and copies.

Training, fitting and enrolling all look by [`look_at`] and [`sort_out`].
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .self_test_attention_asd import listed, name_of


@dataclass(frozen=True)
class Looks:
    """What a recording looks like, before anything is made of it. Made by [`look_at`].

    Args:
        silent (`float`):
            The share of its parts that hold no sound.
        is_clipped (`bool`):
            Whether it was cut off at the recorder's limit.
        digest (`str`):
            The same for the same samples.
    """

    silent: float
    is_clipped: bool
    digest: str


def look_at(parts: Iterable[np.ndarray], is_clipped: bool, is_silent: Callable[[np.ndarray], bool]) -> Looks:
    """Look at a recording.

    Args:
        parts: its windows `(samples,)`, float32; none of them is a recording without sound.
        is_clipped: whether it was cut off at the recorder's limit.
        is_silent: tells whether a window holds no sound, as the feature extractor does.
    """
    digest, silent, count = hashlib.sha256(), 0, 0
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
        silent, count = silent + is_silent(part), count + 1
    return Looks(silent / count if count else 1.0, is_clipped, digest.hexdigest())


def sort_out(looks: Sequence[Looks], names: Sequence[str], machines: Sequence[str]) -> tuple[list[int], list[str]]:
    """Which recordings are used, by their places, and a sentence for each kind of trouble.

    Silent ones and copies are left out. Of a recording that is silent in part the rest is used.

    Args:
        looks: of the recordings.
        names: theirs.
        machines: the machine of each: copies are counted once a machine.
    """
    kept, silent, copies, clipped = [], [], [], []
    seen = set()
    for place, (look, name, machine) in enumerate(zip(looks, names, machines, strict=True)):
        short = name_of(name)
        if look.silent:
            silent.append(short if look.silent == 1.0 else f"{short} (in part)")
            if look.silent == 1.0:
                continue
        if (machine, look.digest) in seen:
            copies.append(short)
            continue
        seen.add((machine, look.digest))
        kept.append(place)
        if look.is_clipped:
            clipped.append(short)
    kinds = {
        "Silent, left out": silent,
        "Copy of another, left out": copies,
        "Clipped, record at a lower gain": clipped,
    }
    return kept, [f"{kind}: {listed(of)}." for kind, of in kinds.items() if of]


__all__ = ["Looks", "look_at", "sort_out"]
