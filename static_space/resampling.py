"""The resampler of the pipeline, soxr, as one strided convolution for each sampling rate that recordings have.

soxr is linear, and after so many samples it repeats itself. So its answers to a single sample, at each place of a period, say
all of it. They are measured here. Only its first results are others, because its stages start one after the other.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from feature_extraction import AttentionAsdFeatureExtractor


# Recorders, phones and browsers write these; another rate is refused.
RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
# The answer to a sample lasts so many samples, at the lower rate, to either side; farther away soxr gives rounding errors.
REACH = 128
# So many results at the beginning are others.
FIRST = 80
AMPLITUDE = 0.5


class Resampling(nn.Module):
    """Resamples `(samples,)` from one rate to the model's, and cuts them off at full scale, as reading a file does.

    Args:
        extractor: the model's; its `resample` is measured.
        rate: of the recording, in Hz.
    """

    kernels: torch.Tensor
    beginning: torch.Tensor

    def __init__(self, extractor: AttentionAsdFeatureExtractor, rate: int):
        super().__init__()
        common = math.gcd(rate, extractor.sampling_rate)
        # So many samples of the recording become so many of the result.
        self.taken, self.made = rate // common, extractor.sampling_rate // common
        self.reach = math.ceil(REACH * max(self.taken / self.made, 1.0))

        def answer(place: int, length: int) -> np.ndarray:
            impulse = np.zeros(length, np.float32)
            impulse[place] = AMPLITUDE
            return np.concatenate(list(extractor.resample([impulse], rate))) / AMPLITUDE

        self.register_buffer("kernels", torch.from_numpy(self.measure_kernels(answer)).unsqueeze(1))
        self.register_buffer("beginning", torch.from_numpy(self.measure_beginning(answer)))

    def measure_kernels(self, answer: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """The kernels `(made, reach + taken + reach)`: what each sample of the result takes of the recording."""
        taken, made = self.taken, self.made
        kernels = np.zeros((made, 2 * self.reach + taken), np.float32)
        before = (FIRST // made + math.ceil(2 * self.reach / taken) + 2) * taken
        for place in range(before, before + taken):
            heard = answer(place, 2 * before + taken)
            # Result `made * period + phase` takes the sample with the weight at the sample's place in the kernel.
            at = self.reach + place - taken * np.arange(len(heard) // made)
            inside = (at >= 0) & (at < kernels.shape[1])
            kernels[:, at[inside]] = heard[: len(at) * made].reshape(-1, made)[inside].T
        return kernels

    def measure_beginning(self, answer: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """What the first results take of the recording's first samples, `(FIRST, samples)`."""
        samples = math.ceil(FIRST * self.taken / self.made) + self.reach
        return np.stack([answer(place, 2 * samples)[:FIRST] for place in range(samples)], axis=1)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """`(samples,)` -> `(samples of the result,)`, some more than there are; see [`result_length`]."""
        needed = self.beginning.shape[1]
        padded = F.pad(samples.reshape(1, 1, -1), (self.reach, self.reach + 2 * self.taken + needed))
        following = F.conv1d(padded, self.kernels, stride=self.taken)[0].T.flatten()
        beginning = self.beginning @ padded[0, 0, self.reach : self.reach + needed]
        return torch.cat([beginning, following[FIRST:]]).clamp(-1.0, 1.0)


def result_length(samples: int, rate: int, sampling_rate: int) -> int:
    """How many samples soxr makes of so many, at the new rate: rounded, a half upwards."""
    return (2 * samples * sampling_rate + rate) // (2 * rate)


__all__ = ["RATES", "Resampling", "result_length"]
