"""The network: size, configurations, losses, initial weights, saving, precision, compilation and checkpointing."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modeling import AttentionAsdConfig, AttentionAsdModel
from modeling.gradients_attention_asd import AttentionAsdConv2d, AttentionAsdPReLU
from modeling.modeling_attention_asd import spectral_statistics
from modeling.outputs_attention_asd import SPECTRA_ROWS


def count(**changes) -> int:
    return sum(parameter.numel() for parameter in AttentionAsdModel(AttentionAsdConfig(**changes)).parameters())


def inputs(model: AttentionAsdModel, extractor, waveforms: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(extractor(list(waveforms), sampling_rate=16_000))


def test_the_default_has_the_parameters_of_the_published_network_without_its_unused_head():
    assert count() == 879_087


@pytest.mark.parametrize(
    ("changes", "published"),
    [
        ({"input_representations": ["log_mel"]}, None),
        ({"input_representations": ["wavegram"]}, None),
        ({"embedding_size": 64}, None),
        ({"embedding_size": 256}, None),
        ({"use_separable_convolutions": False, "use_attention": False}, 1_000_000),
        ({"use_separable_convolutions": False}, 1_000_000),
        ({"use_attention": False}, 882_000),
    ],
    ids=str,
)
def test_every_row_of_tables_3_and_4_is_a_configuration(changes, published):
    # The paper counts the linear head of 5,289 parameters that its result does not use.
    parameters = count(**changes)
    assert published is None or abs(parameters + 5_289 - published) / published < 0.03


@pytest.mark.parametrize("changes", [{"input_representations": ["log_mel"]}, {"use_attention": False}, {}], ids=str)
def test_the_pooling_kernel_fits_clips_of_any_length(small_model, small_extractor, noise, changes):
    for clip_length in (16_000, 24_321):
        model = small_model(clip_length=clip_length, **changes)
        small_extractor.clip_length = clip_length
        output = model(**inputs(model, small_extractor, noise(2, clip_length)))
        assert output.embeddings.shape == (2, 16)
        assert output.logits.shape == (2, 3)


def test_the_attention_map_lies_between_a_half_and_one(small_model, small_extractor, noise):
    model = small_model()
    maps = model(**inputs(model, small_extractor, noise())).attention_maps
    assert maps.shape == (2, 2, 128, 32)
    assert maps.min() >= 0.5 and maps.max() <= 1.0 and maps.std() > 0


def test_without_labels_the_score_is_the_smallest_over_the_machine_ids_and_says_whose(
    small_model, small_extractor, noise
):
    model = small_model()
    batch = inputs(model, small_extractor, noise(4))
    free = model(**batch)
    claimed = torch.stack([model(**batch, labels=torch.full((4,), k)).anomaly_scores for k in range(3)], 1)
    smallest = claimed.min(1)
    torch.testing.assert_close(free.anomaly_scores, smallest.values)
    assert torch.equal(free.scored_labels, smallest.indices)
    assert free.loss is None


def test_with_labels_the_score_is_arcfaces_cross_entropy_with_its_margin(small_model, small_extractor, noise):
    model = small_model()
    labels = torch.tensor([2, 0])
    output = model(**inputs(model, small_extractor, noise()), labels=labels)
    angles = torch.acos(output.cosines)
    expected = 40.0 * output.cosines
    for row, label in enumerate(labels):
        expected[row, label] = 40.0 * torch.cos(angles[row, label] + 0.7)
    torch.testing.assert_close(output.margin_logits, expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(
        output.anomaly_scores, F.cross_entropy(expected, labels, reduction="none"), atol=1e-3, rtol=1e-4
    )
    torch.testing.assert_close(output.loss, output.anomaly_scores.mean())


def test_logits_are_the_scaled_cosines_with_and_without_labels(small_model, small_extractor, noise):
    model = small_model()
    batch = inputs(model, small_extractor, noise())
    free, claimed = model(**batch), model(**batch, labels=torch.tensor([2, 0]))
    assert torch.equal(free.logits, 40.0 * free.cosines) and torch.equal(free.logits, claimed.logits)
    assert free.margin_logits is None


def test_the_margin_keeps_falling_beyond_pi_minus_m(small_model):
    arcface = small_model().arcface
    cosines = torch.linspace(-1, 1, 1001).unsqueeze(1)
    logits = arcface.logits(cosines, torch.zeros(1001, dtype=torch.long)).squeeze(1)
    assert (logits.diff() > 0).all()
    end = 40.0 * (-1.0 - 0.7 * math.sin(math.pi - 0.7))
    assert logits[0].item() == pytest.approx(end, abs=1e-3)


def test_noisy_arcmix_keeps_the_margin_on_the_own_label_and_arcmix_moves_it(small_model, small_extractor, noise):
    labels, partner, share = torch.tensor([0, 1, 2, 1]), torch.tensor([1, 2, 3, 0]), 0.3
    losses = {}
    for name in ("noisy_arcmix", "arcmix"):
        model = small_model(angular_loss=name)
        batch = inputs(model, small_extractor, noise(4))
        output = model(**batch, labels=labels, mixup_partner=partner, mixup_lambda=share)
        own = model.arcface.logits(output.cosines, labels)
        theirs = own if name == "noisy_arcmix" else model.arcface.logits(output.cosines, labels[partner])
        expected = share * F.cross_entropy(own, labels) + (1 - share) * F.cross_entropy(theirs, labels[partner])
        torch.testing.assert_close(output.loss, expected)
        losses[name] = output.loss.item()
    assert losses["noisy_arcmix"] != losses["arcmix"]


def test_arcface_refuses_mixed_clips(small_model, small_extractor, noise):
    model = small_model(angular_loss="arcface")
    batch = inputs(model, small_extractor, noise())
    labels = torch.tensor([0, 1])
    assert model(**batch, labels=labels).loss > 0
    with pytest.raises(ValueError, match="arcface"):
        model(**batch, labels=labels, mixup_partner=torch.tensor([1, 0]), mixup_lambda=0.5)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"input_representations": ["mfcc"]}, "mfcc"),
        ({"input_representations": []}, "input_representations"),
        ({"angular_loss": "softmax"}, "softmax"),
        ({"clip_length": 100}, "100"),
        ({"clip_length": 4095}, "4095 samples: 8 frames"),
        ({"wavegram_kernel_size": 1023}, "1023"),
    ],
    ids=str,
)
def test_an_impossible_configuration_is_refused_by_its_value(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        AttentionAsdConfig(**changes)


@pytest.mark.parametrize("frames", [9, 50])
def test_spectra_are_mean_deviation_and_changes_of_every_bin(frames):
    log_mel = np.random.default_rng([5]).normal(-40.0, 6.0, size=(2, 4, frames)).cumsum(2)
    expected = {"mean": log_mel.mean(2), "std": log_mel.std(2)}
    for lag in (1, 2, 4, 8):
        changes = [log_mel[..., t + lag] - log_mel[..., t] for t in range(frames - lag)]
        expected[f"lag{lag}"] = np.sqrt(np.mean(np.square(changes), axis=0))
    spectra = spectral_statistics(torch.from_numpy(log_mel))
    assert spectra.dtype == torch.float32 and list(expected) == list(SPECTRA_ROWS)
    np.testing.assert_allclose(spectra, np.stack(list(expected.values()), axis=1), rtol=1e-4)


def test_spectra_of_silence_are_finite_and_have_a_gradient():
    silence = torch.full((1, 4, 20), -100.0, requires_grad=True)
    spectra = spectral_statistics(silence)
    torch.testing.assert_close(spectra[:, 1:], torch.full((1, 5, 4), 1e-4))
    spectra.sum().backward()
    assert silence.grad is not None and silence.grad.isfinite().all()


def test_a_missing_or_misshapen_input_is_refused_by_its_name(small_model, small_extractor, noise):
    model = small_model()
    batch = inputs(model, small_extractor, noise())
    with pytest.raises(ValueError, match="input_values is missing"):
        model(input_features=batch["input_features"])
    with pytest.raises(ValueError, match=r"input_features has shape \(2, 128, 31\)"):
        model(input_values=batch["input_values"], input_features=batch["input_features"][..., :31])


def test_the_initial_weights_are_distributed_as_the_authors():
    torch.manual_seed(0)
    weights = AttentionAsdModel(AttentionAsdConfig()).state_dict()
    for layer in ("head", "bottlenecks.3.expand", "stem_depthwise"):
        weight = weights[f"backbone.{layer}.conv.weight"]
        out_channels, _, kernel_size, _ = weight.shape
        assert weight.std().item() == pytest.approx(math.sqrt(2.0 / (kernel_size**2 * out_channels)), rel=0.1)
    bound = math.sqrt(6.0 / (41 + 128))
    assert weights["arcface.weight"].abs().max().item() == pytest.approx(bound, rel=0.02)
    assert (weights["backbone.stem.activation.weight"] == 0.25).all()
    pointwise = weights["attention.layers.3.pointwise.weight"]
    assert pointwise.abs().max().item() == pytest.approx(1 / math.sqrt(16), rel=0.05)


def test_save_and_load_keeps_every_number(small_model, small_extractor, noise, tmp_path):
    model = small_model()
    batch = inputs(model, small_extractor, noise())
    model.save_pretrained(tmp_path)
    loaded = AttentionAsdModel.from_pretrained(tmp_path)
    assert model.state_dict().keys() == loaded.state_dict().keys()
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    # Weights mapped from a file have another alignment in memory, and kernels then round in another way.
    torch.testing.assert_close(model(**batch).logits, loaded(**batch).logits, atol=1e-4, rtol=0)
    assert list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob("*.bin"))


def test_no_buffer_is_lost_by_from_pretrained():
    model = AttentionAsdModel(AttentionAsdConfig(clip_length=16_000))
    assert {name for name, _ in model.named_buffers()} <= model.state_dict().keys()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_gives_nearly_the_same_cosines(small_model, small_extractor, noise, tmp_path, dtype):
    model = small_model()
    batch = inputs(model, small_extractor, noise(4))
    model.save_pretrained(tmp_path)
    half = AttentionAsdModel.from_pretrained(tmp_path, dtype=dtype)
    output = half(**batch)
    assert output.embeddings.dtype == dtype and output.logits.dtype == torch.float32
    torch.testing.assert_close(output.cosines, model(**batch).cosines, atol=0.05, rtol=0)


def test_cosines_and_scores_stay_in_float32_under_autocast(small_model, small_extractor, noise):
    model = small_model()
    batch = inputs(model, small_extractor, noise())
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch, labels=torch.tensor([0, 1]))
    assert output.cosines.dtype == output.logits.dtype == output.anomaly_scores.dtype == torch.float32
    assert output.embeddings.dtype == torch.bfloat16


def test_a_model_loaded_with_a_device_map_gives_the_same_logits(small_model, small_extractor, noise, tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    placed = AttentionAsdModel.from_pretrained(tmp_path, device_map="auto")
    batch = inputs(model, small_extractor, noise())
    torch.testing.assert_close(placed(**batch).logits.cpu(), model(**batch).logits)


@pytest.mark.slow
def test_the_network_compiles_into_one_graph(small_model, small_extractor, noise):
    model = small_model()
    batch = inputs(model, small_extractor, noise())
    labels = torch.tensor([0, 2])
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(**batch, labels=labels).logits, model(**batch, labels=labels).logits, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("changes", [{}, {"input_representations": ["log_mel"]}], ids=str)
def test_gradient_checkpointing_changes_neither_gradients_nor_running_statistics(
    small_model, small_extractor, noise, changes, use_reentrant
):
    states, gradients = [], []
    for checkpointing in (False, True):
        model = small_model(**changes).train()
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable({"use_reentrant": use_reentrant})
        model(**inputs(model, small_extractor, noise(4)), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        states.append(model.state_dict())
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_training_takes_a_batch_of_one_clip_with_the_running_statistics_of_the_last_layers(
    small_model, small_extractor, noise
):
    model = small_model().train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(**inputs(model, small_extractor, noise(1)), labels=torch.tensor([1])).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    kept = {name for name, buffer in model.named_buffers() if torch.equal(buffer, before[name])}
    assert {name.rsplit(".", 2)[0] for name in kept} == {"backbone.global_depthwise", "backbone.embedding"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prelus_faster_backward_pass_gives_pytorchs_gradients(dtype):
    generator = torch.Generator().manual_seed(0)
    prelu = AttentionAsdPReLU(4).to(dtype)
    hidden_states, grad = (torch.randn(3, 4, 7, 6, generator=generator).to(dtype) for _ in range(2))
    hidden_states.requires_grad_()
    ours = torch.autograd.grad(prelu(hidden_states), (hidden_states, prelu.weight), grad)
    theirs = torch.autograd.grad(torch.nn.PReLU.forward(prelu, hidden_states), (hidden_states, prelu.weight), grad)
    assert torch.equal(ours[0], theirs[0])
    # A slope's gradient is a sum over time and frequency. The faster one rounds before the sum.
    torch.testing.assert_close(ours[1], theirs[1], rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 11), (7, 6)], ids=str)
def test_the_halving_convolutions_bfloat16_gradients_are_float64s_rounded(size):
    generator = torch.Generator().manual_seed(0)
    conv = AttentionAsdConv2d(4, 4, 3, stride=2, padding=1, groups=4, bias=False).bfloat16()
    hidden_states = torch.randn(3, 4, *size, generator=generator).bfloat16().requires_grad_()
    output = conv(hidden_states)
    assert "HalvingDepthwiseOnCpu" in output.grad_fn.name()
    grad = torch.randn(output.shape, generator=generator).bfloat16()
    values, weight = (tensor.detach().double().requires_grad_() for tensor in (hidden_states, conv.weight))
    exact = F.conv2d(values, weight, stride=2, padding=1, groups=4)
    expected = torch.autograd.grad(exact, (values, weight), grad.double())
    computed = torch.autograd.grad(output, (hidden_states, conv.weight), grad)
    # bfloat16 has 8 significant bits: half a step is 2**-9 of the value.
    for ours, true in zip((output, *computed), (exact, *expected), strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=2**-8, atol=2**-8)


def test_pytorchs_own_convolution_computes_all_but_bfloat16_training():
    hidden_states = torch.randn(1, 4, 8, 8).requires_grad_()
    conv = AttentionAsdConv2d(4, 4, 3, stride=2, padding=1, groups=4, bias=False)
    assert "Halving" not in conv(hidden_states).grad_fn.name()
    assert "Halving" not in conv.bfloat16().eval()(hidden_states.bfloat16()).grad_fn.name()


def test_transformers_audio_classification_pipeline_names_the_machine(small_model, small_extractor, noise, tmp_path):
    from transformers import pipeline

    model = small_model()
    model.save_pretrained(tmp_path)
    small_extractor.save_pretrained(tmp_path)
    classify = pipeline("audio-classification", model=str(tmp_path), trust_remote_code=True)
    answer = classify(noise(1)[0].numpy(), top_k=3)
    assert {entry["label"] for entry in answer} == {"fan_id_00", "fan_id_02", "pump_id_00"}
    expected = model.config.id2label[model(**inputs(model, small_extractor, noise(1))).scored_labels.item()]
    assert answer[0]["label"] == expected
