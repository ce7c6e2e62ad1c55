"""Samples in any form as float32 tensors: arrays, tensors, lists, rows of `datasets`, pairs of rate and array."""

from typing import Any

import numpy as np
import torch

from .sounds_attention_asd import MAX_AMPLITUDE


# Full scale of the integer formats of recordings.
INTEGER_FULL_SCALE = {torch.int16: 2.0**15, torch.int32: 2.0**31}


def is_list_of_recordings(audio: Any) -> bool:
    """Tell several recordings, a list of arrays, tensors or lists, from one recording, which may be a list of numbers."""
    return (
        isinstance(audio, (list, tuple)) and not is_rate_and_array(audio) and (not audio or not np.isscalar(audio[0]))
    )


def is_rate_and_array(audio: Any) -> bool:
    """Tell whether this is a recording as Gradio and SciPy give it, `(sampling_rate, array)`."""
    return isinstance(audio, tuple) and len(audio) == 2 and np.isscalar(audio[0]) and np.ndim(audio[1]) > 0


def samples_and_rate(recording: Any, default_rate: float) -> tuple[Any, float]:
    """Return the samples of a recording, unchecked, and their rate in Hz.

    Args:
        recording: an array, a tensor or a list of samples; a dictionary with `"raw"` or `"array"` and `"sampling_rate"`;
            `(sampling_rate, array)`; or torchcodec's `AudioDecoder`, which is what rows of `datasets` hold.
        default_rate: the rate where the recording says none.

    Raises:
        ValueError: a dictionary lacks a key, or a decoder cannot decode.
    """
    if hasattr(recording, "get_all_samples"):
        try:
            decoded = recording.get_all_samples()
        except Exception as error:  # torchcodec's are RuntimeErrors, FFmpeg's text among them
            raise ValueError(
                f"the audio decoder cannot decode ({error}). Check that the recording is whole."
            ) from error
        return decoded.data, decoded.sample_rate
    if is_rate_and_array(recording):
        return recording[1], recording[0]
    if not isinstance(recording, dict):
        return recording, default_rate
    array = recording.get("raw", recording.get("array"))
    if array is None or recording.get("sampling_rate") is None:
        raise ValueError(
            f"a recording as a dictionary has the keys {sorted(map(str, recording))}: expected 'raw' (or 'array') with the "
            "samples and 'sampling_rate' in Hz."
        )
    return array, recording["sampling_rate"]


def samples_at(recording: Any, sampling_rate: float) -> Any:
    """Return the samples of a recording in any form that [`samples_and_rate`] knows, which has to have this rate.

    Raises:
        ValueError: the recording says that it has another rate.
    """
    samples, own_rate = samples_and_rate(recording, sampling_rate)
    if own_rate != sampling_rate:
        raise ValueError(
            f"the recording has a sampling rate of {own_rate} Hz: expected {sampling_rate} Hz. Resample the recording, or "
            "give it to the pipeline, which does."
        )
    return samples


def as_float(recording: Any) -> torch.Tensor:
    """Convert an array of samples to float32, integers by their full scale.

    Raises:
        ValueError: for a type that is no array of samples.
    """
    try:
        if isinstance(recording, torch.Tensor):
            waveform = recording.detach()
        else:
            samples = np.asarray(recording)
            # torch takes neither samples in reversed order nor those of the other byte order.
            waveform = torch.as_tensor(np.asarray(samples, samples.dtype.newbyteorder("="), order="C"))
    except (TypeError, RuntimeError, ValueError):
        raise ValueError(
            f"audio is {type(recording).__name__}, which is no array of numbers: expected an array, a tensor or a list "
            "of samples; give files to `read_audio`."
        ) from None
    if waveform.dtype in INTEGER_FULL_SCALE:
        return waveform.float() / INTEGER_FULL_SCALE[waveform.dtype]
    if not waveform.is_floating_point():
        raise ValueError(
            f"audio has type {waveform.dtype}: expected floats in [-1, 1], int16 or int32, whose full scale is known."
        )
    return waveform.float()


def check_samples(waveform: torch.Tensor) -> None:
    """Check that a waveform has one axis, and samples that are finite and in the units of full scale 1.

    Raises:
        ValueError: the message names the value.
    """
    if waveform.ndim != 1:
        raise ValueError(
            f"audio has {waveform.ndim} dimensions, shape {tuple(waveform.shape)}: expected (samples,) or "
            "(channels, samples); give several recordings as a list."
        )
    if waveform.numel() == 0:
        raise ValueError("audio is empty (0 samples): expected at least one sample.")
    if not torch.isfinite(waveform).all():
        bad = int((~torch.isfinite(waveform)).sum())
        raise ValueError(
            f"audio holds {bad} samples of {waveform.numel()} that are not finite (NaN or infinite): repair or drop "
            "the recording."
        )
    peak = float(waveform.abs().max())
    if peak > MAX_AMPLITUDE:
        raise ValueError(
            f"audio has float samples up to {peak:.4g}: expected floats in [-1, 1]. If they are in 16-bit units, divide by "
            "32768, or give them as int16."
        )
