"""One call from a folder, or the name of a published set, to its clips."""

import contextlib
import os
from collections.abc import Iterator

import datasets

from .dcase2020_task2 import Dcase2020Task2


def load_clips(
    data_dir: str | os.PathLike | None = None,
    *,
    name: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    with_audio: bool = False,
    streaming: bool = False,
    num_proc: int | None = None,
    download_dir: str | os.PathLike | None = None,
) -> datasets.DatasetDict | datasets.IterableDatasetDict:
    """Load the clips of a folder, or of DCASE 2020 Challenge Task 2, as the splits `train` and `test`.

    Args:
        data_dir: a folder in the DCASE layout, with any machine types and IDs. None: a published set, fetched
            from Zenodo when it is not there yet.
        name: a configuration of `Dcase2020Task2`; by default "local" with `data_dir`, "development" without.
        cache_dir: the cache of `datasets`; by default the user's.
        with_audio: add the column `audio`; see `Dcase2020Task2Config`.
        streaming: give `IterableDatasetDict`, without a table in the cache.
        num_proc: processes that write the table.
        download_dir: where the archives of a published set are extracted.

    Returns:
        The splits that exist, with the columns of `Dcase2020Task2`.

    Raises:
        As `Dcase2020Task2` does.
    """
    options = {"data_dir": data_dir, "cache_dir": cache_dir, "download_dir": download_dir}
    builder = Dcase2020Task2(
        config_name=name or ("development" if data_dir is None else "local"),
        **{key: os.fspath(value) for key, value in options.items() if value is not None},
        **({"with_audio": True} if with_audio else {}),
    )
    if streaming:
        return builder.as_streaming_dataset()
    builder.fetch()
    with _no_progress_bars():
        builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset()


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    were_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            datasets.enable_progress_bars()
