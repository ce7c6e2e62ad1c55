"""Fitting the detector of a model: how its back end is chosen, and what an evaluation says about its decisions."""

import numpy as np
import pytest
import torch

from dcase2020_task2 import load_clips
from evaluation.decisions import decisions_tables, evaluate_decisions, share
from evaluation.evaluate_model import evaluate_model
from modeling import AnomalyDetector, AttentionAsdModel
from training.alterations import ALTERATIONS, alterations
from training.batches import hold_out
from training.fit_detector import fit_detector, network_outputs
from training.log_mel_bank import LogMelBank
from training.log_mel_study import train_on_log_mels
from training.waveform_bank import WaveformBank


@pytest.fixture
def fitted_on(sound_folder, small_model, small_extractor, tmp_path):
    """A small network, and what its detector is fitted on: clips of four tones."""
    rows = load_clips(sound_folder(train=8))
    names = rows["train"].features["label"].names
    used = sorted({names[label] for label in rows["train"]["label"]})
    model = small_model(id2label=dict(enumerate(used)))
    labels = [used.index(names[label]) for label in rows["train"]["label"]]
    bank = WaveformBank(rows["train"]["path"], labels, small_extractor, cache_dir=tmp_path / "cache", progress=False)
    machines = [used[label] for label in labels]
    _, held_out = hold_out(labels, 0.4, seed=0)
    return model, small_extractor, bank, machines, held_out, rows["test"]


def test_alterations_are_audible_faint_and_depend_on_their_key_alone():
    seconds = np.arange(16_000) / 16_000
    waveform = 0.2 * np.sin(2 * np.pi * 300 * seconds) + 0.02 * np.random.default_rng([0]).standard_normal(16_000)
    altered, again, other = alterations(waveform, 3, 7), alterations(waveform, 3, 7), alterations(waveform, 3, 8)
    assert list(altered) == list(ALTERATIONS)
    for name, clip in altered.items():
        assert clip.shape == waveform.shape and clip.dtype == np.float32 and np.abs(clip).max() <= 1.0
        assert np.array_equal(clip, again[name]) and not np.array_equal(clip, other[name])
        change = np.sqrt(np.mean((clip - waveform) ** 2)) / np.sqrt(np.mean(waveform**2))
        assert 1e-3 < change < 2.0, name


def test_the_back_end_that_detects_most_of_the_altered_clips_is_the_default(fitted_on):
    model, extractor, bank, machines, held_out, _ = fitted_on
    detector, areas = fit_detector(model, extractor, bank, machines, held_out, 8, seed=0, progress=False)
    assert areas[detector.backend] == max(areas.values()) and min(areas.values()) >= 0.0
    # A network that was never trained detects little; the spectra of steady tones give every alteration away.
    assert detector.backend in ("spectrum", "combined") and areas["spectrum"] > 0.9
    again, same = fit_detector(model, extractor, bank, machines, held_out, 8, seed=0, progress=False)
    assert same == areas and again.backend == detector.backend


def test_evaluation_gives_every_back_end_and_the_false_alarms(fitted_on):
    model, extractor, bank, machines, held_out, test = fitted_on
    detector, _ = fit_detector(model, extractor, bank, machines, held_out, 8, seed=0, progress=False)
    test_bank = WaveformBank(test["path"], test["label"], extractor, cache_dir=bank.file.parent, progress=False)
    outputs = network_outputs(model, extractor, test_bank, 8, progress=False)
    decisions = evaluate_decisions(detector, outputs, list(test), num_bootstrap=20)
    assert decisions["back_ends"]["spectrum"]["auc"]["mean"]["official"] > 0.95  # hiss beside tones
    for alarm in decisions["alarms"]["spectrum"]:
        assert alarm["false_alarms"]["clips"] == alarm["hits"]["clips"] == 12
        assert alarm["hits"]["share"] > alarm["false_alarms"]["share"]
    # The alarms are the detector's own verdicts.
    machine = np.array([row["machine_id"] == "00" and row["machine_type"] == "fan" for row in test])
    own = outputs[machine]
    verdicts = detector.decide(own, "fan_id_00", 0.1, "spectrum")
    p_values = detector.p_value(detector.scores(own, "fan_id_00", "spectrum"), "fan_id_00", 0.1, "spectrum")
    assert [verdict.verdict == "anomalous" for verdict in verdicts] == (p_values <= 0.1).tolist()
    table = decisions_tables(decisions)
    assert f"**{detector.backend}**" in table and "| 10 % |" in table


def test_clips_of_a_machine_that_the_detector_does_not_know_are_scored_and_not_judged(fitted_on, tmp_path):
    model, extractor, bank, machines, held_out, test = fitted_on
    known = np.array(machines) != "pump_id_02"
    clips = network_outputs(model, extractor, bank, 8, progress=False)[known]
    names, is_held_out = np.array(machines)[known].tolist(), np.isin(np.arange(len(bank)), held_out)[known]
    detector = AnomalyDetector.fit(model.config, clips, names, is_held_out)
    results = evaluate_model(model, extractor, test, tmp_path, detector=detector, num_bootstrap=20, progress=False)
    assert results["clips"] == 24 and set(results["auc"]["per_id"]) == set(machines)
    assert results["not_enrolled_machine_ids"] == {"pump_id_02": 6}
    assert results["decisions"]["back_ends"]["spectrum"]["auc"].keys() >= {"mean", "per_type"}
    assert results["decisions"]["alarms"]["spectrum"][0]["false_alarms"]["clips"] == 9


def test_shares_have_wilsons_interval():
    interval = share(np.array([True] + [False] * 19), np.ones(20, bool))["ci95"]
    assert interval == pytest.approx([0.0089, 0.2361], abs=1e-4)
    assert share(np.zeros(3, bool), np.zeros(3, bool)) is None


def test_detector_is_fitted_anew_without_training(sound_folder, small_model, small_extractor, tmp_path, run_script):
    model = small_model(id2label=dict(enumerate(["fan_id_00", "fan_id_02", "pump_id_00", "pump_id_02"])))
    model.save_pretrained(tmp_path / "model")
    small_extractor.save_pretrained(tmp_path / "model")
    run = run_script("scripts/fit_detector.py", "--model", tmp_path / "model", "--data_dir", sound_folder())
    assert run.returncode == 0, run.stderr
    assert "4 machine IDs, fitted on 20 clips, calibrated on 4" in run.stdout
    detector = AnomalyDetector.from_pretrained(tmp_path / "model")
    assert detector.machines == ["fan_id_00", "fan_id_02", "pump_id_00", "pump_id_02"]
    assert f"default back end {detector.backend}" in run.stdout


def test_a_detector_is_calibrated_with_the_clips_that_training_held_out(
    sound_folder, small_model, small_extractor, tmp_path, run_script
):
    """Clips are held out by the number of their class, which the model's configuration has."""
    names = ["pump_id_02", "pump_id_00", "fan_id_02"]
    model, folder = small_model(id2label=dict(enumerate(names))), sound_folder()
    model.save_pretrained(tmp_path / "model")
    small_extractor.save_pretrained(tmp_path / "model")
    script = ("scripts/fit_detector.py", "--model", tmp_path / "model", "--data_dir", folder)
    run = run_script(*script, "--validation_fraction", 0.5)
    assert run.returncode == 0, run.stderr
    rows = load_clips(folder)["train"]
    machines = [rows.features["label"].names[label] for label in rows["label"]]
    bank = WaveformBank(rows["path"], [[*names, "fan_id_00"].index(name) for name in machines], small_extractor)
    _, held_out = hold_out(bank.labels, 0.5, 0)
    expected, _ = fit_detector(model, small_extractor, bank, machines, held_out, 16, seed=0, progress=False)
    fitted = AnomalyDetector.from_pretrained(tmp_path / "model")
    for name in expected.machines:
        assert fitted.threshold(name, 0.1) == pytest.approx(expected.threshold(name, 0.1))
    for wrong in (["--backend", "spectra"], ["--validation_fraction", "0"]):
        assert run_script(*script, *wrong).returncode == 2
    assert AnomalyDetector.from_pretrained(tmp_path / "model").machines == expected.machines


def test_log_mels_are_mixed_by_power(small_extractor):
    bank = LogMelBank(np.stack([np.full((128, 32), -20.0), np.full((128, 32), -40.0)]).astype(np.float32), [0, 1])
    samples, labels = bank.__getitems__([0, 1])
    assert labels.tolist() == [0, 1]
    mixed = bank.inputs(samples, small_extractor, 0.5, torch.tensor([1, 0]))["input_features"]
    expected = 10 * np.log10(0.25 * 1e-2 + 0.25 * 1e-4)
    assert torch.allclose(mixed, torch.full_like(mixed, expected), atol=1e-4)
    assert torch.equal(bank.inputs(samples, small_extractor)["input_features"], samples)


@pytest.mark.slow
def test_log_mels_alone_train_a_detector(tmp_path):
    generator = np.random.default_rng([0])
    levels = generator.normal(-40, 5, size=(2, 128, 1))
    log_mels = np.concatenate([level + generator.normal(size=(8, 128, 20)) for level in levels])
    np.savez(tmp_path / "train.npz", log_mel=log_mels.astype(np.float16), machine_id=np.repeat([1, 2], 8))
    folder = tmp_path / "model"
    assert train_on_log_mels(tmp_path / "train.npz", folder, epochs=1, batch_size=4, progress=False) > 0
    model, detector = AttentionAsdModel.from_pretrained(folder).eval(), AnomalyDetector.from_pretrained(folder)
    assert detector.machines == ["ToyCar_id_01", "ToyCar_id_02"] and detector.backend == "spectrum"
    normal, faulty = (torch.from_numpy(log_mels[:1]).float() + change for change in (0.0, 6.0))
    with torch.no_grad():
        outputs = model(input_features=torch.cat([normal, faulty]))
    scores = detector.scores(outputs, "ToyCar_id_01")
    assert scores[1] > 2 * scores[0]
    np.savez(tmp_path / "wrong.npz", log_mel=log_mels)
    with pytest.raises(ValueError, match="no array machine_id"):
        train_on_log_mels(tmp_path / "wrong.npz", tmp_path / "other")
