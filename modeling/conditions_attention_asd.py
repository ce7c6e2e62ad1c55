"""
Recording conditions: what a recording's samples say about the recorder, which is no fault of the machine.

[`listen`] goes through a recording once, before its windows are cut. `decide_recording` takes the [`Conditions`] into account.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .modeling_attention_asd import spectral_statistics
from .notes_attention_asd import note
from .outputs_attention_asd import ClipOutputs


# The statistics of a shorter sound scatter so much that nearly no fault stands out.
MIN_SECONDS = 1.0
# A recording of this length is kept in memory, so that the file is read once.
MAX_KEPT_SECONDS = 60.0
MAX_SILENT_SHARE = 0.5
# Silence of this share is worth a note.
NOTED_SILENT_SHARE = 0.05
# A clipped recording stays at its highest or lowest value for three samples or more, and comes there in a jump (in parts of
# that value). Of 386 real clips none has such samples; with the loudest hundredth of their samples cut off, 99 % have more
# than this share.
MAX_CLIPPED_SHARE = 1e-4
CLIP_RUN, CLIP_BAND, CLIP_JUMP = 3, 0.01, 0.005
# In recordings softer than this peak (64 steps of 16 bits), neighboring samples are equal by chance.
MIN_CLIP_PEAK = 2.0**-9
# Mains hum: so many lines at multiples of 50 or 60 Hz, each so far above the median of its surroundings.
HUM_HZ, HUM_ORDERS, HUM_LINES, HUM_DB = (50, 60), 6, 3, 20.0
HUM_RATE, HUM_SECONDS = 1_000, 10.0


@dataclass(frozen=True)
class Conditions:
    """What a recording's samples say about how it was recorded. Made by [`listen`].

    Args:
        seconds (`float`):
            Length of the sound, without the silence.
        shortest_seconds (`float`):
            A shorter sound is not judged.
        silent_seconds (`float`):
            Silence at both ends and in gaps.
        clipped_share (`float`):
            The share of samples that are cut off at the recorder's limit.
        hum_hz (`int`, *optional*):
            Frequency of the mains, where a hum at its multiples is heard.
        mel_frequencies (`tuple[float, ...]`):
            Center frequency of each mel bin in Hz, by which a limit is named.
    """

    seconds: float
    shortest_seconds: float
    silent_seconds: float
    clipped_share: float
    hum_hz: int | None
    mel_frequencies: tuple[float, ...]

    @property
    def is_clipped(self) -> bool:
        return self.clipped_share > MAX_CLIPPED_SHARE

    @property
    def obstacle(self) -> str | None:
        """Why the recording cannot be judged at all; `None` where it can."""
        if self.seconds < self.shortest_seconds:
            return note("too short", seconds=self.seconds, shortest_seconds=self.shortest_seconds)
        duration = self.seconds + self.silent_seconds
        if self.silent_seconds > MAX_SILENT_SHARE * duration:
            return note("mostly silent", silent_seconds=self.silent_seconds, duration_s=duration)
        return None

    def notes(self, is_alarm: bool) -> list[str]:
        """What is to be said beside a verdict.

        Args:
            is_alarm: whether the sound is unusual, so that a hum might be the reason.
        """
        notes = []
        if self.is_clipped:
            notes.append(note("clipped", clipped_percent=100.0 * self.clipped_share))
        if is_alarm and self.hum_hz is not None:
            notes.append(note("hum", hum_hz=self.hum_hz))
        if self.silent_seconds > NOTED_SILENT_SHARE * (self.seconds + self.silent_seconds):
            notes.append(note("partly silent", silent_seconds=self.silent_seconds))
        return notes


@dataclass(frozen=True, eq=False)
class Heard:
    """A recording that was listened to once.

    Attributes:
        conditions: how it was recorded.
        first, stop: where the sound between the silences at both ends begins and ends, in samples.
        samples: its length.
        kept: its blocks, if it is short enough to be kept.
    """

    conditions: Conditions
    first: int
    stop: int
    samples: int
    kept: list[np.ndarray] | None


def listen(blocks: Iterable[np.ndarray], feature_extractor: Any) -> Heard:
    """Go through a recording once, block by block, in memory that does not grow with its length.

    Args:
        blocks: the recording in parts `(samples,)` at the model's sampling rate.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.
    """
    rate = feature_extractor.sampling_rate
    kept: list[np.ndarray] | None = []
    beginning: list[np.ndarray] = []
    clipped = length = 0

    def passing() -> Iterator[np.ndarray]:
        nonlocal kept, clipped, length
        for block in blocks:
            clipped += count_clipped(block)
            if length < HUM_SECONDS * rate:
                beginning.append(block[: int(HUM_SECONDS * rate)])
            length += len(block)
            kept = [*kept, block] if kept is not None and length <= MAX_KEPT_SECONDS * rate else None
            yield block

    sound = feature_extractor.find_sound(passing())
    conditions = Conditions(
        seconds=(sound.samples - sound.silent) / rate,
        shortest_seconds=min(MIN_SECONDS, feature_extractor.clip_length / rate),
        silent_seconds=sound.silent / rate,
        clipped_share=clipped / max(sound.samples, 1),
        hum_hz=find_hum(np.concatenate(beginning), rate) if beginning else None,
        mel_frequencies=tuple(feature_extractor.mel_frequencies.tolist()),
    )
    return Heard(conditions, sound.first, sound.stop, sound.samples, kept)


def count_clipped(samples: np.ndarray) -> int:
    """The number of samples `(samples,)` that are cut off at the recorder's limit."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak < MIN_CLIP_PEAK:
        return 0
    # Few samples are so loud: the rest is cheap.
    loud = np.flatnonzero(np.abs(samples) >= (1.0 - CLIP_BAND) * peak)
    if len(loud) < CLIP_RUN:
        return 0
    starts_run = np.diff(loud, prepend=-2) > 1
    starts_run[1:] |= samples[loud[1:]] != samples[loud[:-1]]
    starts = np.flatnonzero(starts_run)
    lengths = np.diff(starts, append=len(loud))
    first = loud[starts]
    jumps = np.abs(samples[first] - samples[np.maximum(first - 1, 0)])
    return int(lengths[(lengths >= CLIP_RUN) & (jumps >= CLIP_JUMP * peak)].sum())


def find_hum(samples: np.ndarray, sampling_rate: int) -> int | None:
    """The frequency of the mains in Hz, if samples `(samples,)` hold lines at its multiples."""
    step = int(sampling_rate // HUM_RATE)
    slow = samples[: len(samples) // step * step].reshape(-1, step).mean(1) if step else samples
    rate = sampling_rate / max(step, 1)
    if len(slow) < 2.0 * rate:
        return None
    power = 20.0 * np.log10(np.abs(np.fft.rfft(slow * np.hanning(len(slow)))) + 1e-9)
    per_hz = len(slow) / rate
    line, around = max(round(0.3 * per_hz), 1), round(10.0 * per_hz)

    def lines(frequency: int) -> int:
        centers = [round(order * frequency * per_hz) for order in range(1, HUM_ORDERS + 1)]
        return sum(
            power[center - line : center + line + 1].max() - np.median(power[center - around : center + around + 1])
            >= HUM_DB
            for center in centers
        )

    found = {frequency: lines(frequency) for frequency in HUM_HZ}
    loudest = max(found, key=lambda frequency: found[frequency])
    return loudest if found[loudest] >= HUM_LINES else None


def of_true_frames(
    clips: ClipOutputs, windows: Sequence[np.ndarray | torch.Tensor], feature_extractor: Any
) -> ClipOutputs:
    """The clips with the statistics of what was recorded, where the network heard a short window filled to a clip.

    A window that is repeated has a seam, and a rhythm that the machine has not.

    Args:
        clips: the network's outputs of the windows.
        windows: as they were recorded, `(samples,)` each.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.
    """
    lengths = [len(window) for window in windows]
    if min(lengths) >= feature_extractor.clip_length:
        return clips
    frames = torch.tensor([1 + length // feature_extractor.hop_length for length in lengths])
    spectra = None if clips.spectra is None else clips.spectra.clone()
    shortest = min(MIN_SECONDS * feature_extractor.sampling_rate, feature_extractor.clip_length)
    for place, window in enumerate(windows):
        if spectra is not None and shortest <= lengths[place] < feature_extractor.clip_length:
            log_mel = feature_extractor.log_mel(torch.as_tensor(window).unsqueeze(0))
            spectra[place] = spectral_statistics(log_mel)[0].to(spectra)
    return replace(clips, spectra=spectra, frames=frames)


__all__ = ["Conditions", "Heard", "listen", "of_true_frames"]
