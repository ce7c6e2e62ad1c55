"""`python -m machine_room OUTPUT_DIR`: writes a data set of synthetic machines."""

import argparse
import inspect

from . import MACHINE_TYPES, generate_machine_room


def main(arguments: list[str] | None = None) -> None:
    """Run the command line with `arguments`; None for those of the process."""
    default = {name: p.default for name, p in inspect.signature(generate_machine_room).parameters.items()}
    parser = argparse.ArgumentParser(
        prog="python -m machine_room",
        description="Write a data set of SYNTHETIC machines in the layout of DCASE 2020 Task 2: normal clips "
        "to train on, normal and anomalous clips to test on, and ground_truth.json, which says of every "
        "anomalous clip what is wrong, when and at which frequencies. The same settings give the same bytes; "
        "a folder already made with them is reused, one left unfinished is completed.",
    )
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="a new or empty folder, or one to complete")
    parser.add_argument(
        "--machine_types",
        nargs="+",
        choices=MACHINE_TYPES,
        metavar="TYPE",
        help=f"which of {', '.join(MACHINE_TYPES)} (all)",
    )
    for name, kind, text in (
        ("seed", int, "another seed gives other machines"),
        ("clip_seconds", float, "length of every clip in seconds, at least 2"),
        ("ids_per_type", int, "machine IDs of each type, 1 to 7"),
        ("train_clips", int, "normal training clips of each ID"),
        ("test_normal_clips", int, "normal test clips of each ID"),
        ("test_anomalous_clips", int, "anomalous test clips of each ID"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=f"{text} (%(default)s)")
    parser.add_argument("--num_workers", type=int, metavar="N", help="threads (one for each core)")
    del default["output_dir"]
    parser.set_defaults(**default)
    options = vars(parser.parse_args(arguments))
    try:
        folder = generate_machine_room(options.pop("output_dir"), **options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{sum(1 for _ in folder.glob('*/*/*.wav'))} synthetic clips in {folder}")


if __name__ == "__main__":
    main()
