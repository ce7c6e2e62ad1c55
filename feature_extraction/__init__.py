"""From sound to the network's inputs, as it goes to the Hub."""

from .feature_extraction_attention_asd import AUDIO_SUFFIXES, AttentionAsdFeatureExtractor, AudioReadError


__all__ = ["AUDIO_SUFFIXES", "AttentionAsdFeatureExtractor", "AudioReadError"]
