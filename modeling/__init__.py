"""The detector as it goes to the Hub: configuration, network, scoring, reasons and pipeline."""

from .configuration_attention_asd import AttentionAsdConfig
from .modeling_attention_asd import AttentionAsdModel, AttentionAsdOutput, AttentionAsdPreTrainedModel
from .pipeline_attention_asd import AnomalousSoundDetectionPipeline
from .scoring_attention_asd import AnomalyDetector, Decision


__all__ = [
    "AnomalousSoundDetectionPipeline",
    "AnomalyDetector",
    "AttentionAsdConfig",
    "AttentionAsdModel",
    "AttentionAsdOutput",
    "AttentionAsdPreTrainedModel",
    "Decision",
]
