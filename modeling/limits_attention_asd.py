"""What a configuration may ask for: a file from a stranger must not take memory or time before anything else is known of it."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any


# Lowest and highest values, far beyond the paper's.
RANGES = {
    "sampling_rate": (1_000, 1_000_000),
    "clip_length": (1, 2**24),
    "hop_length": (1, 2**20),
    "num_mel_bins": (1, 2**12),
    "wavegram_kernel_size": (2, 2**16),
    "embedding_size": (1, 2**14),
    "stem_channels": (1, 2**13),
    "head_channels": (1, 2**14),
}
# Of each stage: expansion, channels, repeats, stride.
STAGE_RANGES = ((1, 64), (1, 2**13), (1, 64), (1, 16))
MAX_STAGES, MAX_ATTENTION_LAYERS, MAX_LABELS = 64, 8, 100_000
# The paper's network has 0.9 million weights, and layers of 2.6 million numbers a clip.
MAX_WEIGHTS = MAX_LAYER = 2**28


def demand(holds: bool, name: str, value: Any, expected: str) -> None:
    """Raise a ValueError that names the value if it does not hold."""
    if not holds:
        text = repr(value)
        raise ValueError(f"{name}={text[:60] + '...' * (len(text) > 60)}: expected {expected}.")


def is_whole(value: Any, lowest: int, highest: int) -> bool:
    """Whether a value is a whole number in this range."""
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def check_limits(config: Any, extra: Mapping[str, Any]) -> None:
    """Check types and sizes of a configuration, before anything of these sizes is made.

    Args:
        config: the configuration, as its fields were given.
        extra: what was given besides the fields.

    Raises:
        ValueError: the message names the value.
    """
    for name, (lowest, highest) in RANGES.items():
        value = getattr(config, name)
        demand(is_whole(value, lowest, highest), name, value, f"a whole number from {lowest} to {highest}")
    for name in ("scale", "margin"):
        value = getattr(config, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        demand(is_number and 0 <= value <= 1e4, name, value, "a number from 0 to 10,000")
    for name in ("use_attention", "use_separable_convolutions"):
        demand(isinstance(getattr(config, name), bool), name, getattr(config, name), "true or false")
    check_layers(config)
    check_labels(config, extra)
    check_size(config)


def check_layers(config: Any) -> None:
    """Check the lists of a configuration."""
    representations, channels, stages = config.input_representations, config.attention_channels, config.bottlenecks
    demand(isinstance(representations, (list, tuple)), "input_representations", representations, "a list of names")
    demand(
        isinstance(channels, (list, tuple))
        and 0 < len(channels) <= MAX_ATTENTION_LAYERS
        and all(is_whole(number, 1, 2**12) for number in channels),
        "attention_channels",
        channels,
        f"1 to {MAX_ATTENTION_LAYERS} whole numbers from 1 to {2**12}",
    )
    demand(
        isinstance(stages, (list, tuple)) and len(stages) <= MAX_STAGES and all(map(is_stage, stages)),
        "bottlenecks",
        stages,
        f"up to {MAX_STAGES} lists of four whole numbers (expansion, channels, repeats, stride), each from 1 to "
        f"{', '.join(str(highest) for _, highest in STAGE_RANGES)}",
    )


def is_stage(stage: Any) -> bool:
    """Whether a value describes a stage of bottlenecks."""
    is_list = isinstance(stage, (list, tuple)) and len(stage) == len(STAGE_RANGES)
    return is_list and all(is_whole(number, *limits) for number, limits in zip(stage, STAGE_RANGES, strict=True))


def check_labels(config: Any, extra: Mapping[str, Any]) -> None:
    """Check the names of the machine IDs, their number, which transformers would make names of, and the pipelines."""
    num_labels, id2label, label2id = extra.get("num_labels"), config.id2label, config.label2id
    demand(
        num_labels is None or is_whole(num_labels, 1, MAX_LABELS),
        "num_labels",
        num_labels,
        f"a whole number from 1 to {MAX_LABELS}",
    )
    demand(
        id2label is None
        or isinstance(id2label, dict)
        and 0 < len(id2label) <= MAX_LABELS
        and all(str(key).isdecimal() and isinstance(label, str) for key, label in id2label.items()),
        "id2label",
        id2label,
        f"1 to {MAX_LABELS} names by their numbers",
    )
    demand(label2id is None or isinstance(label2id, dict), "label2id", label2id, "numbers by their names")
    pipelines = extra.get("custom_pipelines") or {}
    is_table = isinstance(pipelines, dict) and all(
        isinstance(task, dict) and isinstance(task.get("pt"), (list, tuple)) for task in pipelines.values()
    )
    demand(is_table, "custom_pipelines", pipelines, "pipelines by the names of their tasks")


def check_size(config: Any) -> None:
    """Check how many weights the network has, and how many numbers its largest layer makes of a clip."""
    height, width = config.num_mel_bins, 1 + config.clip_length // config.hop_length
    largest, weights = (
        height * width * max(config.attention_channels),
        sum(9 * a * b for a, b in pairwise(config.attention_channels)),
    )
    channels, height, width = config.stem_channels, math.ceil(height / 2), math.ceil(width / 2)
    largest = max(largest, height * width * channels)
    for expansion, out_channels, repeats, first_stride in config.bottlenecks:
        for stride in [first_stride] + [1] * (repeats - 1):
            hidden = channels * expansion
            largest = max(largest, height * width * hidden)
            weights += hidden * (channels + out_channels + 9)
            channels, height, width = out_channels, math.ceil(height / stride), math.ceil(width / stride)
    head, labels = config.head_channels, len(config.id2label or ())
    largest = max(largest, height * width * head)
    weights += head * (channels + height * width + config.embedding_size) + config.embedding_size * labels
    demand(weights <= MAX_WEIGHTS, "the number of weights", weights, f"at most {MAX_WEIGHTS}; choose smaller layers")
    demand(
        largest <= MAX_LAYER,
        "the numbers that the largest layer makes of a clip",
        largest,
        f"at most {MAX_LAYER}; choose a shorter clip or smaller layers",
    )


__all__ = ["check_limits"]
