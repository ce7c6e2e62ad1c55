"""The published checkpoint: the authors' weights under this project's names.

The authors' repository, michaelneri/unsupervised-audio-anomaly-detection, has a Lightning checkpoint of the paper's
network.
"""

import re
from pathlib import Path
from typing import Any

import torch

from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel

from .published_labels import NUM_LABELS, published_labels


# The authors' names, in the order of their modules, and ours. The last group holds what is left of a key.
RENAMINGS = [
    (r"model\.wavegram\.dwconv\.", "wavegram.filters.depthwise."),
    (r"model\.wavegram\.dwconv_normalization\.", "wavegram.filters.depthwise_norm."),
    (r"model\.wavegram\.pwconv\.", "wavegram.filters.pointwise."),
    (r"model\.wavegram\.pwconv_normalization\.", "wavegram.filters.pointwise_norm."),
    (r"model\.heatmap\.(\d)\.dwconv\.", r"attention.layers.\1.depthwise."),
    (r"model\.heatmap\.(\d)\.dwconv_normalization\.", r"attention.layers.\1.depthwise_norm."),
    (r"model\.heatmap\.(\d)\.pwconv\.", r"attention.layers.\1.pointwise."),
    (r"model\.heatmap\.(\d)\.pwconv_normalization\.", r"attention.layers.\1.pointwise_norm."),
    (r"model\.heatmap\.(\d)\.", r"attention.layers.\1."),
    (r"model\.classifier\.conv1\.", "backbone.stem."),
    (r"model\.classifier\.dw_conv1\.", "backbone.stem_depthwise."),
    (r"model\.classifier\.blocks\.(\d)\.conv\.0\.", r"backbone.bottlenecks.\1.expand.conv."),
    (r"model\.classifier\.blocks\.(\d)\.conv\.1\.", r"backbone.bottlenecks.\1.expand.norm."),
    (r"model\.classifier\.blocks\.(\d)\.conv\.2\.", r"backbone.bottlenecks.\1.expand.activation."),
    (r"model\.classifier\.blocks\.(\d)\.conv\.3\.", r"backbone.bottlenecks.\1.depthwise.conv."),
    (r"model\.classifier\.blocks\.(\d)\.conv\.4\.", r"backbone.bottlenecks.\1.depthwise.norm."),
    (r"model\.classifier\.blocks\.(\d)\.conv\.5\.", r"backbone.bottlenecks.\1.depthwise.activation."),
    (r"model\.classifier\.blocks\.(\d)\.conv\.6\.", r"backbone.bottlenecks.\1.project.conv."),
    (r"model\.classifier\.blocks\.(\d)\.conv\.7\.", r"backbone.bottlenecks.\1.project.norm."),
    (r"model\.classifier\.conv2\.", "backbone.head."),
    (r"model\.classifier\.linear7\.", "backbone.global_depthwise."),
    (r"model\.classifier\.linear1\.", "backbone.embedding."),
    (r"model\.arcface\.weight", "arcface.weight"),
]
# Inside MobileFaceNet's layers.
INNER_RENAMINGS = [(r"(backbone\..*)\.bn\.", r"\1.norm."), (r"(backbone\..*)\.prelu\.", r"\1.activation.")]

DROPPED = {
    r"model\.classifier\.fc_out\.": "the linear head, whose output nothing uses",
    r"model\.transform_tf\.": "the log-mel's constants, which are in preprocessor_config.json",
}


def convert_state_dict(original: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str], list[str]]:
    """Rename the authors' weights.

    Returns:
        The renamed weights, the dropped keys with the reason, and the unknown keys.
    """
    converted, dropped, unknown = {}, {}, []
    for key, tensor in original.items():
        reason = next((reason for pattern, reason in DROPPED.items() if re.match(pattern, key)), None)
        if reason:
            dropped[key] = reason
            continue
        renaming = next((renaming for renaming in RENAMINGS if re.match(renaming[0], key)), None)
        if renaming is None:
            unknown.append(key)
            continue
        renamed = re.sub(*renaming, key, count=1)
        for inner_pattern, inner_replacement in INNER_RENAMINGS:
            renamed = re.sub(inner_pattern, inner_replacement, renamed)
        converted[renamed] = tensor
    return converted, dropped, unknown


def convert_checkpoint(checkpoint: Path, output_dir: Path) -> AttentionAsdModel:
    """Convert the authors' checkpoint into the directory `output_dir`, and return the model.

    Every key that is used, dropped, missed or unknown is printed.

    Raises:
        ValueError: the checkpoint holds other weights than the paper's network.
    """
    converted, dropped, unknown = convert_state_dict(read_checkpoint(checkpoint))
    class_weights = converted.get("arcface.weight", torch.empty(NUM_LABELS, 128))
    if class_weights.ndim != 2 or len(class_weights) != NUM_LABELS:
        raise ValueError(
            f"{checkpoint}: model.arcface.weight has shape {tuple(class_weights.shape)}, expected ({NUM_LABELS}, embedding "
            "size)."
        )
    id2label, label2id = published_labels()
    model = AttentionAsdModel(
        AttentionAsdConfig(id2label=id2label, label2id=label2id, embedding_size=class_weights.shape[1])
    )
    expected = model.state_dict()
    missing = sorted(expected.keys() - converted.keys())
    unknown += sorted(converted.keys() - expected.keys())
    print_keys(converted, dropped, missing, unknown)
    if missing or unknown:
        raise ValueError(
            f"{checkpoint}: its weights are not the paper's network; see the missed and unknown keys above."
        )
    check_shapes(checkpoint, converted, expected)
    model.load_state_dict(converted)
    model.eval()
    model.save_pretrained(output_dir)
    AttentionAsdFeatureExtractor().save_pretrained(output_dir)
    return model


def read_checkpoint(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a Lightning checkpoint; nothing but tensors is unpickled.

    Raises:
        ValueError: the file does not exist, or is no checkpoint of tensors alone.
    """
    try:
        content: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{checkpoint}: no such file. Expected the authors' checkpoint.") from None
    except Exception as error:
        raise ValueError(
            f"{checkpoint}: cannot be read as a checkpoint of tensors alone ({error}). Nothing else is unpickled; "
            "expected the file that the authors publish."
        ) from None
    original = content.get("state_dict") if isinstance(content, dict) else None
    if not original:
        raise ValueError(f"{checkpoint}: has no 'state_dict'. Expected a Lightning checkpoint of the authors' network.")
    return original


def print_keys(
    converted: dict[str, torch.Tensor], dropped: dict[str, str], missing: list[str], unknown: list[str]
) -> None:
    print(f"used    {len(converted):4d} keys, {sum(tensor.numel() for tensor in converted.values()):,} numbers")
    print(f"dropped {len(dropped):4d} keys")
    for key, reason in dropped.items():
        print(f"        {key}: {reason}")
    print(f"missed  {len(missing):4d} keys {' '.join(missing)}")
    print(f"unknown {len(unknown):4d} keys {' '.join(unknown)}")


def check_shapes(checkpoint: Path, converted: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Refuse weights of another shape than the network's."""
    wrong = [key for key in expected if converted[key].shape != expected[key].shape]
    if wrong:
        key = wrong[0]
        raise ValueError(
            f"{checkpoint}: {key} has shape {tuple(converted[key].shape)}, expected {tuple(expected[key].shape)} (and "
            f"{len(wrong) - 1} more)."
        )
