#!/usr/bin/env python
"""Add a machine to a model, from normal recordings of this machine, without training.

    python scripts/enroll.py pump_id_07 recordings/pump_7 --model OUT --output_dir OUT2

OUT2 is a whole model directory that knows all machines of OUT and the new one. Eight recordings or more are advised. At the
end stand the results of the self-test: what the new machine's recordings can tell, and which of them to listen to again.
"""

import argparse
import sys
from pathlib import Path

from transformers.utils import logging as transformers_logging

from engines import load_pipeline
from evaluation.command import run
from evaluation.lock import hold_folder
from scoring.inputs import find_recordings


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machine", help="name of the new machine, such as pump_id_07; a known name is described anew")
    parser.add_argument("recordings", nargs="+", metavar="FILE_OR_FOLDER", help="recordings of its normal operation")
    parser.add_argument("--model", required=True, help="model directory, or a repository on the Hub")
    parser.add_argument("--output_dir", required=True, type=Path, help="where the extended model goes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Enroll, say what the self-test found, and write the model."""
    arguments = parse_arguments(argv)
    transformers_logging.set_verbosity_error()
    if arguments.output_dir.is_dir():  # it may be the model itself: two machines at once, and one would be lost
        hold_folder(arguments.output_dir)
    detect = load_pipeline(arguments.model)
    heard = detect.hear_all(find_recordings(arguments.recordings).recordings)
    for error in heard.errors.values():
        print(f"left out: {error}", file=sys.stderr)
    self_test = detect.enroll_heard(arguments.machine, heard)
    print(f"{arguments.machine} is enrolled from {self_test.recordings} recordings.", *self_test.sentences(), sep="\n")
    detect.save_pretrained(arguments.output_dir)
    print(f"The model is in {arguments.output_dir}.")


if __name__ == "__main__":
    run(main)
