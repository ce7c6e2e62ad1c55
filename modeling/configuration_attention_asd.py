"""Configuration of the attention network of Neri and Carli (IEEE Sensors Letters 2024)."""

import copy
import os
from dataclasses import field
from typing import TYPE_CHECKING, Any

from .compatibility_attention_asd import PreTrainedConfig
from .limits_attention_asd import check_limits


# The 41 machine IDs of DCASE 2020 Task 2, in its development and its additional training set.
DCASE2020_MACHINE_IDS = tuple(
    f"{machine_type}_id_{machine_id:02d}"
    for machine_type, machine_ids in (
        ("ToyCar", range(1, 8)),
        ("ToyConveyor", range(1, 7)),
        ("fan", range(7)),
        ("pump", range(7)),
        ("slider", range(7)),
        ("valve", range(7)),
    )
    for machine_id in machine_ids
)

# `save_pretrained` records only the class that it saves. With all entries, each Auto class finds its own.
AUTO_MAP = {
    "AutoConfig": "configuration_attention_asd.AttentionAsdConfig",
    "AutoModel": "modeling_attention_asd.AttentionAsdModel",
    "AutoModelForAudioClassification": "modeling_attention_asd.AttentionAsdModel",
    "AutoFeatureExtractor": "feature_extraction_attention_asd.AttentionAsdFeatureExtractor",
}

CUSTOM_PIPELINES = {
    "anomalous-sound-detection": {
        "impl": "pipeline_attention_asd.AnomalousSoundDetectionPipeline",
        "pt": ["AutoModel"],
        "tf": [],
        "type": "multimodal",
    }
}

INPUT_REPRESENTATIONS = ("log_mel", "wavegram")
ANGULAR_LOSSES = ("noisy_arcmix", "arcmix", "arcface")

# Frames over which the spectra measure the log-mel's change, the longest last.
LAGS = (1, 2, 4, 8)


class AttentionAsdConfig(PreTrainedConfig):
    r"""
    Configuration of [`AttentionAsdModel`].

    The defaults describe the network that the paper's published code computes, without the linear head that the code
    does not use. That network has 879,087 parameters.

    Args:
        sampling_rate (`int`, *optional*, defaults to 16000):
            Samples per second of the waveform.
        clip_length (`int`, *optional*, defaults to 160000):
            Samples in a clip (10 s). The size of the kernel that pools a whole clip follows from this length.
        hop_length (`int`, *optional*, defaults to 512):
            Samples between two frames of the log-mel, and between two frames of the Wavegram.
        num_mel_bins (`int`, *optional*, defaults to 128):
            Frequency bins of the log-mel and filters of the Wavegram (f in the paper).
        wavegram_kernel_size (`int`, *optional*, defaults to 1024):
            Taps of the Wavegram's learned filter. The number is even, so that Wavegram and log-mel have the same frames.
        input_representations (`list[str]`, *optional*, defaults to `["log_mel", "wavegram"]`):
            The network's input channels, in this order (rows of Table 3).
        embedding_size (`int`, *optional*, defaults to 128):
            Size of the embedding (h in the paper; Table 3 has 64, 128 and 256).
        use_attention (`bool`, *optional*, defaults to `True`):
            Whether the attention map weighs the representations (Table 4).
        use_separable_convolutions (`bool`, *optional*, defaults to `True`):
            Whether the Wavegram and the attention module have separable convolutions, or plain ones (Table 4).
        attention_channels (`list[int]`, *optional*, defaults to `[16, 64]`):
            Hidden channels of the attention module.
        stem_channels (`int`, *optional*, defaults to 64):
            Channels of MobileFaceNet's first convolution.
        bottlenecks (`list[list[int]]`, *optional*):
            MobileFaceNet's stages. Each is (expansion, channels, repeats, stride of the first repeat). The default is
            (2, 128, 2, 2), (4, 128, 2, 2), (4, 128, 2, 2).
        head_channels (`int`, *optional*, defaults to 512):
            Channels before the embedding. A depthwise convolution as large as the clip pools them.
        angular_loss (`str`, *optional*, defaults to `"noisy_arcmix"`):
            `"noisy_arcmix"`, `"arcmix"` or `"arcface"`. The three differ only for clips that mixup has mixed.
        scale (`float`, *optional*, defaults to 40.0):
            Scale s of ArcFace (Eq. 1).
        margin (`float`, *optional*, defaults to 0.7):
            Margin m of ArcFace (Eq. 1), in radians.
        id2label (`dict[int, str]`, *optional*):
            Machine IDs as `type_id_XX`. The default is the 41 IDs of DCASE 2020 Task 2.

    Raises:
        ValueError: for a size or type beyond the limits, an unknown or repeated input representation, an unknown loss, an
            odd Wavegram kernel, or a clip shorter than half that kernel or than the longest of `LAGS`.

    Example:

    ```python
    >>> from modeling import AttentionAsdConfig, AttentionAsdModel

    >>> log_mel_alone = AttentionAsdConfig(input_representations=["log_mel"])
    >>> model = AttentionAsdModel(log_mel_alone)
    >>> model.config.num_frames
    313
    ```
    """

    model_type = "attention-asd"
    # `transformers.Trainer` gathers all other outputs of a prediction, which are the logits. The maps have 0.64 MB a clip.
    keys_to_ignore_at_inference = [
        "anomaly_scores",
        "scored_labels",
        "cosines",
        "embeddings",
        "attention_maps",
        "representations",
        "spectra",
        "margin_logits",
    ]

    sampling_rate: int = 16_000
    clip_length: int = 160_000
    hop_length: int = 512
    num_mel_bins: int = 128
    wavegram_kernel_size: int = 1024
    input_representations: list[str] | tuple[str, ...] = INPUT_REPRESENTATIONS
    embedding_size: int = 128
    use_attention: bool = True
    use_separable_convolutions: bool = True
    attention_channels: list[int] | tuple[int, ...] = (16, 64)
    stem_channels: int = 64
    bottlenecks: list[list[int]] | tuple[tuple[int, ...], ...] = ((2, 128, 2, 2), (4, 128, 2, 2), (4, 128, 2, 2))
    head_channels: int = 512
    angular_loss: str = "noisy_arcmix"
    scale: float = 40.0
    margin: float = 0.7
    if TYPE_CHECKING:
        # The base class allows `None` in these fields. `__post_init__` leaves none empty.
        id2label: dict[int, str] = field(default_factory=dict)
        label2id: dict[str, int] = field(default_factory=dict)

        @property
        def num_labels(self) -> int: ...

    def __post_init__(self, **kwargs: Any) -> None:
        check_limits(self, kwargs)
        if self.id2label is None and kwargs.get("num_labels") is None:
            self.id2label = dict(enumerate(DCASE2020_MACHINE_IDS))
        if self.label2id is None and self.id2label is not None:
            self.label2id = {name: int(index) for index, name in self.id2label.items()}
        kwargs["auto_map"] = {**(kwargs.get("auto_map") or {}), **AUTO_MAP}
        # An export has the pipeline of another engine.
        kwargs["custom_pipelines"] = kwargs.get("custom_pipelines") or copy.deepcopy(CUSTOM_PIPELINES)
        super().__post_init__(**kwargs)
        self.input_representations = list(self.input_representations)
        self.attention_channels = list(self.attention_channels)
        self.bottlenecks = [list(stage) for stage in self.bottlenecks]
        self._check()

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a saved model has it: with the model's own pipeline, for an export is saved without its
        engine's files."""
        return {**super().to_dict(), "custom_pipelines": copy.deepcopy(CUSTOM_PIPELINES)}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Load a configuration as transformers does.

        Args and results are those of `transformers.PreTrainedConfig.from_pretrained`.

        Raises:
            OSError: `config.json` is missing or no JSON.
            ValueError: `config.json` is damaged. The message names the value.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            raise ValueError(
                f"{pretrained_model_name_or_path}: config.json cannot be used ({error}). Save or download the model again."
            ) from error

    @property
    def num_frames(self) -> int:
        """Number of frames t in a clip: 313 for 10 s at 16 kHz and a hop of 512."""
        return 1 + self.clip_length // self.hop_length

    @property
    def num_representations(self) -> int:
        """Number of input channels: the log-mel, the Wavegram or both."""
        return len(self.input_representations)

    def _check(self) -> None:
        known = set(INPUT_REPRESENTATIONS)
        chosen = self.input_representations
        if not chosen or not set(chosen) <= known or len(set(chosen)) != len(chosen):
            raise ValueError(
                f"input_representations={chosen}: expected one or both of {list(INPUT_REPRESENTATIONS)}, each once."
            )
        if self.angular_loss not in ANGULAR_LOSSES:
            raise ValueError(f"angular_loss={self.angular_loss!r}: expected one of {list(ANGULAR_LOSSES)}.")
        if self.clip_length <= self.wavegram_kernel_size // 2:
            raise ValueError(
                f"clip_length={self.clip_length} samples: expected more than half the Wavegram's kernel of "
                f"{self.wavegram_kernel_size}; choose a longer clip."
            )
        if self.num_frames <= LAGS[-1]:
            raise ValueError(
                f"clip_length={self.clip_length} samples: {self.num_frames} frames with hop_length={self.hop_length}, "
                f"expected more than {LAGS[-1]}, the longest lag of the spectra; choose a longer clip."
            )
        if self.wavegram_kernel_size % 2:
            raise ValueError(
                f"wavegram_kernel_size={self.wavegram_kernel_size}: expected an even number, or the Wavegram has "
                "other frames than the log-mel."
            )


__all__ = ["AttentionAsdConfig"]
