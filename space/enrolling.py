"""A machine of the user's own: what its recordings are worth, its detector, and its detector's files."""

import base64
import copy
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from listening import Detector, Listener
from reading import Sound, seconds
from settings import MAX_DETECTOR_BYTES, TEMPORARY
from texts import Told, told


FILES = ("scoring_config.json", "scoring.safetensors")
# A detector is copied before it learns a machine. The copy shares what the other knows, which is replaced and never changed:
# the detector of a session takes 0.1 MB of memory, where a deep copy takes 3.6 MB.
# While recordings are studied, their machine has no name yet.
UNNAMED = "this machine"


def enroll(
    listener: Listener, name: str, sounds: list[Sound], detector: Detector | None
) -> tuple[Detector, list[str], str | None]:
    """Return a new detector that knows one machine more, what the enrollment's self-test found, and its warning.

    Args:
        listener: the model.
        name: what the machine is to be called.
        sounds: recordings of its normal operation.
        detector: the user's so far, which stays as it is; by default the model's own.
    """
    own = listener.pipe_with(copy.copy(listener.pipe.detector if detector is None else detector))
    tested = own.enroll(name, [sound.samples for sound in sounds])
    if tested is None:  # a model whose code tests nothing
        return own.detector, [], None
    return own.detector, list(tested.sentences()), tested.warning(own.detector.false_alarm_rate)


def study(listener: Listener, sounds: list[Sound], rate: float | None) -> dict[str, Any]:
    """Return what each recording of normal operation says beside the others.

    Each is judged by a detector that was enrolled from all the others.

    Args:
        listener: the model.
        sounds: the recordings, one or more.
        rate: the share of false alarms; by default the detector's.

    Raises:
        ValueError: a recording is silent.
    """
    pipe = listener.pipe
    heard = [pipe.forward(pipe.preprocess(sound.samples)) for sound in sounds]
    for sound, one in zip(sounds, heard, strict=True):
        if any(one.silent):
            at = one.starts[one.silent.index(True)] / listener.extractor.sampling_rate
            raise Told("studied.silent", name=sound.name, at=f"{at:.1f}")
    # The last window overlaps the one before.
    clip_length = listener.extractor.clip_length
    whole = [
        one.outputs[[(start - one.recording.heard.first) % clip_length == 0 for start in one.starts]] for one in heard
    ]
    rows = []
    for index, (sound, one) in enumerate(zip(sounds, heard, strict=True)):
        row: dict[str, Any] = {"name": sound.name, "duration_s": seconds(listener.extractor, sound)}
        others = [number for number in range(len(sounds)) if number != index]
        if others:
            detector = copy.copy(pipe.detector)
            recordings = [number for number in others for _ in range(len(whole[number]))]
            detector.enroll(UNNAMED, type(one.outputs).concatenate([whole[number] for number in others]), recordings)
            decision, _ = detector.decide_recording(
                one.outputs, machine=UNNAMED, false_alarm_rate=rate, conditions=one.recording.heard.conditions
            )
            row |= {"verdict": decision.verdict, "p_value": decision.p_value, "note": decision.note}
        rows.append(row)
    return {"recordings": rows, "advice": advice(rows, pipe.detector.false_alarm_rate if rate is None else rate)}


def advice(rows: list[dict[str, Any]], rate: float) -> list[Any]:
    """Return what to do next, in texts of the page."""
    count = len(rows)
    if count == 1:
        return [told("studied.single")]
    unlike = [row["name"] for row in rows if row["verdict"] != "normal"]
    lines = [
        told("studied.how", count=count - 1),
        told("studied.unlike", unlike=len(unlike), count=count, names=", ".join(unlike))
        if unlike
        else told("studied.none_unlike", count=count),
    ]
    if unlike:
        lines.append(told("studied.listen", count=len(unlike)))
    lines.append(told("studied.proves", count=count, more=count + 1))
    if count + 1 < 1 / rate:
        lines.append(told("studied.vouch", asked=round(1 / rate)))
    return lines


# A detector's files


def save(detector: Detector) -> list[str]:
    """Write a detector for download, and return the paths of its files."""
    folder = tempfile.mkdtemp(prefix="detector-", dir=TEMPORARY)
    detector.save_pretrained(folder)
    return sorted(str(file) for file in Path(folder).iterdir())


def load(listener: Listener, paths: list[str], detector: Detector | None) -> tuple[Detector, list[str]]:
    """Return a detector with the machines of a saved one added, and their names.

    Args:
        listener: the model.
        paths: of the two files, under whatever names a browser gave them.
        detector: the user's so far, which stays as it is; by default the model's own.

    Raises:
        ValueError: the files are not two, too large, cannot be read, or belong to another model.
    """
    by_suffix = {os.path.splitext(path)[1].lower(): path for path in paths}
    if len(paths) != 2 or set(by_suffix) != {".json", ".safetensors"}:
        names = ", ".join(os.path.basename(path) for path in paths)
        raise Told("enroll.not_two", files=names, first=FILES[0], second=FILES[1])
    if sum(os.path.getsize(path) for path in paths) > MAX_DETECTOR_BYTES:
        raise Told("enroll.too_large", most=MAX_DETECTOR_BYTES // 10**6)
    own = copy.copy(listener.pipe.detector if detector is None else detector)
    with tempfile.TemporaryDirectory(dir=TEMPORARY) as folder:
        for name in FILES:
            (Path(folder) / name).write_bytes(Path(by_suffix[os.path.splitext(name)[1]]).read_bytes())
        try:
            adopted = own.adopt(type(own).from_pretrained(folder))
            # Machines may be enrolled in the model's own detector, too.
            return own, [name for name in adopted if name not in listener.pipe.detector.machines]
        except ValueError as error:
            raise ValueError(str(error).replace(folder, "the detector")) from None


def from_text(listener: Listener, text: str) -> tuple[Detector, list[str]]:
    """Return the detector that a browser kept, and the names of its enrolled machines.

    Raises:
        ValueError: the text is not what the page kept, or the detector belongs to another model.
    """
    if len(text) > 2 * MAX_DETECTOR_BYTES:
        raise Told("enroll.not_kept")
    with tempfile.TemporaryDirectory(dir=TEMPORARY) as folder:
        try:
            kept = json.loads(text)
            for name in FILES:
                (Path(folder) / name).write_bytes(base64.b64decode(kept[name], validate=True))
        except (ValueError, KeyError, TypeError) as error:
            raise Told("enroll.not_kept") from error
        return load(listener, [str(Path(folder) / name) for name in FILES], None)


__all__ = ["enroll", "from_text", "load", "save", "study"]
