#!/usr/bin/env python
"""Build a page that judges sounds in the visitor's browser, for a static Space or any web server.

    python scripts/build_static.py --model space/demo_model --output_dir build/static
    python -m http.server --bind 127.0.0.1 --directory build/static

Nothing that a visitor gives leaves the browser. npm brings ONNX Runtime for browsers, in the version of
static_space/package-lock.json.
"""

import argparse
import logging
import warnings
from pathlib import Path

from transformers.utils import logging as transformers_logging

from evaluation.command import run
from static_space.build import build


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of a model, or its name on the Hub")
    parser.add_argument("--output_dir", required=True, type=Path, help="folder that the page is written to")
    arguments = parser.parse_args(argv)
    transformers_logging.disable_progress_bar()
    # The exporter names what it could do with packages that this project does not use.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    print(f"Building the page in {arguments.output_dir}; this takes a minute", flush=True)
    facts = build(arguments.model, arguments.output_dir)
    total = sum(file["bytes"] for file in facts["files"].values())
    print(f"{len(facts['machines'])} machines, {len(facts['files'])} files, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
