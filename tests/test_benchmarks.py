"""The benchmarks run, at a small size, and report what they promise."""

import json
import os
import sys

import numpy as np
import pytest
import soundfile
import torch

from feature_extraction import AttentionAsdFeatureExtractor
from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector, AttentionAsdConfig, AttentionAsdModel
from modeling.gradients_attention_asd import AttentionAsdConv2d, AttentionAsdPReLU
from research.benchmarks import back_ends, scaling
from research.benchmarks.noise_clips import write_clips
from research.benchmarks.processes import FreshProcess, available_cores, timed_command
from research.benchmarks.published_network import PublishedLogMel, published_forward
from research.benchmarks.speed import accuracy, latency, start_up, systems
from research.benchmarks.speed.report import latency_figure, latency_table
from research.benchmarks.training import cpu, device
from research.benchmarks.training.__main__ import main as training_main
from research.benchmarks.training.loops import cpu_loops, device_loops


MACHINES = {0: "fan_id_00", 1: "fan_id_02"}


class ThisProcess(FreshProcess):
    """Stands in for a fresh process where a test needs what is computed and not the isolation."""

    def __init__(self):
        """Start nothing."""

    def run(self, function, *arguments):
        return function(*arguments)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """What would take all cores of a process of its own leaves this one's threads as they are."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """The paper's network on one-second clips, with random weights and a detector fitted to noise."""
    directory = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = AttentionAsdModel(AttentionAsdConfig(clip_length=16_000, id2label=MACHINES)).eval()
    extractor = AttentionAsdFeatureExtractor(clip_length=16_000)
    machines = [MACHINES[index % 2] for index in range(16)]
    generator = np.random.default_rng(0)
    clips = [0.1 * generator.standard_normal(16_000).astype(np.float32) for _ in machines]
    with torch.no_grad():
        outputs = model(**extractor(clips, sampling_rate=16_000))
    held_out = np.arange(len(machines)) // 2 % 2 == 1
    detector = AnomalyDetector.fit(model.config, outputs, machines, held_out)
    for part in (model, extractor, detector):
        part.save_pretrained(directory)
    return directory


@pytest.fixture
def audio(tmp_path):
    path = tmp_path / "normal_id_00_00000000.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(16_000), 16_000, subtype="PCM_16")
    return path


def test_the_published_network_with_a_models_weights_gives_the_models_numbers(model_dir, noise):
    model = AttentionAsdModel.from_pretrained(model_dir).eval()
    log_mel = PublishedLogMel()(noise())
    extracted = AttentionAsdFeatureExtractor(clip_length=16_000).log_mel(noise())
    assert (log_mel - extracted).abs().max() < 1e-3
    state = systems.published_state(model)
    with torch.no_grad():
        expected = model(input_values=noise(), input_features=extracted)
        computed = published_forward(state, noise(), log_mel, torch.tensor([0, 1]))
    assert (computed["cosine"] - expected.cosines).abs().max() < 1e-4
    assert (computed["attention"] - expected.attention_maps).abs().max() < 1e-3


def test_a_model_of_another_architecture_is_not_compared_with_the_published_network(small_model):
    with pytest.raises(ValueError, match="paper's architecture"):
        systems.published_state(small_model())


def test_speed_reports_every_system_with_its_steps_ratio_and_floor(model_dir, audio):
    pytest.importorskip("librosa", reason="needs librosa, which the authors' chain reads sounds with")
    task = systems.Task(str(model_dir), [], str(audio), None, repeats=1)
    turns = {}
    for whose in ("theirs", "ours"):
        latency.load(task, whose)
        turns |= latency.measure_turns([ThisProcess()], [str(audio)], 2, 2, whose)
    assert all(timing["min_s"] <= timing["median_s"] <= timing["max_s"] for timing in turns.values())
    floors = latency.floors_of_network([str(audio)])
    rows = latency_table({"cores": 1, "floors": floors, "latency": turns, "throughput": turns})
    by_name = {row["system"]: row for row in rows}
    assert by_name[systems.AUTHORS]["authors' / this"] == 1.0
    eager = by_name[systems.EAGER]
    assert all(eager[f"{step} ms"] > 0 for step in systems.STEPS)
    assert eager["network / sgemm floor"] > 0 and floors["network_gflop"] > 0.1
    assert len(rows) == 3 + len(systems.PEERS)
    drawn = latency_figure({"cores": 1, "latency": turns}).axes[0].get_yticklabels()
    assert {label.get_text() for label in drawn} == {name for name in by_name if not name.startswith(systems.PIPELINE)}


def test_the_engines_accuracy_is_held_against_eager(model_dir, tmp_path):
    pytest.importorskip("librosa", reason="needs librosa, which the authors' chain reads sounds with")
    generator = np.random.default_rng(2)
    for label in ("normal", "anomaly"):
        for index in range(2):
            path = tmp_path / "fan" / "test" / f"{label}_id_00_{index:08d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * generator.standard_normal(16_000), 16_000, subtype="PCM_16")
    table = accuracy.measure_accuracy(systems.Task(str(model_dir), [], "", str(tmp_path), repeats=1))
    assert [row["system"] for row in table] == [systems.EAGER, systems.AUTHORS]
    assert table[0]["largest score difference, paper's score"] == 0.0
    assert all(row["clips"] == 4 and row["verdict changes"] == 0 and row["AUC difference"] == 0.0 for row in table)


@pytest.mark.slow
def test_memory_and_start_up_of_score_py_are_measured(model_dir, audio, monkeypatch):
    monkeypatch.setattr(start_up, "LONG_RECORDING_SECONDS", 3)
    rows = start_up.measure_processes(systems.Task(str(model_dir), [], str(audio), None, repeats=1))
    assert len(rows) == 4 and all(row["peak MiB"] > 100 for row in rows)
    assert all(0 < row["first line s"] <= row["seconds"] for row in rows if row["seconds"])


def test_a_command_is_charged_with_its_own_memory_alone():
    held = np.ones(50_000_000)  # 400 MB of this process
    run = timed_command([sys.executable, "-S", "-c", "print('here'); x = bytearray(150_000_000); print(len(x))"])
    assert run["first_line"] == "here" and run["first_line_s"] <= run["seconds"]
    assert 143 <= run["peak_mib"] < 200 and held.nbytes > 2**28
    with pytest.raises(RuntimeError, match="exit code 3"):
        timed_command([sys.executable, "-S", "-c", "raise SystemExit(3)"])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not let a process choose its cores")
def test_a_fresh_process_sees_the_cores_it_was_given_and_leaves_this_one_as_it_was():
    cores = available_cores()
    with FreshProcess(cores[-1:]) as process:
        assert process.run(available_cores) == cores[-1:]
        assert process.run(os.getenv, "OMP_NUM_THREADS") == "1"
    assert available_cores() == cores


def test_every_training_loop_of_the_ablation_takes_updates(tmp_path, monkeypatch):
    pytest.importorskip("librosa", reason="needs librosa, which the authors' loop reads sounds with")
    # A loop changes it for good, in what is otherwise a process of its own.
    for layer in (AttentionAsdPReLU, AttentionAsdConv2d):
        monkeypatch.setattr(layer, "forward", layer.forward)
    paths, labels = write_clips(tmp_path, 2, seconds=1.0)
    for loop in cpu_loops():
        cpu.prepare(loop, str(tmp_path), paths, labels, batch_size=2)
        assert cpu.take_updates(1) > 0, loop.name


def test_the_device_benchmark_reports_throughput_floors_and_kernels():
    loops = device_loops()[:2]
    result = device.measure_device("cpu", [2], updates=1, clip_seconds=1.0, loops=loops)
    assert [row["loop"] for row in result["rows"]] == [loop.name for loop in loops]
    assert all(row["clips/s"] > 0 for row in result["rows"])
    assert 0 < sum(kernel["share"] for kernel in result["kernels"]) <= 1.0 + 1e-6
    assert result["fastest"]["times the arithmetic floor"] > 1
    assert "GFLOP" in device.device_report(result)


def test_the_gpu_benchmark_says_so_where_there_is_no_gpu(tmp_path, capsys):
    training_main(["--device", "cuda", "--output", str(tmp_path / "gpu.json")])
    assert "no GPU here: not run" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu.json").read_text())["not_run"]


def test_a_fleets_cost_is_reported_machine_by_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "TRAINED_MACHINES", 3)
    scaling.main(["--parts", "fleet", "--machines", "2", "5", "--output", str(tmp_path / "scaling.json")])
    rows = json.loads((tmp_path / "scaling.json").read_text())["fleet"]
    assert [row["machines"] for row in rows] == [2, 5]
    assert all(value > 0 for row in rows for value in row.values())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_reading_a_bank_takes_no_more_memory_for_more_clips(tmp_path):
    small, large = (scaling.read_bank(str(tmp_path), size, clip_seconds=1.0, batches=3) for size in (200, 5_000))
    assert large["file GB"] == 25 * small["file GB"]
    # Three batches of 64 clips of 32 kB, and the names.
    assert large["own memory MiB"] < 20


@pytest.mark.slow
def test_epochs_and_archives_are_measured_as_a_user_runs_them(tmp_path):
    output = tmp_path / "scaling.json"
    scaling.main(
        ["--parts", "epochs", "archive", "--epoch_clips", "8", "--recordings", "3", "--clip_seconds", "1"]
        + ["--output", str(output)]
    )
    results = json.loads(output.read_text())
    assert {row["processes"] for row in results["epochs"]} == set(range(1, len(available_cores()) + 1))
    assert all(row["ms a clip"] > 0 and row["peak MiB a process"] > 100 for row in results["epochs"])
    assert all(row["recordings"] == 3 for row in results["archive"])


def test_figures_of_several_trainings_are_given_by_machine_type_as_mean_and_deviation(tmp_path):
    aucs = []
    for seed in range(3):
        generator = np.random.default_rng(seed)
        labels = np.tile([0] * 10 + [1] * 10, 2)
        scores = generator.normal(size=40) + labels
        figures = asd_auc(scores, labels, ["fan"] * 20 + ["pump"] * 20, ["00"] * 40, n_bootstrap=20)
        share = {"share": 0.5, "clips": 20, "ci95": [0.3, 0.7]}
        alarms = [{"requested": rate, "false_alarms": share, "detected": share} for rate in (0.01, 0.05, 0.1)]
        decisions = {"default": "spectrum", "back_ends": {"spectrum": figures}, "alarms": {"spectrum": alarms}}
        run = tmp_path / f"seed{seed}"
        run.mkdir()
        (run / "results.json").write_text(json.dumps({**figures, "decisions": decisions, "control": figures}))
        aucs.append(100 * figures["auc"]["per_type"]["pump"]["official"])
    runs = [str(tmp_path / f"seed{seed}") for seed in range(3)]
    back_ends.main(["--runs", *runs, "--output", str(tmp_path / "table.md")])
    (line,) = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| pump |")]
    cells = line.strip("| ").split(" | ")
    assert cells[1] == "10 + 10" and len(cells) == 8
    assert {cell.split(" [")[0] for cell in cells[2::2]} == {f"{np.mean(aucs):.1f} ± {np.std(aucs, ddof=1):.1f}"}
