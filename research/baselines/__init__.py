"""The systems that the paper compares itself with, each from its own paper's description, behind one interface.

>>> from research.baselines import BASELINES, Clips
>>> peer = BASELINES["stgram_mfn"](updates=300, seed=0).fit(Clips(log_mels, waveforms, machines))  # doctest: +SKIP
>>> scores = peer.score(test_clips)  # doctest: +SKIP
"""

from .autoencoder import Autoencoder
from .baseline import Baseline
from .clips import Clips
from .glow_aff import GlowAff
from .idnn import Idnn
from .log_mel_statistics import LogMelStatisticsBaseline
from .mobilenet_v2 import MobileNetV2
from .noisy_arcmix import NoisyArcMix
from .pretrained import Pretrained
from .stgram_mfn import STgramMfn
from .sw_wavenet import SwWaveNet


BASELINES: dict[str, type[Baseline]] = {
    "autoencoder": Autoencoder,
    "idnn": Idnn,
    "mobilenet_v2": MobileNetV2,
    "glow_aff": GlowAff,
    "stgram_mfn": STgramMfn,
    "sw_wavenet": SwWaveNet,
    "noisy_arcmix": NoisyArcMix,
    "log_mel_statistics": LogMelStatisticsBaseline,
    "pretrained": Pretrained,
}

__all__ = ["BASELINES", "Baseline", "Clips"]
