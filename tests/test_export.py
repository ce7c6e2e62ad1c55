"""Exports: the same numbers and verdicts from every engine, and clear errors where one is missing."""

import json
import shutil
import sys

import numpy as np
import pytest
import soundfile
import torch
from small_detector import MACHINES, RATE, machine_sound, small_pipeline

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel
from modeling.engine_attention_asd import EXPORT_FILE, GRAPH_FILES, ExportedModel, load_onnx, load_openvino
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline
from scripts.export import LogMel
from scripts.export import main as export


pytest.importorskip("onnxscript", reason="exports are written with the extra 'export'")

# Largest differences of cosines and of attention maps. float32 differs by the log-mel's rounding, which a quiet bin shows.
TOLERANCES = {"onnx": (1e-4, 1e-3), "openvino": (1e-4, 1e-3), "openvino-bf16": (0.02, 1e-3), "openvino-int8": (0.1, 1e-3)}
ENGINES = [
    pytest.param(engine, marks=pytest.mark.xdist_group(engine)) if False else engine for engine in TOLERANCES
]


@pytest.fixture(scope="module")
def eager():
    return small_pipeline()


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Normal and hissing clips of every machine, in the DCASE layout."""
    folder = tmp_path_factory.mktemp("sounds")
    for name, hertz in MACHINES.items():
        machine_type, machine_id = name.split("_id_")
        for split, label, hiss, clips in (("train", "normal", 0.0, 3), ("test", "normal", 0.0, 2), ("test", "anomaly", 0.2, 2)):
            for index in range(clips):
                path = folder / machine_type / split / f"{label}_id_{machine_id}_{index:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, machine_sound(hertz, 900 + index, hiss=hiss), RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def exported(eager, sounds, tmp_path_factory):
    """A function that gives the directory of the model's export for an engine."""
    model = tmp_path_factory.mktemp("model")
    eager.save_pretrained(model)
    directories = {}

    def directory(engine):
        for package in ["onnxruntime"] if engine == "onnx" else ["openvino", *["nncf"] * engine.endswith("int8")]:
            pytest.importorskip(package)
        if engine not in directories:
            directories[engine] = tmp_path_factory.mktemp(engine)
            arguments = ["--model", model, "--output_dir", directories[engine], "--engine", engine]
            export([str(argument) for argument in [*arguments, "--calibration_dir", sounds]])
        return directories[engine]

    return directory
