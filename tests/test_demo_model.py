"""space/demo_model: its code is links in a clone, and real files wherever a model is saved or pushed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_detector import small_pipeline
from transformers import pipeline

from modeling import AnomalousSoundDetectionPipeline
from scripts.build_space import link_code
from training.hub import code_files, model_files


ROOT = Path(__file__).resolve().parents[1]
DEMO_MODEL, EXAMPLES = ROOT / "space" / "demo_model", ROOT / "space" / "examples"
TASK = "anomalous-sound-detection"
make_pipeline: Any = pipeline  # its types know no task that comes with a model


@pytest.fixture(scope="module")
def small() -> AnomalousSoundDetectionPipeline:
    return small_pipeline()


@pytest.fixture(scope="module")
def saved(small, tmp_path_factory) -> Path:
    """A model directory that the pipeline wrote."""
    folder = tmp_path_factory.mktemp("saved")
    small.save_pretrained(folder)
    return folder


# The links


def test_the_links_are_exactly_the_code_that_a_saved_model_has(saved):
    code = {file.name: file for file in DEMO_MODEL.glob("*.py")}
    assert code.keys() == {file.name for file in saved.glob("*.py")}, "run python scripts/build_space.py"
    assert {name: link.resolve() for name, link in code.items()} == code_files()
    assert all(link.is_symlink() and not link.readlink().is_absolute() for link in code.values())
    assert {file.name for file in DEMO_MODEL.iterdir() if file.is_symlink()} == code.keys()


def test_linking_replaces_old_code_and_keeps_everything_else(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "model")
    (folder / "gone_attention_asd.py").symlink_to("../nowhere.py")
    link_code(folder)
    assert {file.name: file.resolve() for file in folder.glob("*.py")} == code_files()
    assert {file.name for file in folder.iterdir()} == {file.name for file in saved.iterdir()}


LOAD = """
import json, sys
from transformers import pipeline

detect = pipeline("anomalous-sound-detection", model=sys.argv[1], trust_remote_code=True)
assert type(detect).__module__.startswith("transformers_modules."), type(detect).__module__
machines = {"fan": "synthetic_fan_04", "pump": "synthetic_pump_00", "conveyor": "synthetic_conveyor_02"}
named = {path: machines[path.split("/")[-1].split("_")[0]] for path in sys.argv[2:]}
print(json.dumps([detect(path, machine=machine)["verdict"] for path, machine in named.items()]))
print(json.dumps([detect(path)["verdict"] for path in named]))
"""


@pytest.mark.parametrize("place", ["elsewhere", "in the clone"])
def test_a_fresh_process_judges_the_examples_as_their_names_say(place, warm_python, tmp_path):
    examples = sorted(EXAMPLES.iterdir())
    folder, model = (ROOT, DEMO_MODEL.relative_to(ROOT)) if place == "in the clone" else (tmp_path, DEMO_MODEL)
    process = warm_python.start(["-c", LOAD, str(model), *map(str, examples)], folder)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    verdicts, unnamed = map(json.loads, stdout.splitlines()[-2:])
    assert len(verdicts) == 7
    assert verdicts == ["normal" if "normal" in path.name else "anomalous" for path in examples]
    # Without a machine named nothing is an alarm.
    assert unnamed == ["normal" if "normal" in path.name else "cannot tell" for path in examples]


# Saving and pushing


def save_pipeline(detect: AnomalousSoundDetectionPipeline, folder: Path) -> None:
    detect.save_pretrained(folder)


def save_model_first(detect: AnomalousSoundDetectionPipeline, folder: Path) -> None:
    detect.model.save_pretrained(folder)
    detect.feature_extractor.save_pretrained(folder)


def save_feature_extractor_first(detect: AnomalousSoundDetectionPipeline, folder: Path) -> None:
    detect.feature_extractor.save_pretrained(folder)
    detect.model.save_pretrained(folder)


@pytest.fixture
def linked_model(tmp_path) -> Path:
    """A model directory of another clone, whose code differs from this one's by a last line."""
    clone = tmp_path / "clone"
    for file in code_files().values():
        copy = clone / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text() + "# of the clone\n")
    return shutil.copytree(DEMO_MODEL, clone / "space" / "demo_model", symlinks=True)


@pytest.mark.parametrize("loaded", ["from this clone", "from a model directory"])
@pytest.mark.parametrize("save", [save_pipeline, save_model_first, save_feature_extractor_first])
def test_saving_into_linked_code_writes_files_and_leaves_what_they_linked_to(save, loaded, small, saved, linked_model):
    if loaded == "from a model directory":
        small = make_pipeline(TASK, model=str(saved), trust_remote_code=True)
    targets = {link.name: link.resolve() for link in linked_model.iterdir() if link.is_symlink()}
    assert targets.keys() == code_files().keys()
    save(small, linked_model)
    for name, target in targets.items():
        assert target.read_text().endswith("# of the clone\n"), name
        written = linked_model / name
        # A model and a feature extractor of a model directory know only the code that they import.
        if not written.is_symlink():
            assert written.read_bytes() == (saved / name).read_bytes(), name
    kept = {name for name in targets if (linked_model / name).is_symlink()}
    assert kept == set() or (loaded == "from a model directory" and save is not save_pipeline)
    assert not list(linked_model.glob("*.part"))


def test_a_link_that_leads_nowhere_is_named_before_anything_is_pushed(linked_model):
    link = linked_model / "modeling_attention_asd.py"
    link.resolve().unlink()
    with pytest.raises(ValueError, match=rf"{link}: is a link to .*scripts/build_space.py"):
        model_files(linked_model)
