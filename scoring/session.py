"""One run of score.py, from parsed arguments to the exit code. The heavy libraries are imported here and below."""

import argparse
import gc
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from engines import load_pipeline, model_digest

from .drift import DriftWatch
from .inputs import find_recordings
from .options import STANDARD_INPUT
from .processes import OneProcess, find_processes
from .results import Results, ResultsFile, StandardOutput, rests_on
from .rows import Row
from .scorer import Scorer
from .watching import WatchedFolder


if TYPE_CHECKING:
    from .notify import Notifier


INTERRUPTED = 130


def score(arguments: argparse.Namespace) -> int:
    """Score everything that the arguments ask for and return the exit code.

    Raises:
        ValueError: for options that do not fit the model or each other.
        OSError: the model cannot be loaded.
    """
    transformers_logging.disable_progress_bar()
    processes = find_processes()
    if processes.count > 1 and (arguments.watch or arguments.inputs == [STANDARD_INPUT]):
        raise ValueError("--watch and standard input are for one process: start python score.py without a launcher.")
    scorer = load_scorer(arguments, processes.device)
    # What is loaded is no garbage.
    gc.freeze()
    gc.enable()
    # A service is stopped by SIGTERM as by Ctrl-C: finished rows are written, and the exit code counts them.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not processes.is_main:
        for _ in score_inputs(arguments, scorer, processes, None)[0]:
            pass
        return 0
    with closing(open_results(arguments)) as results:
        rows, total = score_inputs(arguments, scorer, processes, results)
        try:
            shown = tqdm(rows, total=total, desc="Scoring", unit="recording", disable=not total)
            write_rows(arguments, scorer, shown, results)
        except KeyboardInterrupt:
            if total is not None:
                print("interrupted: the same command with --output goes on where it stopped", file=sys.stderr)
                return INTERRUPTED
        print(results.summary, file=sys.stderr)
        return results.exit_code


def open_results(arguments: argparse.Namespace) -> Results:
    """Open the results file, or standard output."""
    return StandardOutput(arguments.format) if arguments.output is None else ResultsFile(arguments.output)


def load_scorer(arguments: argparse.Namespace, device: torch.device) -> Scorer:
    """Load the model, or its export, with the options asked for and the detector's own for the others."""
    detect = load_pipeline(arguments.model, engine=arguments.engine, device=device)
    rate = detect.detector.false_alarm_rate if arguments.false_alarm_rate is None else arguments.false_alarm_rate
    backend = arguments.backend or detect.detector.backend
    if arguments.machine in detect.detector.machines:
        tested = detect.detector.self_test(arguments.machine)
        if tested.backend == backend:
            print(f"{arguments.machine}: {tested.summary(rate)}", file=sys.stderr)
    return Scorer(
        detect,
        machine=arguments.machine,
        false_alarm_rate=rate,
        backend=backend,
        engine=getattr(detect.network, "engine", "torch"),
        model_digest=model_digest(arguments.model, detect.model.source.get("revision")),
        batch_size=arguments.batch_size,
        pictures=arguments.picture,
    )


def score_inputs(
    arguments: argparse.Namespace, scorer: Scorer, processes: OneProcess, results: Results | None
) -> tuple[Iterator[Row], int | None]:
    """Score what the arguments ask for; return the rows, and their number where it is known.

    Args:
        arguments: the command line.
        scorer: what scores.
        processes: each scores its share of files.
        results: where the rows go; `None` but for the main process.
    """
    if arguments.inputs == [STANDARD_INPUT]:
        return scorer.score_stream(sys.stdin.buffer, arguments.sample_format, arguments.sampling_rate), None
    if arguments.watch:
        return watch(arguments, scorer, results), None
    paths: list[str] = []
    if results is not None:
        found = find_recordings(arguments.inputs)
        results.passed_over = found.passed_over
        paths = [path for path in found.recordings if not results.stands(path, scorer.basis(path))]
    paths = processes.agree(paths)
    return processes.score(paths, lambda path: scorer.score(path, path)), len(paths)


def watch(arguments: argparse.Namespace, scorer: Scorer, results: Results | None) -> Iterator[Row]:
    """Score the recordings of the watched folder as they become whole. Never ends."""
    folder = WatchedFolder(
        arguments.watch,
        arguments.settle,
        lambda path: results is not None and results.stands(path, scorer.basis(path)),
    )
    for path in folder.recordings():
        if results is not None:
            results.passed_over = folder.passed_over
        yield scorer.score(path, path)


def write_rows(arguments: argparse.Namespace, scorer: Scorer, rows: Iterable[Row], results: Results) -> None:
    """Write every row, then send it where it is an alarm, with what --drift has to say."""
    drift = DriftWatch() if arguments.drift else None
    notifier = make_notifier(arguments.notify) if arguments.notify else None
    if drift is not None:
        for row in results.earlier:
            if not row.get("error") and rests_on(row, scorer.options()):
                drift.take(row)
    try:
        for row in rows:
            if drift is not None:
                row = {**row, "drift": drift.take(row)}
            results.add(row)
            if notifier is not None and (row.get("verdict") == "anomalous" or row.get("drift")):
                notifier.send(row)
    finally:
        if notifier is not None:
            notifier.finish()


def make_notifier(address: str) -> "Notifier":
    """Start what sends rows to an address.

    Raises:
        ImportError: httpx is not installed. Only this option needs it.
    """
    try:
        from .notify import Notifier
    except ImportError:
        raise ImportError("--notify needs httpx: pip install httpx") from None
    return Notifier(address)
