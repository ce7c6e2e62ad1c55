"""Exports: the same numbers and verdicts from every engine, and clear errors where one is missing."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from small_detector import MACHINES, RATE, machine_sound, small_pipeline

from engines import ExportedModel, load_pipeline, native_attention_asd
from engines.comparison import what_to_mind
from engines.engine_attention_asd import EXPORT_FILE, FORMAT_VERSION, RUNTIMES, ExportedOutput, load_onnx
from engines.graph import Graph, LogMel, write_onnx
from engines.native_attention_asd import SOURCE, library
from engines.table import ENGINES
from evaluation.loading import load_model
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalousSoundDetectionPipeline, AnomalyDetector, AttentionAsdConfig
from modeling.backends_attention_asd import BACKENDS
from modeling.outputs_attention_asd import AttentionAsdOutput, ClipOutputs
from research.reliability.damage import generator_of
from research.reliability.graphs import damaged_onnx
from scripts.export import main as export


pytest.importorskip("onnxscript", reason="exports are written with the extra 'export'")

# Largest differences of cosines and of attention maps. float32 differs by the log-mel's rounding, which a quiet bin shows.
TOLERANCES = {
    "onnx": (1e-4, 1e-3),
    "openvino": (1e-4, 1e-3),
    "openvino-bf16": (0.02, 1e-3),
    "openvino-int8": (0.1, 1e-3),
    "native-int16": (0.003, 5e-3),
    "native-int8": (0.1, 5e-3),
}
# Engines whose graph gives scores and verdicts as well, and those that need nothing installed but a C compiler.
GRAPHS = [name for name, engine in ENGINES.items() if "network" in engine.runtime.files[0]]
SOURCE_FILE = Path(native_attention_asd.__file__).with_name(SOURCE)
COMPILED = [name for name in ENGINES if name not in GRAPHS]


# In a process of its own: an export by the code that lies in its directory, by its engine and by PyTorch.
DETECT = """
import sys
import numpy as np
from transformers import pipeline

directory, output, export = sys.argv[1:]
noise = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
for engine in (None, "torch"):
    detect = pipeline("anomalous-sound-detection", model=directory, trust_remote_code=True, engine=engine)
    print(getattr(detect.network, "engine", "torch"), detect(noise, machine="fan_id_00")["verdict"])
    detect.save_pretrained(output if engine else export)
copy = pipeline("anomalous-sound-detection", model=export, trust_remote_code=True)
print(copy.network.engine, copy(noise, machine="fan_id_00")["verdict"])
assert not {"modeling", "engines", "feature_extraction"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def eager():
    return small_pipeline()


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Normal and hissing clips of every machine, in the DCASE layout."""
    folder = tmp_path_factory.mktemp("sounds")
    for name, hertz in MACHINES.items():
        machine_type, machine_id = name.split("_id_")
        for split, label, hiss, clips in (
            ("train", "normal", 0.0, 3),
            ("test", "normal", 0.0, 2),
            ("test", "anomaly", 0.2, 2),
        ):
            for index in range(clips):
                path = folder / machine_type / split / f"{label}_id_{machine_id}_{index:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, machine_sound(hertz, 900 + index, hiss=hiss), RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def exported(eager, sounds, tmp_path_factory):
    """A function that gives the directory of the model's export for an engine, and skips where that cannot run."""
    model = tmp_path_factory.mktemp("model")
    eager.save_pretrained(model)
    directories = {}

    def directory(name):
        for package in ENGINES[name].packages:
            pytest.importorskip(package)
        if name in COMPILED:
            try:
                library(SOURCE_FILE)
            except ImportError as error:
                pytest.skip(str(error))
        if name not in directories:
            directories[name] = tmp_path_factory.mktemp(name)
            run_export(model, directories[name], name, sounds)
        return directories[name]

    return directory


def run_export(model, directory, engine, sounds):
    arguments = ["--model", model, "--output_dir", directory, "--engine", engine, "--calibration_dir", sounds]
    export([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def clips():
    """`(3, samples)`: a normal clip, a hissing one, and one of another machine."""
    sounds = [(220.0, 0.0), (220.0, 0.2), (1700.0, 0.0)]
    return torch.from_numpy(np.stack([machine_sound(hertz, 1000, hiss=hiss) for hertz, hiss in sounds]))


def load_by_parts(directory, engine):
    loaded = load_model(directory)
    return AnomalousSoundDetectionPipeline(
        model=loaded.model, feature_extractor=loaded.feature_extractor, engine=engine, device="cpu"
    )


@torch.no_grad()
def eager_outputs(eager, clips):
    return eager.model(input_values=clips, input_features=eager.feature_extractor.log_mel(clips))


@pytest.mark.parametrize("settings", [{}, {"n_fft": 512, "hop_length": 160, "num_mel_bins": 40, "clip_length": 9999}])
def test_log_mel_of_the_graph_is_the_feature_extractors(noise, settings):
    extractor = AttentionAsdFeatureExtractor(**{"clip_length": 16_000, **settings})
    waveforms = noise(2, extractor.clip_length)
    assert torch.allclose(LogMel(extractor)(waveforms), extractor.log_mel(waveforms), atol=1e-3)


def test_the_table_and_the_loader_know_the_same_engines():
    assert ENGINES.keys() == RUNTIMES.keys() == TOLERANCES.keys()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [1, 3])
def test_export_gives_the_networks_outputs_for_any_batch(eager, exported, clips, engine, batch):
    expected, outputs = (
        eager_outputs(eager, clips[:batch]),
        ExportedModel.from_exported(exported(engine))(clips[:batch]),
    )
    cosines, maps = TOLERANCES[engine]
    assert outputs.embeddings.shape == expected.embeddings.shape
    assert torch.allclose(outputs.cosines, expected.cosines, atol=cosines)
    assert torch.allclose(outputs.logits, expected.logits, atol=40 * cosines)
    assert outputs.attention_maps is not None and expected.attention_maps is not None
    assert torch.allclose(outputs.attention_maps, expected.attention_maps, atol=maps)
    assert torch.allclose(outputs.spectra, expected.spectra, atol=0.01)


@pytest.mark.parametrize("engine", GRAPHS[:2])
def test_silence_is_heard_as_the_network_hears_it(eager, exported, engine):
    clips = torch.zeros(1, RATE)
    clips[:, : RATE // 4] = torch.from_numpy(machine_sound(220.0, 1001))[: RATE // 4]
    outputs = ExportedModel.from_exported(exported(engine))(clips)
    assert torch.allclose(outputs.spectra, eager_outputs(eager, clips).spectra, atol=0.01)


@pytest.mark.parametrize("engine", GRAPHS)
def test_graphs_own_scores_and_verdicts_are_the_detectors(exported, clips, engine):
    directory = exported(engine)
    runtime = ENGINES[engine].runtime
    files = [str(directory / name) for name in runtime.files]
    results = runtime.load(files, ["scores", "p_values", "is_anomalous"], 1, None)(clips.numpy())
    outputs = ClipOutputs.of(ExportedModel.from_exported(directory)(clips))
    detector = AnomalyDetector.from_pretrained(directory)
    for column, machine in enumerate(detector.machines):
        decisions = detector.decide(outputs, machine)
        assert results["scores"][:, column] == pytest.approx([decision.score for decision in decisions], rel=1e-3)
        assert results["p_values"][:, column] == pytest.approx([decision.p_value for decision in decisions], rel=0.05)
        assert results["is_anomalous"][:, column].tolist() == [d.verdict == "anomalous" for d in decisions]
    assert results["is_anomalous"][:2, 0].tolist() == [False, True]


def test_the_false_alarm_rate_is_an_optional_input_of_the_graph_in_onnx(exported, clips):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(exported("onnx") / "network.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["input_values"]
    assert [value.name for value in session.get_overridable_initializers()] == ["false_alarm_rate"]
    names = ["p_values", "is_anomalous"]
    p_values, default = session.run(names, {"input_values": clips.numpy()})
    assert np.array_equal(default, p_values <= np.float32(0.01))
    rate = np.float32(0.9)
    _, lenient = session.run(names, {"input_values": clips.numpy(), "false_alarm_rate": np.array(rate, np.float32)})
    assert lenient.all() and not default.all()


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_every_back_end_can_be_part_of_a_graph(eager, clips, tmp_path, backend):
    pytest.importorskip("onnxruntime")
    detector = eager.detector.with_backend(backend)
    write_onnx(Graph(eager.model, eager.feature_extractor, detector).eval(), RATE, tmp_path / "network.onnx")
    scores = load_onnx([str(tmp_path / "network.onnx")], ["scores"], 1)(clips.numpy())["scores"]
    outputs = eager_outputs(eager, clips)
    for column, machine in enumerate(detector.machines):
        expected = detector.scores(outputs, machine)
        assert scores[:, column] == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_export_carries_the_thresholds_and_says_what_it_changes(eager, exported, engine):
    directory = exported(engine)
    description = json.loads((directory / EXPORT_FILE).read_text())
    carried, detector = AnomalyDetector.from_pretrained(directory), eager.detector
    for machine in description["machines"]:
        assert machine["threshold"] == carried.threshold(machine["name"]) == detector.threshold(machine["name"])
    assert [machine["name"] for machine in description["machines"]] == detector.machines
    checks = description["checks"]
    assert checks["clips"] == 12 and checks["graph_verdicts_changed"] == (0 if engine in GRAPHS else None)
    assert checks["outputs"]["cosines"] < TOLERANCES[engine][0]
    assert checks["back_ends"][detector.backend]["auc"] == checks["back_ends"][detector.backend]["exported_auc"]


@pytest.mark.parametrize("engine", ["onnx", "openvino", "native-int16"])
def test_pipeline_gives_the_same_verdict_and_map_from_an_export(eager, exported, clips, engine):
    detect = load_pipeline(exported(engine))
    assert detect.network.engine == engine
    for recording in (*clips.numpy(), np.concatenate(list(clips.numpy()))):
        options = {"machine": "fan_id_00", "return_attention_maps": True}
        result, expected = detect(recording, **options), eager(recording, **options)
        assert (result["verdict"], result["reason"]) == (expected["verdict"], expected["reason"])
        assert result["score"] == pytest.approx(expected["score"], rel=1e-3)
        assert result["attention_start_s"] == expected["attention_start_s"]
        for name, attention_map in expected["attention_maps"].items():
            assert np.allclose(result["attention_maps"][name], attention_map, atol=TOLERANCES[engine][1])


def test_an_export_runs_pytorch_or_its_own_engine_and_no_other(exported, clips):
    directory = exported("onnx")
    assert isinstance(load_pipeline(directory, engine="torch").network(clips), AttentionAsdOutput)
    assert isinstance(load_pipeline(directory, engine="onnx").network(clips), ExportedOutput)
    with pytest.raises(ValueError, match="was exported for 'onnx'.*--engine openvino"):
        load_pipeline(directory, engine="openvino")


@pytest.mark.parametrize("load", [load_pipeline, load_by_parts], ids=["load_pipeline", "the class"])
def test_asking_for_an_engine_without_an_export_is_an_error(eager, tmp_path, load):
    eager.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="was not exported.*scripts/export.py --engine onnx"):
        load(tmp_path, engine="onnx")


@pytest.mark.slow
def test_an_export_runs_its_engine_with_the_code_that_it_brings(exported, warm_python, tmp_path):
    script = tmp_path / "detect.py"
    script.write_text(DETECT)
    for engine in ("onnx", "native-int8"):
        folders = [exported(engine), tmp_path / engine, tmp_path / f"copy of {engine}"]
        process = warm_python.start([str(script), *map(str, folders)], tmp_path)
        stdout, stderr = process.communicate(timeout=300)
        # Noise is like no machine. A copy of the export is an export.
        assert stdout.splitlines() == [
            f"{engine} cannot tell",
            "torch cannot tell",
            f"{engine} cannot tell",
        ], stderr
        # What is saved from an export that runs on PyTorch is a plain model again.
        saved = json.loads((tmp_path / engine / "config.json").read_text())
        assert saved["custom_pipelines"] == AttentionAsdConfig().custom_pipelines


def test_a_model_directory_has_no_code_of_the_engines_and_an_export_has_it_all(eager, exported, tmp_path):
    eager.save_pretrained(tmp_path)
    plain, full = ({path.name for path in folder.glob("*.py")} for folder in (tmp_path, exported("onnx")))
    own = {path.name for path in SOURCE_FILE.parent.glob("*_attention_asd.py")}
    assert plain.isdisjoint(own) and full == plain | own


@pytest.mark.parametrize(
    "engine, package, extra", [("onnx", "onnxruntime", "onnx"), ("openvino", "openvino", "openvino")]
)
def test_missing_engine_names_the_extra_to_install(exported, monkeypatch, engine, package, extra):
    directory = exported(engine)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}, or this project's extra '{extra}'"):
        ExportedModel.from_exported(directory)


def test_export_without_its_graph_or_of_another_version_is_an_error(exported, tmp_path):
    description = json.loads((exported("onnx") / EXPORT_FILE).read_text())
    (tmp_path / EXPORT_FILE).write_text(json.dumps(description))
    with pytest.raises(OSError, match="network.onnx"):
        ExportedModel.from_exported(tmp_path)
    shutil.copy(exported("onnx") / "network.onnx", tmp_path)
    (tmp_path / EXPORT_FILE).write_text(json.dumps({**description, "format_version": FORMAT_VERSION - 1}))
    with pytest.raises(ValueError, match="another version.*Export the model again"):
        ExportedModel.from_exported(tmp_path)


@pytest.mark.parametrize("engine", ["onnx", "openvino", "native-int8"])
def test_an_export_with_a_file_that_is_damaged_or_of_another_export_is_an_error_that_names_it(
    exported, engine, tmp_path
):
    files = [EXPORT_FILE, *RUNTIMES[engine].files]
    for name in files[1:]:
        shutil.copytree(exported(engine), tmp_path, dirs_exist_ok=True)
        whole = (tmp_path / name).read_bytes()
        for content in (b"", whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1])):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=f"{name}: not the file that export.json was written with"):
                ExportedModel.from_exported(tmp_path)


def test_an_export_beside_weights_that_were_trained_anew_is_refused(exported, eager, tmp_path):
    shutil.copytree(exported("onnx"), tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["arcface.weight"] += 1.0
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="export.json is of other weights.*scripts/export.py"):
        ExportedModel.from_exported(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_length": 2**31},
        {"clip_length": "long"},
        {"scale": float("nan")},
        {"scale": 10**400},
        {"outputs": None},
        {"outputs": ["embeddings"]},
        {"engine": ["onnx"]},
        {"sha256": []},
    ],
)
def test_an_impossible_entry_of_an_export_is_an_error_that_names_the_file(exported, tmp_path, changes):
    shutil.copytree(exported("onnx"), tmp_path, dirs_exist_ok=True)
    description = json.loads((tmp_path / EXPORT_FILE).read_text())
    (tmp_path / EXPORT_FILE).write_text(json.dumps({**description, **changes}))
    with pytest.raises(ValueError, match=f"(?s){EXPORT_FILE}.*scripts/export.py"):
        ExportedModel.from_exported(tmp_path)


@pytest.mark.parametrize("engine, package", [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_graph_that_its_engine_cannot_read_or_run_is_a_value_error_that_names_it(engine, package, tmp_path):
    pytest.importorskip(package)
    files = [tmp_path / name for name in RUNTIMES[engine].files]
    for file in files:
        file.write_bytes(b"no graph at all")
    with pytest.raises(ValueError, match=f"{files[0].name}: the engine cannot run it.*scripts/export.py"):
        RUNTIMES[engine].load([str(file) for file in files], ["embeddings"], 1, None)


def test_a_damaged_onnx_graph_runs_or_is_refused_by_name(exported, clips, tmp_path):
    pytest.importorskip("onnx")
    directory, outcomes = exported("onnx"), set()
    description, file = json.loads((directory / EXPORT_FILE).read_text()), tmp_path / "network.onnx"
    for case in range(40):
        file.write_bytes(damaged_onnx((directory / file.name).read_bytes(), generator_of(case)))
        try:
            ExportedModel("onnx", description, [str(file)])(clips)
            outcomes.add("ran")
        except ValueError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"ran", "refused"}


def test_a_detector_without_spectra_is_exported(eager, sounds, clips, tmp_path):
    pytest.importorskip("onnxruntime")
    outputs = eager_outputs(eager, clips.repeat(4, 1))
    names, is_held_out = ["fan_id_00", "fan_id_00", "pump_id_00"] * 4, np.arange(12) % 2 == 0
    without_spectra = ClipOutputs(outputs.embeddings, outputs.cosines)
    detector = AnomalyDetector.fit(eager.model.config, without_spectra, names, is_held_out)
    eager.save_pretrained(tmp_path / "model")
    detector.save_pretrained(tmp_path / "model")
    run_export(tmp_path / "model", tmp_path / "out", "onnx", sounds)
    checks = json.loads((tmp_path / "out" / EXPORT_FILE).read_text())["checks"]
    assert checks["back_ends"].keys() == {"arcface", "gmm"}


def test_waveforms_of_another_length_are_an_error_that_says_what_is_expected(exported, clips):
    network = ExportedModel.from_exported(exported("onnx"))
    with pytest.raises(ValueError, match=r"\(3, 100\).*\(batch_size, 16000\)"):
        network(clips[:, :100])


def test_an_unfinished_export_leaves_the_one_before(eager, exported, sounds, tmp_path, monkeypatch):
    shutil.copytree(exported("onnx"), tmp_path, dirs_exist_ok=True)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}

    def write(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("engines.table.write_onnx", write)
    with pytest.raises(OSError, match="disk full"):
        run_export(exported("onnx"), tmp_path, "onnx", sounds)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


@pytest.mark.parametrize(
    "changed, exported_auc, said",
    [
        (0, 0.8, None),
        (0, 0.8019, None),
        (2, 0.8, "2 of 9 verdicts"),
        (0, 0.79, "from 0.8000 to 0.7900"),
        (0, None, None),
    ],
)
def test_export_says_so_where_its_verdicts_or_its_auc_are_others(changed, exported_auc, said):
    auc = None if exported_auc is None else 0.8
    row = {"verdicts_changed": changed, "auc": auc, "exported_auc": exported_auc}
    caution = what_to_mind({"clips": 9, "back_ends": {"knn": row}}, "knn")
    assert caution is None if said is None else said in caution
