"""A model's files: never mixed, never half written, whole in every copy, and nothing in them believed unchecked."""

import copy
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from saved_models.make import answers
from small_detector import machine_sound, small_pipeline

from engines import load_pipeline
from evaluation.loading import load_model
from modeling import AnomalousSoundDetectionPipeline, AnomalyDetector, AttentionAsdModel
from modeling.detector_files_attention_asd import FORMAT_VERSION
from modeling.digests_attention_asd import file_digest


FIT_ANEW = "scripts/fit_detector.py --model MODEL --data_dir DIR"


@pytest.fixture(scope="module")
def first():
    return small_pipeline(clips=12)


@pytest.fixture(scope="module")
def second(first):
    """A pipeline of the same sizes: other weights, and one machine more."""
    model = copy.deepcopy(first.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    made = AnomalousSoundDetectionPipeline(
        model=model,
        feature_extractor=first.feature_extractor,
        detector=first.detector.with_backend("arcface"),
        device="cpu",
    )
    made.enroll("press", [machine_sound(900.0, 1), machine_sound(900.0, 2)])
    return made


@pytest.fixture(scope="module")
def saved_once(first, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    first.save_pretrained(folder)
    return folder


@pytest.fixture
def saved(saved_once, tmp_path):
    """The directory of the first pipeline, to be damaged."""
    return Path(shutil.copytree(saved_once, tmp_path / "saved"))


# Files that belong together


def events_of_a_save(save, directory: Path, killed_at: int | None) -> int:
    """Save in a process of its own, which is killed before it touches so many files of the directory.

    Returns:
        The number of files that it touched.
    """
    read, write = os.pipe()
    if pid := os.fork():
        os.close(write)
        with open(read) as touched:
            count = len(touched.read())
        os.waitpid(pid, 0)
        return count

    def touches(event, arguments):
        is_open = event == "open" and isinstance(arguments[0], (str, Path)) and (arguments[2] or 0) & os.O_ACCMODE
        place = arguments[0] if is_open else arguments[1] if event == "os.rename" else ""
        if Path(place).parent != directory:
            return
        if killed_at is not None and touches.count == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        touches.count += 1
        os.write(write, b".")

    touches.count = 0
    sys.addaudithook(touches)
    save(directory)
    os._exit(0)


def test_a_save_over_another_model_that_is_killed_leaves_one_of_them_or_is_refused(first, second, saved, tmp_path):
    clip = machine_sound(220.0, 1000)
    answers = [pipe(clip, machine="fan_id_00", backend="arcface")["score"] for pipe in (first, second)]
    shutil.copytree(saved, tmp_path / "trial")
    events = events_of_a_save(second.save_pretrained, tmp_path / "trial", None)
    assert load_pipeline(tmp_path / "trial").detector.machines == second.detector.machines
    refused = 0
    for killed_at in [0, 1, *range(events - 7, events)]:
        shutil.rmtree(tmp_path / "trial")
        shutil.copytree(saved, tmp_path / "trial")
        events_of_a_save(second.save_pretrained, tmp_path / "trial", killed_at)
        try:
            loaded = load_pipeline(tmp_path / "trial", engine="torch")
        except ValueError as error:
            assert FIT_ANEW in str(error)
            refused += 1
            continue
        place = [first.detector.machines, second.detector.machines].index(loaded.detector.machines)
        assert loaded(clip, machine="fan_id_00", backend="arcface")["score"] == pytest.approx(answers[place], rel=1e-5)
    assert refused


def test_weights_trained_anew_beside_an_old_detector_are_refused_until_the_detector_is_fitted_anew(
    first, second, saved
):
    second.model.save_pretrained(saved)
    for load in (AnomalyDetector.from_pretrained, load_pipeline):
        with pytest.raises(ValueError, match=f"other weights.*cut off.*{FIT_ANEW}"):
            load(saved)
    inputs = first.feature_extractor([machine_sound(220.0, i) for i in range(6)], sampling_rate=16_000)
    with torch.no_grad():
        outputs = second.model(**inputs)
    AnomalyDetector.fit(second.model.config, outputs, ["fan_id_00"] * 6).save_pretrained(saved)
    assert load_pipeline(saved).detector.machines == ["fan_id_00"]


def test_tensors_of_one_detector_beside_the_names_of_another_are_refused(first, second, saved, tmp_path):
    second.detector.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "scoring.safetensors", saved)
    with pytest.raises(ValueError, match=f"of two detectors, or one was cut off.*{FIT_ANEW}"):
        AnomalyDetector.from_pretrained(saved)


def test_half_a_detector_is_an_error_and_no_model_without_one(saved):
    (saved / "scoring.safetensors").unlink()
    with pytest.raises(OSError, match=r"scoring\.safetensors"):
        load_model(saved)
    (saved / "scoring_config.json").unlink()
    assert load_model(saved).detector is None


def test_a_copy_in_shards_or_in_half_precision_keeps_its_detector(first, saved, tmp_path):
    model = AttentionAsdModel.from_pretrained(saved)
    detector = AnomalyDetector.from_pretrained(saved)
    model.save_pretrained(tmp_path / "plain")
    detector.save_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "plain", max_shard_size="30KB")
    assert not (tmp_path / "plain" / "model.safetensors").exists()
    assert AnomalyDetector.from_pretrained(tmp_path / "plain").machines == detector.machines
    half = AnomalousSoundDetectionPipeline(
        model=AttentionAsdModel.from_pretrained(saved, dtype=torch.bfloat16),
        feature_extractor=first.feature_extractor,
        detector=detector,
        device="cpu",
    )
    half.save_pretrained(tmp_path / "half")
    assert load_pipeline(tmp_path / "half").detector.machines == detector.machines


def test_a_save_replaces_links_and_leaves_what_they_lead_to(first, second, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "kept")
    links = tmp_path / "links"
    links.mkdir()
    before = {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()}
    for name in before:
        (links / name).symlink_to(tmp_path / "kept" / name)
    second.save_pretrained(links)
    assert {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()} == before
    assert not any(file.is_symlink() for file in links.iterdir())
    assert load_pipeline(links).detector.machines == second.detector.machines


# Copies of copies

LOAD_AND_SAVE = """
import sys
import time
from transformers import AutoFeatureExtractor, AutoModel, Trainer, TrainingArguments, pipeline

how, source, target = sys.argv[1:]
if how == "pipeline":
    pipeline("anomalous-sound-detection", model=source, trust_remote_code=True).save_pretrained(target)
else:
    model = AutoModel.from_pretrained(source, trust_remote_code=True)
    extractor = AutoFeatureExtractor.from_pretrained(source, trust_remote_code=True)
    if how == "trainer":
        arguments = TrainingArguments(output_dir=target, report_to=[], use_cpu=True)
        Trainer(model, arguments, processing_class=extractor).save_model()
    else:
        model.save_pretrained(target)
        extractor.save_pretrained(target)
assert not {"modeling", "engines", "feature_extraction"} & sys.modules.keys()
"""
JUDGE = """
import sys
import time
from transformers import pipeline

detect = pipeline("anomalous-sound-detection", model=sys.argv[1], trust_remote_code=True)
print(getattr(detect.network, "engine", "torch"), detect(sys.argv[2], machine="fan_id_00")["score"])
"""


@pytest.fixture
def python(warm_python, tmp_path):
    """A function that runs code in a fresh process, where this project is not installed and nothing is cached."""

    def run(code: str, *arguments: object) -> str:
        command = ["-c", code, *map(str, arguments)]
        stdout, stderr = warm_python.start(command, tmp_path, PYTHONPATH=None).communicate(timeout=300)
        assert "Traceback" not in stderr, stderr
        return stdout

    return run


@pytest.mark.parametrize("how", ["auto classes", "trainer", "pipeline"])
def test_a_saved_copy_of_a_loaded_copy_of_a_loaded_copy_is_whole(
    how, first, saved, sound_folder, python, run_script, tmp_path
):
    folder = sound_folder(train=4, test=0)
    clip = next(folder.rglob("*id_00*.wav"))
    copies = [saved, tmp_path / "copy", tmp_path / "copy of the copy"]
    for source, target in zip(copies, copies[1:], strict=False):
        python(LOAD_AND_SAVE, how, source, target)
    code = {file.name for file in saved.glob("*.py")}
    assert {file.name for file in copies[-1].glob("*.py")} == code and "pipeline_attention_asd.py" in code
    if how != "pipeline":
        # These ways save no detector.
        done = run_script("scripts/fit_detector.py", "--model", copies[-1], "--data_dir", folder)
        assert done.returncode == 0, done.stderr
    expected = load_pipeline(copies[-1])(str(clip), machine="fan_id_00")["score"]
    engine, score = python(JUDGE, copies[-1], clip).split()
    assert engine == "torch" and float(score) == pytest.approx(expected)


# Damaged and hostile files


def damage_text(path: Path, changes: dict[str, object]) -> None:
    """Change entries of a JSON file; `a.b` is the entry b of the object a, `a.0` the first of the list a."""
    content = json.loads(path.read_text())
    for places, value in changes.items():
        *parents, last = places.split(".")
        inner = content
        for place in parents:
            inner = inner[int(place) if isinstance(inner, list) else place]
        inner[last] = value
    path.write_text(json.dumps(content))


def damage_tensors(directory: Path, change) -> None:
    """Change the detector's tensors, and the digest that names them: what a stranger can do."""
    tensors = load_file(directory / "scoring.safetensors")
    change(tensors)
    save_file(tensors, directory / "scoring.safetensors")
    damage_text(directory / "scoring_config.json", {"sha256.tensors": file_digest(directory / "scoring.safetensors")})


NOT_JSON = ["", "{", "[]", "3", "null", "[" * 100_000, "\udcff"]


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "scoring_config.json", "export.json"])
def test_a_file_that_is_no_json_object_is_an_error_that_names_it(saved, name):
    for text in NOT_JSON:
        (saved / name).write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises((OSError, ValueError), match=f"(?s){name}"):
            load_pipeline(saved)


@pytest.mark.parametrize(
    "name, changes",
    [
        ("config.json", {"clip_length": "long"}),
        ("config.json", {"clip_length": None}),
        ("config.json", {"hop_length": 0}),
        ("config.json", {"num_mel_bins": 2**31}),
        ("config.json", {"id2label": None, "label2id": None, "num_labels": 10**9}),
        ("config.json", {"id2label": [1]}),
        ("config.json", {"bottlenecks": [[1, 16, 10**9, 2]]}),
        ("config.json", {"bottlenecks": [[64, 8192, 64, 1]] * 64}),
        ("config.json", {"stem_channels": 2**13, "clip_length": 2**24, "hop_length": 1}),
        ("config.json", {"attention_channels": [10**9]}),
        ("config.json", {"scale": float("nan")}),
        ("config.json", {"dtype": "no type"}),
        ("config.json", {"auto_map": 3}),
        ("config.json", {"custom_pipelines": 3}),
        ("config.json", {"custom_pipelines.anomalous-sound-detection.pt": None}),
        ("preprocessor_config.json", {"n_fft": 2**31}),
        ("preprocessor_config.json", {"n_fft": 2**16, "num_mel_bins": 2**12, "clip_length": 2**24}),
        ("preprocessor_config.json", {"hop_length": 0}),
        ("preprocessor_config.json", {"mel_floor": 0}),
        ("preprocessor_config.json", {"max_frequency": float("nan")}),
        ("preprocessor_config.json", {"mel_norm": 4}),
        ("preprocessor_config.json", {"sampling_rate": 22_050}),
        ("scoring_config.json", {"num_frames": "many"}),
        ("scoring_config.json", {"false_alarm_rate": 7}),
        ("scoring_config.json", {"backend": "magic"}),
        ("scoring_config.json", {"arcface.scale": float("nan")}),
        ("scoring_config.json", {"arcface": {}}),
        ("scoring_config.json", {"machines": {}}),
        ("scoring_config.json", {"machines": [1]}),
        ("scoring_config.json", {"machines.0.name": ["fan"]}),
        ("scoring_config.json", {"machines.0.spectrum.clips": -3}),
        ("scoring_config.json", {"machines.0.level.lowest": 1e300}),
        ("scoring_config.json", {"fitted.spectrum.variance": -1.0}),
        ("scoring_config.json", {"fitted.spectrum.degrees": None}),
        ("scoring_config.json", {"sha256": None}),
    ],
)
def test_an_impossible_value_is_an_error_that_names_its_file_at_once(saved, name, changes):
    damage_text(saved / name, changes)
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"(?s){name}"):
        load_pipeline(saved)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("spectra.center"),
        lambda tensors: tensors.pop("machines.0.centroid"),
        lambda tensors: tensors.update({"machines.1.centroid": torch.zeros(3)}),
        lambda tensors: tensors.update({"machines.1.mixture.means": torch.zeros(7, 16)}),
        lambda tensors: tensors.update({"spectra.matrix": torch.zeros(5)}),
        lambda tensors: tensors.update({"machines.0.mean": tensors["machines.0.mean"] * torch.nan}),
        lambda tensors: tensors.update({"spectra.variances": -tensors["spectra.variances"]}),
        lambda tensors: tensors.update({"machines.0.mixture.variances": 0 * tensors["machines.0.mixture.variances"]}),
        lambda tensors: tensors.update({"machines.2.level": tensors["machines.2.level"].long()}),
    ],
)
def test_impossible_tensors_of_a_detector_are_an_error_that_names_their_file(saved, change):
    damage_tensors(saved, change)
    with pytest.raises(ValueError, match=f"scoring.safetensors cannot be read.*{FIT_ANEW}"):
        load_pipeline(saved)


@pytest.mark.parametrize("keep", [0, 7, 5000, -1])
def test_weights_that_were_cut_off_are_an_error_that_names_them(saved, keep):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        load_pipeline(saved)


# Old and new

SAVED_MODELS = sorted((Path(__file__).parent / "saved_models").glob("format_*"), key=lambda path: int(path.name[7:]))


def test_a_model_that_this_format_was_saved_in_gives_the_answers_that_it_gave_then():
    folder = SAVED_MODELS[-1]
    assert folder.name == f"format_{FORMAT_VERSION}", (
        "a new format: run tests/saved_models/make.py and commit its folder"
    )
    expected = json.loads((folder / "answers.json").read_text())
    given = answers(load_pipeline(folder))
    assert [(one["machine"], one["verdict"]) for one in given] == [(one["machine"], one["verdict"]) for one in expected]
    assert [one["score"] for one in given] == pytest.approx([one["score"] for one in expected], rel=1e-3)


@pytest.mark.parametrize("folder", SAVED_MODELS[:-1], ids=lambda folder: folder.name)
def test_a_model_of_an_earlier_format_is_refused_with_the_command_that_mends_it(folder):
    number = folder.name.removeprefix("format_")
    with pytest.raises(ValueError, match=f"format version {number}, this code reads version.*{FIT_ANEW}"):
        load_pipeline(folder)
    # The network itself has not changed.
    assert AttentionAsdModel.from_pretrained(folder).config.num_labels == 2
