"""How the detector answers when a recording's conditions change and the machine does not.

    python -m research.benchmarks.conditions --model OUT --data_dir DATA --output R.md

Normal and faulty test clips are recorded again in the computer: louder, at other rates, through MP3 and Opus, clipped,
shifted, cut. Each copy is judged as its machine. A normal clip should not become an alarm, and a fault should not become
normal without a note.
"""

import argparse
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from tqdm.auto import tqdm

from engines import load_pipeline
from evaluation.command import run
from evaluation.markdown import markdown_table
from evaluation.splits import Row, load_splits, machine_of


VERDICTS = ("normal", "anomalous", "cannot tell")
# A recording in any form that the pipeline takes.
Recording = Any


@dataclass(frozen=True)
class Condition:
    """A way to record a sound again.

    Args:
        name: what the tables call it.
        record: samples `(samples,)` in [-1, 1] and their rate in Hz -> a recording.
    """

    name: str
    record: Callable[[np.ndarray, int], Recording]


def as_array(samples: np.ndarray, rate: int) -> Recording:
    """Return the samples and their rate as the pipeline takes them."""
    return {"raw": samples.astype(np.float32), "sampling_rate": rate}


def gain(decibels: float) -> Condition:
    """Return a recording that is louder or softer, without clipping."""
    return Condition(f"gain {decibels:+.0f} dB", lambda x, rate: as_array(x * 10 ** (decibels / 20), rate))


def at_rate(hertz: int) -> Condition:
    """Return a recording with another sampling rate."""
    return Condition(f"{hertz / 1000:g} kHz", lambda x, rate: as_array(soxr.resample(x, rate, hertz, "VHQ"), hertz))


def encoded(name: str, hertz: int, **settings: Any) -> Condition:
    """Return a recording that goes through a codec."""

    def record(samples: np.ndarray, rate: int) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, np.clip(soxr.resample(samples, rate, hertz, "VHQ"), -1, 1), hertz, **settings)
        return file.getvalue()

    return Condition(name, record)


def with_hum(samples: np.ndarray, rate: int) -> Recording:
    """Add hum of 50 Hz and two of its harmonics, 20 dB below the sound."""
    seconds = np.arange(len(samples)) / rate
    hum = sum(np.sin(2 * np.pi * 50 * order * seconds) / order for order in (1, 2, 3))
    return as_array(samples + 0.1 * np.sqrt(np.mean(samples**2) / np.mean(hum**2)) * hum, rate)


def clipped(samples: np.ndarray, rate: int) -> Recording:
    """Cut the loudest hundredth of the samples."""
    limit = np.quantile(np.abs(samples), 0.99)
    return as_array(np.clip(samples, -limit, limit), rate)


CONDITIONS = [
    Condition("as recorded", as_array),
    *map(gain, (-20, -12, -6, -3, 3, 6, 12, 20)),
    *map(at_rate, (8_000, 22_050, 44_100, 48_000)),
    encoded("MP3, 16 kHz", 16_000, format="MP3", subtype="MPEG_LAYER_III"),
    encoded("MP3, 44.1 kHz", 44_100, format="MP3", subtype="MPEG_LAYER_III"),
    encoded("Opus, 48 kHz", 48_000, format="OGG", subtype="OPUS"),
    encoded("FLAC, 16 bit", 16_000, format="FLAC", subtype="PCM_16"),
    encoded("WAV, float", 16_000, format="WAV", subtype="FLOAT"),
    Condition("polarity reversed", lambda x, rate: as_array(-x, rate)),
    Condition("DC offset of 0.1", lambda x, rate: as_array(x + 0.1, rate)),
    Condition("stereo copy", lambda x, rate: as_array(np.stack([x, x]), rate)),
    Condition("shifted by 0.1 s", lambda x, rate: as_array(x[rate // 10 :], rate)),
    Condition("2 s of silence first", lambda x, rate: as_array(np.concatenate([np.zeros(2 * rate), x]), rate)),
    Condition("clipped at 1 %", clipped),
    Condition("hum at -20 dB", with_hum),
    *(Condition(f"first {s:g} s", lambda x, rate, s=s: as_array(x[: int(s * rate)], rate)) for s in (0.1, 0.5, 2, 5)),
]


def choose(rows: Sequence[Row], count: int) -> list[Row]:
    """Return `count` rows, spread over the machines that follow each other."""
    return [rows[index] for index in np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]


def judge_all(detect: Any, rows: Sequence[Row], rate: float) -> list[list[Any]]:
    """Return a row of the table for every condition."""
    sounds = [soundfile.read(row["path"]) for row in rows]
    table = []
    for condition in tqdm(CONDITIONS, unit="condition"):
        counts = {kind: Counter() for kind in (False, True)}
        notes: Counter[str] = Counter()
        for row, (samples, hertz) in zip(rows, sounds, strict=True):
            result = detect.judge(
                condition.record(samples, hertz), machine=machine_of(row), false_alarm_rate=rate
            ).to_dict()
            counts[bool(row["is_anomaly"])][result["verdict"]] += 1
            notes[result["note"] or ""] += 1
        note = next((text for text, _ in notes.most_common() if text), "")
        shares = [" / ".join(str(counts[kind][verdict]) for verdict in VERDICTS) for kind in (False, True)]
        table.append([condition.name, *shares, note])
    return table


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of a model that knows the machines")
    parser.add_argument("--data_dir", type=Path, required=True, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument("--clips", type=int, default=10, help="normal and faulty test clips, each (10)")
    parser.add_argument("--rate", type=float, default=0.05, help="false alarms asked for (0.05)")
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    arguments = parser.parse_args(argv)
    detect = load_pipeline(arguments.model)
    known = [row for row in load_splits(arguments.data_dir).test if machine_of(row) in detect.detector.machines]
    if not known:
        raise ValueError(f"{arguments.data_dir}: no test clips of the machines of {arguments.model}.")
    rows = [
        row
        for is_anomaly in (False, True)
        for row in choose([row for row in known if bool(row["is_anomaly"]) is is_anomaly], arguments.clips)
    ]
    columns = ["condition", *(f"{kind} clips: {' / '.join(VERDICTS)}" for kind in ("normal", "faulty")), "note"]
    text = markdown_table(columns, judge_all(detect, rows, arguments.rate))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        f"{len(rows)} test clips of {arguments.data_dir.name}; {100 * arguments.rate:g} % false alarms asked for; the most "
        f"common note of each condition.\n\n{text}\n"
    )
    print(text)
    return 0


if __name__ == "__main__":
    run(main)
