"""Windows and macOS: what they refuse, refused here. Nothing of this replaces a run on them, see `as_on_windows.py`."""

import ast
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch.utils._python_dispatch import TorchDispatchMode

from engines import native_attention_asd
from scripts.build_space import link_code
from training.hub import code_files, files_in


DEMO_MODEL = ROOT / "space" / "demo_model"
# What users run. The research of this project is for Linux.
PRODUCT = (
    "attention_asd dcase2020_task2 engines evaluation examples feature_extraction machine_room metrics modeling scoring "
    "scripts space training"
).split()


@pytest.fixture
def run_as_on_windows(warm_python):
    """A function that runs a script of the repository in a process that refuses what Windows refuses."""

    def run(script: str, *arguments: object, ends_with: int = 0) -> str:
        command = [str(ROOT / "tests" / "as_on_windows.py"), script, *map(str, arguments)]
        process = warm_python.start(command, ROOT)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == ends_with, stderr
        return stdout + stderr

    return run


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="makes Linux refuse what Windows refuses")
def test_training_resuming_enrolling_and_scoring_do_nothing_that_windows_refuses(
    sound_folder, run_as_on_windows, tmp_path
):
    sounds, out = sound_folder(train=4, test=1), tmp_path / "out"
    settings = ["--data_dir", sounds, "--output_dir", out, "--clip_seconds", 1, "--num_train_epochs", 1]
    settings += ["--per_device_train_batch_size", 4, "--validation_fraction", 0.25, "--checkpointing_steps", 1]
    run_as_on_windows("train.py", *settings)
    # Of the checkpoints one stays: the other goes while its tensors are those of the optimizer.
    last, before = sorted((out / "checkpoints").glob("step_*"), reverse=True)
    run_as_on_windows("train.py", *settings, "--save_total_limit", 1, "--resume_from_checkpoint", before)
    assert last.exists() and not before.exists() and (out / "evaluation" / "scores.csv").is_file()
    # The model is saved into the directory that it was loaded from.
    clips = sounds / "pump" / "train"
    run_as_on_windows("scripts/enroll.py", "pump_id_07", clips, "--model", out, "--output_dir", out)
    rows = tmp_path / "rows.jsonl"
    run_as_on_windows("score.py", clips, "--model", out, "--machine", "pump_id_07", "--output", rows)
    judged = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert [row.get("error") for row in judged] == [None] * 8


def test_every_text_file_is_opened_with_its_encoding():
    # Ruff's PLW1514 sees only the paths whose type it can tell.
    files = [file for room in PRODUCT for file in (ROOT / room).rglob("*.py") if DEMO_MODEL not in file.parents]
    without = [
        f"{file}:{call.lineno}"
        for file in [*files, *ROOT.glob("*.py")]
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr in ("read_text", "write_text")
        if not any(keyword.arg == "encoding" for keyword in call.keywords)
    ]
    assert len(files) > 100 and without == []


# A clone without links: git writes a link's target into a text file where it may make no links.


@pytest.fixture
def linkless(tmp_path) -> Path:
    folder = tmp_path / "space"
    shutil.copytree(DEMO_MODEL, folder / "demo_model", ignore=shutil.ignore_patterns("*.py"))
    for name, file in code_files().items():
        (folder / "demo_model" / name).write_text(f"../../{file.parent.name}/{name}", encoding="utf-8")
    return folder


def test_in_a_clone_without_links_the_app_and_a_push_say_what_to_do(linkless, warm_python):
    with pytest.raises(ValueError, match=r"holds the name of a file instead of code.*python scripts/build_space.py"):
        files_in(linkless)
    shutil.copy(ROOT / "space" / "settings.py", linkless)
    process = warm_python.start(["-c", "import settings"], linkless)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.strip().endswith("run python scripts/build_space.py, which copies the code.")


def test_where_no_links_can_be_made_the_code_is_copied(linkless, monkeypatch):
    def refuse(*_):
        raise OSError(22, "[WinError 1314] a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    link_code(linkless / "demo_model")
    assert {file.name: file.read_bytes() for file in (linkless / "demo_model").glob("*.py")} == {
        name: file.read_bytes() for name, file in code_files().items()
    }


# Processors


@pytest.mark.parametrize("system, machine", [("nt", "AMD64"), ("posix", "arm64")])
def test_the_compiled_engine_refuses_other_systems_with_a_sentence(system, machine, monkeypatch):
    monkeypatch.setattr(native_attention_asd, "os", type("os", (), {"name": system}))
    monkeypatch.setattr(native_attention_asd.platform, "machine", lambda: machine)
    with pytest.raises(ImportError, match="export the model for openvino or onnx"):
        native_attention_asd.check_system()


class WithoutFloat64(TorchDispatchMode):
    """PyTorch without what Apple's GPUs lack."""

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        result = operation(*arguments, **(named or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            assert not isinstance(value, torch.Tensor) or value.dtype != torch.float64, operation
        return result


def test_nothing_that_runs_on_an_accelerator_needs_float64(small_model, small_extractor, noise):
    model, waveforms = small_model().train(), noise(3)
    with WithoutFloat64():
        features = small_extractor.log_mel(waveforms)
        model(input_values=waveforms, input_features=features, labels=torch.tensor([0, 1, 2])).loss.backward()
        model.eval()(input_values=waveforms, input_features=features)
