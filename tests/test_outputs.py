"""The clips that the detector takes: made of the network's outputs, some of them, many together."""

import numpy as np
import pytest
import torch

from modeling import AttentionAsdOutput, ClipOutputs


@pytest.fixture
def clips():
    generator = torch.Generator().manual_seed(0)
    return ClipOutputs(*(torch.randn(5, *size, generator=generator) for size in ((4,), (3,), (6, 2))))


def test_clip_outputs_are_the_networks_without_the_maps():
    output = AttentionAsdOutput(
        embeddings=torch.ones(2, 4).bfloat16(), cosines=torch.ones(2, 3), attention_maps=torch.ones(2, 2, 8, 8)
    )
    clips = ClipOutputs.of(output)
    assert len(clips) == 2 and clips.spectra is None and clips.embeddings.dtype == torch.float32
    assert ClipOutputs.of(clips) is clips


def test_gradients_go_through(clips):
    embeddings = clips.embeddings.clone().requires_grad_()
    given = AttentionAsdOutput(embeddings=embeddings, cosines=clips.cosines, spectra=clips.spectra)
    ClipOutputs.of(given)[1:].embeddings.sum().backward()
    assert embeddings.grad.sum(1).tolist() == [0, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (2, [2]),
        (-1, [4]),
        (slice(1, 3), [1, 2]),
        ([3, 0], [3, 0]),
        (np.array([True, False, False, True, False]), [0, 3]),
        (torch.tensor([4]), [4]),
    ],
)
def test_some_clips_are_taken_by_number_slice_or_mask(clips, index, expected):
    taken = clips[index]
    for name in ("embeddings", "cosines", "spectra"):
        assert torch.equal(getattr(taken, name), getattr(clips, name)[expected])


def test_parts_are_concatenated_in_their_order(clips):
    together = ClipOutputs.concatenate([clips[:2], clips[2:]])
    assert torch.equal(together.embeddings, clips.embeddings) and torch.equal(together.spectra, clips.spectra)
    without = ClipOutputs(clips.embeddings, clips.cosines)
    assert ClipOutputs.concatenate([clips, without]).spectra is None


def test_clips_that_are_not_finite_are_known():
    spectra = torch.zeros(3, 6, 2)
    spectra[1, 2, 0] = torch.inf
    embeddings = torch.zeros(3, 4)
    embeddings[2, 0] = torch.nan
    assert ClipOutputs(embeddings, torch.zeros(3, 2), spectra).is_finite.tolist() == [True, False, False]


@pytest.mark.parametrize(
    "shapes", [((4, 8), (3, 2), None), ((4, 8), (4,), None), ((4, 8), (4, 2), (4, 3, 9)), ((4, 8), (4, 2), (3, 6, 9))]
)
def test_arrays_that_do_not_match_are_refused_with_their_shapes(shapes):
    with pytest.raises(ValueError, match="expected \\(clips, embedding_size\\)"):
        ClipOutputs(*(None if shape is None else torch.zeros(shape) for shape in shapes))
