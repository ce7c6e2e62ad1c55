"""The model's code in its reader's environment: old versions of transformers load it and get the same numbers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
# Each file that transformers loads by itself.
ENTRIES = [
    "modeling/configuration_attention_asd.py",
    "modeling/modeling_attention_asd.py",
    "modeling/pipeline_attention_asd.py",
    "feature_extraction/feature_extraction_attention_asd.py",
]


def named_siblings(path: Path) -> set[str]:
    """The siblings that a file names, as transformers finds them: line by line, in a text too."""
    return set(re.findall(r"^\s*from\s+\.(\w+)\s+import", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_file_that_transformers_loads_names_every_sibling_that_the_file_needs(entry):
    path = ROOT / entry
    needed, new = set(), named_siblings(path)
    while new:
        needed |= new
        new = set().union(*(named_siblings(path.with_name(f"{name}.py")) for name in new)) - needed
    # transformers before 5.9 copies what is named and nothing else.
    missing = needed - named_siblings(path) - {path.stem}
    assert not missing, "\n".join(f"from .{name} import __all__" for name in sorted(missing))


def test_no_two_files_of_a_model_directory_have_one_name():
    rooms = [
        {path.name for path in (ROOT / room).glob("*_attention_asd.py")} for room in ("modeling", "feature_extraction")
    ]
    assert not rooms[0] & rooms[1]


def judged(python_path: str, cache: Path) -> dict:
    environment = {**os.environ, "PYTHONPATH": python_path, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / "check_hub_code.py"), str(ROOT / "space" / "demo_model")]
    done = subprocess.run(command, env=environment, cwd=cache, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_oldest_transformers_loads_the_model_and_judges_alike(tmp_path):
    folder = os.environ.get("OLDEST_TRANSFORMERS")
    if not folder:
        pytest.skip("OLDEST_TRANSFORMERS names no folder with an old transformers; .ci/run makes one")
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = judged(folder, tmp_path / "old"), judged("", tmp_path / "new")
    assert old.pop("transformers") == "4.57.6"
    new.pop("transformers")
    assert old == new
    # An impossible configuration is refused by both.
    assert new["refusal"].startswith("clip_length=1 samples")


def test_a_transformers_that_is_too_old_is_named_with_the_version_needed(tmp_path):
    (tmp_path / "transformers.py").write_text('__version__ = "4.44.2"\n', encoding="utf-8")
    code = (ROOT / "modeling" / "compatibility_attention_asd.py").read_text(encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "ImportError: transformers 4.44.2 is too old for this model: it needs 4.57 or newer" in done.stderr
