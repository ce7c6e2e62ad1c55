"""
`pipeline("anomalous-sound-detection", model=..., trust_remote_code=True)`: from a recording in any form to a verdict.

A recording goes through `preprocess` (opened), `_forward` (windows through the network) and `decide` (verdict and reason).
[`AnomalyDetector.decide_recording`] makes the verdict from the network's outputs; nothing here does.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Pipeline

from .clip_checks_attention_asd import Looks, look_at, sort_out
from .conditions_attention_asd import of_true_frames
from .decision_attention_asd import ANOMALOUS, Decision
from .detector_attention_asd import AnomalyDetector
from .digests_attention_asd import weights_digest
from .levels_attention_asd import recording_level
from .modeling_attention_asd import AttentionAsdModel
from .outputs_attention_asd import AttentionAsdOutput, ClipOutputs
from .reasons_attention_asd import find_reasons, sentence
from .recordings_attention_asd import Recording, is_one_recording, open_normal, open_recording
from .regions_attention_asd import Region
from .results_attention_asd import DecidedWindow, Result, TimelineEntry
from .saving_attention_asd import copy_code, replacing_files
from .self_test_attention_asd import SelfTest, listed, name_of


# What the package datasets gives for `data["audio"]`.
COLUMN_TYPES = ("Column", "IterableColumn")


@dataclass(frozen=True, eq=False)
class ProcessedRecording:
    """A recording whose windows went through the network.

    Attributes:
        recording: the recording, to read a window again.
        starts: each window's first sample.
        silent: true for each window that holds no sound.
        outputs: the network's, of all windows.
        last_window: the last window's samples. A recording of one window, as most are, need not be read again.
        last_maps: the last window's attention maps `(channels, num_mel_bins, frames)`; `None` without attention.
    """

    recording: Recording
    starts: list[int]
    silent: list[bool]
    outputs: ClipOutputs
    last_window: np.ndarray
    last_maps: torch.Tensor | None


@dataclass(frozen=True)
class HeardRecordings:
    """Recordings of normal operation that went through the network.

    Attributes:
        recordings: of each its name, the outputs of its windows that hold sound, and what it looks like.
        errors: a message for each recording that cannot be used, by its name.
    """

    recordings: list[tuple[str, list[ClipOutputs], Looks]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


class AnomalousSoundDetectionPipeline(Pipeline):
    """
    Tells whether recordings of machines sound as these machines do in normal operation.

    Args:
        model, feature_extractor:
            [`AttentionAsdModel`] and its [`AttentionAsdFeatureExtractor`].
        detector ([`AnomalyDetector`], *optional*):
            The detector that was fitted on normal clips; by default the one beside the model's files, at the same
            revision.
        engine (`str`, *optional*):
            What runs the network. This class knows `"torch"` alone; the pipeline of a directory that
            `scripts/export.py` wrote knows that export's engine as well, and takes it by default. Reasons come from
            torch whatever the engine.

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
    # transformers 5.0 asks for it when it saves, and sets it nowhere.
    modelcard = None

    model: AttentionAsdModel
    feature_extractor: Any  # transformers declares it optional

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
        self._check_extractor()
        # `transformers.pipeline` replaces class names in the configuration by classes, which could not be saved again.
        for task in getattr(self.model.config, "custom_pipelines", {}).values():
            task["pt"] = [getattr(model_class, "__name__", model_class) for model_class in task["pt"]]
        if detector is None:
            if not self.model.name_or_path:
                raise ValueError("This model was not loaded from files: pass detector=, made by AnomalyDetector.fit.")
            detector = AnomalyDetector.from_pretrained(self.model.name_or_path, **self.model.source)
        self.detector: AnomalyDetector = detector
        self.network = self.make_network(engine)

    def _check_extractor(self) -> None:
        """Refuse a feature extractor of another model: another sampling rate would be judged, wrongly, without an error."""
        for name in ("sampling_rate", "clip_length", "hop_length", "num_mel_bins"):
            values = getattr(self.feature_extractor, name), getattr(self.model.config, name)
            if values[0] != values[1]:
                raise ValueError(
                    f"{name} is {values[0]} in preprocessor_config.json and {values[1]} in config.json: the files are of two "
                    "models, or one is damaged. Save or download the model again."
                )

    def __call__(self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **kwargs) -> Any:
        """Judge one recording or several.

        Args:
            inputs:
                A recording, or a list, generator or dataset of them, such as `datasets.Dataset`: a path, an http(s) URL,
                the bytes of a sound file, a binary file, an array or tensor `(samples,)`, `(channels, samples)` or
                `(samples, channels)` at the model's sampling rate, or at any rate `{"raw": array, "sampling_rate": hertz}`
                (`"array"` does as well) or `(hertz, array)`. A row of a data set has its recording under `"audio"`
                (torchcodec's `AudioDecoder`, an array, or `"bytes"`), or a `"path"`.
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
            num_workers (`int`, *optional*):
                Taken because other pipelines take it, and without effect: recordings are read while they are judged.

        Returns:
            `dict`, ready for JSON, or a list or iterator of them. It has the fields of [`Decision`], `duration_s` and
            `level_db`. An anomalous recording has a `reason`, one sentence about the window with the highest score, and
            the `regions` in time and frequency that the reason is about. A recording longer than a clip has `windows`,
            each with `start_s`, `end_s`, `score`, `p_value` and `verdict`. With `return_attention_maps` there are also
            `attention_maps`, by representation, `(num_mel_bins, frames)`, and `attention_start_s`.

        Raises:
            ValueError: for a recording that cannot be read, a machine that is not enrolled or an impossible rate. The
                message names it.
        """
        if isinstance(inputs, (list, tuple)):
            if not inputs:
                return []
            # The base class would take a list of numbers for as many recordings, and a tuple for one.
            if not is_one_recording(inputs):
                inputs = list(inputs)
            elif np.isscalar(inputs[-1]):  # otherwise a pair of rate and samples
                inputs = np.asarray(inputs)
        elif hasattr(inputs, "column_names") or type(inputs).__name__ in COLUMN_TYPES:
            if isinstance(inputs, dict):
                raise ValueError(
                    f"a data set of the splits {', '.join(inputs)}: expected one split, such as data['test']."
                )
            # The base class would take a data set, or a column of it, for one recording.
            inputs = (row for row in inputs)
        if batch_size is not None:
            kwargs["windows_per_batch"] = batch_size
        # Windows are batched within a recording, where they arrive as a stream, not across recordings.
        return super().__call__(inputs, num_workers=0, batch_size=1, **kwargs)

    def judge(self, recording: Any, *, batch_size: int | None = None, **options) -> Result:
        """Judge one recording, as `__call__` does, and return the answer as an object.

        Args:
            recording: one recording in any form that `__call__` takes. It is fetched and opened once.
            batch_size: windows per forward pass.
            options: those of `__call__`. With `return_attention_maps` the result has the window that was decided on.

        Raises:
            ValueError: as `__call__` does.
        """
        if batch_size is not None:
            options["windows_per_batch"] = batch_size
        _, forward, decision = self._sanitize_parameters(**options)
        processed: Any = self.forward(self.preprocess(recording), **{**self._forward_params, **forward})
        return self.decide(processed, **{**self._postprocess_params, **decision})

    def enroll(self, name: str, clips: Sequence[Any]) -> SelfTest:
        """Add a machine to `detector` from recordings of its normal operation; `save_pretrained` keeps it.

        Silent recordings, copies, and those that cannot be read are left out and named in the self-test.

        Args:
            name: the machine's name.
            clips: one recording or more, in any form that the pipeline takes; a long one counts as its windows.

        Returns:
            What the recordings are worth: `sentences()` for people, `to_dict()` for programs.

        Raises:
            ValueError: for recordings that are all silent, unreadable ones beside which fewer than two remain, or a name
                that cannot be used.
        """
        return self.enroll_heard(name, self.hear_all(clips))

    def hear_all(self, clips: Sequence[Any]) -> HeardRecordings:
        """Listen to recordings of normal operation, each once, for [`enroll_heard`].

        Args:
            clips: recordings in any form that the pipeline takes.

        Raises:
            ValueError: `clips` is one recording, and no list.
        """
        if is_one_recording(clips):
            raise ValueError(f"clips is one recording ({type(clips).__name__}): expected a list of recordings.")
        heard = HeardRecordings()
        for number, clip in enumerate(clips, start=1):
            label = str(clip) if isinstance(clip, (str, os.PathLike)) else f"recording {number}"
            try:
                heard.recordings.append((label, *self.hear_normal(clip)))
            except ValueError as error:
                heard.errors[label] = str(error)
        return heard

    def enroll_heard(self, name: str, heard: HeardRecordings) -> SelfTest:
        """Add a machine to `detector` from what [`hear_all`] gave; see [`enroll`]."""
        names = [label for label, _, _ in heard.recordings]
        kept, remarks = sort_out([looks for _, _, looks in heard.recordings], names, [name] * len(names))
        if heard.errors:
            remarks = [f"Cannot be used, left out: {listed([name_of(label) for label in heard.errors])}.", *remarks]
            if len(kept) < 2:
                raise ValueError(
                    f"{name}: fewer than two recordings are left. {' '.join([*heard.errors.values(), *remarks])}"
                )
        if not kept:
            found = " ".join(remarks) or "no clips were given."
            raise ValueError(f"{name}: {found} Expected one recording of its normal operation or more.")
        parts = [(label, part) for label, outputs, _ in (heard.recordings[place] for place in kept) for part in outputs]
        outputs, recordings = ClipOutputs.concatenate([part for _, part in parts]), [label for label, _ in parts]
        return self.detector.enroll(name, outputs, recordings, remarks)

    def hear_normal(self, source: Any) -> tuple[list[ClipOutputs], Looks]:
        """The outputs of each window that holds sound, and what the recording looks like.

        Raises:
            ValueError: the recording cannot be read, is too short, or mostly silent.
        """
        recording = open_normal(source, self.feature_extractor)
        parts = []

        def windows() -> Iterator[np.ndarray]:
            for start, window in recording.windows():
                # The last window overlaps the one before, and would make the machine look steadier than it is.
                if (start - recording.heard.first) % self.feature_extractor.clip_length:
                    continue
                if not self.feature_extractor.is_silent(window):
                    parts.append(self.clip_outputs([window], self.run_network([window])))
                yield window

        looks = look_at(windows(), recording.heard.conditions.is_clipped, self.feature_extractor.is_silent)
        return parts, looks

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Save model, feature extractor and detector with their code, each file whole or not at all."""
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", Path(save_directory).name)
        with replacing_files(save_directory) as scratch:
            super().save_pretrained(scratch, **kwargs)
            copy_code(scratch)
            # These weights may be in another precision than those that the detector came with.
            self.detector.save_pretrained(scratch, weights=weights_digest(scratch))

    # The network

    def make_network(self, engine: str | None) -> Callable[[torch.Tensor], Any]:
        """Return the function that computes the outputs of waveforms `(batch, clip_length)`, here PyTorch's.

        The pipeline of an export overrides this method.

        Raises:
            ValueError: for another engine.
        """
        if engine in (None, "torch"):
            return self.run_model
        if not self.model.name_or_path:
            raise ValueError(
                f"engine={engine!r}: this model was not loaded from files. Export it, and load the export."
            )
        raise ValueError(
            f"engine={engine!r}: {self.model.name_or_path} was not exported. Export it with scripts/export.py --engine "
            f"{engine}, and load what that wrote."
        )

    def run_model(self, input_values: torch.Tensor) -> AttentionAsdOutput:
        """Compute the outputs of waveforms `(batch, clip_length)` with PyTorch, on the pipeline's device."""
        input_values = input_values.to(self.device)
        return self.model(input_values=input_values, input_features=self.feature_extractor.log_mel(input_values))

    @torch.no_grad()
    def run_network(self, windows: Sequence[np.ndarray]) -> Any:
        """Compute the network's outputs of windows `(samples,)`, each filled to a clip.

        Returns:
            [`AttentionAsdOutput`], or an engine's outputs with its `embeddings`, `cosines`, `spectra` and
            `attention_maps`.
        """
        return self.network(torch.stack([self.fitted(window) for window in windows]))

    def clip_outputs(self, windows: Sequence[np.ndarray], outputs: Any) -> ClipOutputs:
        """The detector's part of the network's outputs of windows `(samples,)`."""
        return of_true_frames(ClipOutputs.of(outputs), windows, self.feature_extractor)

    def fitted(self, window: np.ndarray) -> torch.Tensor:
        """Fill a window `(samples,)` to the network's clip `(clip_length,)`."""
        return self.feature_extractor.fit_length(torch.from_numpy(window))

    # The steps

    def _sanitize_parameters(
        self, return_attention_maps: bool | None = None, windows_per_batch: int | None = None, **decision: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unexpected = set(decision) - {"machine", "false_alarm_rate", "backend"}
        if unexpected:
            raise TypeError(
                f"unexpected arguments {sorted(unexpected)}: expected machine, false_alarm_rate, backend, "
                "return_attention_maps or batch_size."
            )
        if windows_per_batch is not None and windows_per_batch < 1:
            raise ValueError(f"batch_size={windows_per_batch}: expected a number of windows above 0.")
        forward: dict[str, Any] = {} if windows_per_batch is None else {"windows_per_batch": windows_per_batch}
        if return_attention_maps is not None:
            decision["return_attention_maps"] = return_attention_maps
        return {}, forward, decision

    # The base class hands dictionaries from step to step; here they are objects.

    def preprocess(self, input_: Any) -> Recording:  # pyright: ignore[reportIncompatibleMethodOverride]  # an object
        return open_recording(input_, self.feature_extractor)

    def _forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # objects
        self, input_tensors: Recording, windows_per_batch: int = 8
    ) -> ProcessedRecording:
        starts, silent, parts = [], [], []
        last_window, last_maps = np.empty(0, np.float32), None
        windows = input_tensors.windows()
        while batch := list(islice(windows, windows_per_batch)):
            sounds = [window for _, window in batch]
            outputs = self.run_network(sounds)
            parts.append(self.clip_outputs(sounds, outputs))
            starts += [start for start, _ in batch]
            silent += [self.feature_extractor.is_silent(window) for window in sounds]
            last_window, last_maps = batch[-1][1], outputs.attention_maps
        return ProcessedRecording(
            recording=input_tensors,
            starts=starts,
            silent=silent,
            outputs=ClipOutputs.concatenate(parts),
            last_window=last_window,
            last_maps=None if last_maps is None else last_maps[-1].float().cpu(),
        )

    def postprocess(  # pyright: ignore[reportIncompatibleMethodOverride]  # an object
        self, model_outputs: ProcessedRecording, return_attention_maps: bool = False, **decision
    ) -> dict[str, Any]:
        result = self.decide(model_outputs, return_attention_maps, **decision)
        return result.to_dict() if result.window is None else {**result.to_dict(), **result.window.to_dict()}

    def decide(self, processed: ProcessedRecording, return_attention_maps: bool = False, **decision) -> Result:
        """Decide about a recording that went through the network, and find the reason."""
        conditions = processed.recording.heard.conditions
        verdict, decisions = self.detector.decide_recording(
            processed.outputs, silent=processed.silent, conditions=conditions, **decision
        )
        highest = int(np.argmax([-math.inf if window.score is None else window.score for window in decisions]))
        start_s, is_last = self.seconds(processed.starts[highest]), highest == len(decisions) - 1
        notes = [*processed.recording.notes, *([verdict.note] if verdict.note else [])]
        verdict = replace(verdict, note="; ".join(notes) or None)
        is_shown = verdict.verdict == ANOMALOUS or return_attention_maps
        window = processed.last_window if is_last or not is_shown else processed.recording.window(highest)
        reason, regions = self.reasons(window, start_s, verdict) if verdict.verdict == ANOMALOUS else (None, [])
        decided = None
        if return_attention_maps:
            maps = processed.last_maps
            if maps is not None and not is_last:
                maps = self.run_network([window]).attention_maps[0]
            decided = DecidedWindow(start_s, self.fitted(window).numpy(), self.named_maps(maps))
        return Result(
            decision=verdict,
            duration_s=self.seconds(processed.recording.heard.samples),
            level_db=recording_level(processed.outputs.spectra),
            timeline=self.timeline(processed, decisions),
            reason=reason,
            regions=regions,
            window=decided,
        )

    def timeline(self, processed: ProcessedRecording, decisions: Sequence[Decision]) -> list[TimelineEntry]:
        """Place the decisions about windows in time."""
        stop_s, clip_s = self.seconds(processed.recording.heard.stop), self.seconds(self.feature_extractor.clip_length)
        starts_s = [self.seconds(start) for start in processed.starts]
        return [
            TimelineEntry(start_s, min(start_s + clip_s, stop_s), decision)
            for start_s, decision in zip(starts_s, decisions, strict=True)
        ]

    def reasons(self, window: np.ndarray, start_s: float, decision: Decision) -> tuple[str | None, list[Region]]:
        """Find why a window `(samples,)` is anomalous: one sentence, and the regions, in seconds of the window."""
        machine = decision.machine
        level = None if machine is None else self.detector.normal_level(machine)
        if machine is None or level is None:
            return None, []

        def score(input_values: torch.Tensor, input_features: torch.Tensor) -> torch.Tensor:
            outputs = self.model(input_values=input_values, input_features=input_features)
            return self.detector.scores(outputs, machine, decision.backend)

        regions = find_reasons(score, self.fitted(window).to(self.device), *level, self.feature_extractor)
        reason = sentence(regions)
        return (f"From {start_s:.1f} s: {reason}" if start_s else reason), regions

    def named_maps(self, maps: torch.Tensor | None) -> dict[str, np.ndarray] | None:
        """Name the attention maps `(channels, num_mel_bins, frames)` of a window by their representations."""
        if maps is None:
            return None
        return dict(zip(self.model.config.input_representations, maps.float().cpu().numpy(), strict=True))

    def seconds(self, samples: int) -> float:
        """Convert a number of samples to seconds."""
        return samples / self.feature_extractor.sampling_rate


"""
transformers before 5.9 copies a file only if the file that it loads names it in such a line, in a text too:
from .alterations_attention_asd import __all__
from .backends_attention_asd import __all__
from .bands_attention_asd import __all__
from .calibration_attention_asd import __all__
from .compatibility_attention_asd import __all__
from .configuration_attention_asd import __all__
from .detector_checks_attention_asd import __all__
from .detector_files_attention_asd import __all__
from .downloads_attention_asd import __all__
from .drift_attention_asd import __all__
from .enrolling_attention_asd import __all__
from .fitting_attention_asd import __all__
from .gradients_attention_asd import __all__
from .hearing_attention_asd import __all__
from .left_out_attention_asd import __all__
from .limits_attention_asd import __all__
from .machines_attention_asd import __all__
from .normal_clips_attention_asd import __all__
from .notes_attention_asd import __all__
from .periods_attention_asd import __all__
from .power_attention_asd import __all__
from .reference_attention_asd import __all__
from .relevance_attention_asd import __all__
from .spectrum_attention_asd import __all__
from .student_attention_asd import __all__
"""

__all__ = ["AnomalousSoundDetectionPipeline"]
