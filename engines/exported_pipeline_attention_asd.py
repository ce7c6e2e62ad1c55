"""The pipeline of an export: the engine computes the network, and everything else is the model's own pipeline."""

from collections.abc import Callable
from typing import Any

import torch
from transformers.utils.hub import cached_file

# In a clone the pipeline lies in another package than this file, in an export beside it: engines/export.py writes
# `from .` in the place of `from modeling.`. A `try` around two imports would hide what is wrong with the first.
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline

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


def has_export(name: str, source: dict[str, Any]) -> bool:
    """Whether an engine's files lie beside a model."""
    absent_is_none = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    return cached_file(name, EXPORT_FILE, **source, **absent_is_none) is not None


__all__ = ["ExportedPipeline"]
