#!/usr/bin/env python
"""Load a model by its own code, and judge a recording, in fresh environments of old and new versions.

    python scripts/matrix.py --output matrix.md
    python scripts/matrix.py --rows 0 4 --environments build/matrix      # keeps the environments, and uses them again

Each row of ROWS is a Python, a PyTorch and a transformers. The program needs uv (`pip install uv`). PyTorch's build for Linux
takes several gigabytes a row; UV_TORCH_BACKEND=cpu in the environment takes the small one. A row whose Python is not on
this machine is named as such. The code ends with 1 if a row fails or gives another verdict.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from evaluation.command import run
from evaluation.markdown import markdown_table


ROOT = Path(__file__).resolve().parents[1]
CHECK = ROOT / "scripts" / "check_hub_code.py"

# The oldest of all, the oldest with this project's Python, what this project is developed with, and the newest.
ROWS = [
    ("3.10", "torch==2.8.0", "transformers==4.57.6", "numpy==2.0.0"),
    ("3.11", "torch==2.8.0", "transformers==4.57.6", "numpy==2.0.0"),
    ("3.11", "torch==2.13.0", "transformers==5.0.0", "numpy"),
    ("3.11", "torch==2.13.0", "transformers==5.23.0", "numpy"),
    ("3.12", "torch==2.11.0", "transformers", "numpy"),
    ("3.13", "torch", "transformers", "numpy"),
]
OTHERS = ["soundfile", "soxr"]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "space" / "demo_model", help="directory of the model")
    parser.add_argument("--rows", type=int, nargs="+", default=range(len(ROWS)), help="numbers of rows (default: all)")
    parser.add_argument("--environments", type=Path, help="folder that keeps the environments (default: none is kept)")
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    return parser.parse_args(argv)


def make_environment(folder: Path, row: tuple[str, ...]) -> Path | None:
    """Make the environment of a row, unless it is there already; return its Python, or `None` without such a Python."""
    python = folder / "bin" / "python"
    if not (folder / "whole").exists():
        uv = [sys.executable, "-m", "uv"]
        if subprocess.run([*uv, "python", "find", row[0]], capture_output=True).returncode:
            return None
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", row[0], str(folder)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *row[1:], *OTHERS], check=True)
        (folder / "whole").touch()
    return python


def check(python: Path, model: Path) -> dict[str, str]:
    """Load the model and judge a recording in an environment; an error is a result, too."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HOME")}
    with tempfile.TemporaryDirectory() as cache:
        environment |= {"HF_HOME": cache, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [str(python), str(CHECK), str(model)], env=environment, cwd=cache, capture_output=True, text=True
        )
    if done.returncode:
        return {"verdict": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    """Check every row, print the table, and return 1 if the rows do not agree."""
    arguments = parse_arguments(argv)
    table, results = [], []
    for row in (ROWS[number] for number in arguments.rows):
        with tempfile.TemporaryDirectory() as temporary:
            folder = (arguments.environments or Path(temporary)).absolute() / "-".join(row).replace("==", "")
            python = make_environment(folder, row)
            result = check(python, arguments.model.absolute()) if python else {"verdict": f"no python{row[0]} here"}
        results.append(result)
        keys = ("torch", "transformers", "anomaly_score", "score", "p_value", "verdict")
        table.append([result.get("python", row[0]), *(str(result.get(key, "")) for key in keys)])
        print(*table[-1], flush=True)
    text = markdown_table(
        ["Python", "torch", "transformers", "paper's score", "detector's score", "p-value", "verdict"], table
    )
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    judged = {(result["verdict"], result["score"], result["p_value"]) for result in results if "score" in result}
    return 0 if len(judged) == 1 and all("score" in result for result in results) else 1


if __name__ == "__main__":
    run(main)
