"""The paper's tables and figures are made again: protocols, figures of merit, runs that go on, and reports."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from dcase2020_task2 import DEVELOPMENT_LABELS
from evaluation.evaluate_model import write_scores
from evaluation.score_clips import ScoredClips, score_clips
from feature_extraction import AttentionAsdFeatureExtractor
from metrics.asd_auc import asd_auc
from modeling import AttentionAsdModel
from research.reproduction import published
from research.reproduction.ablation import ablation
from research.reproduction.data import load_split, prepare_log_mels, prepare_sounds
from research.reproduction.fit_log_mel_network import fit_log_mel_network
from research.reproduction.fit_peer import fit_peer
from research.reproduction.measured import Measured, measured
from research.reproduction.merit import difference, estimate, official_replicates, read_scores
from research.reproduction.protocol import (
    choose_epoch_on_test,
    figures_of_merit,
    write_published_labels,
)
from research.reproduction.run_pool import complete, try_lock
from research.reproduction.runs import Run
from research.reproduction.study import RECIPES, Study, choose_size, parse_overrides
from research.reproduction.systems import TABLE_4, table_1_rows
from research.reproduction.table_1 import MeasuredOnData, table_1
from research.reproduction.table_2 import table_2
from training.checkpoints import Progress, save_checkpoint
from training.published_labels import published_labels


ROOT = Path(__file__).resolve().parents[1]


def scored_rows(separation: Mapping[str, float], clips: int = 30, seed: int = 0, level: float = 0.0) -> list[dict]:
    """Scored clips of machines such as "pump_id_06".

    The scores of anomalous clips lie `separation` above those of normal ones; each further machine's lie `level` higher.
    """
    rows = []
    for number, (machine, above) in enumerate(separation.items()):
        machine_type, machine_id = machine.split("_id_")
        for label in (0, 1):
            drawn = np.random.default_rng([seed, label, *machine.encode()]).normal(size=clips)
            for index, score in enumerate(drawn + label * above + number * level):
                name = f"{machine_type}/test/{'anomaly' if label else 'normal'}_id_{machine_id}_{index:08d}.wav"
                row = {"machine_type": machine_type, "machine_id": machine_id, "is_anomaly": bool(label)}
                rows.append({**row, "path": name, "file": name, "score": float(score)})
    return rows


# What was published


def test_the_mean_that_the_paper_prints_for_itself_is_not_the_mean_of_its_row_as_its_peers_means_are():
    rows = {key: row for key, row in published.TABLE_1.items() if row.mean_of_row}
    own = rows.pop("attention_asd")
    assert own.mean_of_row is not None
    assert own.mean_of_row == pytest.approx((94.65, 87.86), abs=0.005)
    assert own.mean_of_row[0] - published.TABLE_2_OWN[0] > 1.2 and own.mean_of_row[1] - published.TABLE_2_OWN[1] > 2.1
    for row in rows.values():
        assert row.mean_of_row == pytest.approx(row.mean, abs=0.7), row.title


# The protocol's faults


def test_the_paper_protocol_gives_pump_06_and_slider_00_one_class_and_counts_pump_06_as_slider(tmp_path):
    id2label, label2id = published_labels()
    assert label2id["pump_id_06"] == label2id["slider_id_00"] == 13 and id2label[20] == "unused_20"
    assert len({label2id[name] for name in label2id}) == 41
    file = write_published_labels(tmp_path / "labels.json", ["pump_id_06", "slider_id_00"])
    assert json.loads(file.read_text())["label2id"]["pump_id_06"] == 13
    with pytest.raises(ValueError, match="no class for gearbox_id_00"):
        write_published_labels(tmp_path / "labels.json", ["fan_id_00", "gearbox_id_00"])

    # pump 06 cannot be told at all; slider 06 is there to meet it in one type.
    rows = scored_rows({"pump_id_00": 3, "pump_id_06": 0, "slider_id_00": 3, "slider_id_06": 3})
    honest, paper = (figures_of_merit(rows, protocol, num_bootstrap=0) for protocol in ("honest", "paper"))
    assert honest["auc"]["per_type"]["pump"]["official"] < 0.8 < paper["auc"]["per_type"]["pump"]["pooled"]
    assert paper["auc"]["per_type"]["slider"]["pooled"] < 0.9 < honest["auc"]["per_type"]["slider"]["pooled"]
    assert paper["counts"]["per_type"]["slider"] == {"normal": 90, "anomalous": 90}


def test_pooling_differs_from_the_official_figure_where_machines_score_on_scales_of_their_own():
    rows = scored_rows({"fan_id_00": 4, "fan_id_02": 4}, level=8)
    figures = figures_of_merit(rows, "paper", num_bootstrap=0)["auc"]["per_type"]["fan"]
    assert figures["official"] > 0.95 > 0.85 > figures["pooled"]


def sounds_that_collide(folder: Path) -> Path:
    """Pump 06 and slider 00, which share a class in the published code, and fan 00, a second each."""
    for number, machine in enumerate(("fan_id_00", "pump_id_06", "slider_id_00")):
        machine_type, machine_id = machine.split("_id_")
        for split, label in (("train", "normal"), ("test", "normal"), ("test", "anomaly")):
            for index in range(4):
                generator = np.random.default_rng([number, index, len(split), len(label)])
                seconds = np.arange(16_000) / 16_000
                sound = 0.1 * np.sin(2 * np.pi * (300 + 400 * number) * seconds + generator.uniform(0, 6))
                sound += (0.1 if label == "anomaly" else 0.01) * generator.standard_normal(16_000)
                path = folder / machine_type / split / f"{label}_id_{machine_id}_{index:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, sound, 16_000, subtype="PCM_16")
    return folder


def test_the_paper_protocol_chooses_the_epoch_with_the_largest_auc_on_the_test_clips(tmp_path, small_config):
    folder = sounds_that_collide(tmp_path / "sounds")
    rows = load_split(prepare_sounds(folder, tmp_path / "clips", 1.0), "test").rows
    id2label, label2id = published_labels()
    config = small_config(id2label=id2label, label2id=label2id)
    run = tmp_path / "run"
    extractor = AttentionAsdFeatureExtractor(clip_length=16_000)
    extractor.save_pretrained(run)
    expected = {}
    for step in range(1, 4):
        torch.manual_seed(step)
        model = AttentionAsdModel(config).eval()
        optimizer = torch.optim.AdamW(model.parameters())
        save_checkpoint(run / "checkpoints", model, optimizer, Progress(step=step), {}, keep=3)
        scored = score_clips(model, extractor, rows, progress=False)
        assert len(scored.rows) == 24 and not scored.unknown_machine_ids
        pooled = figures_of_merit(scored.rows, "paper", num_bootstrap=0)["auc"]["mean"]["all_clips_pooled"]
        expected[f"step_{step:08d}"] = (pooled, {row["path"]: row["score"] for row in scored.rows})
    model.save_pretrained(run)

    choose_epoch_on_test(run, rows, folder)
    choice = json.loads((run / "chosen_on_test" / "choice.json").read_text())
    best = max(expected, key=lambda name: expected[name][0])
    assert choice["chosen"] == best
    assert choice["auc_all_clips_pooled"] == {name: pytest.approx(auc, abs=1e-9) for name, (auc, _) in expected.items()}
    for row in read_scores(run / "chosen_on_test" / "scores.csv"):
        assert row["score"] == pytest.approx(expected[best][1][str(folder / row["file"])], abs=1e-4)


# Figures of merit


def test_the_figures_of_several_seeds_are_their_mean_with_its_deviation_and_interval():
    machines = {"fan_id_00": 1, "fan_id_02": 1, "valve_id_00": 2}
    seeds = [figures_of_merit(scored_rows(machines, seed=seed), "honest", num_bootstrap=200) for seed in range(3)]
    values = [100 * seed["auc"]["mean"]["official"] for seed in seeds]
    found, alone = (estimate(results, "auc", "official") for results in (seeds, seeds[:1]))
    assert found is not None and found.low is not None and found.high is not None and alone is not None
    assert found.mean == pytest.approx(np.mean(values)) and found.deviation == pytest.approx(np.std(values, ddof=1))
    assert found.low < found.mean < found.high
    assert alone.deviation is None
    assert str(estimate(seeds[:1], "auc", "worst_id", "fan")).count("[") == 0, "the metric gives no interval for it"


def test_the_replicates_start_with_the_official_auc_and_pair_the_clips_of_two_systems():
    machines = {"fan_id_00": 1, "fan_id_02": 2, "valve_id_00": 0.5}
    rows = scored_rows(machines, clips=25)
    for row in rows[::7]:
        row["score"] = 0.0  # ties
    scores, labels, types, ids = (
        [row[name] for row in rows] for name in ("score", "is_anomaly", "machine_type", "machine_id")
    )
    expected = asd_auc(scores, labels, types, ids, n_bootstrap=0)["auc"]["mean"]["official"]
    replicates = official_replicates([rows], num_bootstrap=300)
    assert replicates[0] == pytest.approx(expected, abs=1e-12)

    # The order of the clips in a file is of no account, and a constant on the scores neither.
    moved = [{**row, "score": row["score"] + 5} for row in reversed(rows)]
    same = difference(official_replicates([moved], num_bootstrap=300), replicates)
    assert (same.mean, same.low, same.high) == (0, 0, 0)

    better = [{**row, "score": row["score"] + row["is_anomaly"]} for row in rows]
    gain = difference(official_replicates([better], num_bootstrap=300), replicates)
    assert gain.low is not None and gain.high is not None
    assert 0 < gain.low < gain.mean < gain.high
    with pytest.raises(ValueError, match="not of the same clips"):
        official_replicates([rows, rows[:-1]])


# Runs


def script_run(folder: Path, code: str) -> Run:
    """A run whose command is a line of Python that is told its folder."""
    return Run(
        folder.name, folder, ("-c", f"import pathlib, sys; folder = pathlib.Path({str(folder)!r}); {code}"), "done"
    )


def test_finished_runs_are_skipped_and_a_failed_one_is_named_with_its_log_while_the_others_go_on(tmp_path, capfd):
    good = [script_run(tmp_path / f"good{index}", "(folder / 'done').write_text('x')") for index in range(3)]
    bad = script_run(tmp_path / "bad", "print('about to fail'); sys.exit('out of memory')")
    with pytest.raises(ValueError, match=r"(?s)1 of 4 runs failed: bad.*out of memory"):
        complete([good[0], bad, *good[1:]], jobs=2)
    assert all(run.is_finished for run in good)

    for run in good:
        (run.folder / "done").write_text("untouched")
    complete(good, jobs=2)
    assert {(run.folder / "done").read_text() for run in good} == {"untouched"}
    assert "3 runs, of which 3 are finished" in capfd.readouterr().out


def test_a_folder_of_other_settings_is_refused_and_the_setting_named(tmp_path):
    first = Run("run", tmp_path / "run", ("-c", "pass", "--seed", "0"), "done")
    first.check()
    first.check()
    with pytest.raises(ValueError, match=r"other settings \(0, 1\)"):
        Run("run", tmp_path / "run", ("-c", "pass", "--seed", "1"), "done").check()
    Run("clips", tmp_path / "clips", ("-c", "pass"), "done", "ab").check()
    with pytest.raises(ValueError, match=r"other settings \(clips ab, clips cd\)"):
        Run("clips", tmp_path / "clips", ("-c", "pass"), "done", "cd").check()


def test_what_an_earlier_call_left_running_is_waited_for_and_not_trained_twice(tmp_path):
    run = script_run(tmp_path / "run", "(folder / 'trained_twice').touch(); (folder / 'done').touch()")
    run.check()
    lock = try_lock(run.folder / ".pool.lock")
    assert lock is not None
    # As a call leaves it that was killed: the training process alone holds the lock.
    left = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import pathlib, time; time.sleep(1); pathlib.Path({str(run.folder / 'done')!r}).touch()",
        ],
        pass_fds=[lock.fileno()],
    )
    lock.close()
    complete([run], jobs=1)
    assert left.wait(20) == 0
    assert not (run.folder / "trained_twice").exists()


# Clips and peers


def test_a_peer_is_scored_on_the_very_clips_that_the_network_is_and_by_the_same_evaluator(tmp_path):
    folder = sounds_that_collide(tmp_path / "sounds")
    of_no_trained_machine = folder / "valve" / "test" / "normal_id_00_00000000.wav"
    of_no_trained_machine.parent.mkdir(parents=True)
    of_no_trained_machine.write_bytes((folder / "fan" / "test" / "normal_id_00_00000000.wav").read_bytes())
    (folder / "fan" / "test" / "id_00_00000099.wav").write_bytes(of_no_trained_machine.read_bytes())
    (folder / "fan" / "train" / "normal_id_00_00000099.wav").write_text("no sound")
    clips = prepare_sounds(folder, tmp_path / "clips", 1.0)
    train, test = (load_split(clips, split) for split in ("train", "test"))
    assert len(train.rows) == len(train.clips) == 12 and len(test.rows) == 24
    waveform = torch.from_numpy(test.clips.known_waveforms()[5].copy())
    expected = AttentionAsdFeatureExtractor(clip_length=16_000).log_mel(waveform)
    assert np.array_equal(test.clips.log_mels[5], expected.numpy())

    fit_peer("log_mel_statistics", clips, tmp_path / "run", updates=1, batch_size=4, seed=0, data_dir=folder)
    rows = read_scores(tmp_path / "run" / "scores.csv")
    assert {row["file"] for row in rows} == {Path(row["path"]).relative_to(folder).as_posix() for row in test.rows}
    assert figures_of_merit(rows, "honest", num_bootstrap=0)["auc"]["mean"]["official"] > 0.9, "hiss is no tone"
    costs = json.loads((tmp_path / "run" / "measured.json").read_text())
    assert costs["milliseconds_per_clip"] > 0 and costs["times_reference"] < 1, (
        "the control is cheaper than the network"
    )
    for anomalous in folder.glob("*/test/anomaly_*.wav"):
        anomalous.unlink()
    with pytest.raises(ValueError, match="none with both normal and anomalous"):
        prepare_sounds(folder, tmp_path / "clips", 1.0)
    with pytest.raises(ValueError, match="no such baseline"):
        fit_peer("oracle", clips, tmp_path / "run", updates=1, batch_size=4, seed=0, data_dir=folder)


def test_archives_of_log_mels_become_clips_without_waveforms(tmp_path):
    archives = tmp_path / "log_mels"
    archives.mkdir()
    for split, anomalous in (("train", 0), ("test", 2)):
        is_anomaly = np.arange(4) < anomalous
        columns = {"machine_id": np.array([1, 2, 1, 2]), "is_anomaly": is_anomaly, "filename": np.array(list("abcd"))}
        np.savez(archives / f"{split}.npz", log_mel=np.full((4, 128, 20), -30, dtype=np.float16), **columns)
    test = load_split(prepare_log_mels(archives, tmp_path / "clips"), "test")
    assert test.clips.waveforms is None and test.clips.log_mels.shape == (4, 128, 20)
    assert test.clips.machines == ["ToyCar_id_01", "ToyCar_id_02"] * 2
    assert [row["is_anomaly"] for row in test.rows] == [True, True, False, False]
    (archives / "test.npz").unlink()
    with pytest.raises(ValueError, match="test.npz: no such file"):
        prepare_log_mels(archives, tmp_path / "clips")


def test_the_log_mel_network_is_trained_and_scored_without_waveforms(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    archives = tmp_path / "log_mels"
    archives.mkdir()
    for split, anomalous in (("train", 0), ("test", 4)):
        log_mel = np.random.default_rng(anomalous).normal(-30, 5, size=(8, 128, 32)).astype(np.float16)
        names = np.array([f"clip_{index}.wav" for index in range(8)])
        columns = {"machine_id": np.arange(8) % 2 + 1, "is_anomaly": np.arange(8) < anomalous, "filename": names}
        np.savez(archives / f"{split}.npz", log_mel=log_mel, **columns)
    clips, run = prepare_log_mels(archives, tmp_path / "clips"), tmp_path / "run"
    recipe = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "validation_fraction": 0.25, "seed": 0}
    fit_log_mel_network(archives, clips, run, **recipe)
    for row in table_1_rows(with_waveforms=False):
        if row.run == "log_mel":
            assert len(read_scores(run / row.scores)) == 8, row.title
    costs = json.loads((run / "measured.json").read_text())
    assert costs["parameters"] == AttentionAsdModel.from_pretrained(run).num_parameters()


# Studies


def test_the_size_follows_from_the_clips_and_flags_override_the_recipe():
    rows = [{"label": machine, "split": "train"} for machine in DEVELOPMENT_LABELS for _ in range(875)]
    assert choose_size(rows) == "full"
    assert choose_size(rows[::20]) == "reduced", "the challenge's machines, but a twentieth of its clips"
    assert choose_size(rows[875:]) == "reduced", "as many clips, but a machine is missing"
    assert parse_overrides(["--num_train_epochs", "5"]) == {"num_train_epochs": "5"}
    with pytest.raises(ValueError, match="stray"):
        parse_overrides(["stray", "--num_train_epochs"])


# What is rendered


@pytest.fixture
def study(tmp_path):
    return Study(
        data_dir=tmp_path / "clips_of_mine",
        output_dir=tmp_path,
        report_dir=tmp_path / "report",
        size="reduced",
        protocol="honest",
        seeds=(0, 1),
        peer_seeds=(0,),
        jobs=1,
        recipe=RECIPES["reduced"],
    )


def finished(folder: Path, rows: list[dict], parameters: int = 879_087) -> Path:
    """A finished run as `measured` reads it."""
    folder.mkdir(parents=True)
    write_scores(ScoredClips(rows), folder, None)
    costs = {"milliseconds_per_clip": 20.0, "times_reference": 1.5, "train_seconds": 300.0}
    (folder / "measured.json").write_text(json.dumps({"parameters": parameters, **costs}))
    return folder


def systems(folder: Path, keys, title="a system") -> list[Measured]:
    """Measured systems, each of two finished runs."""
    machines = {"fan_id_00": 1, "fan_id_02": 2, "valve_id_00": 1}
    found = []
    for number, key in enumerate(keys):
        runs = [finished(folder / f"{key}-{seed}", scored_rows(machines, 15, seed=seed + number)) for seed in (0, 1)]
        found.append(measured(key, f"{title} {key}", runs, "scores.csv", "honest"))
    return found


def test_table_1_keeps_measured_and_published_figures_apart_and_writes_all_three_files(tmp_path, study):
    of_sounds, of_log_mels = systems(tmp_path / "a", ["idnn", "detector"]), systems(tmp_path / "b", ["idnn"])
    report = table_1(
        study,
        {
            "clips_of_mine": MeasuredOnData("mine: 3 clips", of_sounds),
            "log_mels": MeasuredOnData("theirs: 2 clips", of_log_mels),
        },
    )
    report.write(study.report_dir)
    text = (study.report_dir / "table1.md").read_text()
    measured_part, published_part = text.split("## Published")
    assert "## Measured on clips_of_mine" in measured_part and "## Measured on log_mels" in measured_part
    assert "67.71/52.90" in published_part and "67.71" not in measured_part
    auc = of_sounds[0].figure("auc", "official")
    assert str(auc) in measured_part and "±" in str(auc) and "[" in str(auc)
    assert "879,087" in measured_part and "1.50" in measured_part
    header, *lines = (study.report_dir / "table1.csv").read_text().splitlines()
    assert "auc_official_low" in header and "published_auc_dcase2020" in header
    assert len(lines) == 3 * 3, "three systems on two machine types and their mean"
    assert (study.report_dir / "table1.png").stat().st_size > 10_000
    assert str(tmp_path) not in text, "no path of this machine"


def test_table_2_shows_three_computations_of_one_figure_and_which_of_them_the_paper_printed(tmp_path, study):
    (network,) = systems(tmp_path / "runs", ["attention_asd"])
    report = table_2(study, "mine: 3 clips", network)
    for name in ("official", "pooled", "all_clips_pooled"):
        assert str(network.figure("auc", name)) in report.markdown
    row = next(line for line in report.markdown.splitlines() if line.startswith("| Neri and Carli 2024"))
    assert "94.65/87.86" in row and "93.44/85.71" in row and "-1.21/-2.15" in row


def test_an_ablation_gives_the_difference_to_the_full_network_with_an_interval(tmp_path, study):
    networks = systems(tmp_path / "runs", TABLE_4)
    report = ablation(study, "table4", "Table 4", "mine: 3 clips", networks, published.TABLE_4)
    lines = {line.split(" | ")[0][2:]: line for line in report.markdown.splitlines() if line.startswith("| a system")}
    assert set(lines) == {network.title for network in networks}
    change = difference(official_replicates(networks[2].scored), official_replicates(networks[-1].scored))
    assert f"{change.mean:+.1f} [{change.low:+.1f}, {change.high:+.1f}]" in lines["a system without_attention"]
    assert "91.72/84.52" in lines["a system without_attention"] and "-1.71" in lines["a system without_attention"]
    report.write(study.report_dir)
    assert (study.report_dir / "table4.png").stat().st_size > 10_000


# The command itself


@pytest.mark.slow
def test_a_killed_reproduction_goes_on_and_the_paper_protocol_trains_with_the_shared_class(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder, output = sounds_that_collide(tmp_path / "sounds"), tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "research.reproduce",
        "table2",
        "--data_dir",
        str(folder),
        "--output_dir",
        str(output),
    ]
    command += ["--seeds", "0", "--protocol", "paper", "--clip_seconds", "1", "--num_train_epochs", "3"]
    run, log = output / "runs" / "sounds" / "attention_asd-paper-seed0", tmp_path / "log.txt"
    with open(log, "w") as file:
        first = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while not list(run.glob("checkpoints/step_*")):
            assert first.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    for already_finished in (0, 1):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert f"1 runs, of which {already_finished} are finished" in done.stdout
    assert (run / "log.txt").read_text().count("Resuming from") == 1
    assert len(json.loads((run / "chosen_on_test" / "choice.json").read_text())["auc_all_clips_pooled"]) == 3
    label2id = json.loads((run / "config.json").read_text())["label2id"]
    assert label2id["pump_id_06"] == label2id["slider_id_00"]
    text = (output / "report" / "sounds-paper" / "table2.md").read_text()
    assert "size" in text.lower() and "**Protocol**: paper" in text
