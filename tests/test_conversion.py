"""The authors' checkpoint converts and gives the authors' numbers."""

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

from feature_extraction import AttentionAsdFeatureExtractor
from research.benchmarks.published_network import published_forward, random_checkpoint


# Those of ../shared/fixtures/README.md; the embedding's is relative to its norm.
TOLERANCES = {"log_mel": 0.01, "wavegram": 1e-4, "attention": 1e-4, "embedding": 1e-5, "cosine": 1e-4, "logits": 1e-2}
TOLERANCES["anomaly_score"] = 1e-2


def assert_parity(directory, expected: dict[str, np.ndarray]) -> None:
    model = AutoModel.from_pretrained(directory, trust_remote_code=True).eval()
    feature_extractor = AutoFeatureExtractor.from_pretrained(directory, trust_remote_code=True)
    inputs = feature_extractor(list(expected["waveform"]), sampling_rate=16_000)
    with torch.no_grad():
        output = model(**inputs, labels=torch.as_tensor(expected["label"]))
    computed = {
        "log_mel": inputs["input_features"],
        "wavegram": output.representations[:, 1],
        "attention": output.attention_maps,
        "embedding": output.embeddings,
        "cosine": output.cosines,
        "logits": output.margin_logits,
        "anomaly_score": output.anomaly_scores,
    }
    print()
    for name, tolerance in TOLERANCES.items():
        difference = np.abs(computed[name].numpy() - expected[name])
        if name == "embedding":
            difference = difference / np.linalg.norm(expected[name], axis=1, keepdims=True)
        print(
            f"{name:14s} {str(expected[name].shape):20s} largest difference {difference.max():.2e} (allowed {tolerance})"
        )
        assert difference.max() <= tolerance, name


def test_the_authors_fixture_is_reproduced_array_by_array(paper_fixture, run_script, tmp_path):
    done = run_script("scripts/convert_original_checkpoint.py", paper_fixture / "original.ckpt", tmp_path / "converted")
    assert done.returncode == 0, done.stderr
    assert_parity(tmp_path / "converted", dict(np.load(paper_fixture / "expected.npz")))


def test_the_reference_network_of_these_tests_is_the_authors(paper_fixture):
    expected = {key: torch.from_numpy(value) for key, value in np.load(paper_fixture / "expected.npz").items()}
    state = torch.load(paper_fixture / "original.ckpt", weights_only=True)["state_dict"]
    computed = published_forward(state, expected["waveform"], expected["log_mel"], expected["label"])
    for name, tensor in computed.items():
        scale = expected[name].norm(dim=1, keepdim=True) if name == "embedding" else 1.0
        assert ((tensor - expected[name]) / scale).abs().max() <= TOLERANCES[name], name


def test_a_checkpoint_of_random_weights_gives_the_reference_networks_numbers(run_script, tmp_path):
    checkpoint = random_checkpoint(seed=3)
    torch.save(checkpoint, tmp_path / "original.ckpt")
    done = run_script("scripts/convert_original_checkpoint.py", tmp_path / "original.ckpt", tmp_path / "converted")
    assert done.returncode == 0, done.stderr
    assert "used     216 keys" in done.stdout and "dropped    4 keys" in done.stdout

    waveform = 0.1 * torch.randn(2, 160_000, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([13, 40])
    log_mel = AttentionAsdFeatureExtractor().log_mel(waveform)
    expected = published_forward(checkpoint["state_dict"], waveform, log_mel, label)
    expected |= {"waveform": waveform, "label": label, "log_mel": log_mel}
    assert_parity(tmp_path / "converted", {name: tensor.numpy() for name, tensor in expected.items()})


def test_the_labels_name_the_authors_collision_as_it_is(run_script, tmp_path):
    torch.save(random_checkpoint(seed=0), tmp_path / "original.ckpt")
    run_script("scripts/convert_original_checkpoint.py", tmp_path / "original.ckpt", tmp_path / "converted")
    config = AutoModel.from_pretrained(tmp_path / "converted", trust_remote_code=True).config
    assert config.num_labels == 41
    assert config.id2label[0] == "fan_id_00" and config.id2label[40] == "valve_id_06"
    assert config.id2label[13] == "pump_id_06+slider_id_00" and config.id2label[20] == "unused_20"
    assert config.label2id["pump_id_06"] == config.label2id["slider_id_00"] == 13
    assert config.id2label[27] == "ToyCar_id_07" and config.id2label[28] == "ToyConveyor_id_01"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda state: state.pop("model.arcface.weight"), "arcface.weight"),
        (lambda state: state.update({"model.extra.weight": torch.zeros(1)}), "model.extra.weight"),
        (lambda state: state.update({"model.heatmap.0.pwconv.weight": torch.zeros(8, 2, 1, 1)}), "(8, 2, 1, 1)"),
    ],
    ids=["a missing key", "an unknown key", "another shape"],
)
def test_another_networks_checkpoint_is_refused_by_name(spoil, complaint, run_script, tmp_path):
    checkpoint = random_checkpoint(seed=0)
    spoil(checkpoint["state_dict"])
    torch.save(checkpoint, tmp_path / "original.ckpt")
    done = run_script("scripts/convert_original_checkpoint.py", tmp_path / "original.ckpt", tmp_path / "converted")
    assert done.returncode == 2
    assert complaint in done.stdout + done.stderr
    assert not (tmp_path / "converted").exists()


class Bomb:
    def __reduce__(self):
        return (print, ("this code ran",))


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(run_script, tmp_path):
    torch.save({"state_dict": {"model.arcface.weight": Bomb()}}, tmp_path / "original.ckpt")
    done = run_script("scripts/convert_original_checkpoint.py", tmp_path / "original.ckpt", tmp_path / "converted")
    assert done.returncode == 2
    assert "error:" in done.stderr and "this code ran" not in done.stdout
