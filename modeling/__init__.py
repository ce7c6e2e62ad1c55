"""The detector as it goes to the Hub: configuration, network, detector, reasons and pipeline."""

from .configuration_attention_asd import AttentionAsdConfig
from .decision_attention_asd import Decision
from .detector_attention_asd import AnomalyDetector
from .engine_attention_asd import ExportedModel
from .modeling_attention_asd import AttentionAsdModel, AttentionAsdPreTrainedModel
from .outputs_attention_asd import AttentionAsdOutput, ClipOutputs
from .pipeline_attention_asd import AnomalousSoundDetectionPipeline


__all__ = [
    "AnomalousSoundDetectionPipeline",
    "AnomalyDetector",
    "AttentionAsdConfig",
    "AttentionAsdModel",
    "AttentionAsdOutput",
    "AttentionAsdPreTrainedModel",
    "ClipOutputs",
    "Decision",
    "ExportedModel",
]
