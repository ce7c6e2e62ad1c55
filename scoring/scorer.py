"""Recordings scored with one detector and one set of options, a row of results for each."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from tqdm.auto import tqdm

from modeling import AnomalousSoundDetectionPipeline

from .inputs import machine_in_path
from .options import CLOSEST_MACHINE, MACHINE_FROM_PATH, STANDARD_INPUT
from .rows import Row
from .streams import stream_blocks


@dataclass(frozen=True)
class Scorer:
    """Scores recordings.

    Attributes:
        detect: the pipeline.
        machine: the machine that the recordings are of, or `"auto"` for the closest one, or `"from-path"`.
        false_alarm_rate: the share of normal recordings that may be called anomalous.
        backend: the detector's back end that gives the scores.
        engine: what runs the network.
        model_digest: see [`engines.model_digest`].
        batch_size: windows of a recording per forward pass.
        pictures: folder for a picture of each recording; `None` for none.

    Raises:
        ValueError: for a machine, a rate or a back end that the detector does not have.
        ImportError: pictures are asked for, and matplotlib is not installed.
        OSError: the folder for pictures cannot be made.
    """

    detect: AnomalousSoundDetectionPipeline
    machine: str
    false_alarm_rate: float
    backend: str
    engine: str
    model_digest: str
    batch_size: int = 8
    pictures: Path | None = None

    def __post_init__(self):
        # Checked here, an impossible option is one error and not one for each recording.
        if self.pictures is not None:
            if find_spec("matplotlib") is None:
                raise ImportError("--picture needs matplotlib: pip install matplotlib")
            self.pictures.mkdir(parents=True, exist_ok=True)
        names_one = self.machine not in (CLOSEST_MACHINE, MACHINE_FROM_PATH)
        machine = self.machine if names_one else self.detect.detector.machines[0]
        self.detect.detector.threshold(machine, self.false_alarm_rate, self.backend)

    def options(self) -> Row:
        """Return what all rows rest on: the model, and the options that change a verdict."""
        return {
            "asked_machine": self.machine,
            "false_alarm_rate": self.false_alarm_rate,
            "backend": self.backend,
            "engine": self.engine,
            "model_digest": self.model_digest,
        }

    def basis(self, name: str) -> Row:
        """Return what a row about a recording rests on: its size and time of change, the model and the options."""
        try:
            status = os.stat(name)
        except (OSError, ValueError):  # a URL, standard input, or a file that is missing
            size, time = None, None
        else:
            size, time = status.st_size, datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC).isoformat()
        return {"file_size": size, "file_time": time, **self.options()}

    def score(self, source: Any, name: str, picture: str | None = None) -> Row:
        """Score one recording, in any form that the pipeline takes; an unreadable one gives a row with its `error`.

        Args:
            source: the recording.
            name: its name.
            picture: the name of its picture; by default its own.
        """
        # Before the recording is read: if it changes meanwhile, it is judged again.
        basis = self.basis(name)
        try:
            return {"file": name, **self.judge(source, name, picture or name), **basis}
        # Whatever a reader raises is about one recording, and the others are scored all the same.
        except Exception as error:
            message = str(error) or type(error).__name__
            if not isinstance(error, ValueError):
                message = f"{type(error).__name__}: {message}"
            return {"file": name, "error": message if name in message else f"{name}: {message}", **basis}

    def judge(self, source: Any, name: str, picture: str) -> Row:
        """Judge one recording, and draw it, under the name `picture`, where pictures are asked for.

        Raises:
            ValueError: the recording cannot be read, or its machine is not known.
        """
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

            try:
                save_picture(result, picture, self.detect.feature_extractor, self.pictures)
            except Exception as error:  # a full disk, for one: the verdict is there all the same
                tqdm.write(f"--picture: {picture}: was judged, but has no picture ({error})", file=sys.stderr)
        return result.to_dict()

    def machine_of(self, name: str) -> str | None:
        """Return the machine that a recording is claimed to be of; `None` where the closest one counts."""
        if self.machine == MACHINE_FROM_PATH:
            return machine_in_path(name, self.detect.detector.machines)
        return None if self.machine == CLOSEST_MACHINE else self.machine

    def score_stream(self, stream: BinaryIO, sample_format: str, sampling_rate: int | None) -> Iterator[Row]:
        """Score sound on standard input window by window, as it arrives where its format allows.

        Args:
            stream: a sound file, or raw samples of one channel.
            sample_format: of raw samples, a key of [`SAMPLE_FORMATS`].
            sampling_rate: of raw samples, in Hz; by default the model's.
        """
        extractor = self.detect.feature_extractor
        is_empty = True
        try:
            for start, window in extractor.cut_windows(stream_blocks(stream, extractor, sample_format, sampling_rate)):
                is_empty = False
                start_s, end_s = self.detect.seconds(start), self.detect.seconds(start + len(window))
                # Each window has a picture of its own.
                row = self.score(window, STANDARD_INPUT, f"standard input, {start_s:.3f} s")
                yield {**row, "start_s": start_s, "end_s": end_s}
        except ValueError as error:
            message = str(error).replace("audio data", "standard input", 1)
            yield {"file": STANDARD_INPUT, "error": message, **self.options()}
        else:
            if is_empty:
                yield {"file": STANDARD_INPUT, "error": "standard input: no samples arrived.", **self.options()}
