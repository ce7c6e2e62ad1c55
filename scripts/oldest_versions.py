#!/usr/bin/env python
"""Run tests with the oldest versions that pyproject.toml allows, in fresh environments.

    python scripts/oldest_versions.py                          # every set; without the slow tests
    python scripts/oldest_versions.py core tests/test_hub.py   # one set, with arguments for pytest

Each set of SETS is some extras and their tests: an export needs a newer PyTorch than the rest, the Space a newer
huggingface_hub. Every version is the first that the bound names, or there is an error: `numpy>=2.0` is tried with numpy
2.0. The program needs uv (`pip install uv`), Python 3.11, and 8 GB on disk, less with UV_TORCH_BACKEND=cpu in the
environment, which takes PyTorch for CPUs. The code ends with 1 if a test fails.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from evaluation.command import run


ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"

# The extras, and which tests are run with them.
SETS = {
    "core": (["audio", "benchmarks", "tracking"], ["tests", "--ignore-glob=*/test_space*.py"]),
    "export": (["audio", "export", "onnx", "openvino"], ["tests/test_export.py", "tests/test_backends.py"]),
    "space": (["audio", "space"], ["tests/test_space.py", "tests/test_space_api.py"]),
}


def first_versions(requirements: list[str]) -> dict[str, str]:
    """What `name>=version` names, as a constraint for each name; the last of two bounds is the higher one."""
    bounds = [re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\d.]+)", requirement) for requirement in requirements]
    return {bound[1]: f"{bound[1]}=={bound[2]}.*" for bound in bounds if bound}


def make_environment(folder: Path, extras: list[str]) -> Path:
    """Install this clone with extras and the tools of the tests, each in the first version of its bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    tools = [tool for tool in optional["test"] if not tool.startswith(project["name"])]
    wanted = [*project["dependencies"], *tools, *(bound for extra in extras for bound in optional[extra])]
    pins = folder / "first_versions.txt"
    pins.write_text("\n".join(first_versions(wanted).values()), encoding="utf-8")
    environment = folder / "environment"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", PYTHON, str(environment)], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", str(environment), "--resolution", "lowest-direct"]
    clone = f"{ROOT}[{','.join(extras)}]"
    subprocess.run([*install, "--constraint", str(pins), *tools, "--editable", clone], check=True)
    return environment / "bin" / "python"


def main(argv: list[str] | None = None) -> int:
    """Run the tests of each set; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", nargs="?", choices=SETS, help="the set (default: one after the other)")
    arguments, for_pytest = parser.parse_known_args(argv)
    failed = 0
    for name in [arguments.set] if arguments.set else SETS:
        extras, tests = SETS[name]
        print(f"{name}: the oldest versions, with {', '.join(extras)}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            python = make_environment(Path(folder), extras)
            # As .ci/run: two workers, each with one thread.
            command = [str(python), "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
            command += for_pytest or [*tests, "-m", "not slow"]
            alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            alone["PATH"] = os.pathsep.join([str(python.parent), os.environ["PATH"]])
            failed |= subprocess.run(command, cwd=ROOT, env=alone).returncode
    return int(bool(failed))


if __name__ == "__main__":
    run(main)
