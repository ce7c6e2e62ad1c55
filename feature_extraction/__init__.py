"""From sound to the network's inputs, as it goes to the Hub."""

from .feature_extraction_attention_asd import AttentionAsdFeatureExtractor, AudioReadError


__all__ = ["AttentionAsdFeatureExtractor", "AudioReadError"]
