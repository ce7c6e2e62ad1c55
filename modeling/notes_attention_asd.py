"""The words of the notes: why the detector cannot tell, and what makes a verdict doubtful.

[`NOTES`] is the one table of them. Programs in other languages fill in the same sentences, as their formats say.
"""

from collections.abc import Sequence
from typing import Any

from .levels_attention_asd import edge_bins


BAND_LIMIT = "it holds nothing above {band_khz:.1f} kHz"
# By their keys; a value in braces is written as Python's `format` does.
NOTES = {
    # Nothing is judged.
    "silent": "it is silent",
    "not finite": "the network's output is not finite",
    "too short": "it has only {seconds:.2g} s of sound: {shortest_seconds:g} s or more are needed. Record for longer",
    "mostly silent": "more than half of it is silent ({silent_seconds:.1f} of {duration_s:.1f} s): check when the recorder "
    "starts and stops",
    # The upper part of the band is missing.
    "band, no machine named": "{limit} (a codec or a low sampling rate). Name the machine to have the rest judged",
    "band, alarm": "{limit} (a codec or a low sampling rate). The rest is unlike this machine, which a codec does as well: "
    "record at a higher rate, uncompressed",
    "band": "{limit} (a codec or a low sampling rate). The rest was judged",
    # What the sound is.
    "noise": "it is noise, with nothing of a machine in it",
    "like none": "it is like none of the known machines (the closest is {nearest})",
    "too few clips": "too few normal clips to calibrate {machine} with: enroll it again with more",
    "other machine": "it sounds like {nearest}, not like {machine}",
    "no machine named": "it is like none of the known machines in normal operation (the closest is {nearest}): name the "
    "machine to have it judged as that one",
    # What makes the verdict doubtful.
    "louder": "the whole recording is {level_db:.0f} dB louder than this machine's normal ones: check the gain and the place "
    "of the microphone",
    "softer": "the whole recording is {level_db:.0f} dB softer than this machine's normal ones: check the gain and the place "
    "of the microphone",
    "rate, beyond": "the normal clips support no false-alarm rate below {lowest_percent:.2g} %: at a lower one the sound is "
    "less like the machine than what they can tell of. Ask for a higher rate, or fit on more clips",
    "rate": "the normal clips support no false-alarm rate below {lowest_percent:.2g} %: at a lower one nothing raises an "
    "alarm. Ask for a higher rate, or fit on more clips",
    "shorter": "it is much shorter than the machine's normal recordings, so that only a strong fault stands out",
    "clipped": "the recording is clipped ({clipped_percent:.2g} % of its samples): lower the recorder's gain",
    "hum": "there is a hum at multiples of {hum_hz} Hz: check the microphone's cable and ground, unless the machine hums",
    "partly silent": "{silent_seconds:.1f} s of it are silent",
}


def note(key: str, **values: Any) -> str:
    """A note with its values filled in."""
    return NOTES[key].format(**values)


def level_note(level_db: float) -> str:
    """That the whole recording is louder or softer than it should be."""
    return note("louder" if level_db > 0 else "softer", level_db=abs(level_db))


def unsupported_rate(lowest_rate: float, is_beyond: bool) -> str:
    """That a verdict at the rate asked for is not to be had."""
    return note("rate, beyond" if is_beyond else "rate", lowest_percent=100 * lowest_rate)


def band_limit(first_missing: int, mel_frequencies: Sequence[float] | None) -> str:
    """The frequency above which a recording holds nothing.

    Args:
        first_missing: the lowest mel bin that is not judged.
        mel_frequencies: center frequencies of the bins in Hz, where they are known.
    """
    if mel_frequencies is None:
        return "the upper part of the band is missing"
    bins = len(mel_frequencies)
    hertz = mel_frequencies[min(first_missing + edge_bins(bins), bins - 1)]
    return BAND_LIMIT.format(band_khz=hertz / 1000)


def band_note(limit: str, is_machine_named: bool, is_alarm: bool) -> str:
    """That the upper part of the band is missing, and what follows from that."""
    if not is_machine_named:
        return note("band, no machine named", limit=limit)
    return note("band, alarm" if is_alarm else "band", limit=limit)


__all__ = ["BAND_LIMIT", "NOTES", "band_limit", "band_note", "level_note", "note", "unsupported_rate"]
