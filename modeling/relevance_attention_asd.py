"""
How much each time-frequency cell of a clip contributes to its anomaly score: the relevance map behind a reason.

The network gets a clip in two forms, as log-mel and as Wavegram. A change of the log-mel alone would leave the fault in
the Wavegram. Cells are therefore changed in the short-time Fourier transform: [`CellReplacement`] synthesizes the
waveform again and computes the log-mel from it.

The paper's attention map (Section II.B) shows where the network looks, not what is wrong.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F


# (input_values (n, samples), input_features (n, bins, frames)) -> anomaly scores (n,); for example
# `lambda values, features: model(values, features, labels=labels.expand(len(values))).anomaly_scores`.
Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class CellReplacement:
    """Replaces time-frequency cells of a clip by those of a reference, in the waveform and the log-mel alike.

    Args:
        waveform: the clip `(samples,)` in [-1, 1], as long as the network's clips.
        reference: the sound `(samples,)` that replaces cells: [`at_normal_level`], or another recording.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.

    Attributes:
        shape: number of bins and frames of a map.
        device: where maps have to be.
    """

    def __init__(self, waveform: torch.Tensor, reference: torch.Tensor, feature_extractor):
        self.feature_extractor = feature_extractor
        self.num_samples = len(waveform)
        self.spectrum = stft(waveform, feature_extractor)
        self.difference = stft(reference, feature_extractor) - self.spectrum
        self.mel_to_fft = mel_to_fft(feature_extractor, waveform.device)
        self.shape = (self.mel_to_fft.shape[1], self.spectrum.shape[1])
        self.device = waveform.device

    def __call__(self, replaced: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the network's inputs with cells replaced. Differentiable.

        Args:
            replaced: `(n, bins, frames)` in 0..1, where 0 is the clip and 1 the reference.

        Returns:
            `input_values` `(n, samples)` and `input_features` `(n, bins, frames)`.
        """
        spectrum = self.spectrum + (self.mel_to_fft @ replaced) * self.difference
        waveforms = istft(spectrum, self.num_samples, self.feature_extractor)
        return waveforms, self.feature_extractor.log_mel(waveforms)


def at_normal_level(
    waveform: torch.Tensor, normal_mean: torch.Tensor, normal_std: torch.Tensor, feature_extractor
) -> torch.Tensor:
    """Bring every cell of a clip back into the machine's normal range: mean +- one standard deviation.

    Cells inside the range stay as they are, and so do all phases. The mean itself would flatten normal sound too. No
    machine sounds like that, and the network responds to it. Frames overlap, so one pass leaves a third of the excess;
    two passes leave a sixth.

    Args:
        waveform: the clip `(samples,)`.
        normal_mean: the machine's normal log-mel `(bins,)` in dB.
        normal_std: its standard deviation `(bins,)` in dB.
        feature_extractor: the model's `AttentionAsdFeatureExtractor`.
    """
    interpolate = mel_to_fft(feature_extractor, waveform.device)
    for _ in range(2):
        beyond = beyond_normal(feature_extractor.log_mel(waveform), normal_mean, normal_std)
        spectrum = stft(waveform, feature_extractor) * 10 ** (interpolate @ -beyond / 20)
        waveform = istft(spectrum, len(waveform), feature_extractor)
    return waveform


def beyond_normal(log_mel: torch.Tensor, normal_mean: torch.Tensor, normal_std: torch.Tensor) -> torch.Tensor:
    """Return how many dB each cell `(bins, frames)` lies outside mean +- one standard deviation.

    The value is 0 inside the range and negative below.
    """
    deviation = log_mel - normal_mean[:, None]
    return deviation - deviation.clamp(-normal_std[:, None], normal_std[:, None])


def level_difference(log_mel: torch.Tensor, normal_mean: torch.Tensor, normal_std: torch.Tensor) -> torch.Tensor:
    """Relevance without the network: [`beyond_normal`] of the averaged log-mel `(bins, frames)`, in dB.

    Noise alone has cells outside the normal range. An average removes most of them. There are three averages: over a
    square box, over a flat one for tones, and over an upright one for impacts. The one furthest from normal counts. The
    upright box counts only above normal: noise in dB has deep gaps, which the box would find as well.
    """

    def averaged(height: int, width: int) -> torch.Tensor:
        padding = (height // 2, width // 2)
        smooth = F.avg_pool2d(log_mel[None], (height, width), 1, padding, count_include_pad=False)[0]
        return beyond_normal(smooth, normal_mean, normal_std)

    boxes = torch.stack([averaged(3, 3), averaged(1, 9), averaged(5, 1).clamp_min(0)])
    return boxes.gather(0, boxes.abs().argmax(0, keepdim=True))[0]


def distance_from_normal(log_mel: torch.Tensor, normal_mean: torch.Tensor, normal_std: torch.Tensor) -> torch.Tensor:
    """Return the distance of each cell `(bins, frames)` from normal, in standard deviations.

    The distance is the sum of the cell's own distance and that of its surroundings.
    """
    mean, std = normal_mean[:, None], normal_std[:, None]
    return ((log_mel - mean).abs() + level_difference(log_mel, normal_mean, normal_std).abs()) / std


@torch.no_grad()
def occlusion(
    score: Score, cells: CellReplacement, distance: torch.Tensor, parts: int = 16, batch_size: int = 8
) -> torch.Tensor:
    """Relevance `(bins, frames)`: the fall of the anomaly score when the reference replaces cells. Needs no gradient.

    `parts` bands are replaced one by one over the whole clip, and `parts` segments over all frequencies. The relevance
    of a cell is the product of three values: the fall of its band, the fall of its segment, and its own distance.
    A fault is a band and its times: these 2 x `parts` forward passes were more faithful than a grid of patches with
    four times as many.

    Args:
        score: anomaly scores from the network's inputs.
        cells: the clip and its reference.
        distance: [`distance_from_normal`] `(bins, frames)`: how much the replacement changes a cell.
        parts: number of bands, and of segments.
        batch_size: variants of the clip per call of `score`.
    """
    num_bins, num_frames = cells.shape
    bands, segments = (equal_parts(size, parts, distance.device) for size in cells.shape)
    replaced = torch.cat([bands[:, :, None].expand(-1, -1, num_frames), segments[:, None, :].expand(-1, num_bins, -1)])
    before = score(*cells(torch.zeros_like(replaced[:1])))
    after = torch.cat([score(*cells(batch)) for batch in replaced.split(batch_size)])
    band_falls, segment_falls = map(with_floor, (before - after).to(distance).chunk(2))
    return (band_falls @ bands)[:, None] * (segment_falls @ segments) * distance


def with_floor(falls: torch.Tensor) -> torch.Tensor:
    """Raise falls of the score `(parts,)` to at least a twentieth of the largest.

    Where a replacement changes nothing, cells then still rank by their distance.
    """
    return falls.clamp_min(0.05 * falls.max().clamp_min(0).item())


def integrated_gradients(score: Score, cells: CellReplacement, steps: int = 8) -> torch.Tensor:
    """Relevance `(bins, frames)` by integrated gradients (Sundararajan et al. 2017), from the reference to the clip.

    The path is the straight line between the two. The sum over all cells is the difference of the two scores, up to the
    error of the steps. One step is gradient x (input - reference), half-way.
    """
    relevance = torch.zeros(cells.shape, device=cells.device)
    for step in range(steps):
        replaced = torch.full_like(relevance, (step + 0.5) / steps).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(score(*cells(replaced[None])).sum(), replaced)
        relevance -= gradient / steps
    return relevance


def stft(waveform: torch.Tensor, feature_extractor) -> torch.Tensor:
    """Return the complex spectrum `(1 + n_fft // 2, frames)` with the frames of the log-mel."""
    n_fft, hop_length = feature_extractor.n_fft, feature_extractor.hop_length
    window = torch.hann_window(n_fft, device=waveform.device)
    return torch.stft(waveform.float(), n_fft, hop_length, window=window, pad_mode="reflect", return_complex=True)


def istft(spectrum: torch.Tensor, num_samples: int, feature_extractor) -> torch.Tensor:
    """Invert [`stft`]: `(..., 1 + n_fft // 2, frames)` -> `(..., num_samples)`."""
    n_fft, hop_length = feature_extractor.n_fft, feature_extractor.hop_length
    window = torch.hann_window(n_fft, device=spectrum.device)
    return torch.istft(spectrum, n_fft, hop_length, window=window, length=num_samples)


def mel_to_fft(feature_extractor, device: torch.device) -> torch.Tensor:
    """Return the matrix `(1 + n_fft // 2, bins)` that interpolates values of mel bins at the FFT's frequencies."""
    hertz = np.linspace(0, feature_extractor.sampling_rate / 2, 1 + feature_extractor.n_fft // 2)
    centers = feature_extractor.mel_frequencies
    weights = np.stack([np.interp(hertz, centers, unit) for unit in np.eye(len(centers))], axis=1)
    return torch.from_numpy(weights).float().to(device)


def equal_parts(size: int, count: int, device: torch.device) -> torch.Tensor:
    """Divide `size` positions into `count` parts in a row: `(count, size)`, 1 where a position belongs to a part."""
    part = torch.arange(size, device=device) * count // size
    return (part == torch.arange(count, device=device)[:, None]).float()


__all__ = [
    "CellReplacement",
    "Score",
    "at_normal_level",
    "distance_from_normal",
    "integrated_gradients",
    "level_difference",
    "occlusion",
]
