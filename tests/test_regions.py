"""The regions in which a clip differs from normal: kind, band, time, period and level, and the sentence about them."""

import numpy as np
import pytest
import torch
from known_faults import EXTRACTOR, TIME, band_pass, impacts, machine, normal_level, raised_to, two_faults

from modeling.reasons_attention_asd import sentence
from modeling.regions_attention_asd import Region, find_regions


def regions_of(waveform: np.ndarray, max_regions: int = 3) -> list[Region]:
    """The regions of a waveform by its level alone."""
    return find_regions(torch.tensor(waveform), *normal_level(), EXTRACTOR, max_regions=max_regions)


def test_slow_impacts_are_told_with_their_period_band_and_level():
    times = np.arange(0.15, 9.9, 0.31)
    regions = regions_of(raised_to(impacts(times, 2000, 6000), 14, times, 2000, 6000))
    assert [region.kind for region in regions] == ["impacts"]
    region = regions[0]
    assert region.period_s == pytest.approx(0.31, rel=0.05)
    assert region.low_hz == pytest.approx(2000, rel=0.1) and region.high_hz == pytest.approx(6000, rel=0.1)
    assert region.level_db == pytest.approx(14, abs=3)
    words = sentence(regions)
    assert words.startswith("Broadband impacts every 0.31 s from ")
    assert words.endswith(" dB above this machine's normal.")


def test_impacts_a_little_irregular_are_found_by_their_level():
    jitter = np.random.default_rng(1).uniform(-0.02, 0.02, 12)
    times = np.arange(0.4, 9.8, 0.8)[:12] + jitter
    (region,) = regions_of(raised_to(impacts(times, 2000, 6000), 14, times, 2000, 6000))
    assert region.kind == "impacts" and region.period_s == pytest.approx(0.8, rel=0.05)


def test_impacts_faster_than_the_frames_are_found_in_the_envelope():
    times = np.arange(0.01, 9.98, 1 / 87)
    (region,) = regions_of(raised_to(impacts(times, 2500, 5000), 12, np.arange(0.2, 9.8, 0.1), 2500, 5000))
    assert region.kind == "impacts"
    assert region.period_s == pytest.approx(1 / 87, rel=0.05)
    assert "impacts 87 times a second" in sentence([region])


def test_a_leak_is_a_hiss_with_its_time_band_and_level():
    inside = (TIME > 2) & (TIME < 7)
    hiss = band_pass(np.random.default_rng(5).standard_normal(len(TIME)), 3000, 6500) * inside
    (region,) = regions_of(raised_to(hiss, 9, np.arange(2.2, 6.8, 0.1), 3000, 6500))
    assert region.kind == "hiss" and region.period_s is None
    assert (region.start_s, region.end_s) == pytest.approx((2, 7), abs=0.2)
    assert (region.low_hz, region.high_hz) == pytest.approx((3000, 6500), rel=0.1)
    assert region.level_db == pytest.approx(9, abs=3)
    assert sentence([region]).startswith("Broadband hiss from ") and sentence([region]).endswith(", from 2.0 to 7.0 s.")


def test_a_band_that_falls_silent_is_a_level_drop():
    clip = machine(100)
    clip = clip - (1 - 10 ** (-10 / 20)) * band_pass(clip, 1000, 4000)
    (region,) = regions_of(clip)
    assert region.kind == "level drop"
    assert region.level_db == pytest.approx(-10, abs=3)
    assert (region.low_hz, region.high_hz) == pytest.approx((1000, 4000), rel=0.1)
    assert region.intervals_s == ()
    assert sentence([region]) == "Level drop from 1 to 4 kHz, 10 dB below this machine's normal."


def test_tones_and_their_common_fundamental_are_named():
    tone = 0.003 * np.sin(2 * np.pi * 1200 * TIME)
    (region,) = regions_of(machine(100) + tone)
    assert region.kind == "tone" and region.low_hz < 1200 < region.high_hz
    assert "Tone at 1.2 kHz" in sentence([region])
    series = sum(0.003 * np.sin(2 * np.pi * order * 600 * TIME + order) for order in (1, 2, 3, 4))
    (region,) = regions_of(machine(100) + series)
    assert region.kind == "harmonics"
    assert region.period_s == pytest.approx(1 / 600, rel=0.05)


def test_scrapes_at_irregular_times_are_bursts():
    scrapes = np.zeros(len(TIME))
    for start, length in ((0.9, 0.12), (2.1, 0.2), (5.3, 0.1), (6.0, 0.15), (8.8, 0.18)):
        scrapes += (start <= TIME) & (start + length > TIME)
    noise = band_pass(np.random.default_rng(9).standard_normal(len(TIME)), 1500, 4000)
    (region,) = regions_of(machine(100) + 0.02 * scrapes * noise)
    assert region.kind == "bursts" and region.period_s is None
    assert [start for start, _ in region.intervals_s] == pytest.approx([0.9, 2.1, 5.3, 6.0, 8.8], abs=0.1)
    assert sentence([region]).startswith("5 irregular bursts from ")


@pytest.mark.parametrize("clip", range(100, 105))
def test_a_normal_clip_has_no_region(clip):
    assert regions_of(machine(clip)) == []


def test_at_most_so_many_regions_are_returned_the_most_relevant_first():
    both = regions_of(two_faults().double().numpy())
    assert len(both) == 2 and both[0].share >= both[1].share
    assert regions_of(two_faults().double().numpy(), max_regions=1) == both[:1]
