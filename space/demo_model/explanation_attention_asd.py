"""
Why a clip was found anomalous: the regions in time and frequency that raised its score, in words.

A relevance map `(bins, frames)` says how much each time-frequency cell contributed to the anomaly score; [`explain`]
turns it, with how far each cell is from this machine's normal level, into regions, and [`sentence`] into words.
[`find_reasons`] is both, with the map that proved faithful. The paper's attention map (Section II.B) says where the
network looks, not what is wrong.

The network sees a clip twice, as log-mel and as Wavegram. A change of the log-mel alone would leave the fault in the
Wavegram, so cells are changed in the short-time Fourier transform: the waveform is resynthesised and the log-mel
computed from it ([`CellReplacement`]).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F


# (input_values (n, samples), input_features (n, bins, frames)) -> anomaly scores (n,); for example
# `lambda values, features: model(values, features, labels=labels.expand(len(values))).anomaly_scores`.
Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

IMPACTS, TONE, HARMONICS, HISS = "impacts", "tone", "harmonics", "hiss"
RUMBLE, BURSTS, LEVEL_DROP = "rumble", "bursts", "level drop"

# A band reaches as far as its relevance is this share of its strongest bin's, over gaps of so many bins.
BAND_EDGE, BAND_GAP = 0.25, 2
# What is left of the relevance once the regions hold the rest is not worth a region of its own.
LEFT_OVER = 0.15
# A machine's clips differ by 1 to 2 dB in level, day by day; less than this is no reason.
MIN_LEVEL_DB = 3.0
# A machine enrolled from one steady clip may have no spread at all.
MIN_STD_DB = 0.1
# Noise alone leaves 0.04 of a band's variance outside the normal range; a click of 60 ms, 12 dB high, adds 0.15.
MIN_VARIANCE_BEYOND = 0.1
# The window's main lobe (62 Hz) and the mel filters make a tone up to 200 Hz wide, less at low frequencies.
TONE_HZ, TONE_BINS = 200.0, 4
# Below, noise rumbles rather than hisses.
HISS_FROM_HZ = 1000.0
# Impacts are short: their level is above half its height for at most this share of the time; and they repeat: the
# autocorrelation rises by this much, and by more where few values are known, at their period.
MAX_DUTY, MIN_PERIODICITY = 0.4, 0.3
# Shorter gaps do not end a sound that lasts, and what lasts this long is no burst.
GAP_S, LASTING_S = 0.25, 0.4


@dataclass(frozen=True)
class Region:
    """A part of a clip that made it anomalous.

    Attributes:
        start_s, end_s: from its first to its last moment, in seconds.
        low_hz, high_hz: its band.
        level_db: how far it is above this machine's normal level; negative below.
        kind: `"impacts"` (periodic), `"tone"`, `"harmonics"`, `"hiss"`, `"rumble"` (noise below 1 kHz), `"bursts"`
            (irregular) or `"level drop"`.
        period_s: of impacts; of harmonics, one over their spacing; `None` where nothing repeats.
        intervals_s: the stretches (start, end) in which it is heard; empty where it lasts the whole clip.
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


# Relevance maps


class CellReplacement:
    """Replaces time-frequency cells of a clip by those of a reference, in the waveform and the log-mel alike.

    Args:
        waveform: the clip `(samples,)` in [-1, 1], as long as the network's clips.
        reference: what the cells are replaced by `(samples,)`: [`at_normal_level`], or another recording.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.
    """

    def __init__(self, waveform: torch.Tensor, reference: torch.Tensor, feature_extractor):
        self.feature_extractor = feature_extractor
        self.num_samples = len(waveform)
        self.spectrum = stft(waveform, feature_extractor)
        self.difference = stft(reference, feature_extractor) - self.spectrum
        self.mel_to_fft = mel_to_fft(feature_extractor, waveform.device)
        self.shape = (self.mel_to_fft.shape[1], self.spectrum.shape[1])

    def __call__(self, replaced: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`replaced` `(n, bins, frames)` in 0..1 (0 the clip, 1 the reference) -> `input_values` `(n, samples)` and
        `input_features` `(n, bins, frames)`. Differentiable."""
        spectrum = self.spectrum + (self.mel_to_fft @ replaced) * self.difference
        waveforms = istft(spectrum, self.num_samples, self.feature_extractor)
        return waveforms, self.feature_extractor.log_mel(waveforms)


def at_normal_level(
    waveform: torch.Tensor, normal_mean: torch.Tensor, normal_std: torch.Tensor, feature_extractor
) -> torch.Tensor:
    """The clip `(samples,)` with every cell brought back into this machine's normal range, mean +- one standard
    deviation `(bins,)` in dB; cells inside it, and all phases, stay as they are.

    Replacing cells by the mean itself would flatten normal sound too, which no machine does and the network answers
    to. Frames overlap, so one pass leaves a third of the excess; two leave a sixth.
    """
    interpolate = mel_to_fft(feature_extractor, waveform.device)
    for _ in range(2):
        beyond = beyond_normal(feature_extractor.log_mel(waveform), normal_mean, normal_std)
        spectrum = stft(waveform, feature_extractor) * 10 ** (interpolate @ -beyond / 20)
        waveform = istft(spectrum, len(waveform), feature_extractor)
    return waveform


def beyond_normal(log_mel: torch.Tensor, normal_mean: torch.Tensor, normal_std: torch.Tensor) -> torch.Tensor:
    """How many dB each cell `(bins, frames)` lies outside mean +- one standard deviation; 0 inside, negative below."""
    deviation = log_mel - normal_mean[:, None]
    return deviation - deviation.clamp(-normal_std[:, None], normal_std[:, None])


def level_difference(log_mel: torch.Tensor, normal_mean: torch.Tensor, normal_std: torch.Tensor) -> torch.Tensor:
    """Relevance without the network, in dB: [`beyond_normal`] of the log-mel `(bins, frames)`, negative below.

    The log-mel is averaged first, which takes away most of what noise alone has outside: over a square box and a flat
    one, as tones are, and, for what is above normal, an upright one, as impacts are; the furthest from normal counts.
    (Noise in dB has deep gaps: an upright box would find them, too.)
    """

    def averaged(height: int, width: int) -> torch.Tensor:
        padding = (height // 2, width // 2)
        smooth = F.avg_pool2d(log_mel[None], (height, width), 1, padding, count_include_pad=False)[0]
        return beyond_normal(smooth, normal_mean, normal_std)

    boxes = torch.stack([averaged(3, 3), averaged(1, 9), averaged(5, 1).clamp_min(0)])
    return boxes.gather(0, boxes.abs().argmax(0, keepdim=True))[0]


def distance_from_normal(log_mel: torch.Tensor, normal_mean: torch.Tensor, normal_std: torch.Tensor) -> torch.Tensor:
    """How far each cell `(bins, frames)` is from normal in standard deviations: its own and its surroundings' added."""
    mean, std = normal_mean[:, None], normal_std[:, None]
    return ((log_mel - mean).abs() + level_difference(log_mel, normal_mean, normal_std).abs()) / std


@torch.no_grad()
def occlusion(
    score: Score, cells: CellReplacement, distance: torch.Tensor, parts: int = 16, batch_size: int = 8
) -> torch.Tensor:
    """Relevance `(bins, frames)`: how much the anomaly score falls when cells are replaced by the reference.

    `parts` bands are replaced one by one over the whole clip, and `parts` segments over all frequencies. A cell's
    relevance is the fall of its band, times that of its segment, times its own `distance` `(bins, frames)` from
    normal, which says how much was replaced there. A fault is a band and its times: these 2 x `parts` forward passes
    were more faithful than a grid of patches with four times as many. Needs no gradients.
    """
    num_bins, num_frames = cells.shape
    bands, segments = (equal_parts(size, parts, distance.device) for size in cells.shape)
    replaced = torch.cat([bands[:, :, None].expand(-1, -1, num_frames), segments[:, None, :].expand(-1, num_bins, -1)])
    before = score(*cells(torch.zeros_like(replaced[:1])))
    after = torch.cat([score(*cells(batch)) for batch in replaced.split(batch_size)])
    band_falls, segment_falls = map(with_floor, (before - after).to(distance).chunk(2))
    return (band_falls @ bands)[:, None] * (segment_falls @ segments) * distance


def with_floor(falls: torch.Tensor) -> torch.Tensor:
    """Falls of the score `(parts,)`, at least a twentieth of the largest: where replacing changes nothing, cells still
    rank by their distance."""
    return falls.clamp_min(0.05 * falls.max().clamp_min(0).item())


def integrated_gradients(score: Score, cells: CellReplacement, steps: int = 8) -> torch.Tensor:
    """Relevance `(bins, frames)` by integrated gradients (Sundararajan et al. 2017) along the straight line from the
    reference to the clip. Over all cells it adds up to the difference of the two scores, but for the steps' error.
    With one step: gradient x (input - reference), half-way."""
    relevance = torch.zeros(cells.shape, device=cells.spectrum.device)
    for step in range(steps):
        replaced = torch.full_like(relevance, (step + 0.5) / steps).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(score(*cells(replaced[None])).sum(), replaced)
        relevance -= gradient / steps
    return relevance


def stft(waveform: torch.Tensor, feature_extractor) -> torch.Tensor:
    n_fft, hop_length = feature_extractor.n_fft, feature_extractor.hop_length
    window = torch.hann_window(n_fft, device=waveform.device)
    return torch.stft(waveform.float(), n_fft, hop_length, window=window, pad_mode="reflect", return_complex=True)


def istft(spectrum: torch.Tensor, num_samples: int, feature_extractor) -> torch.Tensor:
    n_fft, hop_length = feature_extractor.n_fft, feature_extractor.hop_length
    window = torch.hann_window(n_fft, device=spectrum.device)
    return torch.istft(spectrum, n_fft, hop_length, window=window, length=num_samples)


def mel_to_fft(feature_extractor, device: torch.device) -> torch.Tensor:
    """`(1 + n_fft // 2, bins)`: what mel bins' values are at each frequency of the FFT, interpolated."""
    hertz = np.linspace(0, feature_extractor.sampling_rate / 2, 1 + feature_extractor.n_fft // 2)
    centres = feature_extractor.mel_frequencies
    weights = np.stack([np.interp(hertz, centres, unit) for unit in np.eye(len(centres))], axis=1)
    return torch.from_numpy(weights).float().to(device)


def equal_parts(size: int, count: int, device: torch.device) -> torch.Tensor:
    """`(count, size)`: 1 where a position belongs to a part; the parts follow each other."""
    part = torch.arange(size, device=device) * count // size
    return (part == torch.arange(count, device=device)[:, None]).float()


# Regions and words


def find_reasons(
    score: Score,
    waveform: torch.Tensor,
    normal_mean: np.ndarray | torch.Tensor,
    normal_std: np.ndarray | torch.Tensor,
    feature_extractor,
    max_regions: int = 3,
) -> list[Region]:
    """The regions that made a clip anomalous, by [`integrated_gradients`] from the clip at this machine's normal level.

    On clips with known faults it was the most faithful map: research/benchmarks/faithfulness.py deletes a fault's cells, the
    most relevant first, and the area under the anomaly score was 0.06 (level difference 0.15, occlusion 0.12, random
    0.44, the paper's attention map 0.57). A score without gradients, such as an exported network's, is explained by
    [`occlusion`], the second best.

    Args:
        score: anomaly scores from the network's inputs.
        waveform: the clip `(samples,)` in [-1, 1] at the model's sampling rate, of the length that `score` takes.
        normal_mean, normal_std: this machine's normal log-mel `(bins,)` in dB, over clips and frames.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.
        max_regions: the most relevant ones are returned, in that order.
    """
    mean, std = (torch.as_tensor(level).to(waveform.device, torch.float32) for level in (normal_mean, normal_std))
    std = std.clamp_min(MIN_STD_DB)
    log_mel = feature_extractor.log_mel(waveform)
    cells = CellReplacement(waveform, at_normal_level(waveform, mean, std, feature_extractor), feature_extractor)
    with torch.enable_grad():
        scored = score(*cells(torch.zeros_like(log_mel)[None].requires_grad_()))
    if scored.requires_grad:
        relevance = integrated_gradients(score, cells)
    else:
        relevance = occlusion(score, cells, distance_from_normal(log_mel, mean, std))
    return explain(
        log_mel.cpu().numpy(),
        mean.cpu().numpy(),
        std.cpu().numpy(),
        feature_extractor.mel_frequencies,
        feature_extractor.hop_length / feature_extractor.sampling_rate,
        relevance.cpu().numpy(),
        max_regions,
        waveform.cpu().numpy(),
    )


def explain(
    log_mel: np.ndarray,
    normal_mean: np.ndarray,
    normal_std: np.ndarray,
    mel_frequencies: np.ndarray,
    hop_seconds: float,
    relevance: np.ndarray | None = None,
    max_regions: int = 3,
    waveform: np.ndarray | None = None,
) -> list[Region]:
    """The regions of a clip in which it differs from this machine's normal and which matter, most relevant first.

    Args:
        log_mel: `(bins, frames)` in dB.
        normal_mean, normal_std: this machine's normal log-mel `(bins,)` in dB, over clips and frames.
        mel_frequencies: centre of each bin `(bins,)` in Hz, rising.
        hop_seconds: from one frame to the next.
        relevance: `(bins, frames)`; negative values count as none. By default the level difference itself.
        max_regions: how many are returned at most.
        waveform: `(samples,)`, whose envelope shows impacts that follow each other faster than the frames do.

    Returns:
        No region where nothing is at least 3 dB and one standard deviation away from normal.
    """
    normal_std = np.maximum(normal_std, MIN_STD_DB)
    tensors = [torch.as_tensor(np.asarray(array, dtype=np.float32)) for array in (log_mel, normal_mean, normal_std)]
    difference = level_difference(*tensors).numpy()
    relevance = np.abs(difference) if relevance is None else np.clip(relevance, 0, None)
    if not relevance.any():  # silence, which nothing replaced could change
        relevance = np.abs(difference)
    clip = Clip(log_mel - np.asarray(normal_mean)[:, None], bin_edges(mel_frequencies), hop_seconds, waveform)
    beyond = {sign: (sign * difference).clip(0) / normal_std[:, None] for sign in (1, -1)}
    remaining = {sign: relevance * (beyond[sign] > 0) for sign in (1, -1)}
    total = sum(part.sum() for part in remaining.values())
    regions = []
    while sum(part.sum() for part in remaining.values()) > LEFT_OVER * total:
        profiles = {sign: np.convolve(part.sum(1), [0.25, 0.5, 0.25], "same") for sign, part in remaining.items()}
        sign = max(profiles, key=lambda s: profiles[s].max())
        band = band_around_peak(profiles[sign])
        region = clip.region(band, sign, remaining[sign][band], total)
        stands_out = np.square(beyond[sign][band]).mean() >= MIN_VARIANCE_BEYOND
        if stands_out and abs(region.level_db) >= max(MIN_LEVEL_DB, np.mean(normal_std[band])):
            regions.append(region)
        remaining[sign][band] = 0
    regions = merge_tones(merge_neighbours(regions))
    return sorted(regions, key=lambda region: -region.share)[:max_regions]


def sentence(regions: list[Region]) -> str:
    """The regions in one sentence, such as "Broadband impacts every 0.31 s from 2 to 6 kHz, 14 dB above this machine's
    normal."."""
    if not regions:
        return "Nothing in this clip stands out from this machine's normal level."
    clauses = []
    for region in regions:
        side = "above" if region.level_db > 0 else "below"
        normal = " this machine's normal" if not clauses else " it"
        level = f"{abs(region.level_db):.0f} dB {side}{normal}"
        clauses.append(f"{sound(region)} {band_words(region)}, {level}{time_words(region)}")
    words = "; ".join(clauses)
    return words[0].upper() + words[1:] + "."


def sound(region: Region) -> str:
    wide = region.high_hz - region.low_hz > 1500 or region.high_hz > 2 * region.low_hz
    width = "broadband" if wide else "narrow-band"
    match region.kind:
        case "impacts" if region.period_s < 0.1:
            return f"{width} impacts {1 / region.period_s:.0f} times a second"
        case "impacts":
            return f"{width} impacts every {region.period_s:.2f} s"
        case "harmonics" if region.period_s:
            return f"harmonics of {hertz_words(1 / region.period_s)}"
        case "harmonics":
            return "tones"
        case "hiss":
            return f"{width} hiss"
        case "bursts":
            count = len(region.intervals_s)
            return f"{count} irregular bursts" if count > 1 else "a burst"
        case kind:
            return kind


def band_words(region: Region) -> str:
    low, high = hertz_words(region.low_hz), hertz_words(region.high_hz)
    if region.kind == TONE or low == high:
        return f"at {hertz_words((region.low_hz + region.high_hz) / 2)}"
    if region.low_hz < 20:
        return f"below {high}"
    number, unit = low.split()
    return f"from {number if high.endswith(' ' + unit) else low} to {high}"


def hertz_words(hertz: float) -> str:
    """Two digits: 62 Hz, 850 Hz, 1.2 kHz."""
    hertz = float(f"{hertz:.2g}")
    return f"{hertz / 1000:g} kHz" if hertz >= 1000 else f"{hertz:g} Hz"


def time_words(region: Region) -> str:
    if not region.intervals_s:
        return ""
    start, end = f"{region.start_s:.1f}", f"{region.end_s:.1f}"
    if len(region.intervals_s) == 1:
        return f", at {start} s" if start == end else f", from {start} to {end} s"
    if region.kind == BURSTS:
        return f", between {start} and {end} s"
    if len(region.intervals_s) > 4:
        return f", on and off between {start} and {end} s"
    return f", in {len(region.intervals_s)} stretches between {start} and {end} s"


@dataclass
class Clip:
    """A clip as [`explain`] looks at it: `deviation` `(bins, frames)` from normal in dB, `edges` (bins + 1,) in Hz."""

    deviation: np.ndarray
    edges: np.ndarray
    hop_seconds: float
    waveform: np.ndarray | None

    @property
    def seconds(self) -> float:
        return (self.deviation.shape[1] - 1) * self.hop_seconds

    def region(self, band: slice, sign: int, relevance: np.ndarray, total: float) -> Region:
        """What a band `(bins, frames)` of relevance holds above (`sign` 1) or below (-1) the normal level."""
        low, high = self.edges[band.start], self.edges[band.stop]
        weights = relevance.sum(1) / relevance.sum()
        # Over the band, frame by frame, where each bin counts as it is relevant.
        level = sign * (weights @ self.deviation[band])
        level_db = float(relevance.sum(0) @ level / relevance.sum())
        is_active = level > level_db / 2
        steady = np.convolve(np.pad(level, 2, mode="edge"), np.full(5, 0.2), "valid") > level_db / 2
        lasting = long_runs(close_gaps(steady, self.frames(GAP_S)), self.frames(LASTING_S))
        is_narrow = high - low <= min(TONE_HZ, 60 + (low + high) / 8) or band.stop - band.start <= TONE_BINS
        is_tone = is_narrow and level_db - self.level_beside(band, sign, lasting) >= MIN_LEVEL_DB

        period = None
        if sign > 0 and not is_tone:
            period = self.period(level, is_active, low, high)
        if period:
            runs = close_gaps(is_active, self.frames(max(GAP_S, 2.5 * period)))
            several = long_runs(runs, self.frames(3 * period))
            runs = several if several.any() else runs
            is_peak = (level >= np.roll(level, 1)) & (level >= np.roll(level, -1)) & is_active
            level_db = float(level[is_peak].mean()) if is_peak.any() else level_db
        elif lasting.any():
            runs = lasting
        else:
            runs = close_gaps(is_active, self.frames(2 * self.hop_seconds))
        if sign < 0:
            kind = LEVEL_DROP
        elif period:
            kind = IMPACTS
        elif not lasting.any():
            kind = BURSTS
        elif is_tone:
            kind = TONE
        else:
            kind = HISS if (low + high) / 2 >= HISS_FROM_HZ else RUMBLE
        intervals = self.intervals(runs)
        start, end = intervals[0][0], intervals[-1][1]
        covers_clip = len(intervals) == 1 and end - start > 0.9 * self.seconds
        share = float(relevance[:, runs].sum() / total)
        return Region(
            start, end, float(low), float(high), sign * level_db, kind, period, () if covers_clip else intervals, share
        )

    def level_beside(self, band: slice, sign: int, frames: np.ndarray) -> float:
        """Highest level just below and just above a band; a tone is alone."""
        beside = [slice(max(band.start - 4, 0), max(band.start - 1, 0)), slice(band.stop + 1, band.stop + 4)]
        levels = [sign * self.deviation[rows][:, frames] for rows in beside]
        return max((float(level.mean()) for level in levels if level.size), default=-np.inf)

    def frames(self, seconds: float) -> int:
        return round(seconds / self.hop_seconds)

    def intervals(self, runs: np.ndarray) -> tuple[tuple[float, float], ...]:
        """Runs of frames in seconds; a frame stands for the hop around its centre."""
        edges = np.flatnonzero(np.diff(runs.astype(int), prepend=0, append=0)).reshape(-1, 2) - 0.5
        seconds = np.clip(edges * self.hop_seconds, 0, self.seconds)
        return tuple((round(float(start), 3), round(float(end), 3)) for start, end in seconds)

    def period(self, level: np.ndarray, is_active: np.ndarray, low: float, high: float) -> float | None:
        """Period in seconds of impacts in a band: from its envelope, where the waveform is there, else from its
        `level`, which has a value per frame only but forgives slow impacts that they are a little irregular."""
        first, last = np.flatnonzero(is_active)[[0, -1]]
        period = None
        if self.waveform is not None:
            sampling_rate = (len(self.waveform) - 1) / self.seconds
            start, end = (round(frame * self.hop_seconds * sampling_rate) for frame in (first, last + 1))
            period = impact_period(*band_envelope(self.waveform[start:end], sampling_rate, low, high))
        return period or impact_period(level[first : last + 1], 1 / self.hop_seconds)


def band_around_peak(profile: np.ndarray) -> slice:
    """The bins around the highest one, as far as the profile keeps up, over small gaps."""
    peak = int(profile.argmax())
    keeps_up = close_gaps(profile >= BAND_EDGE * profile[peak], BAND_GAP)
    below = np.flatnonzero(~keeps_up)
    low = below[below < peak].max(initial=-1) + 1
    high = below[below > peak].min(initial=len(profile))
    return slice(int(low), int(high))


def bin_edges(centres: np.ndarray) -> np.ndarray:
    """`(bins,)` -> `(bins + 1,)`: half-way between the centres."""
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[max(2 * centres[0] - inner[0], 0.0)], inner, [2 * centres[-1] - inner[-1]]])


def close_gaps(is_on: np.ndarray, longest: int) -> np.ndarray:
    """Fills the gaps of at most `longest` between what is on."""
    is_off = ~is_on
    on = np.flatnonzero(is_on)
    if len(on):
        is_off[: on[0]] = is_off[on[-1] + 1 :] = False
    closed = is_on.copy()
    closed[is_off & ~long_runs(is_off, longest + 1)] = True
    return closed


def long_runs(is_on: np.ndarray, shortest: int) -> np.ndarray:
    """What is on for at least `shortest` in a row."""
    edges = np.flatnonzero(np.diff(is_on.astype(int), prepend=0, append=0)).reshape(-1, 2)
    kept = np.zeros_like(is_on)
    for start, end in edges:
        kept[start:end] = end - start >= shortest
    return kept


def band_envelope(waveform: np.ndarray, sampling_rate: float, low: float, high: float) -> tuple[np.ndarray, float]:
    """Level in dB of a band every millisecond, and its rate: the envelope in which bearings are diagnosed."""
    spectrum = np.fft.rfft(waveform)
    hertz = np.fft.rfftfreq(len(waveform), 1 / sampling_rate)
    analytic = np.zeros(len(waveform), complex)
    analytic[: len(spectrum)] = np.where((hertz >= low) & (hertz <= high), spectrum, 0)
    power = np.abs(np.fft.ifft(analytic)) ** 2
    step = round(sampling_rate / 1000)
    # Two milliseconds of Hann window: as short as the ringing of a bearing's housing.
    window = np.hanning(4 * step + 1)
    power = np.convolve(power, window / window.sum(), "same")[::step]
    return 10 * np.log10(power + 1e-3 * power.mean() + 1e-20), sampling_rate / step


def impact_period(level: np.ndarray, rate: float) -> float | None:
    """Period in seconds of short impacts in a level in dB at `rate` values a second, or None: from the
    autocorrelation, with at least four impacts."""
    peaks = np.clip(level - np.median(level), 0, None)
    longest = len(peaks) // 4
    if longest < 4 or np.mean(peaks > 0.5 * np.quantile(peaks, 0.98)) > MAX_DUTY:
        return None
    peaks = peaks - peaks.mean()
    spectrum = np.fft.rfft(peaks, 2 * len(peaks))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(peaks)]
    correlation *= len(peaks) / (np.arange(len(peaks), 0, -1) * (correlation[0] + 1e-20))
    lags = np.arange(3, longest)
    lags = lags[(correlation[lags] > correlation[lags - 1]) & (correlation[lags] >= correlation[lags + 1])]
    # Single bursts correlate at all short lags; what repeats does so at its period and not half-way before it.
    height = np.array([correlation[lag] - correlation[lag // 2 : lag].min() for lag in lags])
    if height.max(initial=0) < MIN_PERIODICITY + 4 / len(peaks) ** 0.5:
        return None
    # The first of the high peaks is the period, the others its multiples; the last of them gives it most exactly.
    period, count = float(lags[height >= 0.5 * height.max()][0]), 1
    while (count + 1) * period + 2 < len(peaks) / 2:
        count += 1
        reach = max(1, round(0.2 * period))
        start = round(count * period) - reach
        nearby = correlation[start : start + 2 * reach + 1]
        if nearby.max() < 0.5 * height.max():
            break
        period = (start + int(nearby.argmax())) / count
    return period / rate


def merge_neighbours(regions: list[Region]) -> list[Region]:
    """One region of those that are of one kind, and of one period, in bands less than a third octave apart."""
    merged: list[Region] = []
    for region in sorted(regions, key=lambda region: (region.kind, region.low_hz)):
        last = merged[-1] if merged else None
        if (
            last is None
            or region.kind != last.kind
            or region.kind == TONE
            or region.low_hz > 1.26 * last.high_hz
            or (last.period_s and abs(region.period_s / last.period_s - 1) > 0.05)
        ):
            merged.append(region)
            continue
        stronger = max(last, region, key=lambda region: region.share)
        share = last.share + region.share
        level_db = (last.level_db * last.share + region.level_db * region.share) / share
        band = {"low_hz": last.low_hz, "high_hz": max(last.high_hz, region.high_hz)}
        merged[-1] = replace(stronger, **band, level_db=level_db, share=share)
    return merged


def merge_tones(regions: list[Region]) -> list[Region]:
    """Three tones or more become one region of harmonics; with their spacing where they are multiples of one."""
    tones = sorted((region for region in regions if region.kind == TONE), key=lambda tone: tone.low_hz)
    if len(tones) < 3:
        return regions
    centres = np.array([(tone.low_hz + tone.high_hz) / 2 for tone in tones])
    tolerance = max(0.02 * centres[-1], max(tone.high_hz - tone.low_hz for tone in tones) / 2)
    spacings = [spacing for order in range(1, 6) if (spacing := centres[0] / order) > 2 * tolerance]
    off = [np.abs(centres - spacing * np.round(centres / spacing)).max() for spacing in spacings]
    fits = [spacing for spacing, distance in zip(spacings, off, strict=True) if distance <= tolerance]
    shares = np.array([tone.share for tone in tones])
    merged = Region(
        start_s=min(tone.start_s for tone in tones),
        end_s=max(tone.end_s for tone in tones),
        low_hz=tones[0].low_hz,
        high_hz=tones[-1].high_hz,
        level_db=float(shares @ [tone.level_db for tone in tones] / shares.sum()),
        kind=HARMONICS,
        period_s=float(1 / fits[0]) if fits else None,
        intervals_s=() if any(not tone.intervals_s for tone in tones) else tones[int(shares.argmax())].intervals_s,
        share=float(shares.sum()),
    )
    return [region for region in regions if region.kind != TONE] + [merged]


__all__ = [
    "CellReplacement",
    "Region",
    "at_normal_level",
    "distance_from_normal",
    "explain",
    "find_reasons",
    "integrated_gradients",
    "level_difference",
    "occlusion",
    "sentence",
]
