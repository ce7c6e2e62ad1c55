"""
`pipeline("anomalous-sound-detection", model=..., trust_remote_code=True)`: from a recording in any form to a verdict.

The network's outputs go to [`AnomalyDetector.decide_recording`], which makes the verdict; nothing here does.
"""

import http.client
import math
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Pipeline
from transformers.utils import cached_file

from .engine_attention_asd import EXPORT_FILE, ExportedModel
from .modeling_attention_asd import AttentionAsdModel, AttentionAsdOutput
from .reasons_attention_asd import find_reasons, sentence
from .scoring_attention_asd import ANOMALOUS, AnomalyDetector, Decision


try:
    import soxr
except ImportError:  # only for arrays at another sampling rate than the model's
    soxr = None


# A recording by URL: 100 MiB are 54 minutes of 16 kHz, 16 bit, mono.
MAX_DOWNLOAD_BYTES = 100 * 2**20
CONNECT_SECONDS = 10.0
DOWNLOAD_SECONDS = 120.0

# Below the step of 16 bits (-90 dB of full scale) there is no sound, only a microphone that is off.
SILENCE_RMS = 2.0**-15


@dataclass
class Recording:
    """A recording that is read when it is needed, as often as it is needed, in memory that does not grow with it.

    `open` gives its samples at the model's sampling rate, float32 in [-1, 1], block by block.
    """

    name: str
    open: Callable[[], Iterable[np.ndarray]]

    def windows(self, clip_length: int) -> Iterator[tuple[int, np.ndarray]]:
        """As [`cut_windows`]; a ValueError where there are none: few samples at a high rate are none at the model's."""
        is_empty = True
        for start, window in cut_windows(self.open(), clip_length):
            is_empty = False
            yield start, window
        if is_empty:
            raise ValueError(f"{self.name}: is empty at the model's sampling rate. Expected one sample or more.")


def cut_windows(blocks: Iterable[np.ndarray], clip_length: int) -> Iterator[tuple[int, np.ndarray]]:
    """Windows of one clip as soon as they are complete, each with its first sample's position: one after the other, and
    a last one that ends with the recording. Only a recording shorter than a clip gives a window that is shorter too."""
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


class AnomalousSoundDetectionPipeline(Pipeline):
    """
    Tells whether recordings of machines sound as these machines do in normal operation.

    Args:
        model, feature_extractor:
            [`AttentionAsdModel`] and its [`AttentionAsdFeatureExtractor`].
        detector ([`AnomalyDetector`], *optional*):
            What was fitted on normal clips; by default what lies beside the model's files, at the same revision.
        engine (`str`, *optional*):
            What runs the network: `"torch"`, or the engine that the model's directory was exported for by
            `scripts/export.py`; by default the latter where there is one. Reasons come from torch whatever the engine.

    Example:

    ```python
    >>> from transformers import pipeline

    >>> detect = pipeline("anomalous-sound-detection", model="my-model", trust_remote_code=True)
    >>> result = detect("pump.wav", machine="pump_id_02", false_alarm_rate=0.01)
    >>> result["verdict"], result["p_value"]
    ('anomalous', 0.0004)
    ```
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __init__(
        self,
        *args,
        detector: AnomalyDetector | None = None,
        engine: str | None = None,
        local_files_only: bool = False,
        **kwargs,
    ):
        # `transformers.pipeline` hands local_files_only on; the model has it as well, in `source`.
        super().__init__(*args, **kwargs)
        self.model.eval()
        # `transformers.pipeline` replaces class names in the configuration by classes, which could not be saved again.
        for task in getattr(self.model.config, "custom_pipelines", {}).values():
            task["pt"] = [getattr(model_class, "__name__", model_class) for model_class in task["pt"]]
        if detector is None:
            if not self.model.name_or_path:
                raise ValueError("This model was not loaded from files: pass detector=, made by AnomalyDetector.fit.")
            detector = AnomalyDetector.from_pretrained(self.model.name_or_path, **self.model.source)
        self.detector = detector
        self.network = self.load_network(engine)

    def load_network(self, engine: str | None) -> AttentionAsdModel | ExportedModel:
        name, source = self.model.name_or_path, self.model.source
        if engine == "torch" or not name:
            if engine not in (None, "torch"):
                raise ValueError(
                    f"engine={engine!r}: this model was not loaded from files. Export it, and load the export."
                )
            return self.model
        absent_is_none = {
            "_raise_exceptions_for_missing_entries": False,
            "_raise_exceptions_for_connection_errors": False,
        }
        if cached_file(name, EXPORT_FILE, **source, **absent_is_none) is None:
            if engine is None:
                return self.model
            raise ValueError(
                f"engine={engine!r}: {name} was not exported. Export it with scripts/export.py --engine {engine}, and load "
                "what that wrote."
            )
        return ExportedModel.from_exported(name, engine=engine, **source)

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, **kwargs
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """
        Args:
            inputs:
                A recording, or a list, generator or dataset of them: a path, an http(s) URL, the bytes of a sound file,
                an array or tensor `(samples,)`, `(channels, samples)` or `(samples, channels)` at the model's sampling
                rate, or `{"raw": array, "sampling_rate": hertz}` (`"array"` does as well) at any.
            machine (`str`, *optional*):
                The machine that the recording is of; by default the closest enrolled one.
            false_alarm_rate (`float`, *optional*):
                The share of normal recordings that may be called anomalous; by default the detector's.
            backend (`str`, *optional*):
                The detector's back end that gives the score; by default the detector's.
            return_attention_maps (`bool`, *optional*, defaults to `False`):
                Whether the result has the attention map of the window with the highest score.
            batch_size (`int`, *optional*, defaults to 8):
                Windows of a recording per forward pass.

        Returns:
            `dict`, ready for JSON, or a list or iterator of them: the fields of [`Decision`], and `duration_s`; where
            anomalous, why the window with the highest score is: `reason` in one sentence and the `regions` in time and
            frequency that it is about; and for a recording longer than a clip `windows`, each with `start_s`, `end_s`,
            `score`, `p_value` and `verdict`. With `return_attention_maps` also `attention_maps`, by
            representation, `(num_mel_bins, frames)`, and `attention_start_s`.

        Raises:
            ValueError: for a recording that cannot be read, a machine that is not enrolled or an impossible rate. The
                message names it.
        """
        if isinstance(inputs, (list, tuple)):
            if not inputs:
                return []
            # A list of numbers is one recording; the base class would take them for as many.
            inputs = (
                np.asarray(inputs)
                if np.isscalar(inputs[0]) and not isinstance(inputs[0], (str, bytes))
                else list(inputs)
            )
        if batch_size is not None:
            kwargs["windows_per_batch"] = batch_size
        # Windows are batched within a recording, where they arrive as a stream, not across recordings.
        return super().__call__(inputs, num_workers=0, batch_size=1, **kwargs)

    def _sanitize_parameters(self, return_attention_maps=None, windows_per_batch=None, **decision):
        unexpected = set(decision) - {"machine", "false_alarm_rate", "backend"}
        if unexpected:
            raise TypeError(
                f"unexpected arguments {sorted(unexpected)}: expected machine, false_alarm_rate, backend, "
                "return_attention_maps or batch_size."
            )
        if windows_per_batch is not None and windows_per_batch < 1:
            raise ValueError(f"batch_size={windows_per_batch}: expected a number of windows above 0.")
        forward = {} if windows_per_batch is None else {"windows_per_batch": windows_per_batch}
        if return_attention_maps is not None:
            decision["return_attention_maps"] = return_attention_maps
        return {}, forward, decision

    def preprocess(self, source: Any) -> dict[str, Recording]:
        return {"recording": self.open_recording(source)}

    def _forward(self, model_inputs: dict[str, Recording], windows_per_batch: int = 8) -> dict[str, Any]:
        recording, clip_length = model_inputs["recording"], self.feature_extractor.clip_length
        starts, silent, embeddings, cosines, spectra, duration = [], [], [], [], [], 0
        windows = recording.windows(clip_length)
        while batch := list(islice(windows, windows_per_batch)):
            outputs = self.run_network([window for _, window in batch])
            embeddings.append(outputs.embeddings.float().cpu())
            cosines.append(outputs.cosines.cpu())
            spectra.append(outputs.spectra.cpu())
            for start, window in batch:
                starts.append(start)
                silent.append(bool(window.std() < SILENCE_RMS))
                duration = start + len(window)
        return {
            "recording": recording,
            "starts": starts,
            "silent": silent,
            "duration": duration,
            "embeddings": torch.cat(embeddings),
            "cosines": torch.cat(cosines),
            "spectra": torch.cat(spectra),
            # A recording of one window, as most are, need not be read and computed again for its map.
            "last_window": window,
            "last_maps": None if outputs.attention_maps is None else outputs.attention_maps[-1],
        }

    def postprocess(
        self, model_outputs: dict[str, Any], return_attention_maps: bool = False, **decision: Any
    ) -> dict[str, Any]:
        verdict, windows = self.detector.decide_recording(
            model_outputs["embeddings"],
            model_outputs["cosines"],
            spectra=model_outputs["spectra"],
            silent=model_outputs["silent"],
            **decision,
        )
        rate, clip_length = self.feature_extractor.sampling_rate, self.feature_extractor.clip_length
        starts = [start / rate for start in model_outputs["starts"]]
        duration = model_outputs["duration"] / rate
        timeline = [
            {
                "start_s": start,
                "end_s": min(start + clip_length / rate, duration),
                "score": window.score,
                "p_value": window.p_value,
                "verdict": window.verdict,
            }
            for start, window in zip(starts, windows, strict=True)
        ]
        result = {
            **verdict.to_dict(),
            "duration_s": duration,
            "reason": None,
            "regions": [],
            "windows": timeline if len(timeline) > 1 else [],
        }
        highest = int(np.argmax([-math.inf if window.score is None else window.score for window in windows]))
        window, maps = model_outputs["last_window"], model_outputs["last_maps"]
        if highest < len(starts) - 1 and (verdict.verdict == ANOMALOUS or return_attention_maps):
            window = self.window_at(model_outputs["recording"], highest)
            if return_attention_maps and maps is not None:
                with torch.no_grad():
                    maps = self.run_network([window]).attention_maps[0]
        if verdict.verdict == ANOMALOUS:
            result |= self.reasons(window, starts[highest], verdict)
        if return_attention_maps:
            result["attention_start_s"] = starts[highest]
            result["attention_maps"] = self.named_maps(maps)
        return result

    def enroll(self, name: str, clips: list[Any]) -> None:
        """Add a machine to `detector` from recordings of its normal operation; `save_pretrained` keeps it.

        Args:
            name: what the machine is to be called.
            clips: one recording or more, in any form that the pipeline takes; a long one counts as its windows.

        Raises:
            ValueError: for a recording that cannot be read or is silent, or a name that cannot be used.
        """
        clip_length = self.feature_extractor.clip_length
        embeddings, cosines, spectra = [], [], []
        for clip in clips:
            recording = self.open_recording(clip)
            for start, window in recording.windows(clip_length):
                # The last window overlaps the one before it, and would make the machine look steadier than it is.
                if start % clip_length:
                    continue
                if window.std() < SILENCE_RMS:
                    raise ValueError(
                        f"{recording.name}: silent at {start / self.feature_extractor.sampling_rate:.1f} s."
                    )
                with torch.no_grad():
                    outputs = self.run_network([window])
                embeddings.append(outputs.embeddings.float().cpu())
                cosines.append(outputs.cosines.cpu())
                spectra.append(outputs.spectra.cpu())
        if not embeddings:
            raise ValueError(f"{name}: no clips were given; expected one recording of its normal operation or more.")
        self.detector.enroll(name, torch.cat(embeddings), torch.cat(cosines), torch.cat(spectra))

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Save model, feature extractor and detector, with their code."""
        super().save_pretrained(save_directory, **kwargs)
        # A model that came from a repository knows of no more code than its own.
        for code in Path(__file__).parent.glob("*_attention_asd.py"):
            shutil.copyfile(code, Path(save_directory) / code.name)
        self.detector.save_pretrained(save_directory)

    # The network

    def fitted(self, window: np.ndarray) -> torch.Tensor:
        return self.feature_extractor.fit_length(torch.from_numpy(window))

    def run_network(self, windows: list[np.ndarray]) -> AttentionAsdOutput:
        input_values = torch.stack([self.fitted(window) for window in windows])
        if isinstance(self.network, ExportedModel):
            return self.network(input_values)
        input_values = input_values.to(self.device)
        return self.network(input_values=input_values, input_features=self.feature_extractor.log_mel(input_values))

    def named_maps(self, maps: torch.Tensor | None) -> dict[str, list[list[float]]] | None:
        """The paper's attention map (Section II.B) of a window, `(num_mel_bins, frames)` by representation."""
        if maps is None:
            return None
        return dict(zip(self.model.config.input_representations, maps.float().cpu().numpy().tolist(), strict=True))

    def reasons(self, window: np.ndarray, start_s: float, decision: Decision) -> dict[str, Any]:
        """Why a window is anomalous: `reason` in one sentence and `regions`, in seconds of the window and hertz."""
        level = self.detector.normal_level(decision.machine)
        if level is None:
            return {}

        def score(input_values: torch.Tensor, input_features: torch.Tensor) -> torch.Tensor:
            outputs = self.model(input_values=input_values, input_features=input_features)
            return self.detector.scores(
                outputs.embeddings, outputs.cosines, decision.machine, decision.backend, outputs.spectra
            )

        regions = find_reasons(score, self.fitted(window).to(self.device), *level, self.feature_extractor)
        reason = sentence(regions)
        return {
            "reason": f"From {start_s:.1f} s: {reason}" if start_s else reason,
            "regions": [asdict(region) for region in regions],
        }

    # Recordings

    def window_at(self, recording: Recording, index: int) -> np.ndarray:
        """A window, read again so that none need be kept."""
        return next(islice(recording.windows(self.feature_extractor.clip_length), index, None))[1]

    def open_recording(self, source: Any) -> Recording:
        """A recording in any form that [`__call__`] names.

        Raises:
            ValueError: for a form that it does not name, an array that is no sound, or a URL that cannot be had.
        """
        read = self.feature_extractor.stream_audio
        if isinstance(source, str) and "://" in source:
            data = download(source)
            return Recording(source, lambda: named(source, read(data)))
        if isinstance(source, (str, os.PathLike)):
            return Recording(str(source), lambda: read(source))
        if isinstance(source, (bytes, bytearray)):
            return Recording("audio data", lambda: read(bytes(source)))
        sampling_rate = self.feature_extractor.sampling_rate
        if isinstance(source, dict):
            array = source.get("raw", source.get("array"))
            if array is None or source.get("sampling_rate") is None:
                raise ValueError(
                    f"a recording as a dictionary has the keys {sorted(source)}: expected 'raw' (or 'array') with the "
                    "samples and 'sampling_rate' in Hz."
                )
            source, sampling_rate = array, source["sampling_rate"]
        if not isinstance(source, (np.ndarray, torch.Tensor, list, tuple)):
            raise ValueError(
                f"a recording of type {type(source).__name__}: expected a path, an http(s) URL, the bytes of a sound "
                "file, an array, a tensor, or a dictionary with 'raw' and 'sampling_rate'."
            )
        mono = self.feature_extractor.to_mono(source).cpu().numpy()
        wanted = self.feature_extractor.sampling_rate
        return Recording("audio array", lambda: resample_blocks([mono], sampling_rate, wanted))


def named(name: str, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks; an error about them says where they come from."""
    try:
        yield from blocks
    except ValueError as error:
        raise ValueError(str(error).replace("audio data", name, 1)) from None


def resample_blocks(blocks: Iterable[np.ndarray], sampling_rate: float, wanted: int) -> Iterator[np.ndarray]:
    """Blocks of one recording `(samples,)` at another sampling rate, as the feature extractor resamples files."""
    if not 1_000 <= sampling_rate <= 1_000_000:
        raise ValueError(f"sampling_rate={sampling_rate}: expected 1,000 to 1,000,000 Hz.")
    if sampling_rate == wanted:
        yield from blocks
        return
    if soxr is None:
        raise ImportError(f"Resampling from {sampling_rate} to {wanted} Hz needs soxr: pip install soxr")
    stream = soxr.ResampleStream(sampling_rate, wanted, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def download(url: str) -> bytes:
    """A file by http or https, with a limit on its size and on the time it takes.

    Raises:
        ValueError: for another scheme, a server that does not answer as it should, or a file beyond the limits.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{url}: expected an http or https URL, or the path of a file.")
    # Python's usual opener would follow a redirection to ftp as well.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    data = bytearray()
    try:
        with opener.open(url, timeout=CONNECT_SECONDS) as response:
            # Not read, which waits until a slow server has sent all of the block.
            while chunk := response.read1(2**16):
                data += chunk
                if len(data) > MAX_DOWNLOAD_BYTES:
                    raise ValueError(f"it is larger than {MAX_DOWNLOAD_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise ValueError(f"it took longer than {DOWNLOAD_SECONDS:.0f} s")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ValueError(f"{url}: cannot be downloaded ({error}). Download it yourself and give the file.") from None
    return bytes(data)


__all__ = ["AnomalousSoundDetectionPipeline"]
