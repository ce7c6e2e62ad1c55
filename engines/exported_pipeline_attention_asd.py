"""The pipeline of an export: the engine computes the network, and everything else is the model's own pipeline."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.utils.hub import cached_file

# In a clone the pipeline lies in another package than this file, in an export beside it: `write_engine_code` writes
# `from .` in the place of `from modeling.`. A `try` around two imports would hide what is wrong with the first.
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline
from modeling.saving_attention_asd import CODE_PATTERN, replacing_files

from .engine_attention_asd import EXPORT_FILE, ExportedModel


class ExportedPipeline(AnomalousSoundDetectionPipeline):
    """
    Tells whether recordings of machines sound as these machines do in normal operation, with another engine than PyTorch.

    The `config.json` of an export names this class, so that `transformers.pipeline` makes it. Reasons for a verdict come
    from PyTorch whatever the engine.

    Args:
        engine (`str`, *optional*): the engine that the model's directory was exported for, which is the default where
            it was, or `"torch"`. The other arguments are those of [`AnomalousSoundDetectionPipeline`].
    """

    def make_network(self, engine: str | None) -> Callable[[torch.Tensor], Any]:
        """Return the export of the model's directory; without one, or for `"torch"`, the model itself.

        Raises:
            ValueError: there is no export, or the export is for another engine than the one asked for.
            ImportError: the engine is not installed; see [`ExportedModel.from_exported`].
        """
        model: Any = self.model
        name, source = model.name_or_path, model.source
        if engine == "torch" or not name or not has_export(name, source):
            return super().make_network(engine)
        return ExportedModel.from_exported(name, engine=engine, **source)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Save an export as an export, its engine's files and code included; with `engine="torch"` a plain model."""
        with replacing_files(save_directory) as scratch:
            super().save_pretrained(scratch, **kwargs)
            if isinstance(self.network, ExportedModel):
                write_engine_code(scratch)
                self.network.save_pretrained(scratch)


def write_engine_code(directory: Path) -> None:
    """Write the code beside this file into a model directory, whose `config.json` then names the pipeline of an export."""
    for code in Path(__file__).parent.glob(CODE_PATTERN):
        # In the directory, the model's code and the engines' lie side by side.
        text = code.read_text(encoding="utf-8").replace("from modeling.", "from .")
        (directory / code.name).write_text(text, encoding="utf-8")
    config_file = directory / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    for task in config["custom_pipelines"].values():
        task["impl"] = f"{Path(__file__).stem}.{ExportedPipeline.__name__}"
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def has_export(name: str, source: dict[str, Any]) -> bool:
    """Whether an engine's files lie beside a model."""
    absent_is_none = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    return cached_file(name, EXPORT_FILE, **source, **absent_is_none) is not None


__all__ = ["ExportedPipeline", "write_engine_code"]
