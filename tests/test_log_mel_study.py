"""The network and the detector of clips that are log-mels alone."""

import numpy as np
import pytest
import torch

from evaluation.loading import load_model
from research.reproduction.log_mel_bank import LogMelBank
from research.reproduction.log_mel_study import train_on_log_mels


def test_log_mels_are_mixed_by_power(small_extractor):
    bank = LogMelBank(np.stack([np.full((128, 32), -20.0), np.full((128, 32), -40.0)]).astype(np.float32), [0, 1])
    samples, labels = bank.fetch([0, 1])
    assert labels.tolist() == [0, 1]
    mixed = bank.inputs(samples, small_extractor, 0.5, torch.tensor([1, 0]))["input_features"]
    expected = 10 * np.log10(0.25 * 1e-2 + 0.25 * 1e-4)
    assert torch.allclose(mixed, torch.full_like(mixed, expected), atol=1e-4)
    assert torch.equal(bank.inputs(samples, small_extractor)["input_features"], samples)


@pytest.mark.slow
def test_log_mels_alone_train_a_detector(tmp_path):
    generator = np.random.default_rng([0])
    levels = generator.normal(-40, 5, size=(2, 128, 1))
    log_mels = np.concatenate([level + generator.normal(size=(8, 128, 20)) for level in levels])
    np.savez(tmp_path / "train.npz", log_mel=log_mels.astype(np.float16), machine_id=np.repeat([1, 2], 8))
    folder = tmp_path / "model"
    assert train_on_log_mels(tmp_path / "train.npz", folder, epochs=1, batch_size=4, progress=False) > 0
    loaded = load_model(folder)
    detector = loaded.detector
    assert detector is not None
    assert detector.machines == ["ToyCar_id_01", "ToyCar_id_02"] and detector.backend == "spectrum"
    normal = torch.from_numpy(log_mels[:1]).float()
    faulty = normal.clone()
    faulty[:, 40:60] += 6.0
    with torch.no_grad():
        outputs = loaded.model(input_features=torch.cat([normal, faulty]))
    scores = detector.scores(outputs, "ToyCar_id_01")
    assert scores[1] > 2 * scores[0]
    np.savez(tmp_path / "wrong.npz", log_mel=log_mels)
    with pytest.raises(ValueError, match="no array machine_id"):
        train_on_log_mels(tmp_path / "wrong.npz", tmp_path / "other")
