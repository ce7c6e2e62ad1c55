"""The reasons: what a person is told about a clip, and the relevance maps behind it."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.dynamic_module_utils import get_imports

from research.benchmarks.faithfulness.__main__ import main as faithfulness_main
from research.benchmarks.faithfulness.report import MAP_MEASURES
from feature_extraction import AttentionAsdFeatureExtractor
from machine_room import generate_machine_room
from modeling import explanation_attention_asd as explanation
from modeling.explanation_attention_asd import (
    CellReplacement,
    at_normal_level,
    distance_from_normal,
    explain,
    find_reasons,
    integrated_gradients,
    occlusion,
    sentence,
)
from modeling.scoring_attention_asd import AnomalyDetector


RATE, SECONDS = 16_000, 10.0
TIME = np.arange(int(RATE * SECONDS)) / RATE


def band_pass(waveform: np.ndarray, low: float, high: float) -> np.ndarray:
    spectrum = np.fft.rfft(waveform)
    hertz = np.fft.rfftfreq(len(waveform), 1 / RATE)
    return np.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), len(waveform))


def machine(clip: int) -> np.ndarray:
    """A normal clip of ten seconds: a hum and noise that falls towards high frequencies, in level 1 dB up or down."""
    generator = np.random.default_rng([7, clip])
    noise = generator.standard_normal(len(TIME))
    noise = np.fft.irfft(np.fft.rfft(noise) / (1 + np.fft.rfftfreq(len(TIME), 1 / RATE) / 500), len(TIME))
    hum = 0.5 * np.sin(2 * np.pi * 100 * TIME + generator.uniform(0, 6))
    return 0.02 * 10 ** (generator.uniform(-1, 1) / 20) * (noise + hum)


@pytest.fixture(scope="module")
def extractor():
    return AttentionAsdFeatureExtractor()


@pytest.fixture(scope="module")
def normal_level(extractor):
    log_mels = extractor.log_mel(torch.tensor(np.stack([machine(clip) for clip in range(8)])))
    return log_mels.mean((0, 2)).numpy(), log_mels.std((0, 2)).numpy()


@pytest.fixture
def reasons(extractor, normal_level):
    """A function: the regions of a waveform by its level alone, with or without the waveform's envelope."""

    def find(waveform: np.ndarray, with_waveform: bool = True, **kwargs):
        log_mel = extractor.log_mel(torch.tensor(waveform)).numpy()
        hop_seconds = extractor.hop_length / RATE
        given = waveform if with_waveform else None
        return explain(log_mel, *normal_level, extractor.mel_frequencies, hop_seconds, waveform=given, **kwargs)

    return find


def impacts(times: np.ndarray, low: float, high: float) -> np.ndarray:
    """Strikes that ring for about 3 ms in a band."""
    signal = np.zeros(len(TIME))
    signal[(times * RATE).astype(int)] = 1
    decay = np.exp(-np.arange(800) / (0.003 * RATE)) * np.random.default_rng(3).standard_normal(800)
    return band_pass(np.convolve(signal, decay)[: len(TIME)], low, high)


def raised_to(fault: np.ndarray, level_db: float, frames: np.ndarray, low: float, high: float, extractor, normal_level):
    """Clip 100 with a fault so loud that the band lies `level_db` above normal in `frames` (seconds)."""
    rows = (extractor.mel_frequencies > low) & (extractor.mel_frequencies < high)
    columns = np.round(frames * RATE / extractor.hop_length).astype(int)

    def level(gain: float) -> float:
        log_mel = extractor.log_mel(torch.tensor(machine(100) + gain * fault)).numpy()
        return (log_mel - normal_level[0][:, None])[rows][:, columns].mean()

    quiet, loud = 1e-6, 1e3
    for _ in range(40):
        middle = (quiet * loud) ** 0.5
        quiet, loud = (middle, loud) if level(middle) < level_db else (quiet, middle)
    return machine(100) + loud * fault


@pytest.mark.parametrize("with_waveform", [True, False])
def test_slow_impacts_are_told_with_their_period_band_and_level(reasons, extractor, normal_level, with_waveform):
    times = np.arange(0.15, 9.9, 0.31)
    clip = raised_to(impacts(times, 2000, 6000), 14, times, 2000, 6000, extractor, normal_level)
    regions = reasons(clip, with_waveform)
    assert [region.kind for region in regions] == ["impacts"]
    region = regions[0]
    assert region.period_s == pytest.approx(0.31, rel=0.05)
    assert region.low_hz == pytest.approx(2000, rel=0.1) and region.high_hz == pytest.approx(6000, rel=0.1)
    assert region.level_db == pytest.approx(14, abs=3)
    words = sentence(regions)
    assert words.startswith("Broadband impacts every 0.31 s from ")
    assert words.endswith(" dB above this machine's normal.")


def test_impacts_faster_than_the_frames_are_found_in_the_envelope(reasons, extractor, normal_level):
    times = np.arange(0.01, 9.98, 1 / 87)
    clip = raised_to(impacts(times, 2500, 5000), 12, np.arange(0.2, 9.8, 0.1), 2500, 5000, extractor, normal_level)
    (region,) = reasons(clip)
    assert region.kind == "impacts"
    assert 1 / region.period_s == pytest.approx(87, rel=0.05)
    assert "impacts 87 times a second" in sentence([region])


def test_a_leak_is_a_hiss_with_its_time_band_and_level(reasons, extractor, normal_level):
    inside = (TIME > 2) & (TIME < 7)
    hiss = band_pass(np.random.default_rng(5).standard_normal(len(TIME)), 3000, 6500) * inside
    clip = raised_to(hiss, 9, np.arange(2.2, 6.8, 0.1), 3000, 6500, extractor, normal_level)
    (region,) = reasons(clip)
    assert region.kind == "hiss" and region.period_s is None
    assert (region.start_s, region.end_s) == pytest.approx((2, 7), abs=0.2)
    assert (region.low_hz, region.high_hz) == pytest.approx((3000, 6500), rel=0.1)
    assert region.level_db == pytest.approx(9, abs=3)
    assert sentence([region]).startswith("Broadband hiss from ") and sentence([region]).endswith(", from 2.0 to 7.0 s.")


def test_a_band_that_falls_silent_is_a_level_drop(reasons):
    clip = machine(100)
    clip = clip - (1 - 10 ** (-10 / 20)) * band_pass(clip, 1000, 4000)
    (region,) = reasons(clip)
    assert region.kind == "level drop"
    assert region.level_db == pytest.approx(-10, abs=3)
    assert (region.low_hz, region.high_hz) == pytest.approx((1000, 4000), rel=0.1)
    assert region.intervals_s == ()
    assert sentence([region]) == "Level drop from 1 to 4 kHz, 10 dB below this machine's normal."


def test_tones_and_their_common_fundamental_are_named(reasons):
    tone = 0.003 * np.sin(2 * np.pi * 1200 * TIME)
    (region,) = reasons(machine(100) + tone)
    assert region.kind == "tone" and region.low_hz < 1200 < region.high_hz
    assert "Tone at 1.2 kHz" in sentence([region])
    series = sum(0.003 * np.sin(2 * np.pi * order * 600 * TIME + order) for order in (1, 2, 3, 4))
    (region,) = reasons(machine(100) + series)
    assert region.kind == "harmonics"
    assert 1 / region.period_s == pytest.approx(600, rel=0.05)


def test_scrapes_at_irregular_times_are_bursts(reasons):
    scrapes = np.zeros(len(TIME))
    for start, length in ((0.9, 0.12), (2.1, 0.2), (5.3, 0.1), (6.0, 0.15), (8.8, 0.18)):
        scrapes += (start <= TIME) & (start + length > TIME)
    noise = band_pass(np.random.default_rng(9).standard_normal(len(TIME)), 1500, 4000)
    (region,) = reasons(machine(100) + 0.02 * scrapes * noise)
    assert region.kind == "bursts" and region.period_s is None
    assert [start for start, _ in region.intervals_s] == pytest.approx([0.9, 2.1, 5.3, 6.0, 8.8], abs=0.1)
    assert sentence([region]).startswith("5 irregular bursts from ")


@pytest.mark.parametrize("clip", range(100, 105))
def test_a_normal_clip_gives_no_reason_and_says_so(reasons, clip):
    assert reasons(machine(clip)) == []
    assert sentence([]) == "Nothing in this clip stands out from this machine's normal level."


def two_faults() -> torch.Tensor:
    """A hiss at 1 to 2 kHz, from 1 to 3 s, and an equal one at 4 to 6 kHz, from 6 to 8 s."""
    noise = np.random.default_rng(11).standard_normal(len(TIME))
    low = band_pass(noise, 1000, 2000) * ((TIME > 1) & (TIME < 3))
    high = band_pass(noise, 4000, 6000) * ((TIME > 6) & (TIME < 8))
    return torch.tensor(machine(100) + 0.02 * low + 0.02 * high).float()


def high_hiss_in_log_mel(input_values: torch.Tensor, input_features: torch.Tensor) -> torch.Tensor:
    return input_features[:, 98:112, 187:250].mean((1, 2))


def high_hiss_in_waveform(input_values: torch.Tensor, input_features: torch.Tensor) -> torch.Tensor:
    spectrum = torch.fft.rfft(input_values[:, 6 * RATE : 8 * RATE])
    return spectrum[:, 8000:12000].abs().square().mean(1).log()


def without_gradient(input_values: torch.Tensor, input_features: torch.Tensor) -> torch.Tensor:
    return high_hiss_in_waveform(input_values, input_features).detach()


@pytest.mark.parametrize("score", [high_hiss_in_log_mel, high_hiss_in_waveform, without_gradient])
def test_only_the_fault_that_the_score_depends_on_is_a_reason(extractor, normal_level, score):
    regions = find_reasons(score, two_faults(), *normal_level, extractor)
    assert len(regions) == 1
    assert regions[0].kind == "hiss"
    assert regions[0].low_hz > 3500 and regions[0].high_hz < 6700
    assert regions[0].start_s > 5.5 and regions[0].end_s < 8.5


def test_reasons_are_the_same_each_time(extractor, normal_level):
    first, second = (find_reasons(high_hiss_in_waveform, two_faults(), *normal_level, extractor) for _ in range(2))
    assert first == second


def test_at_most_so_many_regions_are_returned_the_most_relevant_first(reasons):
    both = reasons(two_faults().double().numpy())
    assert len(both) == 2 and both[0].share >= both[1].share
    assert reasons(two_faults().double().numpy(), max_regions=1) == both[:1]


def test_replacing_cells_changes_waveform_and_log_mel_alike(extractor):
    clip, reference = (torch.tensor(machine(clip)).float() for clip in (1, 2))
    cells = CellReplacement(clip, reference, extractor)
    replaced = torch.zeros(3, *cells.shape)
    replaced[1] = 1
    replaced[2, :64] = 1
    waveforms, log_mels = cells(replaced)
    assert waveforms.shape == (3, 160_000) and log_mels.shape == (3, 128, 313)
    torch.testing.assert_close(waveforms[0], clip, atol=1e-6, rtol=0)
    torch.testing.assert_close(waveforms[1], reference, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_mels, extractor.log_mel(waveforms))
    torch.testing.assert_close(log_mels[2, :60], log_mels[1, :60], atol=0.1, rtol=0)
    torch.testing.assert_close(log_mels[2, 68:], log_mels[0, 68:], atol=0.1, rtol=0)


def test_normal_level_takes_the_fault_away_and_leaves_normal_sound(extractor, normal_level):
    mean, std = (torch.tensor(level) for level in normal_level)
    fault = two_faults()
    restored = extractor.log_mel(at_normal_level(fault, mean, std, extractor))
    in_fault = (slice(98, 112), slice(190, 247))
    assert (extractor.log_mel(fault) - mean[:, None])[in_fault].mean() > 15
    assert (restored - mean[:, None])[in_fault].abs().mean() < 3
    normal = torch.tensor(machine(100)).float()
    difference = extractor.log_mel(at_normal_level(normal, mean, std, extractor)) - extractor.log_mel(normal)
    assert difference.abs().median() < 1.0


def test_integrated_gradients_add_up_to_the_change_of_the_score(small_model, small_extractor, noise):
    model, (clip, reference) = small_model(), noise(2)
    cells = CellReplacement(clip, reference, small_extractor)
    label = torch.tensor([1])

    def score(values, features):
        return model(values, features, labels=label.expand(len(values))).anomaly_scores

    relevance = integrated_gradients(score, cells, steps=64)
    with torch.no_grad():
        ends = score(*cells(torch.stack([torch.zeros(cells.shape), torch.ones(cells.shape)])))
    assert relevance.shape == cells.shape == (128, 32)
    assert relevance.sum().item() == pytest.approx((ends[0] - ends[1]).item(), rel=0.05)


def test_occlusion_has_the_clips_shape_and_needs_no_gradient(small_model, small_extractor, noise):
    model, (clip, reference) = small_model(), noise(2)
    cells = CellReplacement(clip, reference, small_extractor)
    distance = distance_from_normal(small_extractor.log_mel(clip), torch.full((128,), -30.0), torch.full((128,), 3.0))
    relevance = occlusion(lambda values, features: model(values, features).anomaly_scores.detach(), cells, distance)
    assert relevance.shape == (128, 32) and (relevance >= 0).all() and torch.isfinite(relevance).all()


def test_silence_is_explained_as_a_level_drop(extractor, normal_level):
    def loudness(values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return -values.square().mean(1)

    regions = find_reasons(loudness, torch.zeros(160_000), *normal_level, extractor)
    assert {region.kind for region in regions} == {"level drop"}
    assert all(-100 < region.level_db < -20 for region in regions)


def test_the_module_goes_to_the_hub_without_further_dependencies():
    assert set(get_imports(explanation.__file__)) - set(sys.stdlib_module_names) == {"numpy", "torch"}


def test_the_study_writes_its_tables_and_its_picture(tmp_path, small_model, capsys):
    small_extractor = AttentionAsdFeatureExtractor(clip_length=32_000)
    room = generate_machine_room(
        tmp_path / "room", clip_seconds=2.0, machine_types=["fan", "pump"], ids_per_type=1, train_clips=12,
        test_normal_clips=0, test_anomalous_clips=8, num_workers=1, progress=False,
    )  # fmt: skip
    names = ["fan_id_00", "pump_id_00"]
    model = small_model(clip_length=32_000, id2label=dict(enumerate(names)))
    clips = sorted(room.glob("*/train/*.wav"))
    waveforms = torch.stack([torch.from_numpy(small_extractor.read_audio(path)) for path in clips])
    log_mels = small_extractor.log_mel(waveforms)
    with torch.no_grad():
        outputs = model(waveforms, log_mels)
    detector = AnomalyDetector.fit(
        model.config, outputs.embeddings, outputs.cosines, [f"{path.parts[-3]}_id_00" for path in clips],
        np.arange(len(clips)) % 3 == 0, spectra=outputs.spectra,
    )  # fmt: skip
    for part in (model, small_extractor, detector):
        part.save_pretrained(tmp_path / "model")
    output_dir = tmp_path / "results"
    arguments = ["--model", tmp_path / "model", "--data_dir", room, "--output_dir", output_dir, "--clips", 1]
    faithfulness_main(list(map(str, arguments)))
    with (output_dir / "faithfulness.csv").open() as file:
        rows = list(csv.DictReader(file))
    maps = {row["map"] for row in rows}
    assert {"random", "attention map (paper)", "level difference", "integrated gradients"} <= maps
    assert all(0 <= float(row[measure]) <= 1 for row in rows for measure in MAP_MEASURES)
    assert "| random |" in (output_dir / "faithfulness.md").read_text() and "| random |" in capsys.readouterr().out
    assert Path(output_dir / "reasons.png").read_bytes().startswith(b"\x89PNG")
