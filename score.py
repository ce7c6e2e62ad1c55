#!/usr/bin/env python
"""Tell whether recordings of machines sound as these machines do in normal operation.

    python score.py recording.wav recordings/ 'more/*.flac' --model OUT
    python score.py recordings/ --model OUT --output verdicts.jsonl      # start again: goes on where it stopped
    python score.py --watch recordings/ --model OUT                      # recordings that keep arriving
    arecord -f S16_LE -r 16000 -c 1 | python score.py - --model OUT      # a microphone
    accelerate launch score.py archive/ --model OUT --output verdicts.csv

Exit code: 0 nothing is anomalous, 1 something is, 2 an input could not be read (the others are scored all the same).
A launcher of several processes turns 2 into its own 1, and calls both a failure.
"""

import argparse
import gc
from pathlib import Path
from urllib.parse import urlsplit

from evaluation.command import above_zero, run
from scoring.options import CLOSEST_MACHINE, FORMAT_OF_SUFFIX, SAMPLE_FORMATS, SETTLE_SECONDS, STANDARD_INPUT
from scoring.rows import FORMATS
from training.allocator import keep_freed_memory


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; an error that the options make together ends the program with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="FILE_OR_FOLDER",
        help="files, folders, globs, or - for a sound file or raw PCM on standard input",
    )
    parser.add_argument("--model", required=True, help="directory that train.py wrote, or a repository on the Hub")
    parser.add_argument(
        "--machine",
        default=CLOSEST_MACHINE,
        help="machine that the recordings are of; auto (default) takes the closest one, from-path reads <type> "
        "and XX from <type>/.../*id_XX_*.wav",
    )
    parser.add_argument(
        "--false_alarm_rate",
        type=float,
        help="share of normal recordings that may be called anomalous (default: the model's)",
    )
    parser.add_argument(
        "--engine",
        help="what runs the network: torch, or what --model was exported for by scripts/export.py (default: the latter, if "
        "it was)",
    )
    parser.add_argument("--backend", help="how clips are scored: arcface is the paper's way (default: the model's)")
    parser.add_argument("--format", choices=FORMATS, default="table", help="on standard output")
    parser.add_argument(
        "--output",
        type=Path,
        help="append to FILE.jsonl or FILE.csv instead; what is in it is passed over, unless recording, model or options "
        "have changed",
    )
    parser.add_argument(
        "--watch", type=Path, metavar="FOLDER", help="score what is in FOLDER and what arrives, until Ctrl-C"
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=SETTLE_SECONDS,
        metavar="SECONDS",
        help=f"with --watch: a recording that is unchanged for so long is whole (default {SETTLE_SECONDS:g}); longer than your "
        "recorder waits between two writes",
    )
    parser.add_argument(
        "--drift",
        action="store_true",
        help="tell when a machine's scores or level have changed for good; recordings have to come in the order of time",
    )
    parser.add_argument(
        "--notify", metavar="URL", help="with --watch or -: POST the JSON row of every alarm and drift to this address"
    )
    parser.add_argument("--picture", type=Path, metavar="DIR", help="write a picture of each recording to DIR")
    parser.add_argument(
        "--batch_size", type=above_zero, default=8, help="windows of a recording per forward pass (default 8)"
    )
    parser.add_argument("--sampling_rate", type=int, help="of raw standard input, in Hz (default: the model's)")
    parser.add_argument(
        "--sample_format", choices=SAMPLE_FORMATS, default="s16le", help="of raw standard input, one channel"
    )
    arguments = parser.parse_args(argv)
    if bool(arguments.inputs) == bool(arguments.watch):
        parser.error("give files and folders, or - for standard input, or --watch FOLDER")
    if STANDARD_INPUT in arguments.inputs and len(arguments.inputs) > 1:
        parser.error("- (standard input) goes alone")
    if arguments.output and arguments.output.suffix not in FORMAT_OF_SUFFIX:
        parser.error(f"--output {arguments.output}: expected a name that ends in .jsonl or .csv")
    if not 0 <= arguments.settle < float("inf"):
        parser.error(f"--settle {arguments.settle}: expected a number of seconds, 0 or more")
    if arguments.notify is not None:
        check_address(parser, arguments)
    return arguments


def check_address(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End the program where --notify cannot work. The address may hold a secret, so the message does not have it."""
    if not arguments.watch and arguments.inputs != [STANDARD_INPUT]:
        parser.error("--notify goes with --watch FOLDER or with - (standard input)")
    try:
        address = urlsplit(arguments.notify)
        is_address = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        parser.error("--notify: expected an address that begins with https://HOST or http://HOST")


def main() -> int:
    """Score everything and return the exit code."""
    arguments = parse_arguments()
    # Until the detector is loaded nothing is garbage. The search for garbage among all imported objects took a tenth of the
    # time to the first verdict, and most of a second once more at the end.
    gc.disable()
    # Imported here: torch and transformers take seconds, and --help and usage errors need neither.
    from scoring.session import score

    keep_freed_memory()
    return score(arguments)


if __name__ == "__main__":
    run(main)
