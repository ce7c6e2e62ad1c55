"""What all tables and figures share: prepared clips, runs, and what the runs gave."""

from pathlib import Path

from .data import load_split, prepare_log_mels, prepare_sounds
from .measure import measure_network, score_with_back_ends
from .measured import Measured, measured
from .protocol import choose_epoch_on_test, write_published_labels
from .run_pool import complete
from .runs import Run, labels_file, log_mel_network_run, network_run, peer_run
from .study import Study, describe_data
from .systems import FULL_NETWORK, NETWORKS, Row


class Workshop:
    """The prepared clips of a study, its runs, and their figures.

    Args:
        study: settings of this call.

    Raises:
        ValueError: there are no clips to train on or to measure, or the paper's protocol has no class for a machine.
    """

    def __init__(self, study: Study):
        self.study = study
        self.data = describe_data(study)
        self.clips = prepare_sounds(study.data_dir, study.output_dir / "clips", float(study.recipe["clip_seconds"]))
        self.log_mels = study.log_mel_dir and prepare_log_mels(study.log_mel_dir, study.output_dir / "clips")
        self.test_rows = load_split(self.clips, "test").rows
        if study.protocol == "paper":
            write_published_labels(labels_file(study), {row["label"] for row in load_split(self.clips, "train").rows})

    def network_runs(self, key: str, protocol: str | None = None) -> list[Run]:
        """Return the runs of a network, one a seed; `protocol` is the study's where it is not given."""
        protocol = protocol or self.study.protocol
        return [network_run(self.study, key, seed, protocol) for seed in self.study.seeds]

    def row_runs(self, row: Row) -> list[Run]:
        """Return the runs of a row of Table 1.

        Only the row of the paper's own system is trained under the paper's protocol.
        """
        if row.run in NETWORKS:
            return self.network_runs(row.run, self.study.protocol if row.key == FULL_NETWORK else "honest")
        return [peer_run(self.study, row.run, seed, self.clips, self.study.data_dir) for seed in self.study.peer_seeds]

    def log_mel_runs(self, row: Row, log_mels: Path) -> list[Run]:
        """Return the runs of a row of Table 1 on log-mels alone; `log_mels` is the folder of the prepared clips."""
        if row.run in NETWORKS:
            return [log_mel_network_run(self.study, seed, log_mels) for seed in self.study.seeds]
        return [peer_run(self.study, row.run, seed, log_mels, None) for seed in self.study.peer_seeds]

    def train(self, runs: list[Run]) -> None:
        """Complete the runs, and measure on this project's networks what train.py does not measure."""
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
        """Return what the finished runs of a network gave."""
        scores = "chosen_on_test/scores.csv" if self.study.protocol == "paper" else "evaluation/scores.csv"
        folders = [run.folder for run in self.network_runs(key)]
        return measured(key, NETWORKS[key].title, folders, scores, self.study.protocol)

    def row(self, row: Row) -> Measured:
        """Return what the finished runs of a row of Table 1 gave."""
        folders = [run.folder for run in self.row_runs(row)]
        scores = row.scores
        if row.scores.startswith("back_ends"):
            for folder in folders:
                if not (folder / scores).exists():
                    score_with_back_ends(folder, self.test_rows, self.study.data_dir)
        elif row.key == FULL_NETWORK and self.study.protocol == "paper":
            scores = "chosen_on_test/scores.csv"
        return measured(row.key, row.title, folders, scores, self.study.protocol)

    def log_mel_row(self, row: Row, log_mels: Path) -> Measured:
        """Return what the finished runs of a row of Table 1 on log-mels alone gave."""
        folders = [run.folder for run in self.log_mel_runs(row, log_mels)]
        return measured(row.key, row.title, folders, row.scores, self.study.protocol)
