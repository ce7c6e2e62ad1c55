"""
Section II.A of Neri and Carli (2024): from a recording to the network's inputs, the waveform and the log-mel.

The log-mel is defined once, in [`AttentionAsdFeatureExtractor.log_mel`], for training, inference and export. Reading,
resampling and cutting a recording into windows are defined once as well, all of them block by block.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.audio_utils import hertz_to_mel, mel_filter_bank, mel_to_hertz

from .extractor_limits_attention_asd import check_mel_scale, check_whole_numbers
from .inputs_attention_asd import as_float, check_samples, is_list_of_recordings, samples_and_rate, samples_at
from .preparation_attention_asd import SoundExtent, find_sound, without_offset
from .reading_attention_asd import AUDIO_SUFFIXES, AudioSource, name_of, read_mono
from .sounds_attention_asd import MAX_CHANNELS, AudioReadError, check_rate


# A recording that is read at once, and not block by block: an hour is 230 MB of float32.
MAX_SECONDS_AT_ONCE = 3600


class AttentionAsdFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Turns recordings into the waveform and the log-mel of Section II.A: 10 log10(mel power + 1e-8), in dB.

    The FFT takes 1024 samples every 512, with a periodic Hann window, in centered frames with reflected edges. There are
    128 mel bins from 0 to 8 kHz on the HTK scale with Slaney's norm. The paper's text has 20 log10. Its code, which gave
    the published figures, has 10 log10, and so does this.

    Args:
        sampling_rate (`int`, *optional*, defaults to 16000):
            The model's sampling rate, in Hz.
        clip_length (`int`, *optional*, defaults to 160000):
            Samples in a clip (10 s).
        n_fft (`int`, *optional*, defaults to 1024):
            Samples in a frame.
        hop_length (`int`, *optional*, defaults to 512):
            Samples between frames.
        num_mel_bins (`int`, *optional*, defaults to 128):
            Frequency bins.
        min_frequency (`float`, *optional*, defaults to 0.0):
            Lower edge of the lowest bin, in Hz.
        max_frequency (`float`, *optional*, defaults to 8000.0):
            Upper edge of the highest bin, in Hz.
        mel_scale (`str`, *optional*, defaults to `"htk"`):
            `"htk"` or `"slaney"`.
        mel_norm (`str`, *optional*, defaults to `"slaney"`):
            `"slaney"` (bins of equal area) or `None`.
        mel_floor (`float`, *optional*, defaults to 1e-8):
            Power added before the logarithm: silence is at -80 dB.
        short_clips (`str`, *optional*, defaults to `"repeat"`):
            How a short clip is filled: `"repeat"` (by itself, from its start) or `"zeros"`.
        channels (`str`, *optional*, defaults to `"first"`):
            How several channels become one: the `"first"` is kept (as in DCASE 2020), or their `"mean"`.

    Example:

    ```python
    >>> import torch
    >>> from feature_extraction import AttentionAsdFeatureExtractor

    >>> inputs = AttentionAsdFeatureExtractor()(torch.randn(160_000), sampling_rate=16_000)
    >>> inputs["input_values"].shape, inputs["input_features"].shape
    (torch.Size([1, 160000]), torch.Size([1, 128, 313]))
    ```
    """

    model_input_names = ["input_values", "input_features"]
    # The forms of a recording as samples. The pipeline asks here, because a model's code may lie in another package.
    samples_and_rate = staticmethod(samples_and_rate)

    def __init__(
        self,
        sampling_rate: int = 16_000,
        clip_length: int = 160_000,
        n_fft: int = 1024,
        hop_length: int = 512,
        num_mel_bins: int = 128,
        min_frequency: float = 0.0,
        max_frequency: float = 8000.0,
        mel_scale: str = "htk",
        mel_norm: str | None = "slaney",
        mel_floor: float = 1e-8,
        short_clips: str = "repeat",
        channels: str = "first",
        **kwargs,
    ):
        kwargs.pop("feature_size", None)
        kwargs.pop("padding_value", None)
        check_whole_numbers(
            sampling_rate=sampling_rate,
            clip_length=clip_length,
            n_fft=n_fft,
            hop_length=hop_length,
            num_mel_bins=num_mel_bins,
        )
        check_mel_scale(sampling_rate, min_frequency, max_frequency, mel_scale, mel_norm, mel_floor)
        # `pad` of the base class pads the first input, the waveform, which has one value a sample. All clips have one
        # length, so that there is no attention mask unless somebody asks `pad` for one.
        kwargs.setdefault("return_attention_mask", False)
        super().__init__(feature_size=1, sampling_rate=sampling_rate, padding_value=0.0, **kwargs)
        if short_clips not in ("repeat", "zeros"):
            raise ValueError(f"short_clips={short_clips!r}: expected 'repeat' or 'zeros'.")
        if channels not in ("first", "mean"):
            raise ValueError(f"channels={channels!r}: expected 'first' or 'mean'.")
        if clip_length <= n_fft // 2:
            raise ValueError(
                f"clip_length={clip_length} samples: expected more than half a frame (n_fft={n_fft}), whose edges are "
                "reflected; choose a longer clip."
            )
        self.clip_length = clip_length
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.num_mel_bins = num_mel_bins
        self.min_frequency = min_frequency
        self.max_frequency = max_frequency
        self.mel_scale = mel_scale
        self.mel_norm = mel_norm
        self.mel_floor = mel_floor
        self.short_clips = short_clips
        self.channels = channels
        window = torch.hann_window(n_fft, periodic=True, device="cpu")
        # (bins, frequencies) @ (frequencies, frames): the long axis contiguous.
        mel_filters = torch.from_numpy(self._mel_filters().T.copy()).float()
        self._constants = {torch.device("cpu"): (window, mel_filters)}

    @property
    def mel_frequencies(self) -> np.ndarray:
        """Center frequency of each mel bin in Hz, `(num_mel_bins,)`."""
        low, high = (hertz_to_mel(f, self.mel_scale) for f in (self.min_frequency, self.max_frequency))
        return np.asarray(mel_to_hertz(np.linspace(low, high, self.num_mel_bins + 2), self.mel_scale))[1:-1]

    def log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        """Compute the log-mel in dB of waveforms in [-1, 1], in float32 on the waveform's device.

        `(..., samples)` -> `(..., num_mel_bins, 1 + samples // hop_length)`. Differentiable and exportable.
        """
        waveform = waveform.float()
        window, mel_filters = self.window_and_mel_filters(waveform.device)
        batch = waveform.reshape(-1, waveform.shape[-1])
        spectrum = torch.stft(
            batch, self.n_fft, self.hop_length, window=window, center=True, pad_mode="reflect", return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        log_mel = 10.0 * torch.log10(mel_filters @ power + self.mel_floor)
        return log_mel.reshape(*waveform.shape[:-1], *log_mel.shape[-2:])

    def __call__(
        self,
        audio: np.ndarray | torch.Tensor | list,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        split: bool = False,
        **kwargs,
    ) -> BatchFeature:
        """Turn one recording or a list of recordings into the network's inputs.

        Args:
            audio (`np.ndarray`, `torch.Tensor`, `list[float]`, or a list of them):
                One recording or a list of recordings. A recording is `(samples,)`, or `(channels, samples)` or
                `(samples, channels)` where the shorter axis, of at most 64, is taken for the channels; a batch is a list.
                Floats are in [-1, 1]; int16 and int32 are scaled by their full scale.
            sampling_rate (`int`, *optional*):
                Samples per second of `audio`. Pass it: the check guards against sounds recorded at another rate.
            return_tensors (`str`, *optional*, defaults to `"pt"`):
                `"pt"` or `"np"`.
            split (`bool`, *optional*, defaults to `False`):
                Cut long recordings into windows, see [`cut_windows`], instead of keeping their first clip. `clip_index`
                then says which recording a window belongs to, and `start_seconds` where the window starts.

        Returns:
            [`BatchFeature`] with `input_values` (batch, clip_length) and `input_features` (batch, num_mel_bins, frames).

        Raises:
            ValueError: for another sampling rate, an empty recording, samples that are not finite, three dimensions, or
                a type that is no sound. The message names the value.
        """
        if kwargs:
            raise TypeError(f"unexpected arguments {sorted(kwargs)}: expected sampling_rate, return_tensors or split.")
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"sampling_rate={sampling_rate}: this feature extractor was made for {self.sampling_rate} Hz. Resample the "
                "recording, or give its file to `read_audio`, which does."
            )
        recordings = audio if is_list_of_recordings(audio) else [audio]
        if not recordings:
            raise ValueError("audio is an empty list: expected at least one recording.")
        windows, clip_index, start_seconds = [], [], []
        for index, recording in enumerate(recordings):
            waveform = self.to_mono(recording)
            starts = [start for start, _ in self.cut_windows([waveform.numpy(force=True)])] if split else [0]
            for start in starts:
                windows.append(self.fit_length(waveform[start : start + self.clip_length]))
                clip_index.append(index)
                start_seconds.append(start / self.sampling_rate)
        input_values = torch.stack(windows)
        data = {"input_values": input_values, "input_features": self.log_mel(input_values)}
        if split:
            data["clip_index"] = torch.tensor(clip_index)
            data["start_seconds"] = torch.tensor(start_seconds)
        return BatchFeature(data).convert_to_tensors(return_tensors)

    def to_mono(self, recording: np.ndarray | torch.Tensor | list[float]) -> torch.Tensor:
        """Check a recording in any accepted form, and return it as float32 `(samples,)`.

        Raises:
            ValueError: as [`__call__`] does.
        """
        waveform = as_float(samples_at(recording, self.sampling_rate))
        if waveform.ndim == 2:
            if waveform.shape[0] > waveform.shape[1]:
                waveform = waveform.T
            if waveform.shape[0] > MAX_CHANNELS:
                raise ValueError(
                    f"audio has shape {tuple(waveform.shape)}, which would be {waveform.shape[0]} channels: expected one "
                    f"recording of at most {MAX_CHANNELS} channels; give several recordings as a list."
                )
            waveform = waveform.mean(0) if self.channels == "mean" and len(waveform) else waveform[:1].flatten()
        check_samples(waveform)
        return waveform

    def fit_length(self, waveform: torch.Tensor) -> torch.Tensor:
        """Cut a waveform to the clip's length, or fill it as `short_clips` says: `(samples,)` -> `(clip_length,)`."""
        missing = self.clip_length - len(waveform)
        if missing <= 0:
            return waveform[: self.clip_length]
        if self.short_clips == "zeros":
            return F.pad(waveform, (0, missing))
        return waveform.repeat(-(-self.clip_length // len(waveform)))[: self.clip_length]

    # Recordings, block by block

    def cut_windows(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Cut a recording into windows of one clip, each as soon as it is complete, with its first sample's position.

        The windows follow each other, and a last one ends with the recording. Only a recording shorter than a clip gives
        a shorter window.

        Args:
            blocks: the recording in parts `(samples,)` at the model's sampling rate.
        """
        clip_length = self.clip_length
        start, before, pending = 0, np.empty(0, np.float32), np.empty(0, np.float32)
        for block in blocks:
            pending = np.concatenate([pending, block])
            while len(pending) >= clip_length:
                before, pending = pending[:clip_length], pending[clip_length:]
                yield start, before
                start += clip_length
        if len(pending):
            last = np.concatenate([before, pending])[-clip_length:]
            yield start + len(pending) - len(last), last

    def resample(self, blocks: Iterable[np.ndarray], sampling_rate: float) -> Iterator[np.ndarray]:
        """Resample a recording in parts `(samples,)` from `sampling_rate`, in Hz, to the model's.

        Raises:
            ValueError: no recording has such a rate.
            ImportError: the rates differ and soxr is not installed.
        """
        if sampling_rate == self.sampling_rate:
            yield from blocks
            return
        check_rate(sampling_rate)
        try:
            import soxr
        except ImportError:
            raise ImportError(
                f"Resampling from {sampling_rate} to {self.sampling_rate} Hz needs soxr: pip install soxr"
            ) from None
        stream = soxr.ResampleStream(sampling_rate, self.sampling_rate, 1, dtype="float32")
        for block in blocks:
            yield stream.resample_chunk(np.ascontiguousarray(block))
        yield stream.resample_chunk(np.empty(0, np.float32), last=True)

    def read_audio(self, source: AudioSource) -> np.ndarray:
        """Read a recording from a path, bytes or a binary file: `(samples,)` float32 at the model's sampling rate.

        Reads what libsndfile reads (WAV, FLAC, OGG, MP3, ...), and with PyAV what phones and browsers write (M4A, AAC,
        MP4, WebM, ...). Resamples with soxr where needed.

        Raises:
            AudioReadError: the message names the file and what is wrong with it.
        """
        name, limit = name_of(source), MAX_SECONDS_AT_ONCE * self.sampling_rate
        blocks, length = [], 0
        for block in self.stream_audio(source):
            blocks.append(block)
            length += len(block)
            if length > limit:
                raise AudioReadError(
                    f"{name}: longer than {MAX_SECONDS_AT_ONCE / 3600:g} h, too long to be read at once. Cut the recording, or "
                    "read it block by block with `stream_audio`."
                )
        try:
            return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        except MemoryError:
            raise AudioReadError(f"{name}: {length} samples do not fit into the memory that is free.") from None

    def read_clip(self, source: AudioSource) -> torch.Tensor:
        """Read a recording as the network's clip `(clip_length,)`, float32, cut or filled by [`fit_length`].

        The clip is heard as the pipeline hears a recording: without the silence at both ends, and without DC.

        Raises:
            AudioReadError: as [`read_audio`] does.
        """
        return self.fit_length(torch.from_numpy(self.read_sound(source)))

    def read_sound(self, source: AudioSource) -> np.ndarray:
        """Read what [`read_clip`] fills to a clip: `(samples,)`, as long as the recording and no longer than a clip.

        Raises:
            AudioReadError: as [`read_audio`] does.
        """
        waveform = self.read_audio(source)
        sound = self.find_sound([waveform])
        return without_offset(waveform[sound.first : sound.stop][: self.clip_length])

    def find_sound(self, blocks: Iterable[np.ndarray]) -> SoundExtent:
        """Find where the sound of a recording lies between silences at both ends of a quarter of a frame or more.

        Args:
            blocks: the recording in parts `(samples,)` at the model's sampling rate.
        """
        return find_sound(blocks, self.n_fft // 4)

    def without_offset(self, window: np.ndarray) -> np.ndarray:
        """Take away the offset (DC) of a window `(samples,)`, which recorders add and machines do not make."""
        return without_offset(window)

    def stream_audio(
        self,
        source: AudioSource,
        block_seconds: float = 60.0,
        notes: list[str] | None = None,
        must_be_whole: bool = False,
    ) -> Iterator[np.ndarray]:
        """Read a recording block by block, in memory that does not grow with its length.

        Args:
            source: a path, the bytes of a sound file, or a binary file, which is read from its start.
            block_seconds: length of a block; a block of many channels is shorter.
            notes: a list that gets a sentence where the file holds another number of samples than its header says.
            must_be_whole: whether fewer samples than the header says are an error instead of a note.

        Returns:
            Iterator over `(samples,)` float32 at the model's sampling rate.

        Raises:
            AudioReadError: the message names the file and what is wrong with it, or what has to be installed.
        """
        return read_mono(source, self.resample, self.channels, block_seconds, notes, must_be_whole)

    def _mel_filters(self) -> np.ndarray:
        return mel_filter_bank(
            num_frequency_bins=1 + self.n_fft // 2,
            num_mel_filters=self.num_mel_bins,
            min_frequency=self.min_frequency,
            max_frequency=self.max_frequency,
            sampling_rate=self.sampling_rate,
            norm=self.mel_norm,
            mel_scale=self.mel_scale,
        )

    def window_and_mel_filters(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the window `(n_fft,)` and the mel filters `(num_mel_bins, 1 + n_fft // 2)` of [`log_mel`], on a device."""
        if device in self._constants:
            return self._constants[device]
        window, mel_filters = (constant.to(device) for constant in self._constants[torch.device("cpu")])
        # A tracer's values are no tensors, and must not be met again outside the trace.
        if not torch.compiler.is_compiling():
            self._constants[device] = (window, mel_filters)
        return window, mel_filters

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Load a feature extractor as transformers does.

        Args and results are those of `transformers.FeatureExtractionMixin.from_pretrained`.

        Raises:
            OSError: `preprocessor_config.json` is missing or no JSON.
            ValueError: `preprocessor_config.json` is damaged. The message names the value.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            raise ValueError(
                f"{pretrained_model_name_or_path}: preprocessor_config.json cannot be used ({error}). Save or download the "
                "model again."
            ) from error

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs):
        """Save the constants, with this code. Each file is replaced whole or not at all, and links are not written through."""
        directory = Path(save_directory)
        directory.mkdir(parents=True, exist_ok=True)
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", directory.name)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".saving-") as scratch:
            written = super().save_pretrained(scratch, **kwargs)
            for file in sorted(Path(scratch).iterdir()):
                with file.open("rb+") as opened:
                    os.fsync(opened.fileno())
                file.replace(directory / file.name)
        return [str(directory / Path(file).name) for file in written or []]

    def to_dict(self) -> dict[str, Any]:
        output = super().to_dict()
        output.pop("_constants", None)
        return output


AttentionAsdFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")

"""
transformers before 5.9 copies a file only if the file that it loads names it in such a line, in a text too:
from .libav_attention_asd import __all__
from .unfinished_attention_asd import __all__
"""

__all__ = ["AUDIO_SUFFIXES", "AttentionAsdFeatureExtractor", "AudioReadError"]
