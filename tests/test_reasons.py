"""Reasons: the regions that a score depends on, in words."""

import sys
from pathlib import Path

import pytest
import torch
from known_faults import EXTRACTOR, RATE, normal_level, two_faults
from transformers.dynamic_module_utils import get_imports

import modeling
from modeling.reasons_attention_asd import find_reasons, sentence


def high_hiss_in_log_mel(input_values: torch.Tensor, input_features: torch.Tensor) -> torch.Tensor:
    return input_features[:, 98:112, 187:250].mean((1, 2))


def high_hiss_in_waveform(input_values: torch.Tensor, input_features: torch.Tensor) -> torch.Tensor:
    spectrum = torch.fft.rfft(input_values[:, 6 * RATE : 8 * RATE])
    return spectrum[:, 8000:12000].abs().square().mean(1).log()


def without_gradient(input_values: torch.Tensor, input_features: torch.Tensor) -> torch.Tensor:
    return high_hiss_in_waveform(input_values, input_features).detach()


@pytest.mark.parametrize("score", [high_hiss_in_log_mel, high_hiss_in_waveform, without_gradient])
def test_only_the_fault_that_the_score_depends_on_is_a_reason(score):
    regions = find_reasons(score, two_faults(), *normal_level(), EXTRACTOR)
    assert len(regions) == 1
    assert regions[0].kind == "hiss"
    assert regions[0].low_hz > 3500 and regions[0].high_hz < 6700
    assert regions[0].start_s > 5.5 and regions[0].end_s < 8.5


def test_reasons_are_the_same_each_time():
    first, second = (find_reasons(high_hiss_in_waveform, two_faults(), *normal_level(), EXTRACTOR) for _ in range(2))
    assert first == second


def test_silence_is_explained_as_a_level_drop():
    def loudness(values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return -values.square().mean(1)

    regions = find_reasons(loudness, torch.zeros(160_000), *normal_level(), EXTRACTOR)
    assert {region.kind for region in regions} == {"level drop"}
    assert all(-100 < region.level_db < -20 for region in regions)


def test_a_clip_without_regions_is_said_to_have_none():
    assert sentence([]) == "Nothing in this clip stands out from this machine's normal level."


@pytest.mark.parametrize("name", ["relevance", "periods", "bands", "regions", "reasons"])
def test_the_modules_go_to_the_hub_without_further_dependencies(name):
    module = Path(modeling.__file__).with_name(f"{name}_attention_asd.py")
    assert set(get_imports(module)) - set(sys.stdlib_module_names) <= {"numpy", "torch"}
