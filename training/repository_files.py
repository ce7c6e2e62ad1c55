"""What a model's repository on the Hub has beside the model: a server, its requirements, a notebook, an export's card.

The templates are in `training/repository/`.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from engines.comparison import as_table, what_to_mind
from engines.engine_attention_asd import EXPORT_AGAIN, EXPORT_FILE, FORMAT_VERSION, RUNTIMES, read_description


TEMPLATES = Path(__file__).parent / "repository"
# In the notebook, where the name of the repository goes.
NAME_IN_NOTEBOOK = "user/name"
# Of the Hub's relations (finetune, adapter, merge, quantized) this is the one for a model in another format, in float32 too.
# Without a relation, the Hub would list an export among the models that were trained further.
RELATION = "quantized"


def repository_files(model_dir: Path, repository: str) -> dict[str, Path | bytes]:
    """Return what belongs beside a model: path in the repository -> file, or contents.

    A file of the same name in the model directory is taken as it is. A model without a detector cannot judge, and has
    neither a server nor a notebook.

    Args:
        model_dir: the model directory.
        repository: where the notebook loads the model from.
    """
    files: dict[str, Path | bytes] = {"requirements.txt": requirements(model_dir).encode()}
    if (model_dir / "scoring_config.json").is_file():
        notebook = (TEMPLATES / "notebook.ipynb").read_text(encoding="utf-8").replace(NAME_IN_NOTEBOOK, repository)
        files |= {"handler.py": TEMPLATES / "handler.py", "notebook.ipynb": notebook.encode()}
    return {name: model_dir / name if (model_dir / name).is_file() else file for name, file in files.items()}


def requirements(model_dir: Path) -> str:
    """Return the text of `requirements.txt`, with the engine of an export in the version that wrote it."""
    text = (TEMPLATES / "requirements.txt").read_text(encoding="utf-8")
    description = describe_export(model_dir)
    if description is None:
        return text
    package = RUNTIMES[description["engine"]].package
    return text if package is None else f"{text}{package}>={description['versions'][package]}\n"


def describe_export(model_dir: Path) -> dict[str, Any] | None:
    """Return the contents of an export's `export.json`; `None` for a directory that is no export.

    Raises:
        ValueError: the file is damaged, or another version of this code wrote it.
    """
    file = model_dir / EXPORT_FILE
    if not file.is_file():
        return None
    description = read_description(str(file))
    if description.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{file}: written by another version of this code. {EXPORT_AGAIN}")
    return description


def export_card(model_dir: Path, repository: str, base_model: str | None, subfolder: str = "") -> str | None:
    """Return the card of an export, which names the model that it was made from; `None` for a directory that is no export.

    Args:
        model_dir: the directory. A README.md in it is kept, and gets the metadata.
        repository: where the card's example loads the export from.
        base_model: the repository of the model that was exported.
        subfolder: folder of the export in its repository.

    Raises:
        ValueError: an export without its model, or in the repository of its model, or a `base_model` of another model.
    """
    description = describe_export(model_dir)
    if description is None:
        if base_model is not None:
            raise ValueError(f"--base_model {base_model}: goes with an export, and {model_dir} is none.")
        return None
    if base_model is None or base_model == repository:
        raise ValueError(
            f"{model_dir}: is an export. Push the model itself first, then the export to another repository, with "
            "--base_model and the name of the model's repository."
        )
    own = model_dir / "README.md"
    card = ModelCard.load(own) if own.is_file() else render(description, repository, base_model, subfolder)
    card.data["base_model"], card.data["base_model_relation"] = base_model, RELATION
    return str(card)


def render(description: dict[str, Any], repository: str, base_model: str, subfolder: str) -> ModelCard:
    """Render the card of an export from the contents of its `export.json`."""
    runtime, checks = RUNTIMES[description["engine"]], description["checks"]
    data = ModelCardData(
        license=description.get("license"),
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["anomalous-sound-detection", "machine-condition-monitoring", "attention-asd", description["engine"]],
    )
    variables: dict[str, Any] = {
        "repository": repository,
        "base_model": base_model,
        "subfolder": subfolder,
        "title": description["engine"],
        "precision": description["precision"],
        "packages": [runtime.package] if runtime.package else [],
        "is_compiled": runtime.package is None,
        "machine": description["machines"][0]["name"],
        "checks": checks,
        "table": as_table(checks, description["backend"]),
        "caution": what_to_mind(checks, description["backend"]),
        "license": description.get("license"),
        "attribution": description.get("attribution"),
    }
    return ModelCard.from_template(data, template_path=str(TEMPLATES / "export_card.md"), **variables)
