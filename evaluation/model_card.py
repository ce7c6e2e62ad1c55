"""The model card, rendered from what was measured: model_card.md is its template."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .evaluate_model import percent, summary_table


TEMPLATE = Path(__file__).resolve().parents[1] / "model_card.md"
SYNTHETIC = "machine_room (synthetic)"


def render_model_card(model_dir: Path) -> ModelCard:
    """Write `model_dir/README.md` from `all_results.json`, `training_args.json` and `config.json` beside it."""
    results = json.loads((model_dir / "all_results.json").read_text())
    arguments = json.loads((model_dir / "training_args.json").read_text())
    config = json.loads((model_dir / "config.json").read_text())
    test = results.get("test") or {}
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["anomalous-sound-detection", "machine-condition-monitoring", "audio", "attention-asd"],
        metrics=["roc_auc"],
        model_name=f"Attention ASD trained on {results['data']}",
        eval_results=measured_results(test, results["data"]) or None,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        results=results,
        arguments=arguments,
        config=config,
        is_synthetic=results["data"] == SYNTHETIC,
        machine_ids=[config["id2label"][key] for key in sorted(config["id2label"], key=int)],
        table=summary_table(test) if "auc" in test else None,
        seconds=config["clip_length"] / config["sampling_rate"],
    )
    card.save(model_dir / "README.md")
    return card


def measured_results(test: dict[str, Any], data_name: str) -> list[EvalResult]:
    """model-index entries: the official AUC and pAUC of every machine type and their means."""
    if "auc" not in test:
        return []
    rows = []
    for metric, name in (("auc", "AUC"), ("pauc", "pAUC (p = 0.1)")):
        per_type = {f"{machine_type}": merit for machine_type, merit in test[metric]["per_type"].items()}
        for where, merit in {"mean over machine types": test[metric]["mean"], **per_type}.items():
            if merit["official"] is None:
                continue
            rows.append(
                EvalResult(
                    task_type="audio-classification",
                    task_name="Anomalous sound detection",
                    dataset_type="dcase2020_task2_layout",
                    dataset_name=data_name,
                    dataset_split="test",
                    metric_type="roc_auc",
                    metric_name=f"{name}, {where}, mean over machine IDs [%]",
                    metric_value=float(percent(merit["official"])),
                )
            )
    return rows
