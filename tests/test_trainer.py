"""`transformers.Trainer` trains the network as it trains any audio classifier."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from hub_server import TOKEN, run_hub
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from modeling import AnomalyDetector
from modeling.digests_attention_asd import weights_digest


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def accelerate_forgets():
    """Trainer sets up accelerate for the whole process, and other tests set it up otherwise."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def make_trainer(small_model, tmp_path):
    """A function that makes a Trainer of a small network on five clips of noise. Its arguments are TrainingArguments."""
    generator = torch.Generator().manual_seed(0)
    rows: Any = [
        {
            "input_values": 0.1 * torch.randn(16_000, generator=generator),
            "input_features": torch.randn(128, 32, generator=generator),
            "labels": index % 3,
        }
        for index in range(5)
    ]

    def make(**arguments: Any) -> Trainer:
        arguments = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, **arguments}
        return Trainer(
            small_model(), TrainingArguments(str(tmp_path), **arguments), train_dataset=rows, eval_dataset=rows
        )

    return make


def test_predictions_are_the_plain_logits_alone(make_trainer):
    trainer = make_trainer()
    prediction = trainer.predict(trainer.eval_dataset)
    assert isinstance(prediction.predictions, np.ndarray) and prediction.predictions.shape == (5, 3)
    with torch.no_grad():
        inputs = {
            name: torch.stack([row[name] for row in trainer.eval_dataset])
            for name in ("input_values", "input_features")
        }
        expected = 40.0 * trainer.model.eval()(**inputs).cosines
    np.testing.assert_allclose(prediction.predictions, expected, atol=1e-3)


def test_the_loss_does_not_grow_with_the_steps_of_an_accumulation(make_trainer):
    # Batches of one clip, as the last batch may be. With a learning rate of 0 all updates see the same network.
    losses = {}
    for steps in (1, 5):
        trainer = make_trainer(
            per_device_train_batch_size=1, gradient_accumulation_steps=steps, learning_rate=0.0, num_train_epochs=1
        )
        losses[steps] = trainer.train().training_loss
    assert losses[1] == pytest.approx(losses[5], rel=1e-3)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_trainer_switches_gradient_checkpointing_on(make_trainer, use_reentrant):
    plain, checkpointed = (
        make_trainer(max_steps=2, per_device_train_batch_size=4, **arguments)
        for arguments in (
            {},
            {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": use_reentrant}},
        )
    )
    assert plain.train().training_loss == pytest.approx(checkpointed.train().training_loss, rel=1e-5)


JUDGE = """
import json, sys
from transformers import pipeline

detect = pipeline("anomalous-sound-detection", model="user/trained", trust_remote_code=True)
result = detect(sys.argv[1], machine="fan_id_00")
assert not {"modeling", "feature_extraction", "training"} & sys.modules.keys()
print(json.dumps([result["machine"], result["score"]]))
"""


def test_the_example_trains_resumes_and_pushes_a_model_by_which_the_pipeline_of_a_clean_process_judges(
    sound_folder, run_script, tmp_path
):
    sounds = sound_folder()
    settings = ["--data_dir", sounds, "--clip_seconds", "1", "--num_train_epochs", "2", "--disable_tqdm", "True"]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    with run_hub(tmp_path) as hub:
        as_client = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, ROOT / "examples" / "trainer.py", "--output_dir", whole, *settings]
        command += ["--push_to_hub", "True", "--hub_model_id", "user/trained"]
        environment = {**os.environ, **as_client, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        pushed = hub.tree("models", "user/trained")
        recording = str(sounds / "fan" / "test" / "normal_id_00_00000000.wav")
        clean = {**environment, "HF_HOME": str(tmp_path / "home")}
        # -I: without PYTHONPATH and the working directory, and so without this project.
        command = [sys.executable, "-I", "-c", JUDGE, recording]
        done = subprocess.run(command, env=clean, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        machine, score = json.loads(done.stdout.splitlines()[-1])
        assert machine == "fan_id_00" and np.isfinite(score)
    for name in ("model.safetensors", "scoring.safetensors", "preprocessor_config.json", "pipeline_attention_asd.py"):
        assert pushed[name] == (whole / name).read_bytes(), name
    # A detector that does not know its weights would pass beside others; one that knows an earlier run's would not load.
    assert AnomalyDetector.from_pretrained(whole).weights == weights_digest(whole)
    first = min(whole.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    done = run_script("examples/trainer.py", "--output_dir", resumed, *settings, "--resume_from_checkpoint", first)
    assert done.returncode == 0, done.stderr
    weights = [load_file(folder / "model.safetensors") for folder in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    results = json.loads((whole / "eval_results.json").read_text())
    assert results["eval_loss"] > 0 and 0 <= results["eval_accuracy"] <= 1
