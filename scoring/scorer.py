"""Recordings scored with one detector and one set of options, a row of results for each."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from accelerate import PartialState
from accelerate.utils import gather_object

from modeling import AnomalousSoundDetectionPipeline
from modeling.recordings_attention_asd import resampled

from .inputs import machine_in_path, raw_samples


# Values of `Scorer.machine` that are no machine's name.
CLOSEST_MACHINE, MACHINE_FROM_PATH = "auto", "from-path"
# Recordings that a process scores before the results of all are collected.
ROUND = 8

# A result as JSON has it: the recording's `file`, and the pipeline's answer or an `error`.
Row = dict[str, Any]


@dataclass(frozen=True)
class Scorer:
    """Scores recordings.

    Attributes:
        detect: the pipeline.
        machine: the machine that the recordings are of, or `"auto"` for the closest one, or `"from-path"`.
        false_alarm_rate: the share of normal recordings that may be called anomalous.
        backend: the detector's back end that gives the scores.
        batch_size: windows of a recording per forward pass.
        pictures: folder for a picture of each recording; `None` for none.

    Raises:
        ValueError: for a machine, a rate or a back end that the detector does not have.
    """

    detect: AnomalousSoundDetectionPipeline
    machine: str
    false_alarm_rate: float
    backend: str
    batch_size: int = 8
    pictures: Path | None = None

    def __post_init__(self):
        # Checked here, an impossible option is one error and not one for each recording.
        names_one = self.machine not in (CLOSEST_MACHINE, MACHINE_FROM_PATH)
        machine = self.machine if names_one else self.detect.detector.machines[0]
        self.detect.detector.threshold(machine, self.false_alarm_rate, self.backend)

    def score(self, source: Any, name: str) -> Row:
        """Score one recording, in any form that the pipeline takes; an unreadable one gives a row with its `error`."""
        try:
            if os.path.isdir(name):
                raise ValueError(f"{name}: no recordings in this folder; expected sound files such as WAV or FLAC.")
            result = self.detect.judge(
                source,
                machine=self.machine_of(name),
                false_alarm_rate=self.false_alarm_rate,
                backend=self.backend,
                batch_size=self.batch_size,
                return_attention_maps=self.pictures is not None,
            )
            if self.pictures is not None:
                # Imported here, because a verdict without a picture would wait two seconds for it.
                from .pictures import save_picture

                save_picture(result, name, self.detect.feature_extractor, self.pictures)
            return {"file": name, **result.to_dict()}
        except ValueError as error:
            return {"file": name, "error": str(error)}

    def machine_of(self, name: str) -> str | None:
        """Return the machine that a recording is claimed to be of; `None` where the closest one counts."""
        if self.machine == MACHINE_FROM_PATH:
            return machine_in_path(name, self.detect.detector.machines)
        return None if self.machine == CLOSEST_MACHINE else self.machine

    def score_files(self, paths: list[str], state: PartialState) -> Iterator[Row]:
        """Score files in their order. Every process scores its share, and gets the rows of all."""
        size = ROUND * state.num_processes if state.num_processes > 1 else 1
        for start in range(0, len(paths), size):
            with state.split_between_processes(paths[start : start + size]) as share:
                rows = [self.score(path, path) for path in map(str, share)]
            yield from gather_object(rows)

    def score_stream(self, stream: BinaryIO, sample_format: str, sampling_rate: int | None) -> Iterator[Row]:
        """Score raw samples window by window as they arrive.

        Args:
            stream: raw samples of one channel.
            sample_format: a key of [`SAMPLE_FORMATS`].
            sampling_rate: in Hz; by default the model's.
        """
        extractor = self.detect.feature_extractor
        rate = sampling_rate or extractor.sampling_rate
        blocks = resampled(raw_samples(stream, sample_format, rate), rate, extractor)
        is_empty = True
        for start, window in extractor.cut_windows(blocks):
            is_empty = False
            start_s, end_s = self.detect.seconds(start), self.detect.seconds(start + len(window))
            yield {**self.score(window, "-"), "start_s": start_s, "end_s": end_s}
        if is_empty:
            yield {"file": "-", "error": "standard input: no samples arrived."}
