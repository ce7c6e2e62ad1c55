"""The synthetic machines: what is written, that it can be repeated, and that the ground truth is true."""

import json
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import stft
from sklearn.metrics import roc_auc_score
from transformers.audio_utils import mel_filter_bank

from machine_room import (
    FAULTS,
    MACHINE_IDS,
    MACHINE_TYPES,
    Fault,
    generate_machine_room,
    planned_fault,
    render_clip,
)


ROOT = Path(__file__).parents[1]
SAMPLING_RATE = 16_000
SMALL: dict[str, Any] = {
    "clip_seconds": 2.0,
    "train_clips": 2,
    "test_normal_clips": 1,
    "test_anomalous_clips": 4,
    "progress": False,
}
MEL = mel_filter_bank(513, 64, 0, 8000, SAMPLING_RATE, norm="slaney", mel_scale="htk").T.astype(np.float32)


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLING_RATE, 1, 2), path
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def log_mel(waveform: np.ndarray) -> np.ndarray:
    power = np.abs(stft(waveform.astype(np.float32), SAMPLING_RATE, nperseg=1024)[2]) ** 2
    return 10 * np.log10(MEL @ power + 1e-12)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return generate_machine_room(tmp_path_factory.mktemp("room") / "small", **SMALL, num_workers=1)


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """Mean and standard deviation of the log-mel of every clip, in the default set with clips of 2 seconds."""
    folder = generate_machine_room(tmp_path_factory.mktemp("room") / "default", clip_seconds=2.0, progress=False)
    features = {}
    for path in sorted(folder.glob("*/*/*.wav")):
        spectrum = log_mel(read(path) / 32768)
        features[str(path.relative_to(folder))] = np.stack([spectrum.mean(1), spectrum.std(1)])
    return features


def test_the_layout_is_that_of_dcase_2020_task_2(small):
    names = {str(path.relative_to(small)) for path in small.glob("*/*/*.wav")}
    parts = (("train/normal", 2), ("test/normal", 1), ("test/anomaly", 4))
    expected = {
        f"{machine_type}/{part}_id_{machine_id}_{index:08d}.wav"
        for machine_type in ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")
        for machine_id in (("01", "02", "03") if machine_type.startswith("Toy") else ("00", "02", "04"))
        for part, count in parts
        for index in range(count)
    }
    assert names == expected


def test_every_clip_is_16_khz_mono_16_bit_of_the_exact_length_and_never_clips(small):
    for path in small.glob("*/*/*.wav"):
        clip = read(path).astype(int)
        assert len(clip) == 2 * SAMPLING_RATE
        assert np.abs(clip).max() < 32767, path
        assert np.sqrt(np.mean(clip**2.0)) > 32768 * 10 ** (-45 / 20), path


def test_seven_ids_per_type_are_the_41_machine_ids_of_dcase():
    assert sum(len(ids[:7]) for ids in MACHINE_IDS.values()) == 41


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(small, tmp_path):
    assert files(generate_machine_room(tmp_path / "again", **SMALL, num_workers=3)) == files(small)


def test_another_seed_gives_other_clips(small, tmp_path):
    other = generate_machine_room(tmp_path / "other", **SMALL, seed=1, machine_types=["pump"])
    for name, content in files(other).items():
        if name.endswith(".wav"):
            assert content != (small / name).read_bytes(), name


def test_fewer_clips_ids_and_types_are_a_part_of_the_larger_set(small, tmp_path):
    fewer_clips = {**SMALL, "train_clips": 1, "test_anomalous_clips": 2}
    fewer = generate_machine_room(tmp_path / "fewer", **fewer_clips, ids_per_type=1, machine_types=["valve", "fan"])
    clips = {name: content for name, content in files(fewer).items() if name.endswith(".wav")}
    assert len(clips) == 2 * (1 + 1 + 2)
    for name, content in clips.items():
        assert content == (small / name).read_bytes(), name
    truth, larger = (json.loads((folder / "ground_truth.json").read_text()) for folder in (fewer, small))
    assert len(truth) == 4 and all(larger[name] == entry for name, entry in truth.items())


def test_a_written_clip_is_the_rendered_one_and_its_truth_is_in_ground_truth_json(small):
    truth = json.loads((small / "ground_truth.json").read_text())
    assert set(truth) == {str(path.relative_to(small)) for path in small.glob("*/*/anomaly_*.wav")}
    for name in list(truth)[::7]:
        waveform, expected = render_clip(name, fault=planned_fault(name), clip_seconds=2.0)
        assert truth[name] == expected
        assert np.abs(read(small / name) / 32768 - waveform).max() <= 0.5 / 32768
    assert {entry["fault"] for entry in truth.values()} == {fault for faults in FAULTS.values() for fault in faults}
    for entry in truth.values():
        assert 0 <= entry["severity"] <= 1 and entry["regions"]
        assert (entry["period_s"] is not None) == (entry["fault"] in ("bearing", "imbalance"))
        for region in entry["regions"]:
            assert 0 <= region["start_s"] < region["end_s"] <= 2.0
            assert 0 <= region["low_hz"] < region["high_hz"] <= 8000


def faulty_and_healthy(name: str, fault: Fault | None, **settings: Any) -> tuple[np.ndarray, np.ndarray, dict]:
    """A clip with a fault, the same clip without it, and the ground truth."""
    faulty, truth = render_clip(name, fault=fault, **settings)
    healthy, _ = render_clip(name, fault=None, **settings)
    assert truth is not None
    return faulty, healthy, truth


def inside_regions(truth: dict, samples: int) -> np.ndarray:
    """A mask of the STFT cells that lie in the ground truth's regions, or within half a window of them."""
    frequency, moment, cells = stft(np.zeros(samples), SAMPLING_RATE, nperseg=512, noverlap=384)
    inside = np.zeros(cells.shape, dtype=bool)
    for region in truth["regions"]:
        in_band = (frequency > region["low_hz"] - 32) & (frequency < region["high_hz"] + 32)
        in_time = (moment > region["start_s"] - 0.016) & (moment < region["end_s"] + 0.016)
        inside |= in_band[:, None] & in_time
    return inside


@pytest.mark.parametrize("machine_type", MACHINE_TYPES)
def test_the_energy_of_a_fault_lies_in_its_ground_truth_regions(machine_type):
    seconds = 4.0
    for fault in FAULTS[machine_type]:
        shares = []
        for machine_id in MACHINE_IDS[machine_type][:3]:
            name = f"{machine_type}/test/anomaly_id_{machine_id}_00000005.wav"
            faulty, healthy, truth = faulty_and_healthy(name, Fault(fault, 0.7), clip_seconds=seconds)
            energy = np.abs(stft(faulty - healthy, SAMPLING_RATE, nperseg=512, noverlap=384)[2]) ** 2
            shares.append(energy[inside_regions(truth, len(healthy))].sum() / energy.sum())
            outside = np.ones(len(healthy), dtype=bool)
            for region in truth["regions"]:
                outside[int(region["start_s"] * SAMPLING_RATE) : int(region["end_s"] * SAMPLING_RATE) + 800] = False
            assert np.sum((faulty - healthy)[outside] ** 2) < 0.02 * np.sum((faulty - healthy) ** 2), (
                name,
                fault,
            )
        # Clogging and voltage are located by the power that changed, not by the energy of the difference.
        least, mean = (0.7, 0.85) if fault in ("clogging", "voltage") else (0.88, 0.9)
        assert min(shares) > least and np.mean(shares) > mean, (fault, shares)


def test_the_regions_of_half_the_faults_cover_less_than_35_percent_of_the_clip():
    covered = []
    for machine_type in MACHINE_TYPES:
        for index in range(8):
            name = f"{machine_type}/test/anomaly_id_02_{index:08d}.wav"
            _, truth = render_clip(name, fault=planned_fault(name), clip_seconds=4.0)
            assert truth is not None
            covered.append(inside_regions(truth, 4 * SAMPLING_RATE).mean())
    assert np.median(covered) < 0.35


def test_the_strikes_of_a_bearing_repeat_at_the_stated_period():
    name = "ToyConveyor/test/anomaly_id_01_00000003.wav"
    faulty, healthy, truth = faulty_and_healthy(name, Fault("bearing", 1.0))
    envelope = np.convolve((faulty - healthy) ** 2, np.ones(160) / 160, mode="same")
    envelope -= envelope.mean()
    correlation = np.fft.irfft(np.abs(np.fft.rfft(envelope, 2 * len(envelope))) ** 2)
    shortest, longest = (int(factor * truth["period_s"] * SAMPLING_RATE) for factor in (0.6, 1.6))
    measured = (shortest + correlation[shortest:longest].argmax()) / SAMPLING_RATE
    assert measured == pytest.approx(truth["period_s"], rel=0.03)


@pytest.mark.parametrize("machine_type", MACHINE_TYPES)
def test_a_severer_fault_changes_the_sound_more(machine_type):
    name = f"{machine_type}/test/anomaly_id_02_00000001.wav"
    healthy, _ = render_clip(name, fault=None, clip_seconds=2.0)
    for fault in FAULTS[machine_type]:
        change = []
        for severity in (0.0, 0.35, 0.7, 1.0):
            faulty, _ = render_clip(name, fault=Fault(fault, severity), clip_seconds=2.0)
            change.append(np.sqrt(np.mean((log_mel(faulty).mean(1) - log_mel(healthy).mean(1)) ** 2)))
        assert np.all(np.diff(change) > 0), (fault, change)


def test_machine_ids_of_a_type_sound_different(default):
    right = []
    for machine_type in MACHINE_TYPES:
        ids = MACHINE_IDS[machine_type][:3]
        means = [
            np.mean(
                [f[0] for name, f in default.items() if name.startswith(f"{machine_type}/train/normal_id_{i}")],
                0,
            )
            for i in ids
        ]
        is_right = [
            f"_id_{ids[np.argmin([np.sum((f[0] - mean) ** 2) for mean in means])]}_" in name
            for name, f in default.items()
            if name.startswith(f"{machine_type}/test/normal")
        ]
        assert np.mean(is_right) > 0.5, machine_type  # chance is 1/3
        right += is_right
    assert np.mean(right) > 0.85


def test_a_nearest_neighbor_finds_some_faults_and_not_all(default):
    """The neighbor is nearest by the mean and standard deviation of the log-mel. The figure is the mean AUC of the IDs."""
    aucs = []
    for machine_type in MACHINE_TYPES:
        for machine_id in MACHINE_IDS[machine_type][:3]:
            own = {
                name: features.ravel()
                for name, features in default.items()
                if name.startswith(f"{machine_type}/") and f"_id_{machine_id}_" in name
            }
            train = np.array([f for name, f in own.items() if "/train/" in name])
            test = {name: f for name, f in own.items() if "/test/" in name}
            spread = train.std(0)
            scores = [np.min(np.mean(((f - train) / spread) ** 2, axis=1)) for f in test.values()]
            aucs.append(roc_auc_score(["/anomaly_" in name for name in test], scores))
    assert 0.65 < np.mean(aucs) < 0.92, aucs


def test_a_finished_folder_is_reused_without_writing(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    assert generate_machine_room(small, **SMALL) == small
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_a_folder_with_other_settings_is_refused_with_a_way_out(small):
    with pytest.raises(ValueError, match=r"other settings: seed 0 \(asked for: 3\).*choose another folder"):
        generate_machine_room(small, **SMALL, seed=3)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "recording.wav").write_bytes(b"mine")
    with pytest.raises(ValueError, match="holds files but no machine_room.json"):
        generate_machine_room(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["recording.wav"]


def test_a_deleted_or_truncated_clip_is_made_again(small, tmp_path):
    room = generate_machine_room(tmp_path / "fan", **SMALL, machine_types=["fan"])
    whole = files(room)
    (room / "fan/train/normal_id_00_00000000.wav").unlink()
    cut = room / "fan/test/anomaly_id_02_00000001.wav"
    cut.write_bytes(cut.read_bytes()[:5000])
    generate_machine_room(room, **SMALL, machine_types=["fan"])
    assert files(room) == whole


def test_a_killed_generation_is_completed_by_the_same_command(tmp_path):
    options = "--clip_seconds 2 --machine_types pump --ids_per_type 2 --num_workers 1".split()
    command = [sys.executable, "-m", "machine_room", str(tmp_path / "killed"), *options]
    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("killed/*/*/*.wav"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "killed/ground_truth.json").exists()
    assert 5 <= len(list(tmp_path.glob("killed/*/*/*.wav"))) < 80
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "80 synthetic clips" in finished.stdout
    undisturbed = generate_machine_room(
        tmp_path / "whole", clip_seconds=2.0, machine_types=["pump"], ids_per_type=2, progress=False
    )
    assert files(tmp_path / "killed") == files(undisturbed)


def test_two_processes_may_generate_the_same_folder_at_once(tmp_path):
    options = "--clip_seconds 2 --machine_types fan --ids_per_type 1".split()
    command = [sys.executable, "-m", "machine_room", str(tmp_path / "both"), *options]
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    assert [(run.communicate()[1], run.returncode)[1] for run in runs] == [0, 0]
    one = generate_machine_room(
        tmp_path / "one", clip_seconds=2.0, machine_types=["fan"], ids_per_type=1, progress=False
    )
    assert files(tmp_path / "both") == files(one)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_seconds": 1.9}, "clip_seconds is 1.9"),
        ({"seed": -1}, "seed is -1"),
        ({"ids_per_type": 8}, "ids_per_type is 8"),
        ({"train_clips": -2}, "train_clips is -2"),
        ({"num_workers": 0}, "num_workers 0"),
        ({"machine_types": ["gearbox"]}, "gearbox.*choose from fan"),
    ],
)
def test_a_setting_out_of_range_is_named_and_nothing_is_written(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        generate_machine_room(tmp_path / "room", **settings)
    assert not (tmp_path / "room").exists()


def test_rendering_refuses_a_strange_name_fault_or_severity():
    with pytest.raises(ValueError, match="not a clip of the machine room"):
        render_clip("fan/test/anomaly_id_99_00000000.wav", fault=None)
    with pytest.raises(ValueError, match="fan has no fault 'leak'; choose one of bearing"):
        render_clip("fan/test/anomaly_id_00_00000000.wav", fault=Fault("leak", 0.5))
    with pytest.raises(ValueError, match="severity is 1.5"):
        Fault("leak", 1.5)
