"""How the detector answers when a recording's conditions change and the machine does not.

    python -m research.benchmarks.conditions --data_dir DATA --manifest MANIFEST --output R.md --clips_output CLIPS.csv

Normal and faulty test clips are recorded again in the computer: louder, at other rates, through MP3 and Opus, clipped,
shifted, cut. Each copy is judged as its machine by the back end `spectrum`, which needs no network. A normal clip should not
become an alarm, and a fault should not become normal without a note. With a manifest, machines are fitted on the recordings
of one signal-to-noise ratio and judged on those of another.
"""

import argparse
import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm

from evaluation.command import run
from evaluation.markdown import markdown_table
from evaluation.splits import Row, load_splits, machine_of
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, ClipOutputs
from modeling.conditions_attention_asd import Conditions, of_true_frames
from modeling.decision_attention_asd import Decision
from modeling.modeling_attention_asd import spectral_statistics
from modeling.recordings_attention_asd import open_recording
from research.benchmarks.decision_layer import CONFIG, share
from training.fit_detector import noise_spectrum


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


def mp3(kilobits: int, hertz: int) -> Condition:
    """Return a recording that goes through MP3 of a constant bit rate."""
    lowest, highest = (8, 160) if hertz <= 24_000 else (32, 320)
    return encoded(
        f"MP3, {kilobits} kbit/s, {hertz / 1000:g} kHz",
        hertz,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=(highest - kilobits) / (highest - lowest),
    )


def with_hum(decibels: float) -> Condition:
    """Return a recording with a hum of 50 Hz and two of its harmonics, so many dB above the sound."""

    def record(samples: np.ndarray, rate: int) -> Recording:
        seconds = np.arange(len(samples)) / rate
        hum = sum(np.sin(2 * np.pi * 50 * order * seconds) / order for order in (1, 2, 3))
        return as_array(samples + 10 ** (decibels / 20) * np.sqrt(np.mean(samples**2) / np.mean(hum**2)) * hum, rate)

    return Condition(f"hum at {decibels:g} dB", record)


def silence_first(seconds: float) -> Condition:
    """Return a recording that begins with digital silence."""
    return Condition(
        f"{seconds:g} s of silence first",
        lambda x, rate: as_array(np.concatenate([np.zeros(int(seconds * rate)), x])[: len(x)], rate),
    )


def clipped(samples: np.ndarray, rate: int) -> Recording:
    """Cut the loudest hundredth of the samples."""
    limit = np.quantile(np.abs(samples), 0.99)
    return as_array(np.clip(samples, -limit, limit), rate)


CONDITIONS = [
    Condition("as recorded", as_array),
    *map(gain, (-20, -12, -6, -3, 3, 6, 12, 20)),
    *map(at_rate, (8_000, 22_050, 44_100, 48_000)),
    *(mp3(kilobits, hertz) for hertz in (16_000, 44_100) for kilobits in (64, 128)),
    encoded("Opus, 48 kHz", 48_000, format="OGG", subtype="OPUS"),
    encoded("FLAC, 16 bit", 16_000, format="FLAC", subtype="PCM_16"),
    encoded("WAV, float", 16_000, format="WAV", subtype="FLOAT"),
    Condition("polarity reversed", lambda x, rate: as_array(-x, rate)),
    Condition("DC offset of 0.1", lambda x, rate: as_array(x + 0.1, rate)),
    Condition("stereo copy", lambda x, rate: as_array(np.stack([x, x]), rate)),
    Condition("shifted by 0.1 s", lambda x, rate: as_array(x[rate // 10 :], rate)),
    *map(silence_first, (2, 6)),
    Condition("clipped at 1 %", clipped),
    *map(with_hum, (-20, 0)),
    *(
        Condition(f"first {s:g} s", lambda x, rate, s=s: as_array(x[: int(s * rate)], rate))
        for s in (0.2, 0.5, 1, 2, 4)
    ),
]


# Hearing without a network


@dataclass(frozen=True, eq=False)
class Heard:
    """A recording as the detector hears it: statistics, which windows are silent, and the conditions."""

    outputs: ClipOutputs
    silent: list[bool]
    conditions: Conditions


def hear(source: Recording, extractor: AttentionAsdFeatureExtractor) -> Heard:
    """Listen to a recording as the pipeline does; nothing here reads the network's outputs."""
    recording = open_recording(source, extractor)
    windows = [window for _, window in recording.windows()]
    waveforms = torch.stack([extractor.fit_length(torch.from_numpy(window)) for window in windows])
    return Heard(
        outputs_of(spectral_statistics(extractor.log_mel(waveforms)), windows, extractor),
        [extractor.is_silent(window) for window in windows],
        recording.heard.conditions,
    )


def outputs_of(
    spectra: torch.Tensor, windows: Sequence[np.ndarray], extractor: AttentionAsdFeatureExtractor
) -> ClipOutputs:
    """Return outputs with these statistics, or with those of what was recorded of a short window."""
    embeddings = torch.ones(len(spectra), CONFIG.embedding_size)
    return of_true_frames(ClipOutputs(embeddings, torch.zeros(len(spectra), 1), spectra), windows, extractor)


def fit(rows: Sequence[Row], extractor: AttentionAsdFeatureExtractor) -> AnomalyDetector:
    """Return a detector that is fitted on normal clips by their statistics."""
    heard = [hear(row["path"], extractor).outputs[0] for row in tqdm(rows, desc="Fitting", unit="clip")]
    outputs = ClipOutputs.concatenate(heard)
    embeddings = torch.randn(len(outputs), CONFIG.embedding_size, generator=torch.Generator().manual_seed(0))
    return AnomalyDetector.fit(
        CONFIG,
        ClipOutputs(embeddings, outputs.cosines, outputs.spectra, outputs.frames),
        [machine_of(row) for row in rows],
        noise=noise_spectrum(extractor, seed=0),
    )


def judge(detector: AnomalyDetector, heard: Heard, machine: str, rate: float) -> Decision:
    return detector.decide_recording(heard.outputs, machine, rate, silent=heard.silent, conditions=heard.conditions)[0]


# Tables


def choose(rows: Sequence[Row], count: int) -> list[Row]:
    """Return `count` rows, spread over the machines that follow each other."""
    return [rows[index] for index in np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]


def judge_all(
    detector: AnomalyDetector, rows: Sequence[Row], rate: float, extractor: AttentionAsdFeatureExtractor
) -> list[tuple[str, Row, Decision]]:
    """Return the decision about every copy of every clip."""
    decisions = []
    for row in tqdm(rows, desc="Judging", unit="clip"):
        samples, hertz = soundfile.read(row["path"])
        for condition in CONDITIONS:
            heard = hear(condition.record(samples, hertz), extractor)
            decisions.append((condition.name, row, judge(detector, heard, machine_of(row), rate)))
    return decisions


def table_of(decisions: Sequence[tuple[str, Row, Decision]]) -> str:
    """Return a row for every condition: how often each verdict, and the most common note."""
    lines = []
    for condition in CONDITIONS:
        own = [(bool(row["is_anomaly"]), decision) for name, row, decision in decisions if name == condition.name]
        shares = []
        for is_faulty in (False, True):
            verdicts = [decision.verdict for is_anomaly, decision in own if is_anomaly is is_faulty]
            shares.append(" / ".join(str(verdicts.count(verdict)) for verdict in VERDICTS))
        notes = Counter(decision.note for _, decision in own if decision.note)
        common = notes.most_common(1)
        note = f"{common[0][0]} ({sum(notes.values())} of {len(own)} have a note)" if common else ""
        lines.append([condition.name, *shares, note])
    columns = [
        "condition",
        *(f"{kind} clips: {' / '.join(VERDICTS)}" for kind in ("normal", "faulty")),
        "most common note",
    ]
    return markdown_table(columns, lines)


def write_clips(decisions: Sequence[tuple[str, Row, Decision]], chosen: Sequence[Row], path: Path) -> None:
    """Write score, verdict and note of some clips under every condition."""
    paths = {row["path"] for row in chosen}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["condition", "machine", "clip", "score", "p_value", "verdict", "note"])
        for condition, row, decision in sorted(decisions, key=lambda entry: entry[1]["path"]):
            if row["path"] in paths:
                numbers = ["" if value is None else f"{value:.4g}" for value in (decision.score, decision.p_value)]
                clip = Path(row["path"]).name
                writer.writerow([condition, machine_of(row), clip, *numbers, decision.verdict, decision.note or ""])


def crossed_table(rows: Sequence[Row], manifest: Path, rate: float, extractor: AttentionAsdFeatureExtractor) -> str:
    """Return what a detector that was fitted at one signal-to-noise ratio says at another.

    Args:
        rows: training and test clips.
        manifest: a CSV file with `file` and `snr_db`.
        rate: false alarms asked for.
        extractor: hears the clips.
    """
    with manifest.open(newline="", encoding="utf-8") as file:
        ratios = {Path(line["file"]).parts[-3:]: line["snr_db"] for line in csv.DictReader(file)}
    of = {ratio: [row for row in rows if ratios.get(Path(row["path"]).parts[-3:]) == ratio] for ratio in ("-6", "0")}
    lines = []
    for fitted, tested in (("-6", "0"), ("0", "-6")):
        normal = [row for row in of[fitted] if not row["is_anomaly"]]
        detector = fit(normal, extractor)
        clips = [row for row in of[tested] if machine_of(row) in detector.machines]
        decisions = [judge(detector, hear(row["path"], extractor), machine_of(row), rate) for row in clips]
        is_faulty = np.array([bool(row["is_anomaly"]) for row in clips])
        names = np.array([machine_of(row) for row in clips])
        scores = np.array([np.nan if decision.score is None else decision.score for decision in decisions])
        p_values = np.array([1.0 if decision.p_value is None else decision.p_value for decision in decisions])
        aucs = [
            roc_auc_score(is_faulty[own], scores[own])
            for own in (names == name for name in np.unique(names))
            if 0 < is_faulty[own].sum() < own.sum() and np.isfinite(scores[own]).all()
        ]
        verdicts = [
            " / ".join(
                str(sum(d.verdict == v for d, bad in zip(decisions, is_faulty, strict=True) if bad == kind))
                for v in VERDICTS
            )
            for kind in (False, True)
        ]
        lines.append(
            [f"{fitted} dB, {len(normal)} clips", f"{tested} dB", f"{np.mean(aucs):.3f} ({len(aucs)})"]
            + [share(p_values[~is_faulty], rate), *verdicts]
        )
    columns = ["fitted on", "tested on", "AUC (machines)", f"p-value of a normal clip not above {100 * rate:g} % [%]"]
    columns += [f"{kind} clips: {' / '.join(VERDICTS)}" for kind in ("normal", "faulty")]
    return markdown_table(columns, lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument(
        "--manifest", type=Path, help="CSV file with `file` and `snr_db`, for the table across conditions"
    )
    parser.add_argument("--clips", type=int, help="normal and faulty test clips, each (default: all)")
    parser.add_argument("--rate", type=float, default=0.05, help="false alarms asked for (0.05)")
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    parser.add_argument(
        "--clips_output", type=Path, help="CSV file to write: every condition of 5 normal and 5 faulty clips"
    )
    arguments = parser.parse_args(argv)
    extractor, splits = AttentionAsdFeatureExtractor(), load_splits(arguments.data_dir)
    detector = fit(splits.train, extractor)
    known = [row for row in splits.test if machine_of(row) in detector.machines and row["is_anomaly"] is not None]
    by_kind = [[row for row in known if bool(row["is_anomaly"]) is kind] for kind in (False, True)]
    rows = [row for kind in by_kind for row in choose(kind, arguments.clips or len(kind))]
    decisions = judge_all(detector, rows, arguments.rate, extractor)
    text = (
        f"{len(rows)} test clips of {arguments.data_dir.name}; {100 * arguments.rate:g} % false alarms asked for.\n\n"
        + table_of(decisions)
    )
    if arguments.manifest is not None:
        every = [*splits.train, *splits.test]
        text += "\n\n" + crossed_table(every, arguments.manifest, arguments.rate, extractor)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text + "\n", encoding="utf-8")
    if arguments.clips_output is not None:
        chosen = [
            row for kind in (False, True) for row in choose([r for r in rows if bool(r["is_anomaly"]) is kind], 5)
        ]
        write_clips(decisions, chosen, arguments.clips_output)
    print(text)
    return 0


if __name__ == "__main__":
    run(main)
