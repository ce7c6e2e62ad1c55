"""The scripts as a user runs them, each in a process of its own, on one-second clips."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import write_sounds
from safetensors.torch import load_file
from warm_python import Forked

from evaluation.lock import hold
from modeling import AnomalyDetector
from train import parse_arguments
from training.hub import code_files


ROOT = Path(__file__).resolve().parents[1]


def flags(folder: Path, output: Path, **changes) -> list[str]:
    settings = {
        "data_dir": folder,
        "output_dir": output,
        "num_train_epochs": 2,
        "clip_seconds": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "validation_fraction": 0.2,
        **changes,
    }
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


@pytest.fixture
def train(run_script):
    return lambda folder, output, **changes: run_script("train.py", *flags(folder, output, **changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of sounds, and what the README's command made of it."""
    folder, output = write_sounds(tmp_path_factory.mktemp("sounds")), tmp_path_factory.mktemp("trained") / "out"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "train.py"]
    done = subprocess.run(command + flags(folder, output), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, output


def read_scores(path: Path) -> dict[str, float]:
    with open(path, newline="") as file:
        return {row["file"]: float(row["score"]) for row in csv.DictReader(file)}


LOAD_IN_A_FRESH_PROCESS = """
import json, sys
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

directory, sound = sys.argv[1:]
assert not any("attention" in name for name in sys.modules if name.startswith(("modeling", "feature_extraction")))
config = AutoConfig.from_pretrained(directory, trust_remote_code=True)
feature_extractor = AutoFeatureExtractor.from_pretrained(directory, trust_remote_code=True)
inputs = feature_extractor(feature_extractor.read_audio(sound), sampling_rate=config.sampling_rate)
answers = []
for auto in (AutoModel, AutoModelForAudioClassification):
    model = auto.from_pretrained(directory, trust_remote_code=True).eval()
    with torch.no_grad():
        claimed = model(**inputs, labels=torch.tensor([config.label2id["pump_id_02"]]))
        free = model(**inputs)
    predicted = config.id2label[free.scored_labels.item()]
    answers.append([claimed.anomaly_scores.item(), predicted, list(claimed.attention_maps.shape)])
print(json.dumps(answers))
"""


def test_train_leaves_a_complete_directory_that_a_fresh_process_loads_with_the_same_numbers(trained, tmp_path):
    folder, output = trained
    for name in (
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
        "README.md",
        "all_results.json",
        "training_args.json",
        "configuration_attention_asd.py",
        "modeling_attention_asd.py",
        "feature_extraction_attention_asd.py",
    ):
        assert (output / name).stat().st_size > 0, name
    config = json.loads((output / "config.json").read_text())
    assert {"AutoConfig", "AutoModel", "AutoModelForAudioClassification", "AutoFeatureExtractor"} <= config[
        "auto_map"
    ].keys()
    assert sorted(config["id2label"].values()) == ["fan_id_00", "fan_id_02", "pump_id_00", "pump_id_02"]
    results = json.loads((output / "all_results.json").read_text())
    assert results["epochs"] == 2 and results["train_clips"] == 24 and results["test"]["clips"] == 24

    sound = folder / "pump" / "test" / "anomaly_id_02_00000000.wav"
    empty = tmp_path / "empty"
    empty.mkdir()
    fresh = subprocess.run(
        [sys.executable, "-I", "-c", LOAD_IN_A_FRESH_PROCESS, str(output), str(sound)],
        cwd=empty,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert fresh.returncode == 0, fresh.stderr
    scores = read_scores(output / "evaluation" / "scores.csv")
    (expected,) = [score for name, score in scores.items() if name.endswith(sound.relative_to(folder).as_posix())]
    for score, predicted, shape in json.loads(fresh.stdout):
        # The scores of the evaluation were computed in batches of 16, whose sums are rounded in another order.
        assert score == pytest.approx(expected, abs=1e-3)
        assert predicted in config["id2label"].values() and shape == [1, 2, 128, 32]


def test_eval_gives_results_scores_challenge_files_and_figures(trained, tmp_path, run_script):
    sounds, output = trained
    folder = Path(shutil.copytree(sounds, tmp_path / "sounds"))
    (folder / "pump" / "test" / "normal_id_00_00000099.wav").write_text("this is no sound")
    unknown = folder / "valve" / "test" / "normal_id_04_00000000.wav"
    unknown.parent.mkdir(parents=True)
    unknown.write_bytes((folder / "pump" / "test" / "normal_id_00_00000000.wav").read_bytes())

    done = run_script("eval.py", "--model", output, "--data_dir", folder, "--output_dir", tmp_path / "r")
    assert done.returncode == 2, "an unreadable file must be told by the exit code"
    assert "normal_id_00_00000099.wav" in done.stderr
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert list(results["unreadable"]) == ["pump/test/normal_id_00_00000099.wav"]
    assert results["unknown_machine_ids"] == {"valve_id_04": 1}
    trained = json.loads((output / "all_results.json").read_text())["test"]
    assert results["auc"] == trained["auc"] and results["pauc"] == trained["pauc"]
    for metric in ("auc", "pauc"):
        assert set(results[metric]["per_id"]) == {"fan_id_00", "fan_id_02", "pump_id_00", "pump_id_02"}
        assert {"official", "pooled", "worst_id"} <= results[metric]["per_type"]["fan"].keys()
        assert results["control"][metric]["mean"]["official"] is not None

    scores = read_scores(tmp_path / "r" / "scores.csv")
    assert len(scores) == 24 and "fan/test/anomaly_id_00_00000000.wav" in scores
    lines = (tmp_path / "r" / "anomaly_score_fan_id_00.csv").read_text().splitlines()
    assert (
        lines == sorted(lines)
        and len(lines) == 6
        and float(lines[0].split(",")[1]) == scores["fan/test/" + lines[0].split(",")[0]]
    )
    for figure in (
        "score_histograms",
        "roc_curves",
        "figure2_representations",
        "figure3_attention_maps",
        "figure4_attention_by_frequency",
    ):
        assert (tmp_path / "r" / f"{figure}.png").stat().st_size > 10_000


def test_a_detector_fitted_anew_on_the_training_folder_makes_results_and_card_anew(trained, tmp_path, run_script):
    folder, output = trained
    model = shutil.copytree(output, tmp_path / "model")
    earlier = json.loads((model / "all_results.json").read_text())
    # In the training's batches: sums of others are rounded in another order.
    flags = ("--model", model, "--data_dir", folder, "--batch_size", 32, "--backend", "gmm")
    done = run_script("scripts/fit_detector.py", *flags)
    assert done.returncode == 0, done.stderr
    results = json.loads((model / "all_results.json").read_text())
    assert results["backend"] == results["test"]["decisions"]["default"] == "gmm"
    # The same clips are held out as in the training, so that nothing but the default has changed.
    assert {key for key in earlier if results[key] != earlier[key]} == {"backend", "test"}
    assert results["test"]["decisions"]["alarms"] == earlier["test"]["decisions"]["alarms"]
    assert "The default is `gmm`" in (model / "README.md").read_text()


def test_a_run_killed_in_mid_epoch_and_resumed_ends_with_the_same_bits(sound_folder, warm_python, tmp_path):
    folder = sound_folder()
    # 20 clips in batches of 4: five updates an epoch.
    settings = {"num_train_epochs": 4, "checkpointing_steps": 1}

    def start_training(output: Path, **changes) -> Forked:
        return warm_python.start([str(ROOT / "train.py"), *flags(folder, output, **settings, **changes)], ROOT)

    alone = start_training(tmp_path / "alone")
    assert alone.wait(300) == 0

    killed = start_training(tmp_path / "killed")
    deadline = time.monotonic() + 120
    in_mid_epoch = tmp_path / "killed" / "checkpoints" / "step_00000008"
    while not in_mid_epoch.exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()

    # The same command once more would remove what was computed.
    anew = start_training(tmp_path / "killed")
    _, errors = anew.communicate(timeout=300)
    assert anew.returncode == 2 and "Add --resume_from_checkpoint latest to go on" in errors
    resumed = start_training(tmp_path / "killed", resume_from_checkpoint="latest")
    assert resumed.wait(300) == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "killed"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    histories = [json.loads((tmp_path / name / "all_results.json").read_text()) for name in ("alone", "killed")]
    assert histories[0]["train_loss"] == histories[1]["train_loss"]
    assert histories[0]["test"]["auc"] == histories[1]["test"]["auc"]


@pytest.mark.slow
def test_two_processes_train_one_model_and_survive_a_broken_clip(sound_folder, tmp_path):
    folder, output = sound_folder(train=4, test=1), tmp_path / "out"
    (folder / "fan" / "train" / "normal_id_00_00000099.wav").write_bytes(b"")
    # Without --multi_gpu accelerate starts one process on a CPU, whatever --num_processes says. Port 0: one that is free.
    options = "--multi_gpu --num_processes 2 --num_cpu_threads_per_process 1 --main_process_port 0"
    command = [sys.executable, "-m", "accelerate.commands.launch", *options.split(), "train.py"]
    done = subprocess.run(
        command + flags(folder, output, per_device_train_batch_size=2, gradient_accumulation_steps=2),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0 and "normal_id_00_00000099.wav" in done.stderr
    results = json.loads((output / "all_results.json").read_text())
    assert results["num_processes"] == 2
    assert "updates of 8 clips" in done.stdout
    assert results["train_loss"] > 0 and results["test"]["clips"] == 8


@pytest.mark.slow
def test_bfloat16_checkpointed_attention_and_a_tracker_work_together(sound_folder, train, tmp_path):
    output = tmp_path / "out"
    done = train(sound_folder(), output, mixed_precision="bf16", gradient_checkpointing="True", report_to="tensorboard")
    assert done.returncode == 0, done.stderr
    assert list(output.rglob("events.out.tfevents.*"))
    assert load_file(output / "model.safetensors")["arcface.weight"].dtype == torch.float32


def test_a_compiled_training_is_not_compiled_anew_at_every_update(sound_folder, warm_python, tmp_path):
    settings = {"num_train_epochs": 1, "per_device_train_batch_size": 2, "validation_fraction": 0}
    command = [str(ROOT / "train.py"), *flags(sound_folder(), tmp_path / "out", **settings)]
    # What `accelerate launch --dynamo_backend eager` sets: the graph is traced, and no C++ is compiled from it.
    compiled = {"ACCELERATE_DYNAMO_BACKEND": "eager", "ACCELERATE_DYNAMO_USE_DYNAMIC": "False"}
    process = warm_python.start(command, ROOT, **compiled)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    # 12 updates; PyTorch gives up and warns at 8 graphs.
    assert "12/12" in errors and "recompile" not in errors


def test_training_anew_into_a_used_directory_does_not_mix_with_the_run_before(sound_folder, train, tmp_path):
    folder, output = sound_folder(), tmp_path / "out"
    assert train(folder, output, num_train_epochs=3, validation_fraction=0).returncode == 0
    assert train(folder, output, num_train_epochs=1, validation_fraction=0).returncode == 0
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["step_00000006"]
    other = train(folder, output, num_train_epochs=2, validation_fraction=0, resume_from_checkpoint="latest")
    assert other.returncode != 0 and "num_train_epochs" in other.stderr
    next((folder / "fan" / "train").iterdir()).unlink()
    other = train(folder, output, num_train_epochs=1, validation_fraction=0, resume_from_checkpoint="latest")
    assert other.returncode != 0 and "'clips': 24" in other.stderr


def test_a_second_training_in_one_directory_says_who_trains_there(sound_folder, train, tmp_path):
    output = tmp_path / "out"
    lock = hold(output / ".lock", str(output))
    second = train(sound_folder(), output)
    lock.release()
    assert second.returncode == 2 and f"error: {output} is in use by process {os.getpid()}" in second.stderr
    assert [path.name for path in output.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("flag", "value"),
    [("num_train_epochs", 0), ("per_device_train_batch_size", 0), ("checkpointing_steps", "often")],
)
def test_a_flag_that_cannot_be_is_refused_by_its_name(tmp_path, flag, value):
    with pytest.raises(ValueError, match=f"--{flag} {value}"):
        parse_arguments(flags(tmp_path, tmp_path / "out", **{flag: value}))


def test_broken_and_silent_training_clips_are_named_and_left_out(sound_folder, train, tmp_path):
    folder, output = sound_folder(), tmp_path / "out"
    clips = folder / "fan" / "train"
    (clips / "normal_id_00_00000099.wav").write_bytes(b"")
    soundfile.write(clips / "normal_id_00_00000098.wav", np.zeros(16_000), 16_000)
    done = train(folder, output, num_train_epochs=1)
    assert "normal_id_00_00000099.wav" in done.stderr
    assert "Silent, left out: normal_id_00_00000098.wav." in done.stderr
    assert json.loads((output / "all_results.json").read_text())["train_clips"] == 24
    assert done.returncode != 0, "a broken input must be told by the exit code"


@pytest.mark.parametrize("kind", ["no clips", "no folder"])
def test_a_folder_to_learn_nothing_from_is_refused_with_what_is_expected(train, tmp_path, kind):
    if kind == "no clips":
        folder = tmp_path / "nothing"
        folder.mkdir()
    else:
        folder = tmp_path / "nowhere"
    done = train(folder, tmp_path / "out")
    assert done.returncode == 2
    assert str(folder) in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def one_machine(sound_folder) -> Path:
    """Recordings of one machine alone, which has the name of a machine of the bundled model."""
    folder = sound_folder(train=8, test=2, seconds=10)
    for path in folder.rglob("*.wav"):
        if "fan" not in path.parts or "id_00" not in path.name:
            path.unlink()
    return folder


def test_one_machine_alone_is_enrolled_on_the_bundled_model_and_judged(one_machine, train, run_script, tmp_path):
    output = tmp_path / "out"
    (one_machine / "fan" / "train" / "normal_id_00_00000099.wav").write_bytes(b"")
    done = train(one_machine, output)
    assert done.returncode == 2 and "normal_id_00_00000099.wav" in done.stderr, "a broken input must be told"
    assert "fan_id_00 was enrolled on the bundled model instead, from 8 recordings" in done.stdout
    assert "of 8 recordings raised a false alarm" in done.stdout and "of 10 faults would be heard" in done.stdout

    detector = AnomalyDetector.from_pretrained(output)
    assert len(detector.calibration("fan_id_00").scores) == 8
    assert "fan_id_02" in detector.machines and not any("synthetic" in name for name in detector.machines)
    assert {file.name for file in output.glob("*.py")} == code_files().keys()
    assert json.loads((output / "training_args.json").read_text())["output_dir"] == str(output)
    results = json.loads((output / "all_results.json").read_text())
    assert results["enrolled_machines"] == ["fan_id_00"]
    # The network knows another machine of this name: it has no score for this one.
    assert "auc" not in results["test"] and results["test"]["labelled_clips"] == 4
    card = (output / "README.md").read_text()
    assert "fan_id_00 was enrolled from 8 normal recordings of sounds" in card and "10.5281/zenodo.3384388" in card

    clips = sorted(str(path) for path in (one_machine / "fan" / "test").iterdir())
    judged = run_script("score.py", *clips, "--model", output, "--machine", "fan_id_00", "--format", "json")
    verdicts = [json.loads(line)["verdict"] for line in judged.stdout.splitlines()]
    assert judged.returncode == 1 and verdicts == ["anomalous"] * 2 + ["normal"] * 2, judged.stderr
    evaluated = run_script("eval.py", "--model", output, "--data_dir", one_machine, "--output_dir", tmp_path / "r")
    assert evaluated.returncode == 0, evaluated.stderr
    figures = json.loads((tmp_path / "r" / "results.json").read_text())["decisions"]["back_ends"]["spectrum"]
    assert figures["auc"]["mean"]["official"] == 1.0


@pytest.mark.slow
def test_real_sounds_are_trained_and_evaluated(shared_data, train, tmp_path):
    """Real clips cut to one second, two epochs: that it works, not how well."""
    done = train(shared_data / "machine_clips", tmp_path / "out", per_device_train_batch_size=32)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert results["machine_ids"] == 16 and results["train_clips"] == 218
    # ToyCar's and ToyConveyor's 14 test clips are of machine IDs without training clips.
    assert results["test"]["clips"] == 168 and sum(results["test"]["unknown_machine_ids"].values()) == 14
    assert len((tmp_path / "out" / "evaluation" / "scores.csv").read_text().splitlines()) == 169
