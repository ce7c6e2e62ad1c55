#!/usr/bin/env python
"""Reproduce the paper's tables and figures, beside its peers: train, evaluate, and render Markdown, CSV and PNG.

    python -m research.reproduce all --data_dir DIR
    python -m research.reproduce table4 --data_dir DIR --seeds 0 1 2 --jobs 2

DIR is in the DCASE 2020 Task 2 layout. With the challenge's whole training set the paper's recipe is run, else a reduced
one; flags of train.py given here override either. What is finished is skipped and what was stopped goes on, so that the
tables can be made one after the other, or again.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dcase2020_task2 import list_clips  # noqa: E402
from research.reproduction import published  # noqa: E402
from research.reproduction.data import load_split, prepare_log_mels, prepare_sounds  # noqa: E402
from research.reproduction.figures import ShownClip, figure_2, figure_3, figure_4  # noqa: E402
from research.reproduction.measure import measure_network, score_with_back_ends  # noqa: E402
from research.reproduction.protocol import PROTOCOLS, choose_epoch_on_test, write_published_labels  # noqa: E402
from research.reproduction.report import Report  # noqa: E402
from research.reproduction.runs import Run, complete, labels_file, log_mel_network_run, network_run, peer_run  # noqa: E402
from research.reproduction.study import RECIPES, Study, choose_size, describe_data, parse_overrides  # noqa: E402
from research.reproduction.systems import FULL_NETWORK, NETWORKS, TABLE_3, TABLE_4, Row, table_1_rows  # noqa: E402
from research.reproduction.tables import Measured, ablation, measured, table_1, table_2  # noqa: E402


def parse_arguments(argv: list[str] | None = None) -> tuple[list[str], Study]:
    """What is to be made, and the study that it belongs to."""
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


class Workshop:
    """What the targets share: the prepared clips, the runs, and reading them."""

    def __init__(self, study: Study):
        self.study = study
        self.data = describe_data(study)
        self.clips = prepare_sounds(study.data_dir, study.output_dir / "clips", float(study.recipe["clip_seconds"]))
        self.log_mels = study.log_mel_dir and prepare_log_mels(study.log_mel_dir, study.output_dir / "clips")
        self.test_rows = load_split(self.clips, "test").rows
        if study.protocol == "paper":
            write_published_labels(labels_file(study), {row["label"] for row in load_split(self.clips, "train").rows})

    def networks(self, key: str, protocol: str | None = None) -> list[Run]:
        protocol = protocol or self.study.protocol
        return [network_run(self.study, key, seed, protocol) for seed in self.study.seeds]

    def row_runs(self, row: Row) -> list[Run]:
        """A row of Table 1. Only the row of the paper's own system is trained under the paper's protocol."""
        if row.run in NETWORKS:
            return self.networks(row.run, self.study.protocol if row.key == FULL_NETWORK else "honest")
        return [peer_run(self.study, row.run, seed, self.clips, self.study.data_dir) for seed in self.study.peer_seeds]

    def log_mel_runs(self, row: Row) -> list[Run]:
        if row.run in NETWORKS:
            return [log_mel_network_run(self.study, seed, self.log_mels) for seed in self.study.seeds]
        return [peer_run(self.study, row.run, seed, self.log_mels, None) for seed in self.study.peer_seeds]

    def train(self, runs: list[Run]) -> None:
        """Complete the runs, and measure on this project's networks what train.py does not."""
        complete(list(dict.fromkeys(runs)), self.study.jobs)
        for run in dict.fromkeys(runs):
            if run.command[0] != "train.py":
                continue
            if not (run.folder / "measured.json").exists():
                measure_network(run.folder)
            if "--labels" in run.command and not (run.folder / "chosen_on_test" / "scores.csv").exists():
                print(f"{run.name}: choosing the epoch on the test set, as the paper did", flush=True)
                choose_epoch_on_test(run.folder, self.test_rows, self.study.data_dir)

    def network(self, key: str) -> Measured:
        scores = "chosen_on_test/scores.csv" if self.study.protocol == "paper" else "evaluation/scores.csv"
        folders = [run.folder for run in self.networks(key)]
        return measured(key, NETWORKS[key].title, folders, scores, self.study.protocol)

    def row(self, row: Row) -> Measured:
        folders = [run.folder for run in self.row_runs(row)]
        scores = row.scores
        if row.scores.startswith("back_ends"):
            for folder in folders:
                if not (folder / scores).exists():
                    score_with_back_ends(folder, self.test_rows, self.study.data_dir)
        elif row.key == FULL_NETWORK and self.study.protocol == "paper":
            scores = "chosen_on_test/scores.csv"
        return measured(row.key, row.title, folders, scores, self.study.protocol)


def make_table_1(workshop: Workshop) -> Report:
    study = workshop.study
    rows = table_1_rows(with_waveforms=True)
    runs = [run for row in rows for run in workshop.row_runs(row)]
    log_mel_rows = table_1_rows(with_waveforms=False) if workshop.log_mels else []
    workshop.train(runs + [run for row in log_mel_rows for run in workshop.log_mel_runs(row)])
    data = {study.data_name: (workshop.data, [workshop.row(row) for row in rows])}
    if log_mel_rows:
        systems = [
            measured(row.key, row.title, [run.folder for run in workshop.log_mel_runs(row)], row.scores, study.protocol)
            for row in log_mel_rows
        ]
        counts = [len(load_split(workshop.log_mels, split).rows) for split in ("train", "test")]
        name = study.log_mel_dir.name
        data[name] = (f"{name}: {counts[0]} normal training and {counts[1]} test clips, log-mels alone", systems)
    return table_1(study, data)


def make_table_2(workshop: Workshop) -> Report:
    workshop.train(workshop.networks(FULL_NETWORK))
    return table_2(workshop.study, workshop.data, workshop.network(FULL_NETWORK))


def make_ablation(name: str, title: str, keys: tuple[str, ...], quoted) -> Callable[[Workshop], Report]:
    def make(workshop: Workshop) -> Report:
        workshop.train([run for key in keys for run in workshop.networks(key)])
        networks = [workshop.network(key) for key in keys]
        return ablation(workshop.study, name, title, workshop.data, networks, quoted)

    return make


def make_clip_figure(figure) -> Callable[[Workshop], Report]:
    def make(workshop: Workshop) -> Report:
        run = workshop.networks(FULL_NETWORK, "honest")[0]
        workshop.train([run])
        return figure(workshop.study, workshop.data, ShownClip(run.folder, workshop.test_rows))

    return make


def make_figure_4(workshop: Workshop) -> Report:
    runs = workshop.networks(FULL_NETWORK, "honest")
    workshop.train(runs)
    return figure_4(workshop.study, workshop.data, [run.folder for run in runs], workshop.test_rows)


TARGETS = {
    "table1": make_table_1,
    "table2": make_table_2,
    "table3": make_ablation(
        "table3", "Table 3: representations and the size of the embedding", TABLE_3, published.TABLE_3
    ),
    "table4": make_ablation("table4", "Table 4: separable convolutions and attention", TABLE_4, published.TABLE_4),
    "figure2": make_clip_figure(figure_2),
    "figure3": make_clip_figure(figure_3),
    "figure4": make_figure_4,
}


def main() -> int:
    targets, study = parse_arguments()
    workshop = Workshop(study)
    print(f"{workshop.data}\nsize {study.size}, protocol {study.protocol}, {len(study.seeds)} seeds")
    for target in targets:
        print(f"{target}:", flush=True)
        TARGETS[target](workshop).write(study.report_dir)
        print(f"{study.report_dir / target}.md, .csv, .png", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
