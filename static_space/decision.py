"""A recording's verdict as a graph: what `decision_attention_asd.py: decide_recording` decides, for the browser.

Every number comes from the functions that the pipeline calls. The branches of `judge`, `consider` and `without_band` are here
as masks, because a graph has none; tests/test_static_space.py compares both.
"""

from typing import Any

import torch
from torch import nn

from modeling import AnomalyDetector, ClipOutputs
from modeling.backends_attention_asd import SCORERS
from modeling.conditions_attention_asd import MAX_CLIPPED_SHARE, MAX_SILENT_SHARE, NOTED_SILENT_SHARE
from modeling.decision_attention_asd import ANOMALOUS, CANNOT_TELL, NORMAL, NOTED_SHORTENING
from modeling.levels_attention_asd import (
    LEVEL_DB,
    NOISE_FRAMES,
    NOISE_ROUGHNESS,
    edge_bins,
    excess,
    first_missing_bin,
    roughness,
)
from modeling.machines_attention_asd import FARTHEST, WRONG_MACHINE, known_space
from modeling.spectrum_attention_asd import (
    extent,
    kept_bins,
    log_distance,
    normal_statistics,
    pooled,
    similarity,
)

from .tails import Tail, row


# A verdict is its place in this list.
VERDICTS = (NORMAL, ANOMALOUS, CANNOT_TELL)
# The notes in the order in which a sentence has them; `None` is the warning of the machine's self-test.
NOTE_KEYS = (
    "too short", "mostly silent", "band, no machine named", "band, alarm", "band", "noise", "like none", "too few clips",
    "other machine", "no machine named", "louder", "softer", "rate, beyond", "rate", "shorter", None, "clipped", "hum",
    "partly silent",
)  # fmt: skip
INPUTS = ("embeddings", "cosines", "spectra", "frames", "machine", "false_alarm_rate", "conditions")


class Levels(nn.Module):
    """What is normal of the level of each machine."""

    bins: torch.Tensor
    lowest: torch.Tensor
    highest: torch.Tensor
    roughness: torch.Tensor
    frames: torch.Tensor

    def __init__(self, detector: AnomalyDetector):
        super().__init__()
        known = detector.known
        levels: list[Any] = [machine.level for machine in known.by_name.values()]
        self.noise = known.shared.noise
        self.register_buffer("bins", torch.stack([level.bins[0] for level in levels]))
        for name in ("lowest", "highest"):
            self.register_buffer(name, torch.tensor([getattr(level, name) for level in levels], dtype=torch.float64))
        # With this limit nothing is noise.
        roughest = [-1.0 if level.roughness is None else level.roughness for level in levels]
        self.register_buffer("roughness", torch.tensor(roughest, dtype=torch.float64))
        frames = [float(known.shared.num_frames if level.frames is None else level.frames) for level in levels]
        self.register_buffer("frames", torch.tensor(frames, dtype=torch.float64))

    def is_noise(self, mean: torch.Tensor, frames: torch.Tensor, machine: torch.Tensor) -> torch.Tensor:
        """As `hearing_attention_asd.py: sounds_like_noise`."""
        if self.noise is None:
            return torch.tensor(False)
        limit = NOISE_ROUGHNESS * (NOISE_FRAMES / frames).clamp_min(1.0).sqrt()
        return roughness(mean.unsqueeze(0), self.noise)[0] < torch.minimum(limit, row(self.roughness, machine))


class DecisionGraph(nn.Module):
    """From the network's outputs of a recording's windows to its verdict.

    Raises:
        ValueError: the detector knows no spectra.
    """

    normal: torch.Tensor
    extents: torch.Tensor
    mel_khz: torch.Tensor

    def __init__(self, detector: AnomalyDetector, mel_frequencies: Any, shortest_seconds: float):
        super().__init__()
        if detector.known.shared.spectra is None:
            raise ValueError("This detector was fitted without spectra: the page needs one that has them. Fit it anew.")
        self.detector, self.tail, self.levels = detector, Tail(detector), Levels(detector)
        self.space = known_space(detector.known.shared)
        self.machines: list[Any] = [machine.spectrum for machine in detector.known.by_name.values()]
        self.shortest_seconds = shortest_seconds
        self.register_buffer("normal", torch.stack([normal_statistics(self.space, one) for one in self.machines]))
        self.register_buffer("extents", torch.tensor([extent(self.space, one) for one in self.machines]))
        self.register_buffer("mel_khz", torch.as_tensor(mel_frequencies) / 1000)

    def forward(
        self,
        embeddings: torch.Tensor,
        cosines: torch.Tensor,
        spectra: torch.Tensor,
        frames: torch.Tensor,
        machine: torch.Tensor,
        false_alarm_rate: torch.Tensor,
        conditions: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            embeddings, cosines, spectra: of the windows, as the network gives them.
            frames: of all windows together, in float64.
            machine: the place of the machine that is named; -1 where none is.
            false_alarm_rate: in float64.
            conditions: seconds of sound, silent seconds, clipped share and the hum's frequency (0 without), in float64.
        """
        is_named = machine >= 0
        nearest = self.unlikelihoods(pooled(spectra)).argmin()
        judged_as = torch.where(is_named, machine, nearest)
        spectra, first_missing = self.completed(spectra, judged_as)
        clip = pooled(spectra)
        unlikelihoods = self.unlikelihoods(clip)
        nearest = unlikelihoods.argmin()
        judged_as = torch.where(is_named, machine, nearest)
        is_noise = self.levels.is_noise(clip[0, 0].double(), frames, judged_as)
        is_close = ~is_noise & (row(unlikelihoods - self.extents, nearest) <= FARTHEST)
        is_other = row(unlikelihoods, judged_as) - row(unlikelihoods, nearest) > WRONG_MACHINE
        level_db = self.level_db(clip[0, 0].double(), judged_as)
        shortening = (row(self.levels.frames, judged_as) / frames).clamp_min(1.0)
        scores = self.scores(embeddings, cosines, spectra, judged_as)
        p_values = self.tail.p_values(scores, judged_as, shortening)
        alarms = (p_values <= false_alarm_rate).double().sum().clamp_min(1.0)
        threshold = self.tail.threshold(false_alarm_rate, alarms / len(scores), judged_as, shortening)
        highest = scores.argmax()
        notes, verdict = self.judge(
            is_named=is_named,
            is_noise=is_noise,
            is_close=is_close,
            is_other=is_other,
            is_known=row(self.tail.is_known, judged_as),
            is_loud=level_db >= LEVEL_DB,
            is_soft=level_db <= -LEVEL_DB,
            is_short=shortening >= NOTED_SHORTENING,
            lacks_band=first_missing < spectra.shape[2],
            p_value=row(p_values, highest),
            rate=false_alarm_rate,
            lowest_rate=row(self.tail.lowest_rate, judged_as),
            conditions=conditions,
        )
        is_measured = is_named | is_close
        return {
            "verdict": verdict,
            "notes": notes,
            "judged_as": torch.where(is_measured, judged_as, -1),
            "nearest": nearest,
            "predicted_machine": torch.where(is_close, nearest, -1),
            "similarity": self.similarity(clip, judged_as),
            "is_known": is_measured & row(self.tail.is_known, judged_as),
            "threshold": threshold,
            "level_db": level_db,
            "band_khz": row(
                self.mel_khz, (first_missing + edge_bins(spectra.shape[2])).clamp_max(spectra.shape[2] - 1)
            ),
            "lowest_percent": 100.0 * row(self.tail.lowest_rate, judged_as),
            "scores": scores,
            "p_values": p_values,
            "window_verdicts": torch.where((verdict == 1) & (p_values > false_alarm_rate), 0, verdict),
        }

    def judge(
        self,
        *,
        is_named: torch.Tensor,
        is_noise: torch.Tensor,
        is_close: torch.Tensor,
        is_other: torch.Tensor,
        is_known: torch.Tensor,
        is_loud: torch.Tensor,
        is_soft: torch.Tensor,
        is_short: torch.Tensor,
        lacks_band: torch.Tensor,
        p_value: torch.Tensor,
        rate: torch.Tensor,
        lowest_rate: torch.Tensor,
        conditions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Which of `NOTE_KEYS` are to be said, and the place of the verdict."""
        seconds, silent, clipped, hum = conditions
        is_too_short = seconds < self.shortest_seconds
        is_silent = ~is_too_short & (silent > MAX_SILENT_SHARE * (seconds + silent))
        is_alarm = (p_value <= rate) & is_known & (is_named | is_close)
        is_far, is_unknown = ~is_noise & ~is_close, ~is_noise & is_close & ~is_known
        is_judged = ~is_noise & is_close & is_known
        is_other = is_judged & is_named & is_other
        is_unnamed = is_judged & ~is_named & is_alarm
        is_anomalous = is_judged & is_named & is_alarm
        is_normal = is_judged & ~is_alarm & ~is_other
        # The rate asked for.
        is_unsupported = (is_normal | is_anomalous) & (lowest_rate > rate)
        is_beyond = is_unsupported & (p_value <= lowest_rate)
        noted_short = (is_normal | is_anomalous) & is_short
        is_normal, is_anomalous = is_normal & ~is_beyond, is_anomalous & ~is_beyond
        is_warned = is_normal
        # The recorder.
        is_clipped = clipped > MAX_CLIPPED_SHARE
        is_anomalous = is_anomalous & ~is_clipped
        band_alarm = lacks_band & is_named & is_anomalous
        band_rest = lacks_band & is_named & ~is_anomalous
        is_anomalous = is_anomalous & ~lacks_band
        is_normal = is_normal & (~lacks_band | is_named)
        has_level = (is_far & is_named) | is_judged
        said = [
            lacks_band & ~is_named, band_alarm, band_rest, is_noise, is_far, is_unknown, is_other, is_unnamed,
            has_level & is_loud, has_level & is_soft, is_beyond, is_unsupported & ~is_beyond, noted_short, is_warned,
            is_clipped, is_alarm & (hum > 0.0), silent > NOTED_SILENT_SHARE * (seconds + silent),
        ]  # fmt: skip
        is_refused = is_too_short | is_silent
        notes = torch.stack([is_too_short, is_silent, *(one & ~is_refused for one in said)])
        verdict = torch.where(is_normal, 0, torch.where(is_anomalous, 1, 2))
        return notes, torch.where(is_refused, 2, verdict)

    # By machine

    def unlikelihoods(self, clip: torch.Tensor) -> torch.Tensor:
        """Of spectra `(1, 6, num_mel_bins)` as those of each machine, `(machines,)`."""
        coordinates = self.space.coordinates(clip)
        return torch.cat([log_distance(self.space, one, coordinates) for one in self.machines]) + self.extents

    def similarity(self, clip: torch.Tensor, machine: torch.Tensor) -> torch.Tensor:
        coordinates = self.space.coordinates(clip)
        return row(torch.cat([similarity(self.space, one, coordinates) for one in self.machines]), machine)

    def scores(
        self, embeddings: torch.Tensor, cosines: torch.Tensor, spectra: torch.Tensor, machine: torch.Tensor
    ) -> torch.Tensor:
        """Of the windows as those of one machine, `(windows,)`."""
        shared, score = self.detector.known.shared, SCORERS[self.detector.backend]
        vectors = shared.vectors(ClipOutputs(embeddings, cosines, spectra))
        scores = [score(vectors, one, shared) for one in self.detector.known.by_name.values()]
        return torch.stack(scores, dim=1).index_select(1, machine.reshape(1))[:, 0]

    def level_db(self, mean: torch.Tensor, machine: torch.Tensor) -> torch.Tensor:
        levels = self.levels
        return excess(mean, row(levels.bins, machine), row(levels.lowest, machine), row(levels.highest, machine))[0]

    def completed(self, spectra: torch.Tensor, machine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `hearing_attention_asd.py: completed`, and the lowest bin that is missing; their number where none is."""
        first_missing = first_missing_bin(pooled(spectra)[0, 0], row(self.levels.bins, machine))
        return with_missing_bins(spectra, row(self.normal, machine).to(spectra), first_missing), first_missing


def with_missing_bins(spectra: torch.Tensor, normal: torch.Tensor, first_missing: torch.Tensor) -> torch.Tensor:
    """As `spectrum_attention_asd.py: with_missing_bins`, where nothing may be missing."""
    bins = spectra.shape[2]
    kept = kept_bins(bins)
    is_present = torch.arange(kept) < first_missing
    beside = torch.where(is_present, spectra[:, 0, :kept] - normal[0], torch.inf).sort(dim=1).values
    count = is_present.sum()
    middle = torch.stack([(count - 1) // 2, count // 2])
    level = beside.index_select(1, middle).mean(1, keepdim=True)
    means = torch.where(is_present, spectra[:, 0, :kept], normal[0] + level).unsqueeze(1)
    changes = torch.where(is_present, spectra[:, 2:, :kept], normal[1:])
    filled = torch.cat([means, spectra[:, 1:2, :kept], changes], dim=1)
    return torch.cat([filled, spectra[:, :, kept:]], dim=2)


__all__ = ["INPUTS", "NOTE_KEYS", "VERDICTS", "DecisionGraph"]
