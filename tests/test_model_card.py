"""The model card: rendered from what was measured, and from nothing else."""

import json
import re

import numpy as np
import pytest
import soundfile
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from small_detector import small_pipeline

from evaluation.model_card import render_model_card
from evaluation.splits import SYNTHETIC
from metrics.asd_auc import asd_auc


def measured(seed: int, shift: float) -> dict:
    """Figures of merit of three machine IDs and a fourth without anomalous clips."""
    generator = np.random.default_rng(seed)
    machines = [("fan", "00"), ("fan", "02"), ("pump", "00"), ("pump", "04")]
    labels = np.tile([0] * 12 + [1] * 12, len(machines))
    labels[-24:] = 0
    types, ids = zip(*(machine for machine in machines for _ in range(24)), strict=True)
    return asd_auc(generator.normal(size=len(labels)) + shift * labels, labels, types, ids, n_bootstrap=50)


@pytest.fixture
def model_dir(small_model, small_extractor, tmp_path):
    small_model().save_pretrained(tmp_path)
    small_extractor.save_pretrained(tmp_path)
    control = {"name": "a trivial control", **measured(1, 0.5)}
    results = {
        "data": "my_machines",
        "train_clips": 321,
        "machine_ids": 3,
        "epochs": 7,
        "best_epoch": 5,
        "train_runtime": 123.4,
        "train_clips_per_second": 56.78,
        "parameters": 12345,
        "seed": 42,
        "command": "train.py --data_dir my_machines --output_dir OUT --seed 42",
        "device": "H100",
        "num_processes": 2,
        "torch_version": "2.13.0",
        "test": {"clips": 96, "labelled_clips": 96, **measured(0, 1.0), "control": control},
    }
    arguments = {
        "mixup_alpha": 0.2,
        "learning_rate": 1e-4,
        "min_learning_rate_ratio": 0.1,
        "weight_decay": 0.01,
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 2,
        "validation_fraction": 0.05,
        "mixed_precision": "bf16",
    }
    (tmp_path / "all_results.json").write_text(json.dumps(results))
    (tmp_path / "training_args.json").write_text(json.dumps(arguments))
    return tmp_path


def change_results(model_dir, **changes) -> None:
    results = json.loads((model_dir / "all_results.json").read_text())
    (model_dir / "all_results.json").write_text(json.dumps({**results, **changes}))


def metadata(model_dir) -> dict:
    found = metadata_load(model_dir / "README.md")
    assert found is not None
    return found


def sections(card: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", card, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def cell(figures: dict, name: str) -> str:
    low, high = figures[f"{name}_ci95"]
    return f"{percent(figures[name])} [{percent(low)}, {percent(high)}]"


def test_every_figure_of_the_table_is_the_measured_one_with_its_interval(model_dir):
    render_model_card(model_dir)
    card = (model_dir / "README.md").read_text()
    test = json.loads((model_dir / "all_results.json").read_text())["test"]
    table = [line.strip("| ").split(" | ") for line in sections(card)["Measured figures"].splitlines()]
    rows = {line[0]: line[1:] for line in table if len(line) > 1}
    assert rows.keys() - {"machine type"} == {"fan", "pump", "mean over types"}
    for name, clips in (("fan", "24 + 24"), ("pump", "36 + 12"), ("mean over types", "60 + 36")):
        auc, pauc, control_auc, control_pauc = (
            system[metric]["mean"] if name == "mean over types" else system[metric]["per_type"][name]
            for system in (test, test["control"])
            for metric in ("auc", "pauc")
        )
        assert rows[name] == [
            clips,
            cell(auc, "official"),
            cell(pauc, "official"),
            cell(auc, "pooled"),
            percent(auc["worst_id"]),
            cell(control_auc, "official"),
            cell(control_pauc, "official"),
        ]
    assert "pump_id_04 (no anomalous clips)" in card
    assert "a trivial control" in card


def test_the_model_index_holds_the_measured_results_and_nothing_else(model_dir):
    render_model_card(model_dir)
    test = json.loads((model_dir / "all_results.json").read_text())["test"]
    name, entries = model_index_to_eval_results(metadata(model_dir)["model-index"])
    assert name == "Attention ASD trained on my_machines"
    found = {}
    for entry in entries:
        assert (entry.metric_type, entry.dataset_split) == ("roc_auc", "test")
        assert entry.metric_args is not None and entry.metric_name is not None
        assert entry.metric_args["n_bootstrap"] == 50 and entry.metric_args["confidence"] == 0.95
        metric = entry.metric_name.split(",")[0].lower()
        found[metric, entry.dataset_config] = [entry.metric_value, *entry.metric_args["interval"]]
    expected = {}
    for metric in ("auc", "pauc"):
        for kind, figures in {**test[metric]["per_type"], None: test[metric]["mean"]}.items():
            values = [figures["official"], *figures["official_ci95"]]
            expected[metric, kind] = [pytest.approx(100 * value, abs=0.0051) for value in values]
    assert found == expected
    assert len(entries) == len(expected)


def test_published_figures_stand_in_a_table_of_their_own_and_not_in_the_metadata(model_dir):
    render_model_card(model_dir)
    card = (model_dir / "README.md").read_text()
    published = ["95.10/87.25", "91.97/80.00", "99.24/96.10", "99.99/99.96", "96.99/90.30", "84.59/73.55"]
    for title, text in sections(card).items():
        assert all((figures in text) == (title == "Published figures, quoted") for figures in published)
    text = yaml.safe_dump(metadata(model_dir))
    assert not any(figure in text for figures in published for figure in figures.split("/"))


def test_a_synthetic_run_is_called_synthetic_and_another_is_not(model_dir):
    render_model_card(model_dir)
    assert "synthetic" not in (model_dir / "README.md").read_text().lower()
    change_results(model_dir, data=SYNTHETIC)
    render_model_card(model_dir)
    card = (model_dir / "README.md").read_text()
    assert "**Trained on synthetic sounds.**" in card.split("## Use")[0]
    assert metadata(model_dir)["model-index"][0]["name"].endswith("(synthetic)")
    assert "purohit2019mimii" not in card and "neri2024low" in card


def test_the_card_says_what_the_model_was_trained_on_how_and_at_what_cost(model_dir):
    render_model_card(model_dir)
    training = sections((model_dir / "README.md").read_text())["Training"]
    for fact in (
        "my_machines, split train: 321 normal clips of 3 machine IDs",
        "batch 64, mixed precision bf16",
        "epoch 5, by the loss on held-out normal clips (5.0 % of each ID's)",
        "123.4 s, 56.78 clips/s, on H100, 2 processes",
        "`train.py --data_dir my_machines --output_dir OUT --seed 42`",
        "| seed | 42 |",
    ):
        assert fact in training
    change_results(model_dir, best_epoch=None)
    render_model_card(model_dir)
    assert "none: the weights of the last epoch" in (model_dir / "README.md").read_text()


@pytest.mark.parametrize("test", [None, {"clips": 3, "labelled_clips": 0}])
def test_without_labelled_test_clips_the_card_claims_nothing(model_dir, test):
    change_results(model_dir, test=test)
    render_model_card(model_dir)
    assert "None: there were no labelled test clips." in (model_dir / "README.md").read_text()
    assert "model-index" not in metadata(model_dir)


def test_huggingface_hub_reads_the_card_and_writes_it_again_unchanged(model_dir):
    render_model_card(model_dir)
    text = (model_dir / "README.md").read_text()
    card = ModelCard(text)
    assert str(card) == text
    assert isinstance(card.data, ModelCardData) and card.data.eval_results is not None
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "audio-classification"
    assert len(card.data.eval_results) == 6


def test_tables_are_whole_and_nothing_of_the_template_is_left(model_dir):
    render_model_card(model_dir)
    text = ModelCard((model_dir / "README.md").read_text()).text
    assert "{%" not in text and "{{ " not in text and "None" not in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_the_examples_of_the_card_run(model_dir, monkeypatch, capsys):
    monkeypatch.chdir(model_dir)
    soundfile.write("machine.wav", 0.1 * np.random.default_rng(0).normal(size=16_000), 16_000)
    small_pipeline().save_pretrained(model_dir)
    render_model_card(model_dir, repository=str(model_dir))
    examples = re.findall(r"```python\n(.*?)```", (model_dir / "README.md").read_text(), flags=re.DOTALL)
    for example in examples:
        exec(example, {})
    printed = capsys.readouterr().out
    assert "'verdict'" in printed and "_id_" in printed.splitlines()[-1]
    (model_dir / "scoring_config.json").unlink()
    render_model_card(model_dir)
    assert "pipeline(" not in (model_dir / "README.md").read_text()
