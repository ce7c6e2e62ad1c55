"""`python -m dcase2020_task2 download DIR`: DCASE 2020 Challenge Task 2 as a plain folder."""

import argparse
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from .archives import ARCHIVES, SELECTIONS, ZENODO, Archive, ArchiveError
from .clips import MACHINE_TYPES
from .download import fetch
from .folder import SPLITS, list_clips


_DOWNLOAD = """\
Download archives from Zenodo, check their md5, and extract them to
DIR/<machine type>/{train,test}/*.wav, the layout that --data_dir expects.

After an interruption, run the same command again: it goes on where it
stopped, and fetches nothing twice. Several sets may share one DIR: development
and additional_training together are the training set of all 41 machine IDs.
Unpacked, development takes about 10 GB, additional_training 5, evaluation 2.
During the extraction of an archive, up to 2 GB more are needed.
"""


def main(argv: Sequence[str] | None = None, archives: Collection[Archive] = ARCHIVES) -> int:
    """Run the command line.

    Args:
        argv: the arguments; None for those of the process.
        archives: the table of archives and their md5.

    Returns:
        The exit code: 0, or 1 where the folder could not be filled.
    """
    arguments = parse_arguments(argv)
    try:
        fetch(
            arguments.directory,
            SELECTIONS[arguments.name],
            arguments.types or MACHINE_TYPES,
            archives=archives,
            base_url=arguments.base_url,
        )
        rows = list_clips(arguments.directory).rows
    except (ArchiveError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    clips = Counter((row["machine_type"], row["split"]) for row in rows)
    print(f"{arguments.directory} now holds")
    for machine_type in sorted({machine_type for machine_type, _ in clips}):
        print(f"  {machine_type:12}", ", ".join(f"{clips[machine_type, split]:6,} {split}" for split in SPLITS))
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line: `directory`, `name`, `types` (empty for all) and `base_url`."""
    started_as = Path(sys.argv[0]).name
    program = "python -m dcase2020_task2" if started_as == "__main__.py" else started_as
    parser = argparse.ArgumentParser(prog=program, description="DCASE 2020 Challenge Task 2 as a plain folder.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "download",
        usage="%(prog)s [--name NAME] [--types TYPE ...] [--base_url URL] DIR",
        help="fetch the data set into a plain folder",
        description=_DOWNLOAD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("directory", metavar="DIR", nargs="?", help="the folder to fill")
    command.add_argument(
        "--name",
        choices=SELECTIONS,
        default="development",
        metavar="NAME",
        help=f"{', '.join(SELECTIONS)}: development and additional_training (default: %(default)s)",
    )
    known = ", ".join(MACHINE_TYPES)
    text = f"only these machine types, of {known} (default: all)"
    command.add_argument("--types", nargs="+", default=[], metavar="TYPE", help=text)
    text = "a mirror with Zenodo's paths (default: %(default)s)"
    command.add_argument("--base_url", metavar="URL", default=ZENODO, help=text)
    arguments = parser.parse_args(argv)
    # argparse takes a DIR that follows `--types fan pump` for one more type.
    arguments.directory = arguments.directory or (arguments.types.pop() if arguments.types else None)
    if arguments.directory is None or arguments.directory in MACHINE_TYPES:
        command.error("DIR is missing: name the folder to fill")
    if unknown := [machine_type for machine_type in arguments.types if machine_type not in MACHINE_TYPES]:
        command.error(f"argument --types: {', '.join(unknown)} is not among {known}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
