"""
The attention network of Neri and Carli, "Low-complexity Attention-based Unsupervised Anomalous Sound Detection
exploiting Separable Convolutions and Angular Loss" (IEEE Sensors Letters 2024, doi 10.1109/LSENS.2024.3480450).

Log-mel and Wavegram -> attention map -> MobileFaceNet -> embedding -> ArcFace over the machine IDs. Where the paper's
text and its published code differ, this file follows the code, because the published figures come from the code.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from .compatibility_attention_asd import init, resolve_revision
from .configuration_attention_asd import LAGS, AttentionAsdConfig
from .gradients_attention_asd import AttentionAsdConv2d, AttentionAsdPReLU
from .outputs_attention_asd import AttentionAsdOutput
from .saving_attention_asd import copy_code, replacing_files, unmap


if TYPE_CHECKING:
    from typing import Self  # novermin: Python 3.10, on which this code may be loaded, has none


def spectral_statistics(log_mel: torch.Tensor) -> torch.Tensor:
    """
    Statistics of the log-mel over time: how loud every mel bin is, how much its level fluctuates, and how fast.

    Args:
        log_mel (`torch.Tensor` of shape `(batch_size, num_mel_bins, num_frames)`):
            The log-mel in dB.

    Returns:
        `torch.Tensor` of shape `(batch_size, 6, num_mel_bins)`, in dB and float32: the mean, the standard deviation, and
        for each of `LAGS` the root mean square of the change over so many frames; `SPECTRA_ROWS` has the rows' names.
    """
    log_mel = log_mel.float()
    mean = log_mel.mean(-1)
    variance = (log_mel - mean.unsqueeze(-1)).square().mean(-1)
    changes = [(log_mel[..., lag:] - log_mel[..., :-lag]).square().mean(-1) for lag in LAGS]
    # A root has no gradient at zero, which digital silence reaches.
    return torch.stack([mean, *(square.add(1e-8).sqrt() for square in (variance, *changes))], dim=1)


class AttentionAsdSeparableConv(nn.Module):
    """Depthwise convolution -> BatchNorm -> ReLU -> pointwise convolution -> BatchNorm -> ReLU, in one or two dimensions.

    The paper's text has no BatchNorm and no ReLU in this block. The package that its code takes the block from adds them.
    """

    def __init__(self, dimensions: int, in_channels: int, out_channels: int, bias: bool, **depthwise: Any):
        super().__init__()
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dimensions == 1 else (nn.Conv2d, nn.BatchNorm2d)
        self.depthwise = conv(in_channels, in_channels, groups=in_channels, bias=bias, **depthwise)
        self.depthwise_norm = norm(in_channels)
        self.pointwise = conv(in_channels, out_channels, kernel_size=1, bias=bias)
        self.pointwise_norm = norm(out_channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = F.relu(self.depthwise_norm(self.depthwise(hidden_states)))
        return F.relu(self.pointwise_norm(self.pointwise(hidden_states)))


class AttentionAsdWavegram(nn.Module):
    """Section II.A: the Wavegram, a learned time-frequency representation of the waveform, with the log-mel's frames.

    `(batch_size, clip_length)` -> `(batch_size, num_mel_bins, num_frames)`. The separable Wavegram is ONE learned filter:
    its 128 rows are affine images of one signal, cut at zero.
    """

    def __init__(self, config: AttentionAsdConfig):
        super().__init__()
        framing: dict[str, Any] = {
            "kernel_size": config.wavegram_kernel_size,
            "stride": config.hop_length,
            "padding": config.wavegram_kernel_size // 2,
        }
        if config.use_separable_convolutions:
            self.filters = AttentionAsdSeparableConv(1, 1, config.num_mel_bins, bias=True, **framing)
        else:
            self.filters = nn.Sequential(
                nn.Conv1d(1, config.num_mel_bins, bias=True, **framing), nn.BatchNorm1d(config.num_mel_bins), nn.ReLU()
            )

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        return self.filters(input_values.unsqueeze(1))


class AttentionAsdAttention(nn.Module):
    """Section II.B: the attention map H. The map has the shape of the representations that it weighs."""

    # transformers sets this attribute when gradient checkpointing is enabled.
    _gradient_checkpointing_func: Callable[..., torch.Tensor]

    def __init__(self, config: AttentionAsdConfig):
        super().__init__()
        self.gradient_checkpointing = False
        separable = config.use_separable_convolutions
        channels = [config.num_representations, *config.attention_channels]
        layers: list[nn.Module] = []
        for in_channels, out_channels in zip(channels, channels[1:], strict=False):
            if separable:
                conv = AttentionAsdSeparableConv(2, in_channels, out_channels, bias=False, kernel_size=3, padding=1)
            else:
                conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(out_channels), nn.ELU()]
        if separable:
            layers.append(AttentionAsdSeparableConv(2, channels[-1], channels[0], bias=True, kernel_size=1))
        else:
            layers.append(nn.Conv2d(channels[-1], channels[0], kernel_size=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, representations: torch.Tensor) -> torch.Tensor:
        # At full resolution and 64 channels this branch holds most of the activations of a training step.
        if self.gradient_checkpointing and self.training:
            # Reentrant checkpointing gives the layers no gradient where their input needs none, as the log-mel alone.
            if not representations.requires_grad:
                representations = representations.detach().requires_grad_()
            logits = self._gradient_checkpointing_func(counted_once(self.layers), representations)
        else:
            logits = self.layers(representations)
        return torch.sigmoid(logits)


def counted_once(layers: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """The layers as a function whose first call alone moves the running statistics.

    Gradient checkpointing calls the layers again for the same batch, which would count twice.
    """
    is_again = False

    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        nonlocal is_again
        with frozen_batch_norm_statistics(layers) if is_again else nullcontext():
            is_again = True
            return layers(hidden_states)

    return forward


@contextmanager
def frozen_batch_norm_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of `module` while it computes a forward pass of training."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)


class AttentionAsdBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that takes its running statistics where training gives one value per channel.

    One value has no variance. MobileFaceNet's last two layers have one value per clip, and a batch may be one clip.
    The running statistics stay as they are then.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.training and hidden_states.numel() == hidden_states.shape[1]:
            return F.batch_norm(
                hidden_states, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(hidden_states)


class AttentionAsdConvLayer(nn.Module):
    """Convolution without bias -> BatchNorm -> PReLU. A `linear` layer has no PReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        linear: bool = False,
        **convolution: Any,
    ):
        super().__init__()
        self.conv = AttentionAsdConv2d(in_channels, out_channels, kernel_size, bias=False, **convolution)
        self.norm = AttentionAsdBatchNorm2d(out_channels)
        self.activation = nn.Identity() if linear else AttentionAsdPReLU(out_channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv(hidden_states)))


class AttentionAsdBottleneck(nn.Module):
    """MobileFaceNet's inverted residual block: expand, depthwise 3x3 convolution, project."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int):
        super().__init__()
        hidden = in_channels * expansion
        self.expand = AttentionAsdConvLayer(in_channels, hidden, 1)
        self.depthwise = AttentionAsdConvLayer(hidden, hidden, 3, stride=stride, padding=1, groups=hidden)
        self.project = AttentionAsdConvLayer(hidden, out_channels, 1, linear=True)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        projected = self.project(self.depthwise(self.expand(hidden_states)))
        return hidden_states + projected if self.is_residual else projected


class AttentionAsdMobileFaceNet(nn.Module):
    """Section II.C: MobileFaceNet, from the weighed representations to the embedding.

    `(batch_size, channels, num_mel_bins, num_frames)` -> `(batch_size, embedding_size)`.
    """

    def __init__(self, config: AttentionAsdConfig):
        super().__init__()
        channels = config.stem_channels
        self.stem = AttentionAsdConvLayer(config.num_representations, channels, 3, stride=2, padding=1)
        self.stem_depthwise = AttentionAsdConvLayer(channels, channels, 3, padding=1, groups=channels)
        height, width = halve(config.num_mel_bins), halve(config.num_frames)
        self.bottlenecks = nn.ModuleList()
        for expansion, out_channels, repeats, first_stride in config.bottlenecks:
            for stride in [first_stride] + [1] * (repeats - 1):
                self.bottlenecks.append(AttentionAsdBottleneck(channels, out_channels, stride, expansion))
                channels = out_channels
                height, width = -(-height // stride), -(-width // stride)
        self.head = AttentionAsdConvLayer(channels, config.head_channels, 1)
        # The published code has the constant (8, 20) here, the size for clips of 10 s.
        self.global_depthwise = AttentionAsdConvLayer(
            config.head_channels, config.head_channels, (height, width), linear=True, groups=config.head_channels
        )
        self.embedding = AttentionAsdConvLayer(config.head_channels, config.embedding_size, 1, linear=True)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.stem_depthwise(self.stem(hidden_states))
        for bottleneck in self.bottlenecks:
            hidden_states = bottleneck(hidden_states)
        hidden_states = self.global_depthwise(self.head(hidden_states))
        return self.embedding(hidden_states).flatten(1)


def halve(size: int) -> int:
    """Output size of a 3x3 convolution with stride 2 and padding 1."""
    return -(-size // 2)


class AttentionAsdArcFace(nn.Module):
    """Section II.D: ArcFace, an angular margin on the target's logit (Eq. 1 as the code has it, Deng et al. 2019).

    Each row of `weight` is the center of one machine ID, `(num_labels, embedding_size)`.
    """

    def __init__(self, config: AttentionAsdConfig):
        super().__init__()
        self.scale = config.scale
        self.margin = config.margin
        self.weight = nn.Parameter(torch.empty(config.num_labels, config.embedding_size))

    def cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Cosines between embeddings `(batch_size, embedding_size)` and the machine IDs' centers.

        The result `(batch_size, num_labels)` is in float32 for a model of any precision, because s = 40 magnifies errors.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))

    def logits(self, cosines: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Scaled cosines with this layer's margin on `labels`, see [`arcface_logits`]."""
        return arcface_logits(cosines, labels, self.scale, self.margin)


def arcface_logits(cosines: torch.Tensor, labels: torch.Tensor, scale: float, margin: float) -> torch.Tensor:
    """
    Scaled cosines s cos(theta), with ArcFace's margin on the logits of `labels` (Eq. 1).

    The logit of a label is s cos(theta + m). Where theta + m would pass pi, the cosine would rise again: there the logit
    is s (cos(theta) - m sin(pi - m)).

    Args:
        cosines (`torch.Tensor` of shape `(batch_size, num_labels)`):
            Cosines between the embeddings and the machine IDs' centers.
        labels (`torch.Tensor` of shape `(batch_size,)`):
            The machine IDs that get the margin.
        scale (`float`):
            Scale s.
        margin (`float`):
            Margin m, in radians.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_labels)`: the logits.
    """
    target = cosines.gather(1, labels.unsqueeze(1))
    # The published code takes the root of exactly 1 - cos^2, whose gradient is infinite at 0 and NaN below.
    sine = (1.0 - target.square()).clamp_min(1e-12).sqrt()
    with_margin = target * math.cos(margin) - sine * math.sin(margin)
    beyond = target - margin * math.sin(math.pi - margin)
    with_margin = torch.where(target > math.cos(math.pi - margin), with_margin, beyond)
    return scale * cosines.scatter(1, labels.unsqueeze(1), with_margin)


class AttentionAsdPreTrainedModel(PreTrainedModel):
    """Base class of the network: initial weights, loading and saving."""

    config: AttentionAsdConfig
    base_model_prefix = "attention_asd"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AttentionAsdAttention", "AttentionAsdBottleneck"]
    _can_compile_fullgraph = True
    # The loss is the mean over the batch. `transformers.Trainer` divides it by the steps of an accumulation.
    accepts_loss_kwargs = False
    # The arguments with which `from_pretrained` found the model, without its name. The detector's files, which lie beside
    # the weights, are loaded with the same arguments.
    source: dict[str, Any] = {}

    if TYPE_CHECKING:
        # transformers decorates this method in a way that hides its signature from type checkers.
        def to(self, *args: Any, **kwargs: Any) -> "Self": ...

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike | None, *model_args: Any, **kwargs: Any
    ) -> "Self":
        """Load a model as transformers does, and keep in `source` where it came from.

        Args, results and errors are those of `transformers.PreTrainedModel.from_pretrained`. `source` holds the revision
        as a commit, so that later downloads come from the same state of the repository. Weights that are damaged or do not
        fit `config.json` are a ValueError that names them.
        """
        where = {name: kwargs[name] for name in ("token", "cache_dir", "local_files_only") if name in kwargs}
        kwargs["revision"] = resolve_revision(pretrained_model_name_or_path, kwargs.get("revision"), **where)
        try:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        except (SafetensorError, RuntimeError) as error:
            # The words of transformers 5, and of transformers 4.
            misfit = any(words in str(error) for words in ("ignore_mismatched_sizes", "size mismatch"))
            if isinstance(error, RuntimeError) and not misfit:
                raise
            raise ValueError(
                f"{pretrained_model_name_or_path}: model.safetensors is damaged, or does not fit config.json ({error}). Save "
                "or download the model again."
            ) from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        unmap(model)
        model.source = {**where, "revision": kwargs["revision"], "subfolder": kwargs.get("subfolder") or ""}
        return loaded

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle, without the access token: a token must not get into files."""
        source = {name: value for name, value in self.source.items() if name != "token"}
        return {**self.__dict__, "source": source}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model as transformers does, with all of the detector's code beside the weights.

        Each file is replaced whole or not at all.

        Args:
            save_directory (`str` or `os.PathLike`):
                The directory to write. It is made if it does not exist.
            kwargs:
                Passed to `transformers.PreTrainedModel.save_pretrained`.
        """
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", Path(save_directory).name)
        with replacing_files(save_directory) as scratch:
            if kwargs.get("is_main_process", True):
                copy_code(scratch)
            super().save_pretrained(scratch, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize a module as the authors do.

        MobileFaceNet's convolutions are drawn from N(0, sqrt(2 / (k k c_out))), and ArcFace's centers are Xavier uniform.
        All other modules have PyTorch's defaults.
        """
        if isinstance(module, AttentionAsdConv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels
            init.normal_(module.weight, mean=0.0, std=math.sqrt(2.0 / fan_out))
        elif isinstance(module, AttentionAsdArcFace):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, (nn.Conv1d, nn.Conv2d)):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.PReLU):
            init.constant_(module.weight, 0.25)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            super()._init_weights(module)


class AttentionAsdModel(AttentionAsdPreTrainedModel):
    """
    The attention network, which scores how anomalous a machine's sound is.

    Training needs normal sounds alone: the network learns to tell machine IDs apart. A sound that does not fit the machine
    ID that it claims is anomalous.

    Args:
        config ([`AttentionAsdConfig`]):
            Sizes and switches of the network.

    Example:

    ```python
    >>> import torch
    >>> from feature_extraction import AttentionAsdFeatureExtractor
    >>> from modeling import AttentionAsdConfig, AttentionAsdModel

    >>> model = AttentionAsdModel(AttentionAsdConfig()).eval()
    >>> inputs = AttentionAsdFeatureExtractor()(torch.randn(160_000), sampling_rate=16_000)
    >>> with torch.no_grad():
    ...     outputs = model(**inputs, labels=torch.tensor([3]))
    >>> outputs.anomaly_scores.shape, outputs.attention_maps.shape
    (torch.Size([1]), torch.Size([1, 2, 128, 313]))
    ```
    """

    def __init__(self, config: AttentionAsdConfig):
        super().__init__(config)
        self.wavegram = AttentionAsdWavegram(config) if "wavegram" in config.input_representations else None
        self.attention = AttentionAsdAttention(config) if config.use_attention else None
        self.backbone = AttentionAsdMobileFaceNet(config)
        self.arcface = AttentionAsdArcFace(config)
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        mixup_partner: torch.Tensor | None = None,
        mixup_lambda: torch.Tensor | float | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> AttentionAsdOutput | tuple:
        r"""
        Score a batch of clips, and in training compute the loss.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, clip_length)`):
                The waveform, in [-1, 1]. A model without the Wavegram does not need it.
            input_features (`torch.FloatTensor` of shape `(batch_size, num_mel_bins, num_frames)`):
                The log-mel in dB. A model without the log-mel does not need it.
            labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
                The claimed machine IDs. With labels, the anomaly score is the paper's, and the output has a loss and
                `margin_logits`.
            mixup_partner (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
                For clips that mixup has mixed: the position in the batch of each clip's partner.
            mixup_lambda (`float` or `torch.FloatTensor` of shape `(batch_size,)`, *optional*):
                The share of the clip itself. Its partner has the share `1 - mixup_lambda`.
            return_dict (`bool`, *optional*):
                `False` for a tuple instead of an [`AttentionAsdOutput`].

        Returns:
            [`AttentionAsdOutput`], or a tuple of its values that are not `None`.

        Raises:
            ValueError: for a needed input that is missing or has another shape than the configured clip, for a partner
                without `mixup_lambda`, and for mixed clips with the loss `"arcface"`.
        """
        representations = self.represent(input_values, input_features)
        weighed, attention_maps = representations, None
        if self.attention is not None:
            attention_maps = self.attention(representations)
            weighed = attention_maps * representations
        embeddings = self.backbone(weighed)
        cosines = self.arcface.cosines(embeddings)

        # The margin changes each ID's logit by a monotonic function: the closest center has the smallest score.
        scored_labels = cosines.argmax(dim=1) if labels is None else labels
        margin_logits = self.arcface.logits(cosines, scored_labels)
        anomaly_scores = F.cross_entropy(margin_logits, scored_labels, reduction="none")
        loss = None
        if labels is not None:
            loss = self.angular_loss(cosines, margin_logits, labels, mixup_partner, mixup_lambda)

        output = AttentionAsdOutput(
            loss=loss,
            logits=self.arcface.scale * cosines,
            margin_logits=None if labels is None else margin_logits,
            anomaly_scores=anomaly_scores,
            scored_labels=scored_labels,
            cosines=cosines,
            embeddings=embeddings,
            attention_maps=attention_maps,
            representations=representations,
            spectra=None if self.training or input_features is None else spectral_statistics(input_features),
        )
        return output.to_tuple() if return_dict is False else output

    def represent(self, input_values: torch.Tensor | None, input_features: torch.Tensor | None) -> torch.Tensor:
        """Stack the network's input X, `(batch_size, channels, num_mel_bins, num_frames)`, in the configured order.

        Args and errors are those of [`AttentionAsdModel.forward`].
        """
        channels = []
        for name in self.config.input_representations:
            if name == "wavegram" and self.wavegram is not None:
                values = self._checked("input_values", input_values, (self.config.clip_length,))
                channels.append(self.wavegram(values))
            else:
                expected = (self.config.num_mel_bins, self.config.num_frames)
                channels.append(self._checked("input_features", input_features, expected))
        return torch.stack(channels, dim=1)

    def angular_loss(
        self,
        cosines: torch.Tensor,
        margin_logits: torch.Tensor,
        labels: torch.Tensor,
        mixup_partner: torch.Tensor | None,
        mixup_lambda: torch.Tensor | float | None,
    ) -> torch.Tensor:
        """The loss of Eq. 2, averaged over the batch.

        A mixed clip has two cross-entropies, its own and its partner's, weighed by the two shares. Noisy-ArcMix keeps the
        margin on the clip's own ID in both (Choi and Choi 2024). In the partner's cross-entropy, ArcMix has the margin on
        the partner's ID.

        Args:
            cosines (`torch.Tensor` of shape `(batch_size, num_labels)`):
                Cosines between the embeddings and the machine IDs' centers.
            margin_logits (`torch.Tensor` of shape `(batch_size, num_labels)`):
                Scaled cosines with the margin on `labels`.
            labels (`torch.Tensor` of shape `(batch_size,)`):
                The clips' own machine IDs.
            mixup_partner, mixup_lambda:
                As in [`AttentionAsdModel.forward`].

        Raises:
            ValueError: for a partner without `mixup_lambda`, and for mixed clips with the loss `"arcface"`.
        """
        own = F.cross_entropy(margin_logits, labels, reduction="none")
        if mixup_partner is None:
            return own.mean()
        if self.config.angular_loss == "arcface":
            raise ValueError(
                "mixup_partner was given to a model with angular_loss='arcface', which is defined for clips that are "
                "not mixed; train without mixup (mixup_alpha 0) or with 'noisy_arcmix' or 'arcmix'."
            )
        if mixup_lambda is None:
            raise ValueError("mixup_partner was given without mixup_lambda, the share of the clip itself.")
        partner_labels = labels[mixup_partner]
        if self.config.angular_loss == "arcmix":
            margin_logits = self.arcface.logits(cosines, partner_labels)
        partner = F.cross_entropy(margin_logits, partner_labels, reduction="none")
        return (mixup_lambda * own + (1.0 - mixup_lambda) * partner).mean()

    def _checked(self, name: str, tensor: torch.Tensor | None, expected: tuple[int, ...]) -> torch.Tensor:
        if tensor is None:
            raise ValueError(
                f"{name} is missing: this model sees {self.config.input_representations}. Call it with everything "
                "that its feature extractor returns: model(**feature_extractor(waveform, sampling_rate=...))."
            )
        if tuple(tensor.shape[1:]) != expected:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}: this model expects (batch_size, "
                f"{', '.join(map(str, expected))}). Use the feature extractor saved with the model, which cuts, pads "
                "or splits clips to its length."
            )
        return tensor.to(self.dtype)


AttentionAsdModel.register_for_auto_class("AutoModel")
AttentionAsdConfig.register_for_auto_class("AutoConfig")

"""
transformers before 5.9 copies a file only if the file that it loads names it in such a line, in a text too:
from .alterations_attention_asd import __all__
from .backends_attention_asd import __all__
from .bands_attention_asd import __all__
from .calibration_attention_asd import __all__
from .clip_checks_attention_asd import __all__
from .conditions_attention_asd import __all__
from .decision_attention_asd import __all__
from .detector_attention_asd import __all__
from .detector_checks_attention_asd import __all__
from .detector_files_attention_asd import __all__
from .digests_attention_asd import __all__
from .downloads_attention_asd import __all__
from .drift_attention_asd import __all__
from .enrolling_attention_asd import __all__
from .fitting_attention_asd import __all__
from .hearing_attention_asd import __all__
from .left_out_attention_asd import __all__
from .levels_attention_asd import __all__
from .limits_attention_asd import __all__
from .machines_attention_asd import __all__
from .normal_clips_attention_asd import __all__
from .notes_attention_asd import __all__
from .periods_attention_asd import __all__
from .pipeline_attention_asd import __all__
from .power_attention_asd import __all__
from .reasons_attention_asd import __all__
from .recordings_attention_asd import __all__
from .reference_attention_asd import __all__
from .regions_attention_asd import __all__
from .relevance_attention_asd import __all__
from .results_attention_asd import __all__
from .self_test_attention_asd import __all__
from .spectrum_attention_asd import __all__
from .student_attention_asd import __all__
"""

__all__ = ["AttentionAsdModel", "AttentionAsdOutput", "AttentionAsdPreTrainedModel"]
