"""The pages: their commands have the options that they name, their Python examples run, and their links lead somewhere."""

import argparse
import ast
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import ROOT, write_sounds
from small_detector import RATE, machine_sound, small_pipeline
from transformers import HfArgumentParser


PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") or part in ("runs", "saved_models") for part in page.relative_to(ROOT).parts)
]


def blocks(page: Path, *languages: str) -> list[str]:
    """The blocks of code of a page in some languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


# Commands


def commands(page: Path) -> list[list[str]]:
    """The calls of this project's programs on a page, each a script or `-m` and a module, and its arguments."""
    found = []
    for block in blocks(page, "bash", ""):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = ["0" if word.startswith("$") else word for word in lexer]
            while "python" in words or "launch" in words:
                start = next(index for index, word in enumerate(words) if word in ("python", "launch")) + 1
                end = next((i for i in range(start, len(words)) if words[i] in ("&&", "|", "||", ";")), len(words))
                call, words = words[start:end], words[end:]
                # What accelerate takes for itself stands before the script.
                while call[0].startswith("--"):
                    del call[:2]
                found.append(call)
    return found


class Parsed(BaseException):
    """A program has understood its arguments. No handler of exceptions catches this one."""


PARSERS = [
    (argparse.ArgumentParser, "parse_args"),
    (argparse.ArgumentParser, "parse_known_args"),
    (HfArgumentParser, "parse_args_into_dataclasses"),
]


@pytest.fixture
def parsers_stop(monkeypatch):
    """Every parser of arguments ends its program by [`Parsed`], where it found no mistake."""
    inside = []

    def stopping(parse):
        def stop(*arguments, **named):
            # One method calls another, and a command's parser that of its subcommand.
            if inside:
                return parse(*arguments, **named)
            inside.append(parse)
            parse(*arguments, **named)
            raise Parsed

        return stop

    for parser_class, name in PARSERS:
        monkeypatch.setattr(parser_class, name, stopping(getattr(parser_class, name)))


CALLS = [(page, call) for page in PAGES for call in commands(page) if "space/app.py" not in call and "pip" not in call]


@pytest.mark.parametrize(
    "page, call", CALLS, ids=[f"{page.relative_to(ROOT)}: {' '.join(call[:3])}" for page, call in CALLS]
)
def test_a_program_understands_the_arguments_that_a_page_gives_it(page, call, parsers_stop, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    program, *arguments = call[1:] if call[0] == "-m" else call
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    try:
        if call[0] == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(ROOT / program), run_name="__main__")
    except Parsed:
        return
    except SystemExit as end:
        assert end.code == 0 and "--help" in arguments, capsys.readouterr().err
        return
    raise AssertionError("the program parsed no arguments")


# Python examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder in which the examples find a model and the recordings that they name."""
    folder = tmp_path_factory.mktemp("pages")
    small_pipeline().save_pretrained(folder / "runs" / "demo")
    room = folder / "runs" / "demo" / "machine_room" / "fan" / "test"
    room.mkdir(parents=True)
    names = ["monday", "tuesday", "wednesday", "thursday"]
    sounds = {f"{name}.wav": machine_sound(950.0, index) for index, name in enumerate(names)}
    sounds["runs/demo/machine_room/fan/test/normal_id_00_00000000.wav"] = machine_sound(220.0, 600)
    sounds["runs/demo/machine_room/fan/test/anomaly_id_00_00000000.wav"] = machine_sound(220.0, 600, hiss=0.1)
    for name, sound in sounds.items():
        soundfile.write(folder / name, sound, RATE)
    return folder


def test_the_examples_of_the_readme_and_the_guides_run_without_this_project(folder, warm_python):
    codes = [
        code for name in ("README.md", "docs/judge.md", "docs/enroll.md") for code in blocks(ROOT / name, "python")
    ]
    assert len(codes) == 4
    end = "\nimport sys; assert not {'modeling', 'feature_extraction', 'engines', 'training'} & sys.modules.keys()"
    process = warm_python.start(["-c", "\n".join(codes) + end], folder, PYTHONPATH=None)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert stdout.count("anomalous ") == 2 and (folder / "runs" / "with_pump_7" / "scoring.safetensors").is_file()


def test_the_examples_of_the_rooms_give_what_their_pages_say(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    metric = blocks(ROOT / "metrics" / "asd_auc" / "README.md", "python")[0]
    names: dict = {}
    exec(metric, names)
    said = [line.split("  # ") for line in metric.splitlines() if line.startswith("results[")]
    assert len(said) == 3
    for expression, value in said:
        assert eval(expression, names) == pytest.approx(ast.literal_eval(value.strip()))  # noqa: S307  # of this repository

    monkeypatch.chdir(tmp_path)
    write_sounds(tmp_path / "DIR", train=1, test=1)
    (clips,) = blocks(ROOT / "dcase2020_task2" / "README.md", "python")
    exec(re.sub(r"^.*name=.*$", "", clips, flags=re.MULTILINE), names := {})  # the published set is not fetched
    shown = ast.literal_eval("".join(re.findall(r"^# (.*)$", clips, re.MULTILINE)))
    assert names["clips"]["train"][0].keys() == shown.keys()

    (room,) = blocks(ROOT / "machine_room" / "README.md", "python")
    exec(room.replace("ids_per_type=3", "ids_per_type=1, train_clips=0, test_normal_clips=1"), names := {})
    assert names["fault_alone"].any() and names["truth"]["fault"] == "leak"


# Links


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_links_of_a_page_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s{]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
            assert heading in anchors, f"{page}: {target}"
