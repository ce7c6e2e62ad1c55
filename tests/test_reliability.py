"""A sample of the reliability programme (`python -m research.reliability`): damage, kills and hostile exports are survived."""

import io
import mmap
import os
import signal
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from feature_extraction import AttentionAsdFeatureExtractor
from feature_extraction.unfinished_attention_asd import NamelessFile
from research.reliability.compiled import CraftedExports
from research.reliability.kills import Kills
from research.reliability.model_files import ModelFiles
from research.reliability.sounds import Sounds
from research.reliability.trials import try_cases


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
    tally = try_cases(ModelFiles(SEED, folder, with_export=False), range(50))
    assert not tally.failures
    assert count(tally, "refused at loading") > 10 and count(tally, "loaded and judged") > 10


def test_scoring_and_saving_that_are_killed_lose_nothing_and_mix_nothing(folder):
    tally = try_cases(Kills(SEED, folder, ("score", "save")), range(2))
    assert not tally.failures and count(tally, "killed, ended as if undisturbed") > 3


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


class _Troublesome:
    """Each case of it goes wrong in another way, but the last."""

    title, cpu_seconds, seconds = "trouble", 5.0, 4.0

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


def test_the_programme_counts_a_crash_a_hang_greed_and_an_exception_and_goes_on():
    tally = try_cases(_Troublesome(), range(5))
    assert [case for case, _ in tally.failures] == [0, 1, 2, 3]
    assert ["code -9" in tally.failures[0][1], "more than 4 s" in tally.failures[1][1]] == [True, True]
    assert "MiB" in tally.failures[2][1] and "TypeError" in tally.failures[3][1]
    assert tally.outcomes["trouble"]["none"] == 1
