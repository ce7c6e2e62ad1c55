"""
The regions in time and frequency in which a clip differs from its machine's normal sound, and what they sound like.

A relevance map `(bins, frames)` says how much each cell contributed to the anomaly score. [`find_regions`] takes the
bands of most relevance one after the other, [`describe`] names each band's sound, and neighbors are merged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .bands_attention_asd import ABOVE, BELOW, GAP_S, Band, Clip, close_gaps, long_runs
from .periods_attention_asd import band_envelope, impact_period


IMPACTS, TONE, HARMONICS, HISS = "impacts", "tone", "harmonics", "hiss"
RUMBLE, BURSTS, LEVEL_DROP = "rumble", "bursts", "level drop"

# A band reaches as far as its relevance is this share of its strongest bin's, over gaps of so many bins.
BAND_EDGE, BAND_GAP = 0.25, 2
# The search ends when the regions hold all but this share of the relevance.
LEFT_OVER = 0.15
# A machine's clips differ by 1 to 2 dB in level, day by day; less than this is no reason.
MIN_LEVEL_DB = 3.0
# Noise alone leaves 0.04 of a band's variance outside the normal range; a click of 60 ms, 12 dB high, adds 0.15.
MIN_VARIANCE_BEYOND = 0.1
# The window's main lobe (62 Hz) and the mel filters make a tone up to 200 Hz wide, less at low frequencies.
TONE_HZ, TONE_BINS = 200.0, 4
# Noise below this frequency rumbles; above, it hisses.
HISS_FROM_HZ = 1000.0
# A single stretch of more than this share of the clip covers the whole clip.
WHOLE_CLIP = 0.9
# Bands less than a third of an octave apart are neighbors; periods that differ by less than this are one.
THIRD_OCTAVE, SAME_PERIOD = 1.26, 0.05
# So many tones make a series.
MIN_HARMONICS = 3


@dataclass(frozen=True)
class Region:
    """A part of a clip that made it anomalous.

    Attributes:
        start_s: its first moment, in seconds.
        end_s: its last moment, in seconds.
        low_hz: lower edge of its band.
        high_hz: upper edge of its band.
        level_db: its level relative to this machine's normal; negative below.
        kind: `"impacts"` (periodic), `"tone"`, `"harmonics"`, `"hiss"`, `"rumble"` (noise below 1 kHz), `"bursts"`
            (irregular) or `"level drop"`.
        period_s: of impacts; of harmonics, one over their spacing; `None` where nothing repeats.
        intervals_s: the stretches (start, end) in which it is present; empty where it lasts the whole clip.
        share: its part of the clip's relevance, 0..1.
    """

    start_s: float
    end_s: float
    low_hz: float
    high_hz: float
    level_db: float
    kind: str
    period_s: float | None = None
    intervals_s: tuple[tuple[float, float], ...] = ()
    share: float = 1.0


def find_regions(
    waveform: torch.Tensor,
    normal_mean: np.ndarray | torch.Tensor,
    normal_std: np.ndarray | torch.Tensor,
    feature_extractor,
    relevance: torch.Tensor | None = None,
    max_regions: int = 3,
) -> list[Region]:
    """Find the regions of a clip that differ from this machine's normal and that matter.

    Args:
        waveform: the clip `(samples,)` in [-1, 1] at the model's sampling rate.
        normal_mean: this machine's normal log-mel `(bins,)` in dB, over clips and frames.
        normal_std: its standard deviation `(bins,)` in dB, over clips and frames.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.
        relevance: `(bins, frames)`; negative values count as none. By default the level difference itself.
        max_regions: the largest number of regions.

    Returns:
        The regions, the most relevant first. None where nothing is at least 3 dB and one standard deviation away from
        normal.
    """
    clip = Clip.of(waveform, normal_mean, normal_std, feature_extractor)
    remaining = relevance_by_side(clip, relevance)
    total = sum(part.sum() for part in remaining.values())
    regions = []
    while sum(part.sum() for part in remaining.values()) > LEFT_OVER * total:
        sign, bins = most_relevant_band(remaining)
        band = Band.of(clip, bins, sign, remaining[sign][bins])
        region = describe(band, total)
        if stands_out(band, region):
            regions.append(region)
        remaining[sign][bins] = 0
    regions = merge_tones(merge_neighbors(regions))
    return sorted(regions, key=lambda region: -region.share)[:max_regions]


def relevance_by_side(clip: Clip, relevance: torch.Tensor | None) -> dict[int, np.ndarray]:
    """Divide a relevance map into the cells above and those below the normal range, `(bins, frames)` each."""
    importance = None if relevance is None else np.clip(relevance.cpu().numpy(), 0, None)
    if importance is None or not importance.any():  # none in silence, which no replacement could change
        importance = np.abs(clip.difference)
    return {sign: importance * (sign * clip.difference > 0) for sign in (ABOVE, BELOW)}


def stands_out(band: Band, region: Region) -> bool:
    """Tell whether a band differs from normal by more than noise alone and by more than clips differ among themselves."""
    std = band.clip.normal_std[band.bins]
    beyond = (band.sign * band.clip.difference[band.bins]).clip(0) / std[:, None]
    is_level_far = abs(region.level_db) >= max(MIN_LEVEL_DB, np.mean(std))
    return bool(is_level_far and np.square(beyond).mean() >= MIN_VARIANCE_BEYOND)


def most_relevant_band(remaining: dict[int, np.ndarray]) -> tuple[int, slice]:
    """Find the side of the normal level, and the bins around the strongest one, with the most relevance."""
    profiles = {sign: np.convolve(part.sum(1), [0.25, 0.5, 0.25], "same") for sign, part in remaining.items()}
    sign = max(profiles, key=lambda side: profiles[side].max())
    return sign, band_around_peak(profiles[sign])


def band_around_peak(profile: np.ndarray) -> slice:
    """Return the bins around the highest one, as far as the profile stays high, over small gaps."""
    peak = int(profile.argmax())
    stays_high = close_gaps(profile >= BAND_EDGE * profile[peak], BAND_GAP)
    low_bins = np.flatnonzero(~stays_high)
    low = low_bins[low_bins < peak].max(initial=-1) + 1
    high = low_bins[low_bins > peak].min(initial=len(profile))
    return slice(int(low), int(high))


# What a band sounds like


def describe(band: Band, total_relevance: float) -> Region:
    """Describe a band as a region: its sound, its period, its level and the times at which it is present."""
    kind, period_s = kind_and_period(band)
    frames = frames_present(band, period_s)
    intervals = band.clip.intervals(frames)
    start_s, end_s = intervals[0][0], intervals[-1][1]
    covers_clip = len(intervals) == 1 and end_s - start_s > WHOLE_CLIP * band.clip.seconds
    return Region(
        start_s=start_s,
        end_s=end_s,
        low_hz=band.low_hz,
        high_hz=band.high_hz,
        level_db=band.sign * (peak_level(band) if period_s else band.level_db),
        kind=kind,
        period_s=period_s,
        intervals_s=() if covers_clip else intervals,
        share=float(band.relevance[:, frames].sum() / total_relevance),
    )


def kind_and_period(band: Band) -> tuple[str, float | None]:
    """Name the sound of a band, with the period of impacts in seconds."""
    if band.sign == BELOW:
        return LEVEL_DROP, None
    is_lone = is_tone(band)
    period_s = None if is_lone else find_period(band)
    if period_s:
        return IMPACTS, period_s
    if not band.lasts.any():
        return BURSTS, None
    if is_lone:
        return TONE, None
    return (HISS if (band.low_hz + band.high_hz) / 2 >= HISS_FROM_HZ else RUMBLE), None


def is_tone(band: Band) -> bool:
    """Tell whether a band is as narrow as a tone, and louder than the bins just below and just above."""
    low, high, bins = band.low_hz, band.high_hz, band.bins
    is_narrow = high - low <= min(TONE_HZ, 60 + (low + high) / 8) or bins.stop - bins.start <= TONE_BINS
    if not is_narrow:
        return False
    beside = [slice(max(bins.start - 4, 0), max(bins.start - 1, 0)), slice(bins.stop + 1, bins.stop + 4)]
    levels = [band.sign * band.clip.deviation[rows][:, band.lasts] for rows in beside]
    level_beside = max((float(level.mean()) for level in levels if level.size), default=-np.inf)
    return band.level_db - level_beside >= MIN_LEVEL_DB


def frames_present(band: Band, period_s: float | None) -> np.ndarray:
    """Return the mask of the frames `(frames,)` in which a band's sound is present."""
    clip = band.clip
    if period_s:
        trains = close_gaps(band.is_active, clip.frames(max(GAP_S, 2.5 * period_s)))
        several = long_runs(trains, clip.frames(3 * period_s))
        return several if several.any() else trains
    lasts = band.lasts
    return lasts if lasts.any() else close_gaps(band.is_active, 2)


def peak_level(band: Band) -> float:
    """Return the mean level of the peaks, in dB: impacts are as loud as their peaks."""
    level = band.level
    is_peak = (level >= np.roll(level, 1)) & (level >= np.roll(level, -1)) & band.is_active
    return float(level[is_peak].mean()) if is_peak.any() else band.level_db


def find_period(band: Band) -> float | None:
    """Find the period of impacts in a band, in seconds; `None` where nothing repeats.

    The envelope of the waveform resolves fast impacts. The level has one value a frame only, but tolerates that slow
    impacts are a little irregular.
    """
    clip = band.clip
    first, last = np.flatnonzero(band.is_active)[[0, -1]]
    sampling_rate = (len(clip.waveform) - 1) / clip.seconds
    start, end = (round(frame * clip.hop_seconds * sampling_rate) for frame in (first, last + 1))
    envelope = band_envelope(clip.waveform[start:end], sampling_rate, band.low_hz, band.high_hz)
    return impact_period(*envelope) or impact_period(band.level[first : last + 1], 1 / clip.hop_seconds)


# Merging


def merge_neighbors(regions: Sequence[Region]) -> list[Region]:
    """Merge regions of one kind, and of one period, in bands less than a third of an octave apart."""
    merged: list[Region] = []
    for region in sorted(regions, key=lambda region: (region.kind, region.low_hz)):
        if merged and are_neighbors(merged[-1], region):
            merged[-1] = merge_two(merged[-1], region)
        else:
            merged.append(region)
    return merged


def are_neighbors(lower: Region, upper: Region) -> bool:
    """Tell whether two regions are one sound. Tones are not: each is a sound of its own."""
    if upper.kind != lower.kind or upper.kind == TONE or upper.low_hz > THIRD_OCTAVE * lower.high_hz:
        return False
    if lower.period_s is None or upper.period_s is None:
        return True
    return abs(upper.period_s / lower.period_s - 1) <= SAME_PERIOD


def merge_two(lower: Region, upper: Region) -> Region:
    """Merge two regions: times and period of the stronger one, the level weighted by their shares."""
    stronger = upper if upper.share > lower.share else lower
    share = lower.share + upper.share
    return replace(
        stronger,
        low_hz=lower.low_hz,
        high_hz=max(lower.high_hz, upper.high_hz),
        level_db=(lower.level_db * lower.share + upper.level_db * upper.share) / share,
        share=share,
    )


def merge_tones(regions: list[Region]) -> list[Region]:
    """Merge three tones or more into one region of harmonics."""
    tones = sorted((region for region in regions if region.kind == TONE), key=lambda tone: tone.low_hz)
    if len(tones) < MIN_HARMONICS:
        return regions
    return [region for region in regions if region.kind != TONE] + [harmonics_of(tones)]


def harmonics_of(tones: Sequence[Region]) -> Region:
    """Make one region of tones in rising order, with their spacing where they are multiples of one frequency."""
    spacing = common_spacing(tones)
    shares = np.array([tone.share for tone in tones])
    lasts_whole_clip = any(not tone.intervals_s for tone in tones)
    return Region(
        start_s=min(tone.start_s for tone in tones),
        end_s=max(tone.end_s for tone in tones),
        low_hz=tones[0].low_hz,
        high_hz=tones[-1].high_hz,
        level_db=float(shares @ [tone.level_db for tone in tones] / shares.sum()),
        kind=HARMONICS,
        period_s=1 / spacing if spacing else None,
        intervals_s=() if lasts_whole_clip else tones[int(shares.argmax())].intervals_s,
        share=float(shares.sum()),
    )


def common_spacing(tones: Sequence[Region]) -> float | None:
    """Find the frequency in Hz, the lowest tone's or a fraction of it, of which all tones are multiples."""
    centers = np.array([(tone.low_hz + tone.high_hz) / 2 for tone in tones])
    tolerance = max(0.02 * centers[-1], max(tone.high_hz - tone.low_hz for tone in tones) / 2)
    for spacing in centers[0] / np.arange(1, 6):
        distance = np.abs(centers - spacing * np.round(centers / spacing)).max()
        if spacing > 2 * tolerance and distance <= tolerance:
            return float(spacing)
    return None


__all__ = ["Region", "find_regions"]
