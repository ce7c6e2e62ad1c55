"""A sample of the reliability programme (`python -m research.reliability`): damage, kills and hostile exports are survived."""

import io
import mmap
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from tqdm.auto import tqdm

from evaluation.command import run
from feature_extraction import AttentionAsdFeatureExtractor
from feature_extraction.unfinished_attention_asd import NamelessFile
from research.reliability.__main__ import PARTS, main
from research.reliability.arrivals import Arrival
from research.reliability.compiled import CraftedExports
from research.reliability.full_disk import FullDisk, fill, small_disk
from research.reliability.kills import Kills, TwoAtOnce
from research.reliability.load import Measured
from research.reliability.model_files import ModelFiles
from research.reliability.processes import Forked
from research.reliability.small_model import write_recordings
from research.reliability.sounds import Sounds
from research.reliability.trials import try_cases
from research.reliability.watch_load import fits
from training.waveform_bank import WaveformBank


SEED = 1
EXTRACTOR = AttentionAsdFeatureExtractor(clip_length=16_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a model that parts of the programme share."""
    return tmp_path_factory.mktemp("reliability")


def count(tally, outcome: str) -> int:
    return sum(counts[outcome] for counts in tally.outcomes.values())


def test_damaged_sound_files_of_every_format_are_read_or_refused_in_one_sentence(tmp_path):
    tally = try_cases(Sounds(SEED, tmp_path), range(1500))
    assert not tally.failures
    assert count(tally, "read") > 300 and count(tally, "refused") > 300


def test_damaged_files_of_a_model_are_loaded_or_refused_by_name_and_never_give_nan(folder):
    tally = try_cases(ModelFiles(SEED, folder, engines=()), range(50))
    assert not tally.failures
    assert count(tally, "refused at loading") > 10 and count(tally, "loaded and judged") > 10


def test_scoring_and_saving_that_are_killed_lose_nothing_and_mix_nothing(folder):
    tally = try_cases(Kills(SEED, folder, ("score", "save")), range(4))
    assert not tally.failures and count(tally, "killed, ended as if undisturbed") > 3


def test_two_processes_on_one_output_both_end_or_one_is_refused(folder):
    tally = try_cases(TwoAtOnce(SEED, folder, ("score", "save")), range(2))
    assert not tally.failures and tally.cases == 2


def test_on_a_full_disk_old_files_stay_whole_and_the_error_names_what_was_written(folder):
    try:
        part = FullDisk(SEED, folder, ("score", "save"))
    except ImportError as error:
        pytest.skip(str(error))
    tally = try_cases(part, range(2))
    assert not tally.failures and count(tally, "refused, then ended as if undisturbed") == 2


def _decode(recordings: list[str], folder: Path) -> None:
    run(lambda: WaveformBank(recordings, [0] * 12, EXTRACTOR, folder, False).clip_length * 0)


def test_a_disk_without_room_for_the_decoded_clips_is_an_error_and_kills_nobody(tmp_path):
    recordings = sorted(map(str, write_recordings(tmp_path / "recordings", clips=4).rglob("*.wav")))
    try:
        with small_disk(tmp_path / "disk") as disk:
            fill(disk, left=64_000)
            # A process of its own, which a signal would end.
            bank = Forked(_decode, recordings, disk)
            assert bank.wait() == 2 and "The disk is full" in bank.output, bank.output
            assert [path.name for path in disk.iterdir()] == ["filler"]
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("said", [[], [("normal", 1.0)] * 2, [("normal", 2.0)], [("anomalous", 1.0)], ["unreadable"]])
def test_a_recording_that_is_lost_judged_twice_or_in_part_is_noticed(said):
    arrival = Arrival(0, "copied", Path("a.wav"), [("normal", 1.0)])
    assert fits(arrival, [("normal", 1.0)]) and not fits(arrival, said)


def test_memory_that_grows_while_a_program_runs_is_a_failure():
    steady, growing = (Measured(memory=[(float(i), 400.0 + rise * i) for i in range(60)]) for rise in (0.1, 3.0))
    assert not steady.finish().failures and "grew from" in growing.finish().failures[0][1]


@pytest.mark.slow
def test_crafted_exports_touch_no_memory_but_their_own(tmp_path):
    try:
        part = CraftedExports(SEED, tmp_path)
    except ImportError as error:
        pytest.skip(str(error))
    tally = try_cases(part, range(5))
    assert not tally.failures
    assert tally.outcomes["crafted export"]["run"] > 30


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(arrays(scalar_dtypes(), array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40)))
def test_any_array_is_a_recording_or_one_sentence(array):
    try:
        inputs = EXTRACTOR(array, sampling_rate=16_000)
    except ValueError as error:
        assert str(error)
        return
    assert all(np.isfinite(np.asarray(tensor)).all() for tensor in inputs.values())


@pytest.mark.parametrize("offset", [-1, 2**80])
def test_a_damaged_header_cannot_send_a_reader_out_of_its_file(offset):
    file = NamelessFile(io.BytesIO(b"RIFF"))
    assert file.seek(2) == 2 and file.seek(offset) == 2


def _end_in_a_progress_bar() -> None:
    with tqdm.get_lock():
        os.kill(os.getpid(), signal.SIGKILL)


def _show_a_progress_bar() -> None:
    list(tqdm(range(3)))


def test_a_process_that_is_killed_while_it_writes_a_progress_bar_holds_up_no_other(monkeypatch):
    monkeypatch.setattr("research.reliability.processes.PATIENCE_SECONDS", 20.0)
    list(tqdm(range(3)))  # this process has the lock of its own bars
    assert Forked(_end_in_a_progress_bar).wait() == -signal.SIGKILL
    assert Forked(_show_a_progress_bar).wait() == 0


class _Troublesome:
    """Each case of it goes wrong in another way, but the last."""

    title, cpu_seconds, seconds, starts_processes = "trouble", 5.0, 4.0, False

    def check(self, case: int) -> list[tuple[str, str]]:
        if case == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        elif case == 1:
            time.sleep(60)
        elif case == 2:
            self.held = mmap.mmap(-1, 700 * 2**20)  # new memory, whatever the allocator keeps
            self.held.write(bytes(700 * 2**20))
        elif case == 3:
            raise TypeError("no sentence")
        return [("trouble", "none")]


class _Interrupted:
    """The fourth case of it sends a signal to the programme, and would go on for long."""

    title, cpu_seconds, seconds, starts_processes = "trouble", 5.0, 60.0, False
    signal_number = signal.SIGINT

    def __init__(self, seed: int, folder: Path):
        self.number = self.signal_number

    def check(self, case: int) -> list[tuple[str, str]]:
        programme = multiprocessing.parent_process()
        assert programme and programme.pid
        if case == 3:
            os.kill(programme.pid, self.number)
            time.sleep(60)
        return [("trouble", "none")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_programme_in_the_background_that_is_ended_by_a_signal_has_written_its_table(tmp_path, monkeypatch, number):
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["reliability", "--parts", "sounds", "models", "--output", str(page)])
    monkeypatch.setattr(_Interrupted, "signal_number", number)
    monkeypatch.setitem(PARTS, "sounds", (_Interrupted, 1.0))
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert main() == 0
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert "| trouble | 3 " in page.read_text() and "ended the run early" in page.read_text()


def test_the_programme_counts_a_crash_a_hang_greed_and_an_exception_and_goes_on():
    tally = try_cases(_Troublesome(), range(5))
    assert [case for case, _ in tally.failures] == [0, 1, 2, 3]
    assert ["code -9" in tally.failures[0][1], "more than 4 s" in tally.failures[1][1]] == [True, True]
    assert "MiB" in tally.failures[2][1] and "TypeError" in tally.failures[3][1]
    assert tally.outcomes["trouble"]["none"] == 1
