"""The back ends: each tells anomalies from normal clips, and the paper's score is the network's."""

import numpy as np
import pytest
import torch
from machine_world import NAMES, SIZE, World
from sklearn.metrics import roc_auc_score

from modeling import AnomalyDetector, AttentionAsdConfig, AttentionAsdModel
from modeling.backends_attention_asd import BACKENDS


@pytest.mark.parametrize("backend", BACKENDS)
def test_back_end_tells_anomalies_from_normal_clips(backend):
    world = World()
    detector = world.detector()
    for machine, name in enumerate(NAMES):
        normal = detector.scores(world.clips(machine, 100), name, backend)
        anomalous = [detector.scores(world.clips(machine, 10, fault=1.0), name, backend) for _ in range(10)]
        assert roc_auc_score([0] * 100 + [1] * 100, torch.cat([normal, *anomalous])) > 0.9


def test_arcface_scores_are_those_of_the_network():
    config = AttentionAsdConfig(
        clip_length=16_000,
        input_representations=["log_mel"],
        use_attention=False,
        bottlenecks=[[1, 16, 1, 2]],
        stem_channels=8,
        head_channels=32,
        embedding_size=SIZE,
        id2label=dict(enumerate(NAMES)),
    )
    torch.manual_seed(0)
    model = AttentionAsdModel(config).eval()
    features = 10 * torch.randn(24, 128, 32)
    labels = torch.arange(24) % len(NAMES)
    with torch.no_grad():
        outputs = model(input_features=features, labels=labels)
    names = np.array([NAMES[label] for label in labels])
    detector = AnomalyDetector.fit(config, outputs, names, np.arange(24) >= 12)
    for name in NAMES:
        scores = detector.scores(outputs, name, "arcface").float()[names == name]
        torch.testing.assert_close(scores, outputs.anomaly_scores[names == name], rtol=1e-5, atol=1e-5)


def test_a_detector_without_spectra_offers_the_back_ends_that_need_none_and_takes_the_papers():
    assert World().detector().backends == BACKENDS
    assert set(BACKENDS) - set(World().detector(with_spectra=False).backends) == {"spectrum"}
    assert (World().detector().backend, World().detector(with_spectra=False).backend) == ("spectrum", "arcface")


def test_the_default_back_end_is_changed_in_a_detector_of_the_same_machines():
    world = World()
    detector = world.detector()
    other, clips = detector.with_backend("gmm"), world.clips(0, 3)
    assert (detector.backend, other.backend, other.machines) == ("spectrum", "gmm", detector.machines)
    assert torch.equal(other.scores(clips, NAMES[0]), detector.scores(clips, NAMES[0], "gmm"))
    with pytest.raises(ValueError, match="expected one of arcface"):
        detector.with_backend("vibes")
