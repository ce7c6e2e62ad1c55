"""What can be made: every table and figure, from its runs to its report."""

from collections.abc import Callable
from pathlib import Path

from . import published
from .ablation import ablation
from .data import load_split
from .figure_4 import figure_4
from .figures_2_and_3 import ShownClip, figure_2, figure_3
from .report import Report
from .study import Study
from .systems import FULL_NETWORK, TABLE_3, TABLE_4, table_1_rows
from .table_1 import MeasuredOnData, table_1
from .table_2 import table_2
from .workshop import Workshop


def make_table_1(workshop: Workshop) -> Report:
    """Make Table 1, with log-mels alone as a second data set where the study has them."""
    study, log_mels = workshop.study, workshop.log_mels
    rows = table_1_rows(with_waveforms=True)
    runs = [run for row in rows for run in workshop.row_runs(row)]
    if log_mels:
        runs += [run for row in table_1_rows(with_waveforms=False) for run in workshop.log_mel_runs(row, log_mels)]
    workshop.train(runs)
    data = {study.data_name: MeasuredOnData(workshop.data, [workshop.row(row) for row in rows])}
    if log_mels and study.log_mel_dir:
        data[study.log_mel_dir.name] = measured_on_log_mels(workshop, log_mels, study.log_mel_dir.name)
    return table_1(study, data)


def measured_on_log_mels(workshop: Workshop, log_mels: Path, name: str) -> MeasuredOnData:
    """Return what the systems gave on log-mels alone; `log_mels` is the folder of the prepared clips."""
    systems = [workshop.log_mel_row(row, log_mels) for row in table_1_rows(with_waveforms=False)]
    train, test = (len(load_split(log_mels, split).rows) for split in ("train", "test"))
    return MeasuredOnData(f"{name}: {train} normal training and {test} test clips, log-mels alone", systems)


def make_table_2(workshop: Workshop) -> Report:
    """Make Table 2 of the full network."""
    workshop.train(workshop.network_runs(FULL_NETWORK))
    return table_2(workshop.study, workshop.data, workshop.network(FULL_NETWORK))


def make_ablation(
    name: str, title: str, keys: tuple[str, ...], quoted: dict[str, published.Pair]
) -> Callable[[Workshop], Report]:
    """Return the function that makes Table 3 or 4 of the networks `keys`."""

    def make(workshop: Workshop) -> Report:
        workshop.train([run for key in keys for run in workshop.network_runs(key)])
        networks = [workshop.network(key) for key in keys]
        return ablation(workshop.study, name, title, workshop.data, networks, quoted)

    return make


def make_clip_figure(figure: Callable[[Study, str, ShownClip], Report]) -> Callable[[Workshop], Report]:
    """Return the function that makes Figure 2 or 3 of the full network's first seed."""

    def make(workshop: Workshop) -> Report:
        run = workshop.network_runs(FULL_NETWORK, "honest")[0]
        workshop.train([run])
        return figure(workshop.study, workshop.data, ShownClip(run.folder, workshop.test_rows))

    return make


def make_figure_4(workshop: Workshop) -> Report:
    """Make Figure 4 of the full network."""
    runs = workshop.network_runs(FULL_NETWORK, "honest")
    workshop.train(runs)
    return figure_4(workshop.study, workshop.data, [run.folder for run in runs], workshop.test_rows)


TARGETS: dict[str, Callable[[Workshop], Report]] = {
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
