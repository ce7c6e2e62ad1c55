"""The compiled engine: the network's numbers for every architecture that it takes, and clear errors where it cannot run."""

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engines import native_attention_asd
from engines.native_attention_asd import SOURCE, SOURCE_SHA256, library, load_native
from engines.native_layout_attention_asd import (
    BOTTLENECK,
    LAGS,
    NETWORK,
    Bottleneck,
    Bottlenecks,
    Network,
    Number,
)
from engines.native_weights import HIGHEST, RANGES, native_network
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel, configuration_attention_asd
from modeling.digests_attention_asd import file_digest


FILE = Path(native_attention_asd.__file__).with_name(SOURCE)
OUTPUTS = ["embeddings", "cosines", "spectra", "attention_maps"]
# Largest differences of cosines: what 16 and 8 bits leave of networks with random weights.
TOLERANCES = {True: 0.003, False: 0.1}


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    """The engine in a cache of its own, so that it is compiled here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        library.cache_clear()
        yield
    library.cache_clear()


@pytest.fixture
def runs_here():
    try:
        library(FILE)
    except ImportError as error:
        pytest.skip(str(error))


def native(model, extractor, waveforms, is_wide, folder, threads=1):
    """The network, exported to a folder and loaded from there."""
    tensors, numbers = native_network(model, extractor, waveforms, is_wide)
    return loaded(tensors, numbers, folder, OUTPUTS if model.attention is not None else OUTPUTS[:3], threads)


def loaded(tensors, numbers, folder, names=OUTPUTS, threads=1):
    path = folder / "native.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return load_native([str(path), str(FILE)], names, threads, numbers)


def assert_same(outputs, expected, is_wide):
    for name in outputs:
        outputs[name] = torch.from_numpy(outputs[name])
        assert outputs[name].shape == expected[name].shape
    assert torch.allclose(outputs["cosines"], expected.cosines, atol=TOLERANCES[is_wide])
    similarity = torch.nn.functional.cosine_similarity(outputs["embeddings"], expected.embeddings)
    assert similarity.min() > (0.9999 if is_wide else 0.98)
    assert torch.allclose(outputs["spectra"], expected.spectra, atol=1e-3)
    if "attention_maps" in outputs:
        assert torch.allclose(outputs["attention_maps"], expected.attention_maps, atol=0.005)


@pytest.mark.parametrize("is_wide", RANGES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_attention": False},
        {"input_representations": ["log_mel"]},
        {"input_representations": ["wavegram", "log_mel"], "embedding_size": 24},
        {"attention_channels": [16, 64], "stem_channels": 64, "bottlenecks": [[2, 128, 2, 2], [4, 128, 2, 2]]},
    ],
)
def test_every_architecture_that_it_takes_gives_the_networks_numbers(
    runs_here, small_model, noise, tmp_path, changes, is_wide
):
    model = small_model(**changes)
    extractor = AttentionAsdFeatureExtractor(clip_length=model.config.clip_length)
    waveforms = noise(4, model.config.clip_length)
    infer = native(model, extractor, waveforms, is_wide, tmp_path)
    with torch.no_grad():
        expected = model(input_values=waveforms, input_features=extractor.log_mel(waveforms))
    assert_same(infer(waveforms.numpy()), expected, is_wide)


@pytest.mark.parametrize("clip_length", [9999, 1280], ids=["63 frames", "9 frames"])
def test_other_frames_and_bins_give_the_networks_numbers(runs_here, small_config, noise, tmp_path, clip_length):
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"clip_length": clip_length, "hop_length": 160, "num_mel_bins": 40}
    model = AttentionAsdModel(small_config(**sizes, wavegram_kernel_size=400)).eval()
    extractor = AttentionAsdFeatureExtractor(**sizes, n_fft=512)
    waveforms = noise(3, clip_length)
    infer = native(model, extractor, waveforms, True, tmp_path)
    with torch.no_grad():
        expected = model(input_values=waveforms, input_features=extractor.log_mel(waveforms))
    assert_same(infer(waveforms.numpy()), expected, True)


@pytest.mark.slow
def test_papers_network_at_full_size_gives_the_networks_numbers(runs_here, noise, tmp_path):
    torch.manual_seed(0)
    model = AttentionAsdModel(AttentionAsdConfig()).eval()
    extractor = AttentionAsdFeatureExtractor()
    waveforms = noise(2, 160_000)
    infer = native(model, extractor, waveforms, True, tmp_path)
    with torch.no_grad():
        expected = model(input_values=waveforms, input_features=extractor.log_mel(waveforms))
    assert_same(infer(waveforms.numpy()), expected, True)


@pytest.mark.parametrize("sound", ["silence", "full scale", "far louder than in calibration"])
def test_sounds_beyond_calibration_give_finite_numbers(runs_here, small_model, noise, tmp_path, sound):
    model = small_model()
    extractor = AttentionAsdFeatureExtractor(clip_length=model.config.clip_length)
    quiet = 0.001 * noise(4, model.config.clip_length)
    waveforms = {
        "silence": torch.zeros(1, model.config.clip_length),
        "full scale": torch.ones(1, model.config.clip_length),
        "far louder than in calibration": noise(1, model.config.clip_length).sign(),
    }[sound]
    outputs = native(model, extractor, quiet, True, tmp_path)(waveforms.numpy())
    assert all(np.isfinite(array).all() for array in outputs.values())
    assert np.allclose(outputs["spectra"], spectra_of(model, extractor, waveforms), atol=1e-2)


@torch.no_grad()
def spectra_of(model, extractor, waveforms):
    return model(input_values=waveforms, input_features=extractor.log_mel(waveforms)).spectra.numpy()


def test_a_batch_on_several_threads_is_its_clips_one_by_one(runs_here, small_model, noise, tmp_path):
    model = small_model()
    extractor = AttentionAsdFeatureExtractor(clip_length=model.config.clip_length)
    waveforms = noise(7, model.config.clip_length)
    infer = native(model, extractor, waveforms, False, tmp_path, threads=3)
    together = infer(waveforms.numpy())
    for index in range(7):
        alone = infer(waveforms[index : index + 1].numpy())
        assert all(np.array_equal(alone[name][0], together[name][index]) for name in OUTPUTS)


def test_no_pixels_can_make_a_sum_overflow(small_model, noise):
    model = small_model(bottlenecks=[[2, 128, 1, 2]], head_channels=512)
    extractor = AttentionAsdFeatureExtractor(clip_length=model.config.clip_length)
    for is_wide, (lowest, highest, _) in RANGES.items():
        tensors, _ = native_network(model, extractor, noise(2, model.config.clip_length), is_wide)
        weights = tensors["head.weights"].view(torch.int16 if is_wide else torch.int8)
        group = 2 if is_wide else 4
        sums = weights.view(-1, 128 // group, 64, group).long().abs().sum((1, 3)).flatten()
        largest = sums * max(highest, -lowest) + tensors["head.bias"].long().abs()
        assert largest.max() < 2**31
        stem = tensors["stem"].long().abs().sum((0, 2)) * HIGHEST + tensors["stem_bias"].long().abs()
        second = tensors["second_pointwise"].long().abs().sum(1) * HIGHEST + tensors["second_bias"].long().abs()
        assert max(stem.max(), second.max()) < 2**31


def without_attention_channels(tensors, numbers):
    numbers["attention_channels"] = 0
    for name in ("gain", "offset", "bias", "pointwise"):
        tensors[f"second_{name}"] = tensors[f"second_{name}"][:0]
    for name in ("linear", "exponential", "offset", "pointwise"):
        tensors[f"last_{name}"] = tensors[f"last_{name}"][:0]


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda tensors, numbers: tensors.update(embedding=tensors["embedding"][:-1]), "embedding is .* expected"),
        (lambda tensors, numbers: tensors.pop("head.weights"), "head.weights is missing"),
        (lambda tensors, numbers: tensors.update({"head.bias": tensors["head.bias"].float()}), "head.bias is"),
        (lambda tensors, numbers: tensors["mel_first"].fill_(10_000), "mel_first.*do not fit"),
        (lambda tensors, numbers: numbers.update(num_frames=10_000), "wrong about num_frames"),
        (lambda tensors, numbers: numbers.update({"bottlenecks.1.depthwise.stride": 7}), "bottlenecks.1.depthwise"),
        (lambda tensors, numbers: numbers.update({"bottlenecks.0.is_residual": 1}), "is_residual"),
        (lambda tensors, numbers: numbers.pop("head_channels"), "head_channels"),
        (without_attention_channels, "wrong about attention_channels"),
        (lambda tensors, numbers: numbers.update(num_labels=-5), "wrong about"),
        (lambda tensors, numbers: numbers.update(log_mel_position=10**6 - 2**32), "wrong about log_mel_position"),
        (lambda tensors, numbers: numbers.update(hop_length=512.0), "wrong about hop_length"),
        (lambda tensors, numbers: numbers.update(use_attention=0), "without attention"),
        (lambda tensors, numbers: numbers.update(num_bottlenecks=2**31 - 1), "wrong about num_bottlenecks"),
        (lambda tensors, numbers: numbers.pop("wavegram_bias"), "wrong about 'wavegram_bias'"),
        (lambda tensors, numbers: tensors.pop("mel_weights"), "mel_weights do not fit"),
        (lambda tensors, numbers: numbers.update(num_representations=2**31 - 1), "wrong about num_representations"),
        (lambda tensors, numbers: numbers.update(mel_floor=float("nan")), "wrong about mel_floor"),
        (lambda tensors, numbers: numbers.update(mel_floor=-1.0), "wrong about mel_floor"),
        (lambda tensors, numbers: tensors["mel_weights"].neg_(), "mel_weights has numbers below 0"),
        (lambda tensors, numbers: tensors["embedding"].fill_(torch.nan), "embedding is not finite"),
    ],
)
def test_weights_that_do_not_fit_are_an_error_before_anything_runs(
    runs_here, small_model, noise, tmp_path, change, named
):
    model = small_model()
    extractor = AttentionAsdFeatureExtractor(clip_length=model.config.clip_length)
    tensors, numbers = native_network(model, extractor, noise(1, model.config.clip_length), False)
    change(tensors, numbers)
    with pytest.raises(ValueError, match=rf"native.safetensors: .*{named}.*export the model again"):
        loaded(tensors, numbers, tmp_path)


def test_a_file_that_was_cut_off_is_an_error_that_says_what_to_do(runs_here, tmp_path):
    path = tmp_path / "native.safetensors"
    path.write_bytes((10_000).to_bytes(8, "little") + b"{")
    with pytest.raises(ValueError, match="native.safetensors: .*export the model again"):
        load_native([str(path), str(FILE)], OUTPUTS, 1, {})


def test_a_clip_of_another_length_is_not_read(runs_here, small_model, noise, tmp_path):
    model = small_model()
    extractor = AttentionAsdFeatureExtractor(clip_length=model.config.clip_length)
    infer = native(model, extractor, noise(1, model.config.clip_length), False, tmp_path)
    with pytest.raises(ValueError, match=rf"for clips of {model.config.clip_length} samples, which \(16,\) are not"):
        infer(np.zeros((1, 16), np.float32))


def fields_in_c(structure, fields):
    """A line of C for each field: its place and its type are those of the layout, or it does not compile."""
    yield f'_Static_assert(sizeof({structure.__name__}) == {ctypes.sizeof(structure)}, "size");'
    for field in fields:
        offset = getattr(structure, field.name).offset
        if isinstance(field, Bottlenecks):
            kind = "const Bottleneck *"
        else:
            kind = {"float32": "float"}.get(field.kind, f"{field.kind}_t")
            kind = kind if isinstance(field, Number) else f"const {kind} *"
        here = f"(({structure.__name__} *)0)->{field.name}"
        yield f'_Static_assert(offsetof({structure.__name__}, {field.name}) == {offset}, "place of {field.name}");'
        yield f'_Static_assert(__builtin_types_compatible_p(__typeof__({here}), {kind}), "type of {field.name}");'


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
def test_the_layout_is_that_of_the_c_source_field_by_field(tmp_path):
    lines = [*fields_in_c(Network, NETWORK), *fields_in_c(Bottleneck, BOTTLENECK)]
    assert LAGS == configuration_attention_asd.LAGS
    rows = f'\n_Static_assert(SPECTRA_ROWS == {2 + len(LAGS)}, "rows of the spectra");\n'
    # Whatever this processor is: nothing runs.
    command = ["cc", "-std=gnu11", "-fsyntax-only", "-march=icelake-server", "-x", "c", "-"]
    source = FILE.read_text(encoding="utf-8") + rows + "\n".join(lines)
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(lines) == 2 + 2 * (len(NETWORK) + len(BOTTLENECK))


def test_the_source_is_the_one_that_the_loader_was_written_for():
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == SOURCE_SHA256, (
        f"{SOURCE} has changed: write its new digest into {native_attention_asd.__file__}"
    )


def test_a_source_that_came_with_a_model_and_is_another_is_not_compiled(tmp_path):
    other = tmp_path / SOURCE
    other.write_bytes(FILE.read_bytes() + b"\n/* something else */\n")
    with pytest.raises(ValueError, match="not the source.*not compiled"):
        library(other)


@pytest.mark.parametrize(
    "compiler, message", [("no-such-compiler", "is no command here"), ("false", "could not compile")]
)
def test_a_compiler_that_is_missing_or_fails_is_an_error_that_says_what_to_do(tmp_path, monkeypatch, compiler, message):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    copy = tmp_path / SOURCE
    shutil.copy(FILE, copy)
    with pytest.raises(ImportError, match=rf"(?s){message}.*export the model for onnx or openvino"):
        library(copy)
    assert not list(tmp_path.glob("attention_asd/*"))


# A library whose loading leaves a trace: what another user could plant in a folder that both can write to.
PLANTED = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void run(void) { fclose(fopen(getenv("ASD_TEST_TRACE"), "w")); }
"""


@pytest.fixture
def cache(runs_here, tmp_path, monkeypatch):
    """A cache with the engine in it, and a function that loads the engine anew; returns both and where a trace would be."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ASD_TEST_TRACE", str(tmp_path / "trace"))
    # Compiled in a tenth of the time: nothing runs.
    flags = [flag.replace("-O3", "-O0") for flag in native_attention_asd.FLAGS]
    monkeypatch.setattr(native_attention_asd, "FLAGS", flags)

    def load():
        library.cache_clear()
        return library(FILE)

    load()
    (compiled,) = (tmp_path / "cache" / "attention_asd").glob("*.so")
    yield compiled, load, tmp_path / "trace"
    library.cache_clear()


def plant(path):
    """Put a library into the place of another."""
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)], input=PLANTED, text=True, check=True)


def test_the_compiled_engine_stays_in_a_cache_that_nobody_else_can_write_to(cache):
    compiled, load, _ = cache
    made = compiled.stat()
    load()
    assert compiled.stat().st_mtime_ns == made.st_mtime_ns
    assert [made.st_mode & 0o077, compiled.parent.stat().st_mode & 0o077] == [0, 0]


@pytest.mark.parametrize("damage", ["cut off", "garbage", "empty", "another library", "writable", "a link"])
def test_a_library_of_the_cache_that_is_not_what_was_compiled_is_compiled_again(cache, damage, tmp_path):
    compiled, load, trace = cache
    whole = compiled.read_bytes()
    compiled.unlink()
    if damage == "another library":
        plant(compiled)
    elif damage == "a link":
        (tmp_path / "elsewhere.so").write_bytes(whole)
        compiled.symlink_to(tmp_path / "elsewhere.so")
    else:
        compiled.write_bytes({"cut off": whole[:5000], "garbage": b"no library" * 99, "empty": b""}.get(damage, whole))
        compiled.chmod(0o777 if damage == "writable" else 0o700)
    assert load().asd_workspace_bytes
    (again,) = compiled.parent.glob("*.so")
    assert again.stat().st_mode & 0o077 == 0 and not again.is_symlink() and not trace.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("owned", ["the folder", "the library"])
def test_a_library_that_another_user_planted_is_not_loaded(cache, owned):
    compiled, load, trace = cache
    plant(compiled)
    planted = compiled.rename(compiled.with_name(f"{compiled.stem[:24]}-{file_digest(compiled)}.so"))
    os.chown(planted if owned == "the library" else planted.parent, 65534, 65534)
    assert load().asd_workspace_bytes
    assert not trace.exists()


def test_without_a_cache_that_can_be_written_to_the_engine_is_compiled_for_the_process(
    runs_here, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    library.cache_clear()
    assert library(FILE).asd_workspace_bytes
    library.cache_clear()


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
def test_a_processor_without_its_instructions_is_an_error_that_names_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flags = [flag.replace("native", "x86-64-v3") for flag in native_attention_asd.FLAGS]
    monkeypatch.setattr(native_attention_asd, "FLAGS", flags)
    copy = tmp_path / SOURCE
    shutil.copy(FILE, copy)
    with pytest.raises(ImportError, match="processors with AVX-512 VNNI.*openvino or onnx"):
        library(copy)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"use_separable_convolutions": False}, "use_separable_convolutions=False"),
        ({"attention_channels": [32, 64]}, "attention_channels"),
        ({"bottlenecks": [[1, 8, 1, 1], [2, 16, 1, 2]]}, "bottlenecks"),
        ({"bottlenecks": [[1, 8, 1, 3]]}, "bottlenecks"),
    ],
)
def test_an_architecture_that_it_has_no_code_for_is_an_error_that_names_it(small_model, noise, changes, named):
    model = small_model(**changes)
    extractor = AttentionAsdFeatureExtractor(clip_length=model.config.clip_length)
    with pytest.raises(ValueError, match=rf"no code for {named}.*--engine openvino or onnx"):
        native_network(model, extractor, noise(1, model.config.clip_length), True)
