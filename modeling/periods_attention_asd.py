"""The period of impacts: in the envelope of a waveform's band, or in a level frame by frame."""

import numpy as np


# Impacts are short: their level exceeds half its height for at most this share of the time. Impacts repeat: the
# autocorrelation rises by this much at their period, and by more where few values are known.
MAX_DUTY, MIN_PERIODICITY = 0.4, 0.3


def band_envelope(waveform: np.ndarray, sampling_rate: float, low: float, high: float) -> tuple[np.ndarray, float]:
    """Return the level of a band in dB every millisecond, and the rate of the values.

    Bearings are diagnosed by this envelope.
    """
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
    """Find the period of short impacts in a level, in seconds, by autocorrelation.

    Args:
        level: in dB, `(values,)`.
        rate: values a second.

    Returns:
        `None` where there are fewer than four impacts, or none that are short and regular.
    """
    peaks = np.clip(level - np.median(level), 0, None)
    longest = len(peaks) // 4
    if longest < 4 or np.mean(peaks > 0.5 * np.quantile(peaks, 0.98)) > MAX_DUTY:
        return None
    correlation = autocorrelation(peaks - peaks.mean())
    lags = np.arange(3, longest)
    lags = lags[(correlation[lags] > correlation[lags - 1]) & (correlation[lags] >= correlation[lags + 1])]
    # Single bursts correlate at all short lags. Impacts correlate at their period, and not half-way before.
    height = np.array([correlation[lag] - correlation[lag // 2 : lag].min() for lag in lags])
    if height.max(initial=0) < MIN_PERIODICITY + 4 / len(peaks) ** 0.5:
        return None
    # The first of the high peaks is the period, the others are its multiples.
    first = float(lags[height >= 0.5 * height.max()][0])
    return refine_period(correlation, first, 0.5 * height.max()) / rate


def autocorrelation(values: np.ndarray) -> np.ndarray:
    """Return the autocorrelation of centered values at lags of 0 and more, without bias, 1 at lag 0."""
    count = len(values)
    spectrum = np.fft.rfft(values, 2 * count)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:count]
    correlation *= count / (np.arange(count, 0, -1) * (correlation[0] + 1e-20))
    return correlation


def refine_period(correlation: np.ndarray, period: float, min_height: float) -> float:
    """Refine a period, in lags, by the last of its multiples that is as high: it gives the period most exactly."""
    count = 1
    while (count + 1) * period + 2 < len(correlation) / 2:
        count += 1
        reach = max(1, round(0.2 * period))
        start = round(count * period) - reach
        nearby = correlation[start : start + 2 * reach + 1]
        if nearby.max() < min_height:
            break
        period = (start + int(nearby.argmax())) / count
    return period


__all__ = ["band_envelope", "impact_period"]
