"""One call from a folder, or the name of a published set, to its clips."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Literal, cast, overload

import datasets

from .dcase2020_task2 import Dcase2020Task2


@overload
def load_clips(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    with_audio: bool = False,
    streaming: Literal[False] = False,
    num_proc: int | None = None,
    download_dir: str | os.PathLike[str] | None = None,
) -> datasets.DatasetDict: ...


@overload
def load_clips(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    with_audio: bool = False,
    streaming: Literal[True],
    num_proc: int | None = None,
    download_dir: str | os.PathLike[str] | None = None,
) -> datasets.IterableDatasetDict: ...


def load_clips(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    with_audio: bool = False,
    streaming: bool = False,
    num_proc: int | None = None,
    download_dir: str | os.PathLike[str] | None = None,
) -> datasets.DatasetDict | datasets.IterableDatasetDict:
    """Load the clips of a folder, or of DCASE 2020 Challenge Task 2, as the splits `train` and `test`.

    Args:
        data_dir: a folder in the DCASE layout, with any machine types and IDs. None for a published set, which is fetched
            from Zenodo if it is missing.
        name: a configuration of `Dcase2020Task2`. The default is "local" with `data_dir` and "development" without.
        cache_dir: the cache of `datasets`. The default is the user's.
        with_audio: add the column `audio`; see `Dcase2020Task2Config`.
        streaming: return an `IterableDatasetDict` and write no table into the cache.
        num_proc: number of processes that write the table.
        download_dir: the folder into which the archives of a published set are extracted.

    Returns:
        The splits that exist, with the columns of `Dcase2020Task2`.

    Raises:
        ArchiveError: an archive of a published set cannot be fetched, or is not the published one.
        FileNotFoundError: there is no folder `data_dir`.
        ValueError: `list_clips` refuses the folder `data_dir`, or a published set was named beside it.
        ImportError: `with_audio` without the extra `embedded`.
    """
    folders = {"data_dir": data_dir, "cache_dir": cache_dir, "download_dir": download_dir}
    options: dict[str, Any] = {key: os.fspath(value) for key, value in folders.items() if value is not None}
    if with_audio:  # an argument, and so a part of the cache key, only where it changes the table
        options["with_audio"] = True
    builder = Dcase2020Task2(config_name=name or ("development" if data_dir is None else "local"), **options)
    # `datasets` returns all splits, in a dictionary, where none is named.
    if streaming:
        return cast(datasets.IterableDatasetDict, builder.as_streaming_dataset())
    builder.fetch()
    with _no_progress_bars():
        builder.download_and_prepare(num_proc=num_proc)
    return cast(datasets.DatasetDict, builder.as_dataset())


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    were_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            datasets.enable_progress_bars()
