"""Normal recordings, looked at before a machine is made of them: silent ones, clipped ones, and copies.

Training, fitting and enrolling all look by [`look_at`] and [`sort_out`].
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .self_test_attention_asd import listed, name_of


# Below the step of 16 bits (-90 dB of full scale) there is no sound, only a microphone that is off.
SILENCE_RMS = 2.0**-15
# A clipped recording stays at its highest or lowest value for three samples or more, and comes there in a jump (in parts of
# that value). In softer recordings than this peak (64 steps of 16 bits), neighboring samples are equal by chance.
MAX_CLIPPED_SHARE = 1e-4
CLIP_RUN, CLIP_BAND, CLIP_JUMP = 3, 0.01, 0.005
MIN_CLIP_PEAK = 2.0**-9


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


def look_at(parts: Iterable[np.ndarray]) -> Looks:
    """Look at a recording in parts `(samples,)`, float32."""
    digest, silent, clipped, count, samples = hashlib.sha256(), 0, 0, 0, 0
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
        silent, count = silent + is_silent(part), count + 1
        clipped, samples = clipped + count_clipped(part), samples + len(part)
    return Looks(silent / max(count, 1), clipped > MAX_CLIPPED_SHARE * samples, digest.hexdigest())


def is_silent(samples: np.ndarray) -> bool:
    """Whether samples `(samples,)` hold no sound."""
    return bool(samples.std() < SILENCE_RMS)


def count_clipped(samples: np.ndarray) -> int:
    """The number of samples `(samples,)` that are cut off at the recorder's limit."""
    peak = float(np.abs(samples).max(initial=0.0))
    loud = np.flatnonzero(np.abs(samples) >= (1.0 - CLIP_BAND) * peak)
    if peak < MIN_CLIP_PEAK or len(loud) < CLIP_RUN:
        return 0
    starts_run = np.diff(loud, prepend=-2) > 1
    starts_run[1:] |= samples[loud[1:]] != samples[loud[:-1]]
    starts = np.flatnonzero(starts_run)
    lengths, first = np.diff(starts, append=len(loud)), loud[starts]
    jumps = np.abs(samples[first] - samples[np.maximum(first - 1, 0)])
    return int(lengths[(lengths >= CLIP_RUN) & (jumps >= CLIP_JUMP * peak)].sum())


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


__all__ = ["Looks", "is_silent", "look_at", "sort_out"]
