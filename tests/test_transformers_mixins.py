"""transformers' own tests of models and feature extractors, run on this project's classes.

The wheel of transformers has no tests; the source distribution has them. `.ci/run` fetches the one of the installed version,
and runs this file without pytest's strict markers, for transformers has its own. By hand:

    pip download --no-deps --no-binary transformers transformers==VERSION
    mkdir transformers-source && tar xzf transformers-*.tar.gz --strip-components=1 -C transformers-source
    TRANSFORMERS_SOURCE=transformers-source pytest -o addopts= tests/test_transformers_mixins.py

transformers skips most of its tests of models by itself: those of tokens, of text, and of its kinds of attention. What this
file excludes is in `EXCEPTIONS`, with reasons. Two of transformers' mixins cannot run here. The source distribution lacks
the one for exports, and the one for pipelines needs models from the Hub.
"""

import importlib
import os
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel


SOURCE = os.environ.get("TRANSFORMERS_SOURCE")
if not SOURCE:
    pytest.skip("needs transformers' source in TRANSFORMERS_SOURCE, see this file", allow_module_level=True)
pytest.importorskip("parameterized", reason="transformers' tests need the package parameterized")

# Name of transformers' test -> why it does not apply.
NO_HIDDEN_STATES = "the model has embeddings and attention maps, and no list of equal layers with hidden states"
OWN_CHECKPOINTING = (
    "asks for GradientCheckpointingLayer, whose second forward pass would count a batch twice in BatchNorm's statistics; "
    "test_modeling.py compares gradients and statistics with both kinds of checkpointing"
)
EXCEPTIONS = {
    "test_hidden_states_output": NO_HIDDEN_STATES,
    "test_retain_grad_hidden_states_attentions": NO_HIDDEN_STATES,
    "test_model_get_set_embeddings": "the model has no tokens, and so no table of their embeddings",
    "test_gradient_checkpointing_enable_disable": OWN_CHECKPOINTING,
    "test_training_gradient_checkpointing": OWN_CHECKPOINTING,
    "test_training_gradient_checkpointing_use_reentrant_false": OWN_CHECKPOINTING,
    "test_training_gradient_checkpointing_use_reentrant_true": OWN_CHECKPOINTING,
}


def their(name: str) -> Any:
    """One of transformers' test modules, in a package of its own: `tests` is a name of this project."""
    package = types.ModuleType("transformers_tests")
    package.__path__ = [str(Path(str(SOURCE)).resolve() / "tests")]
    sys.modules.setdefault("transformers_tests", package)
    # The source distribution has neither of these two modules. The classes are bases, or have no say about this model.
    for module, mixin in (
        ("exporters.test_export", "ExportTesterMixin"),
        ("generation.test_utils", "GenerationTesterMixin"),
    ):
        parent = f"transformers_tests.{module.split('.')[0]}"
        sys.modules.setdefault(parent, types.ModuleType(parent)).__path__ = []
        absent = types.ModuleType(f"transformers_tests.{module}")
        setattr(absent, mixin, type(mixin, (), {}))
        sys.modules.setdefault(absent.__name__, absent)
    return importlib.import_module(f"transformers_tests.{name}")


class SmallModelTester:
    """A small network and its inputs, as transformers' tests ask for them."""

    batch_size = 3
    is_training = True

    def prepare_config_and_inputs_for_common(self) -> tuple[AttentionAsdConfig, dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(0)
        config = AttentionAsdConfig(**SMALL)
        waveforms = 0.1 * torch.randn(self.batch_size, config.clip_length, generator=generator)
        log_mel = AttentionAsdFeatureExtractor(clip_length=config.clip_length).log_mel(waveforms)
        return config, {"input_values": waveforms, "input_features": log_mel}


class TestModel(their("test_modeling_common").ModelTesterMixin, unittest.TestCase):
    all_model_classes = (AttentionAsdModel,)
    # Of tokens, and of transformers' attention; this model's attention weighs a picture.
    test_resize_embeddings = False
    has_attentions = False

    def setUp(self):
        if self._testMethodName in EXCEPTIONS:
            self.skipTest(EXCEPTIONS[self._testMethodName])
        self.model_tester = SmallModelTester()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """transformers knows by name which of its own models take labels."""
        labels = {"labels": torch.tensor([0, 1, 2])} if return_labels else {}
        return {**super()._prepare_for_class(inputs_dict, model_class), **labels}


class FeatureExtractorTester:
    """Waveforms of rising length, as transformers' tests ask for them."""

    batch_size = 4
    feature_size = 1
    min_seq_length, max_seq_length, seq_length_diff = 400, 1600, 400

    def prepare_feat_extract_dict(self) -> dict[str, Any]:
        return {"feature_size": 1, "padding_value": 0.0, "sampling_rate": 16_000, "clip_length": 16_000}

    def prepare_inputs_for_common(self, equal_length: bool = False, numpify: bool = False) -> list[Any]:
        lengths = range(self.min_seq_length, self.max_seq_length + 1, self.seq_length_diff)
        generator = np.random.default_rng(0)
        waveforms = [generator.normal(size=self.max_seq_length if equal_length else length) for length in lengths]
        return waveforms if numpify else [waveform.tolist() for waveform in waveforms]


class TestFeatureExtractor(
    their("test_sequence_feature_extraction_common").SequenceFeatureExtractionTestMixin, unittest.TestCase
):
    feature_extraction_class = AttentionAsdFeatureExtractor
    feat_extract_tester = FeatureExtractorTester()
