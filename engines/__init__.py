"""The network for other engines than PyTorch: loading an export, and, in the other modules, writing one.

The files `*_attention_asd.*` travel with an export, and import nothing but each other, torch, numpy and transformers.
"""

from .engine_attention_asd import ExportedModel
from .loading import load_pipeline, model_digest


__all__ = ["ExportedModel", "load_pipeline", "model_digest"]
