"""A machine's self-test: what its normal recordings are worth, as numbers and as sentences that a person can read.

[`self_test`] in `power_attention_asd` makes one, at the end of every fit and of every enrollment.
"""

import math
import os
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


# More names than this are counted, not listed.
NAMED, MAX_NAME = 3, 80
# Of fewer recordings none can be called the odd one out, and too few altered sounds can be made.
MIN_RECORDINGS = 4
# Where the share is not larger than so many times the rate, other machines sound the same as this one.
DISTINCT = 2.0
# At this share of faults or below, a verdict of "normal" says little.
LOW_POWER = 0.25
# By how many of 10 the faults found on real machines differ from the estimate: by 1.3 to 2.4 from a rate of 5 % on; by 2.3 to
# 3.6 at 1 % or of two recordings (docs/decisions.md).
ERROR, ROUGH_ERROR, LOW_RATE = 2, 3, 0.05


@dataclass(frozen=True)
class FoundAtRate:
    """What was found at one false-alarm rate. Shares are in [0, 1], and `None` where nothing could be tried.

    Args:
        rate (`float`):
            The false-alarm rate.
        false_alarms (`int`, *optional*):
            How many of the machine's recordings raised an alarm, each left out in turn.
        same_type, others (`float`, *optional*):
            The share of normal clips of other machines that would raise an alarm: of machines of the same type, and of
            all.
        same_type_with_more (`float`, *optional*):
            What `same_type` would be with more recordings, see `SelfTest.more`.
        altered, altered_with_more (`dict[str, float]`):
            The share of the machine's clips that would raise an alarm once altered, by the name of the alteration.
    """

    rate: float
    false_alarms: int | None
    same_type: float | None
    others: float | None
    same_type_with_more: float | None
    altered: dict[str, float]
    altered_with_more: dict[str, float]

    @property
    def is_type_distinct(self) -> bool:
        """Whether there are machines of the same type that sound different, so that they can stand for faults."""
        return self.same_type is not None and self.same_type > DISTINCT * self.rate

    @property
    def heard(self) -> float | None:
        """The share of faults that would be heard, by the machines of the same type; `None` where it cannot be told.

        Altered clips do not tell: on real machines their share did not follow the faults found.
        """
        return self.same_type if self.is_type_distinct else None

    @property
    def heard_with_more(self) -> float | None:
        """The same with more recordings."""
        return self.same_type_with_more if self.is_type_distinct else None

    @property
    def is_deaf(self) -> bool:
        """Whether neither machines of the same type nor altered clips are told from normal ones."""
        altered = mean(self.altered)
        if self.same_type is None or altered is None:
            return False
        return not self.is_type_distinct and altered <= LOW_POWER


@dataclass(frozen=True)
class SelfTest:
    """What a machine's normal recordings are worth.

    Args:
        backend (`str`):
            The back end that was tested.
        recordings (`int`):
            The number of the machine's recordings that calibrate it.
        more (`int`):
            The number of recordings that "with more" stands for.
        false_alarm_rate (`float`):
            The detector's rate when the test was made.
        lowest_rate (`float`):
            The lowest rate that the normal clips of all machines support.
        at (`tuple[FoundAtRate, ...]`):
            What was found, at several rates in ascending order.
        noise (`dict[str, str]`):
            The verdict on noise that is claimed to be this machine, by the kind of noise; empty where none could be tried.
        unusual (`tuple[str, ...]`):
            Names of recordings that are unlike the rest.
        remarks (`tuple[str, ...]`):
            What was seen of the recordings before they were used, a sentence each.
    """

    backend: str
    recordings: int
    more: int
    false_alarm_rate: float
    lowest_rate: float
    at: tuple[FoundAtRate, ...]
    noise: dict[str, str]
    unusual: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "SelfTest":
        """What `to_dict` gave, also after JSON."""
        lists = {name: tuple(fields[name]) for name in ("unusual", "remarks")}
        return cls(**{**fields, **lists, "at": tuple(FoundAtRate(**found) for found in fields["at"])})

    def at_rate(self, false_alarm_rate: float | None = None) -> FoundAtRate:
        """What was found at the tested rate that is nearest to the given one, by default to the detector's."""
        rate = self.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
        return min(self.at, key=lambda found: abs(math.log(found.rate / rate)))

    def sentences(self, false_alarm_rate: float | None = None) -> list[str]:
        """The test in sentences, at the rate asked for or the detector's."""
        found = self.at_rate(false_alarm_rate)
        return [
            *self.remarks,
            *self._unusual_recordings(),
            *self._false_alarms(found),
            *self._other_machines(found),
            *self._faults(found),
            *self._noise(),
        ]

    def summary(self, false_alarm_rate: float | None = None) -> str:
        """The test in one line."""
        found = self.at_rate(false_alarm_rate)
        parts = [counted(self.recordings)]
        if found.false_alarms is not None:
            seen = percent(found.false_alarms / self.recordings)
            parts.append(f"{percent(found.rate)} false alarms asked for, {seen} in cross-validation")
        return "; ".join([*parts, self._power(found)])

    def warning(self, false_alarm_rate: float) -> str | None:
        """What makes a verdict of "normal" doubtful; `None` where nothing does."""
        passing = self.passing_noise
        if passing:
            return f"{' and '.join(passing)} would pass as this machine in normal operation"
        found = self.at_rate(false_alarm_rate)
        # At an unsupported rate nothing raises an alarm, and the verdict's note says so.
        if self.lowest_rate > false_alarm_rate:
            return None
        if found.is_deaf:
            return "this machine's recordings hardly tell it from others of its type: few faults would be heard"
        if found.heard is None or found.heard > LOW_POWER:
            return None
        return f"this machine's recordings can tell about {tenths(found.heard)} of 10 faults"

    @property
    def passing_noise(self) -> list[str]:
        """The kinds of noise that would pass as the machine in normal operation."""
        return [kind for kind, verdict in self.noise.items() if verdict == "normal"]

    # The sentences, by what they are about

    def _unusual_recordings(self) -> list[str]:
        return [f"Unlike the rest, listen again: {listed(self.unusual)}."] if self.unusual else []

    def _false_alarms(self, found: FoundAtRate) -> list[str]:
        asked, enough = percent(found.rate), math.ceil(1.0 / found.rate - 1e-9)
        sentences = []
        if found.false_alarms is None:
            sentences.append(
                f"{counted(self.recordings)}: how much the machine varies is known from other machines alone."
            )
        else:
            sentences.append(
                f"Each left out in turn, {found.false_alarms} of {counted(self.recordings)} raised a false alarm; {asked} "
                "is asked for."
            )
        if self.recordings < enough:
            sentences.append(f"So few cannot prove {asked}; {enough} recordings would be enough.")
        if self.lowest_rate > found.rate:
            missing = enough - round(1.0 / self.lowest_rate)
            sentences.append(
                f"At {asked} nothing raises an alarm: the clips of all machines support {percent(self.lowest_rate)} or "
                f"more. {counted(missing)} more would be enough."
            )
        return sentences

    def _other_machines(self, found: FoundAtRate) -> list[str]:
        if found.others is None:
            return ["No other machine is known, so that none could be tried."]
        every = f"{percent(found.others)} of the normal sounds of other machines would raise an alarm"
        if found.same_type is None:
            return [f"{every}. None of them is of its type."]
        return [f"{every}, and {percent(found.same_type)} of those of its type."]

    def _faults(self, found: FoundAtRate) -> list[str]:
        sentences = []
        now, more = mean(found.altered), mean(found.altered_with_more)
        if now is not None and more is not None:
            shares = ", ".join(f"{name} {percent(share)}" for name, share in found.altered.items())
            sentences.append(f"Altered sounds would raise an alarm: {shares}.")
            sentences.append(
                f"That is about {tenths(now)} of 10 altered sounds; with {self.more} recordings about {tenths(more)}."
            )
        else:
            sentences.append(f"Altered sounds could not be tried: {MIN_RECORDINGS} recordings are needed.")
        if found.heard is not None and found.heard_with_more is not None:
            estimate = f"{self._power(found)}; with {self.more} about {tenths(found.heard_with_more)}"
            sentences.append(
                f"With {'this' if self.recordings == 1 else 'these'} {counted(self.recordings)} {estimate}."
            )
        else:
            sentences += [f"{capitalized(self._power(found))}: {self._why_unknown(found)}.", *self._way_to_know(found)]
        return sentences

    def _power(self, found: FoundAtRate) -> str:
        if found.heard is None:
            return "how many faults would be heard cannot be told"
        is_rough = found.rate < LOW_RATE or self.recordings < MIN_RECORDINGS
        error = ROUGH_ERROR if is_rough else ERROR
        return f"about {tenths(found.heard)} of 10 faults would be heard, give or take {error}"

    @staticmethod
    def _why_unknown(found: FoundAtRate) -> str:
        if found.same_type is None:
            return "no other machine of its type is known"
        few = ", and altered ones too" if found.is_deaf else ""
        return f"others of its type sound like this one{few}"

    @staticmethod
    def _way_to_know(found: FoundAtRate) -> list[str]:
        another = []
        if found.same_type is None:
            another = [
                "For an estimate, enroll another machine of its type, named alike, as press_id_00 and press_id_01."
            ]
        return [*another, "To find out, judge a recording of a known fault."]

    def _noise(self) -> list[str]:
        if not self.noise:
            return ["Whether noise would pass as this machine was not tried: the detector was fitted without noise."]
        passing = self.passing_noise
        if not passing:
            return [f"{capitalized(' and '.join(self.noise))} would not pass as normal."]
        return [
            f"Warning: {' and '.join(passing)} would pass as normal. Do not rely on this machine's verdicts.",
            "Record the machine from nearby, and enroll it again.",
        ]


def mean(shares: dict[str, float]) -> float | None:
    return sum(shares.values()) / len(shares) if shares else None


def percent(share: float) -> str:
    return f"{100.0 * share:.2g} %" if share < 0.995 else "100 %"


def tenths(share: float) -> int:
    return round(10.0 * share)


def counted(recordings: int) -> str:
    return f"{recordings} recording{'' if recordings == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """A few names, and the number of the others."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def name_of(recording: Hashable) -> str:
    """A recording's name for people: of a path or URL the last part alone, because detectors are given away."""
    if not isinstance(recording, str):
        return f"recording {recording}"
    path = recording.partition("?")[0] if "://" in recording else recording
    return "".join(letter if letter.isprintable() else "?" for letter in os.path.basename(path))[:MAX_NAME]


def capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


__all__ = ["SelfTest", "FoundAtRate", "listed", "name_of"]
