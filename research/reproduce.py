"""Reproduce the paper's tables and figures, beside its peers: train, evaluate, and render Markdown, CSV and PNG.

    python -m research.reproduce all --data_dir DIR
    python -m research.reproduce table4 --data_dir DIR --seeds 0 1 2 --jobs 2

DIR is in the DCASE 2020 Task 2 layout. With the challenge's whole training set the paper's recipe is run, else a reduced
one. Flags of train.py given here override either recipe. Finished runs are skipped and stopped runs go on, so that the
tables can be made one after the other, or again.
"""

import argparse
import os
from pathlib import Path

from transformers.utils import logging as transformers_logging

from dcase2020_task2 import list_clips
from evaluation.command import run
from research.reproduction.protocol import PROTOCOLS
from research.reproduction.study import RECIPES, Study, choose_size, parse_overrides
from research.reproduction.targets import TARGETS
from research.reproduction.workshop import Workshop


def parse_arguments(argv: list[str] | None = None) -> tuple[list[str], Study]:
    """Return the names of the tables and figures to make, and the settings of this call."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Other flags, such as --num_train_epochs 5, go to train.py.",
    )
    parser.add_argument("what", choices=[*TARGETS, "all"], help="table or figure")
    parser.add_argument("--data_dir", type=Path, required=True, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/reproduce"), help="runs go here (runs/reproduce)")
    parser.add_argument("--report_dir", type=Path, help="tables and figures go here (OUTPUT_DIR/report/DATA)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of this project's networks (0 1 2)")
    parser.add_argument("--peer_seeds", type=int, nargs="+", default=[0], help="of the peers (0)")
    parser.add_argument("--size", choices=RECIPES, help="recipe (full for the challenge's training set, else reduced)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="honest", help="paper repeats the published faults")
    parser.add_argument("--log_mel_dir", type=Path, help="train.npz and test.npz of log-mels: more of Table 1")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, sharing the cores (1)")
    arguments, others = parser.parse_known_args(argv)
    if arguments.jobs < 1:
        raise ValueError(f"--jobs {arguments.jobs}: expected 1 or more.")
    # Runs are processes that may have another working directory.
    data_dir, output_dir = (Path(os.path.abspath(path)) for path in (arguments.data_dir, arguments.output_dir))
    report_name = data_dir.resolve().name + ("" if arguments.protocol == "honest" else f"-{arguments.protocol}")
    size = arguments.size or choose_size(list_clips(data_dir).rows)
    study = Study(
        data_dir=data_dir,
        output_dir=output_dir,
        report_dir=arguments.report_dir or output_dir / "report" / report_name,
        size=size,
        protocol=arguments.protocol,
        seeds=tuple(arguments.seeds),
        peer_seeds=tuple(arguments.peer_seeds),
        jobs=arguments.jobs,
        recipe=RECIPES[size] | parse_overrides(others),
        log_mel_dir=arguments.log_mel_dir and Path(os.path.abspath(arguments.log_mel_dir)),
    )
    return list(TARGETS) if arguments.what == "all" else [arguments.what], study


def main() -> None:
    targets, study = parse_arguments()
    transformers_logging.disable_progress_bar()
    workshop = Workshop(study)
    print(f"{workshop.data}\nsize {study.size}, protocol {study.protocol}, {len(study.seeds)} seeds")
    for target in targets:
        print(f"{target}:", flush=True)
        TARGETS[target](workshop).write(study.report_dir)
        print(f"{study.report_dir / target}.md, .csv, .png", flush=True)


if __name__ == "__main__":
    run(main)
