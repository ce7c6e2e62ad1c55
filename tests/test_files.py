"""A model's files: never mixed, never half written, whole in every copy, and nothing in them believed unchecked."""

import copy
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from small_detector import machine_sound, small_pipeline

from engines import load_pipeline
from modeling import AnomalousSoundDetectionPipeline, AnomalyDetector, AttentionAsdModel


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


@pytest.fixture
def saved(first, tmp_path):
    first.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


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
