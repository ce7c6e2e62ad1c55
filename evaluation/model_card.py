"""The model card, rendered from what was measured: model_card.md is its template."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from modeling.saving_attention_asd import replacing_files
from modeling.self_test_attention_asd import SelfTest

from .json_files import read_json
from .splits import SYNTHETIC
from .tables import by_type, decisions_tables, merit_table, percent, self_tests_table


DEFAULT_LICENSE = "apache-2.0"
# The model-index needs the type of each data set. The Hub knows this one: files of sound in folders. A name of our own would
# lead to a page that does not exist; `dataset_name` says which sounds they are.
DATASET_TYPE = "audiofolder"
TEMPLATE = Path(__file__).resolve().parents[1] / "model_card.md"


def render_model_card(model_dir: Path, repository: str = "user/name") -> ModelCard:
    """Write the card `model_dir/README.md`; see [`make_model_card`]."""
    card = make_model_card(model_dir, repository)
    with replacing_files(model_dir) as scratch:
        card.save(scratch / "README.md")
    return card


def model_card_for(model_dir: Path, repository: str, subfolder: str = "") -> str | None:
    """Return `model_dir/README.md` made anew, with the name of the repository that it goes to in its examples.

    `None` where there is no card, or one that somebody wrote or changed by hand: such a card stays as it is.
    """
    path = model_dir / "README.md"
    written = path.read_bytes().decode() if path.is_file() else ""
    named = re.search(r'^REPOSITORY = "(.*)"$', written, re.MULTILINE)
    if named is None or written != str(make_model_card(model_dir, named[1])):
        return None
    return str(make_model_card(model_dir, repository, subfolder))


def make_model_card(model_dir: Path, repository: str, subfolder: str = "") -> ModelCard:
    """Render the card of a model from its `all_results.json`, `training_args.json` and `config.json`.

    Args:
        model_dir: directory of the model.
        repository: where the card's examples load the model from.
        subfolder: folder of the model in that repository.
    """
    results = read_json(model_dir / "all_results.json")
    arguments = read_json(model_dir / "training_args.json")
    config = read_json(model_dir / "config.json")
    # A machine that is enrolled alone has no figures of the paper's score, only those of the verdicts.
    measured = results.get("test") or {}
    test = measured if "auc" in measured else None
    per_process = arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"]
    data = ModelCardData(
        license=results.get("license", DEFAULT_LICENSE),
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["anomalous-sound-detection", "machine-condition-monitoring", "audio", "attention-asd"],
        metrics=["roc_auc"],
        model_name=f"Attention ASD trained on {results['data']}",
        eval_results=measured_results(test, results["data"]) if test else None,
    )
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        repository=repository,
        subfolder=subfolder,
        results=results,
        arguments=arguments,
        config=config,
        is_synthetic=results["data"] == SYNTHETIC,
        has_detector=(model_dir / "scoring_config.json").is_file(),
        enrolled=results.get("enrolled_machines", []),
        machine_ids=[config["id2label"][key] for key in sorted(config["id2label"], key=int)],
        batch_size=per_process * results["num_processes"],
        test=test,
        merit=merit_table(test) if test else None,
        control=test and test.get("control"),
        decisions=decisions_tables(measured["decisions"]) if "decisions" in measured else None,
        self_tests=self_tests_table(read_self_tests(model_dir)),
        seconds=config["clip_length"] / config["sampling_rate"],
    )


def read_self_tests(model_dir: Path) -> dict[str, SelfTest]:
    """Return the self-test of each machine of the model's detector, by its name; none where there is no detector."""
    file = model_dir / "scoring_config.json"
    machines = read_json(file).get("machines", []) if file.is_file() else []
    return {record["name"]: SelfTest.from_dict(record["self_test"]) for record in machines if record.get("self_test")}


def measured_results(test: dict[str, Any], data_name: str) -> list[EvalResult]:
    """Return the entries of the model-index: the official AUC and pAUC of every machine type, and their means."""
    entries = []
    for metric, name in (("auc", "AUC"), ("pauc", "pAUC")):
        for machine_type, figures in by_type(test[metric]).items():
            if figures["official"] is None:
                continue
            is_mean = machine_type not in test[metric]["per_type"]
            interval = figures["official_ci95"]
            entries.append(
                EvalResult(
                    task_type="audio-classification",
                    task_name="Anomalous sound detection",
                    dataset_type=DATASET_TYPE,
                    dataset_name=data_name if is_mean else f"{data_name}, {machine_type}",
                    dataset_config=None if is_mean else machine_type,
                    dataset_split="test",
                    metric_type="roc_auc",
                    metric_name=f"{name}, mean over machine {'types' if is_mean else 'IDs'} [%]",
                    metric_value=float(percent(figures["official"])),
                    metric_args={
                        "max_fpr": test["max_fpr"] if metric == "pauc" else 1.0,
                        "n_bootstrap": test["n_bootstrap"],
                        "seed": test["seed"],
                        "confidence": test["confidence"],
                        "interval": interval and [float(percent(end)) for end in interval],
                    },
                )
            )
    return entries
