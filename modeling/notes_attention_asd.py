"""The words of the notes: why the detector cannot tell, and what makes a verdict doubtful."""

from collections.abc import Sequence

from .levels_attention_asd import edge_bins


SILENT = "it is silent"
NOT_FINITE = "the network's output is not finite"
NOISE = "it is noise, with nothing of a machine in it"
SHORT = "it is much shorter than the machine's normal recordings, so that only a strong fault stands out"


def level_note(level_db: float) -> str:
    """That the whole recording is louder or softer than it should be."""
    return (
        f"the whole recording is {abs(level_db):.0f} dB {'louder' if level_db > 0 else 'softer'} than this machine's normal "
        "ones: check the gain and the place of the microphone"
    )


def unsupported_rate(lowest_rate: float, is_beyond: bool) -> str:
    """That a verdict at the rate asked for is not to be had."""
    what = "the sound is less like the machine than what they can tell of" if is_beyond else "nothing raises an alarm"
    return (
        f"the normal clips support no false-alarm rate below {100 * lowest_rate:.2g} %: at a lower one {what}. Ask for a "
        "higher rate, or fit on more clips"
    )


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
    return f"it holds nothing above {hertz / 1000:.1f} kHz"


def band_note(limit: str, is_machine_named: bool, is_alarm: bool) -> str:
    """That the upper part of the band is missing, and what follows from that."""
    if not is_machine_named:
        rest = "Name the machine to have the rest judged"
    elif is_alarm:
        rest = "The rest is unlike this machine, which a codec does as well: record at a higher rate, uncompressed"
    else:
        rest = "The rest was judged"
    return f"{limit} (a codec or a low sampling rate). {rest}"


__all__ = ["NOISE", "NOT_FINITE", "SHORT", "SILENT", "band_limit", "band_note", "level_note", "unsupported_rate"]
