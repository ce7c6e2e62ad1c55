"""What a machine's normal recordings are worth: the test at the end of every fit and of every enrollment.

False alarms come from scores of clips that were left out. What would be heard, other machines' normal clips and altered
clips tell. Begin with [`self_test`].
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .alterations_attention_asd import ALTERATIONS
from .calibration_attention_asd import Calibration, benjamini_hochberg
from .decision_attention_asd import decide_recording
from .levels_attention_asd import NOISES
from .machines_attention_asd import KnownMachines, Machine, known_space
from .outputs_attention_asd import ClipOutputs
from .self_test_attention_asd import MIN_RECORDINGS, FoundAtRate, SelfTest, name_of
from .spectrum_attention_asd import anomaly_score, evenly, log_distance


RATES = (0.01, 0.05, 0.1)
# A left-out recording with a p-value of at most this is unlike the rest.
UNUSUAL = 0.01
# "With more recordings" is so many, or twice as many as there are.
MORE = 20
# Other machines that are tried: with ten thousand it would take seconds.
MAX_TRIED = 32
MAX_UNUSUAL = 20


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A machine's clips as heard by detectors that were made without them.

    Args:
        scores (`np.ndarray` of shape `(clips,)`):
            The anomaly scores.
        folds (`np.ndarray` of shape `(clips,)`):
            Which clips were left out together.
        recordings (`Sequence[Hashable]`):
            The recording of each clip: its name, or its number.
        altered (`np.ndarray` of shape `(2, alterations, clips)`, *optional*):
            The scores of the clips once altered, and their [`log_distance`]. A network's back end has none.
    """

    scores: np.ndarray
    folds: np.ndarray
    recordings: Sequence[Hashable]
    altered: np.ndarray | None = None

    @property
    def clips_heard(self) -> np.ndarray:
        """How many clips describe the machine that hears each clip, `(clips,)`."""
        return np.array([(self.folds != fold).sum() for fold in self.folds])


def self_test(
    machine: Machine,
    known: KnownMachines,
    left_out: LeftOut,
    backend: str,
    false_alarm_rate: float,
    remarks: Sequence[str] = (),
) -> SelfTest:
    """The self-test of a machine.

    Args:
        machine: the machine, calibrated.
        known: the machines that it is compared with.
        left_out: its clips.
        backend: the back end to test. `spectrum` alone is tried on other sounds: no training has seen them.
        false_alarm_rate: the detector's.
        remarks: what was seen of its recordings, a sentence each.
    """
    calibration = machine.calibration(backend)
    p_values = recording_p_values(left_out, calibration)
    clips = len(left_out.scores) if machine.spectrum is None else machine.spectrum.clips
    recordings = len(p_values) or clips
    more = max(MORE, 2 * recordings)
    is_tried = backend == "spectrum" and machine.spectrum is not None and calibration.prior is not None
    tried = machines_to_try(machine, known) if is_tried else []
    alarms = Alarms(calibration, clips, round(clips * more / max(recordings, 1)))
    sounds = tried_sounds(machine, tried, known, left_out, alarms) if is_tried else TriedSounds()
    return SelfTest(
        backend=backend,
        recordings=recordings,
        more=more,
        false_alarm_rate=false_alarm_rate,
        lowest_rate=calibration.lowest_rate,
        at=tuple(found_at(rate, p_values, sounds) for rate in sorted({*RATES, false_alarm_rate})),
        noise=verdicts_on_noise(machine, tried, known, false_alarm_rate) if is_tried else {},
        unusual=unusual_recordings(p_values),
        remarks=tuple(remarks),
    )


# The machine's own recordings


def recording_p_values(left_out: LeftOut, calibration: Calibration) -> dict[Hashable, float]:
    """The p-value of each recording, by what the other folds say about normal scores; empty where there is one fold.

    Those of a recording's windows are adjusted for their number, as in a decision.
    """
    if calibration.prior is None or len(np.unique(left_out.folds)) < 2:
        return {}
    p_values = np.empty(len(left_out.scores))
    for fold in np.unique(left_out.folds):
        is_out = left_out.folds == fold
        others = Calibration.of(calibration.backend, left_out.scores[~is_out], calibration.prior)
        p_values[is_out] = others.tail(torch.from_numpy(left_out.scores[is_out])).numpy()
    windows: dict[Hashable, list[float]] = {}
    for recording, p_value in zip(left_out.recordings, p_values.tolist(), strict=True):
        windows.setdefault(recording, []).append(p_value)
    return {recording: float(benjamini_hochberg(np.array(of)).min()) for recording, of in windows.items()}


def unusual_recordings(p_values: dict[Hashable, float]) -> tuple[str, ...]:
    """Names of the recordings that are unlike the rest, the most unlike first."""
    if len(p_values) < MIN_RECORDINGS:
        return ()
    unlike = sorted((p_value, place) for place, p_value in enumerate(p_values.values()) if p_value <= UNUSUAL)
    recordings = list(p_values)
    return tuple(name_of(recordings[place]) for _, place in unlike[:MAX_UNUSUAL])


# Other sounds


@dataclass(frozen=True, eq=False)
class Alarms:
    """Tells which sounds would raise an alarm, now and with more clips.

    Args:
        calibration ([`Calibration`]):
            The machine's.
        clips, more (`int`):
            How many clips it has, and how many it is imagined to have.
    """

    calibration: Calibration
    clips: int
    more: int

    def p_values(self, scores: np.ndarray, distances: np.ndarray, heard: np.ndarray | int) -> np.ndarray:
        """The p-values of sounds, `(2, sounds)`: now and with more clips.

        Args:
            scores, distances: `(sounds,)`, the anomaly scores and [`log_distance`].
            heard: by how many clips the machine was described, `(sounds,)` or the same for all.
        """
        now, more = (torch.from_numpy(with_clips(scores, distances, heard, clips)) for clips in (self.clips, self.more))
        p_values = [self.calibration.p_value(now), self.calibration.p_value_with_more(more, self.more - self.clips)]
        return torch.stack(p_values).numpy()


def with_clips(scores: np.ndarray, distances: np.ndarray, heard: np.ndarray | int, clips: int) -> np.ndarray:
    """What scores would be, were the machine's mean known from so many clips.

    A distance is corrected so that a normal clip's is 1 whatever the number. The part beyond 1 has been corrected too much.
    """
    squares = np.exp(distances)
    beyond = np.maximum(squares - 1.0, 0.0)
    return scores * (1.0 + beyond * ((heard + 1.0) / heard * clips / (clips + 1.0) - 1.0) / squares)


@dataclass(frozen=True, eq=False)
class TriedSounds:
    """The p-values of sounds that are no normal clips of the machine, each `(2, sounds)`: now and with more clips.

    Args:
        same_type, others (`np.ndarray`, *optional*):
            Normal clips of other machines, of the same type and all.
        altered (`dict[str, np.ndarray]`):
            The machine's clips, altered.
    """

    same_type: np.ndarray | None = None
    others: np.ndarray | None = None
    altered: dict[str, np.ndarray] = field(default_factory=dict)


def tried_sounds(
    machine: Machine, tried: Sequence[Machine], known: KnownMachines, left_out: LeftOut, alarms: Alarms
) -> TriedSounds:
    """Try the normal clips of other machines, and the machine's own once altered."""
    space, spectrum = known_space(known.shared), machine.spectrum
    others, same_type = [], []
    for other in tried:
        if spectrum is None or other.spectrum is None:
            continue
        clips = other.spectrum.mean + other.spectrum.examples.double()
        scores, distances = (of(space, spectrum, clips).numpy() for of in (anomaly_score, log_distance))
        others.append(alarms.p_values(scores, distances, spectrum.clips))
        same_type += others[-1:] if is_same_type(machine, other) else []
    altered = {}
    if left_out.altered is not None and len(set(left_out.recordings)) >= MIN_RECORDINGS:
        heard = left_out.clips_heard
        for name, scores, distances in zip(ALTERATIONS, *left_out.altered, strict=True):
            altered[name] = alarms.p_values(scores, distances, heard)
    return TriedSounds(joined(same_type), joined(others), altered)


def joined(groups: Sequence[np.ndarray]) -> np.ndarray | None:
    """Sounds of several machines as one array; `None` where there are none."""
    return np.concatenate(groups, axis=1) if groups else None


def found_at(rate: float, p_values: dict[Hashable, float], sounds: TriedSounds) -> FoundAtRate:
    """What was found at one rate."""

    def share(of: np.ndarray) -> list[float]:
        return (of <= rate).mean(1).tolist()

    same_type = (None, None) if sounds.same_type is None else share(sounds.same_type)
    altered = {name: share(of) for name, of in sounds.altered.items()}
    return FoundAtRate(
        rate=rate,
        false_alarms=sum(p_value <= rate for p_value in p_values.values()) if p_values else None,
        same_type=same_type[0],
        others=None if sounds.others is None else share(sounds.others)[0],
        same_type_with_more=same_type[1],
        altered={name: now for name, (now, _) in altered.items()},
        altered_with_more={name: more for name, (_, more) in altered.items()},
    )


def machines_to_try(machine: Machine, known: KnownMachines) -> list[Machine]:
    """Other machines: those of the same type first, then the rest evenly, a limited number of them."""
    others = [other for other in known.by_name.values() if other.name != machine.name]
    same_type = [other for other in others if is_same_type(machine, other)][:MAX_TRIED]
    rest = [other for other in others if not is_same_type(machine, other)]
    return same_type + [rest[place] for place in evenly(len(rest), MAX_TRIED)]


def is_same_type(machine: Machine, other: Machine) -> bool:
    """Whether both names begin with the same machine type, as in `fan_id_00`."""
    kind, _, number = machine.name.rpartition("_id_")
    return bool(kind and number) and other.name.startswith(f"{kind}_id_")


def verdicts_on_noise(
    machine: Machine, tried: Sequence[Machine], known: KnownMachines, false_alarm_rate: float
) -> dict[str, str]:
    """The verdict on each kind of noise, claimed to be this machine."""
    if known.shared.noise_clips is None:
        return {}
    # Among these machines alone: to find the nearest of ten thousand takes a second to prepare.
    few = KnownMachines.of(known.shared, [*tried, machine])
    verdicts = {}
    for kind, spectra in zip(NOISES, known.shared.noise_clips, strict=True):
        embedding = machine.embedding.centroid.unsqueeze(0)
        clip = ClipOutputs(embedding, torch.zeros(1, 1), spectra.unsqueeze(0))
        decision, _ = decide_recording(
            few, clip, machine=machine.name, false_alarm_rate=false_alarm_rate, backend="spectrum", silent=None
        )
        verdicts[kind] = decision.verdict
    return verdicts


__all__ = ["LeftOut", "self_test"]
