"""The model card, rendered from what was measured: model_card.md is its template."""

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .decisions import decisions_tables, percent, with_interval


TEMPLATE = Path(__file__).resolve().parents[1] / "model_card.md"
SYNTHETIC = "machine_room (synthetic)"


def render_model_card(model_dir: Path, repository: str = "user/name") -> ModelCard:
    """Write `model_dir/README.md`, as `make_model_card` makes it."""
    card = make_model_card(model_dir, repository)
    card.save(model_dir / "README.md")
    return card


def model_card_for(model_dir: Path, repository: str, subfolder: str = "") -> str | None:
    """`model_dir/README.md` as it belongs in a repository: made anew, with the repository's name in its examples.

    None where there is no card, or one that somebody wrote or changed by hand, which is theirs.
    """
    path = model_dir / "README.md"
    written = path.read_bytes().decode() if path.is_file() else ""
    named = re.search(r'^REPOSITORY = "(.*)"$', written, re.MULTILINE)
    if named is None or written != str(make_model_card(model_dir, named[1])):
        return None
    return str(make_model_card(model_dir, repository, subfolder))


def make_model_card(model_dir: Path, repository: str, subfolder: str = "") -> ModelCard:
    """The card of a model, from the `all_results.json`, `training_args.json` and `config.json` beside it.

    `repository` and `subfolder` are where the model is going to be loaded from, in the card's examples.
    """
    results = json.loads((model_dir / "all_results.json").read_text())
    arguments = json.loads((model_dir / "training_args.json").read_text())
    config = json.loads((model_dir / "config.json").read_text())
    test = results.get("test") or {}
    test = test if "auc" in test else None
    per_process = arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"]
    data = ModelCardData(
        license="apache-2.0",
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
        machine_ids=[config["id2label"][key] for key in sorted(config["id2label"], key=int)],
        batch_size=per_process * results["num_processes"],
        test=test,
        rows=table_rows(test) if test else [],
        control=test and test.get("control"),
        decisions=decisions_tables(test["decisions"]) if test and "decisions" in test else None,
        seconds=config["clip_length"] / config["sampling_rate"],
    )


def by_type(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of every machine type, and their means."""
    return {**figures["per_type"], "mean over types": figures["mean"]}


def table_rows(test: dict[str, Any]) -> list[dict[str, str]]:
    counts = test["counts"]["per_type"]
    totals = {kind: sum(of_type[kind] for of_type in counts.values()) for kind in ("normal", "anomalous")}
    rows = []
    for name, auc in by_type(test["auc"]).items():
        clips = counts.get(name, totals)
        row = {
            "name": name,
            "clips": f"{clips['normal']} + {clips['anomalous']}",
            "auc": with_interval(auc, "official"),
            "pauc": with_interval(by_type(test["pauc"])[name], "official"),
            "pooled": with_interval(auc, "pooled"),
            "worst_id": percent(auc["worst_id"]),
        }
        if "control" in test:
            row["control_auc"] = with_interval(by_type(test["control"]["auc"])[name], "official")
            row["control_pauc"] = with_interval(by_type(test["control"]["pauc"])[name], "official")
        rows.append(row)
    return rows


def measured_results(test: dict[str, Any], data_name: str) -> list[EvalResult]:
    """model-index entries: the official AUC and pAUC of every machine type, and their means."""
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
                    dataset_type="dcase2020_task2_layout",
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
