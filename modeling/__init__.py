"""The detector as it goes to the Hub: configuration, network, scoring and pipeline."""

from .configuration_attention_asd import AttentionAsdConfig
from .modeling_attention_asd import AttentionAsdModel, AttentionAsdOutput, AttentionAsdPreTrainedModel


__all__ = ["AttentionAsdConfig", "AttentionAsdModel", "AttentionAsdOutput", "AttentionAsdPreTrainedModel"]
