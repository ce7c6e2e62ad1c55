"""Relevance maps: what replacing cells does to a clip, and how the score's change is attributed to cells."""

import pytest
import torch
from known_faults import EXTRACTOR, machine, normal_level, two_faults

from modeling.relevance_attention_asd import (
    CellReplacement,
    at_normal_level,
    distance_from_normal,
    integrated_gradients,
    occlusion,
)


def test_replacing_cells_changes_waveform_and_log_mel_alike():
    clip, reference = (torch.tensor(machine(clip)).float() for clip in (1, 2))
    cells = CellReplacement(clip, reference, EXTRACTOR)
    replaced = torch.zeros(3, *cells.shape)
    replaced[1] = 1
    replaced[2, :64] = 1
    waveforms, log_mels = cells(replaced)
    assert waveforms.shape == (3, 160_000) and log_mels.shape == (3, 128, 313)
    torch.testing.assert_close(waveforms[0], clip, atol=1e-6, rtol=0)
    torch.testing.assert_close(waveforms[1], reference, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_mels, EXTRACTOR.log_mel(waveforms))
    torch.testing.assert_close(log_mels[2, :60], log_mels[1, :60], atol=0.1, rtol=0)
    torch.testing.assert_close(log_mels[2, 68:], log_mels[0, 68:], atol=0.1, rtol=0)


def test_normal_level_takes_the_fault_away_and_leaves_normal_sound():
    mean, std = (torch.tensor(level) for level in normal_level())
    fault = two_faults()
    restored = EXTRACTOR.log_mel(at_normal_level(fault, mean, std, EXTRACTOR))
    in_fault = (slice(98, 112), slice(190, 247))
    assert (EXTRACTOR.log_mel(fault) - mean[:, None])[in_fault].mean() > 15
    assert (restored - mean[:, None])[in_fault].abs().mean() < 3
    normal = torch.tensor(machine(100)).float()
    difference = EXTRACTOR.log_mel(at_normal_level(normal, mean, std, EXTRACTOR)) - EXTRACTOR.log_mel(normal)
    assert difference.abs().median() < 1.0


def test_integrated_gradients_add_up_to_the_change_of_the_score(small_model, small_extractor, noise):
    model, (clip, reference) = small_model(), noise(2)
    cells = CellReplacement(clip, reference, small_extractor)
    label = torch.tensor([1])

    def score(values, features):
        return model(values, features, labels=label.expand(len(values))).anomaly_scores

    relevance = integrated_gradients(score, cells, steps=64)
    with torch.no_grad():
        ends = score(*cells(torch.stack([torch.zeros(cells.shape), torch.ones(cells.shape)])))
    assert relevance.shape == cells.shape == (128, 32)
    assert relevance.sum().item() == pytest.approx((ends[0] - ends[1]).item(), rel=0.05)


def test_occlusion_has_the_clips_shape_and_needs_no_gradient(small_model, small_extractor, noise):
    model, (clip, reference) = small_model(), noise(2)
    cells = CellReplacement(clip, reference, small_extractor)
    distance = distance_from_normal(small_extractor.log_mel(clip), torch.full((128,), -30.0), torch.full((128,), 3.0))
    relevance = occlusion(lambda values, features: model(values, features).anomaly_scores.detach(), cells, distance)
    assert relevance.shape == (128, 32) and (relevance >= 0).all() and torch.isfinite(relevance).all()
