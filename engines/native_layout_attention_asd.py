"""
The layout of a compiled network: the fields of the C structures `Network` and `Bottleneck`, in one place.

Three things follow from the tables below: the ctypes structures, the tensors and numbers that a file must hold, and the
shapes that the exporter pads tensors to. A test compares the tables with the C source, field by field.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


# As in the C source: frames or channels of a vector, channels of a block, first channels of the attention module, frames
# over which the spectra measure change.
LANES = 16
BLOCK = 64
HIDDEN = 16
MAX_REPRESENTATIONS = 2
LAGS = (1, 2, 4, 8)

MAX_BOTTLENECKS = 1000
MAX_FLOAT = 1e30

Size = str | int


@dataclass(frozen=True)
class Number:
    """A number of a C structure; `export.json` holds its value."""

    name: str
    kind: str = "int32"


@dataclass(frozen=True)
class Tensor:
    """A pointer of a C structure; the weights' file holds what it points to.

    Args:
        name: the field's name.
        kind: the type of its elements.
        shape: sizes, each a whole number or the name of a number; `None` where another field decides on the size.
        where: the name of a number that is 0 where the network has no such tensor; then the pointer is null.
    """

    name: str
    kind: str
    shape: tuple[Size, ...] | None
    where: str | None = None


@dataclass(frozen=True)
class Null:
    """A pointer that stays null: only another use of the same C structure sets it."""

    name: str
    kind: str


@dataclass(frozen=True)
class Bottlenecks:
    """A pointer to the structures [`BOTTLENECK`], `num_bottlenecks` of them."""

    name: str


Field = Number | Tensor | Null | Bottlenecks


def whole_numbers(names: str) -> list[Field]:
    """One number of each name."""
    return [Number(name) for name in names.split()]


def tensors(kind: str, names: str, *shape: Size, where: str | None = None) -> list[Field]:
    """One tensor of each name, all of one shape."""
    return [Tensor(name, kind, shape, where) for name in names.split()]


# C structures inside a structure. Their names have a point, in C and in the files.


def pointwise(name: str, parameter: str) -> list[Field]:
    """`Pointwise`, with one of two parameters: the `slope` of its activation or, without activation, a `factor`."""
    channels_in, channels_out = f"{name}.in_channels", f"{name}.out_channels"
    factor, slope = f"{name}.factor", f"{name}.slope"
    if parameter == "factor":
        parameters = [Tensor(factor, "float32", (channels_out,)), Null(slope, "float32")]
    else:
        parameters = [Null(factor, "float32"), Tensor(slope, "float32", (channels_out,))]
    return [
        *whole_numbers(f"{channels_in} {channels_out}"),
        *parameters,
        *tensors("int32", f"{name}.bias", channels_out),
        # The C source gives the order of these bytes.
        *tensors("int8", f"{name}.weights", channels_out, channels_in, "pixel_bytes"),
    ]


def depthwise(name: str) -> list[Field]:
    """`Depthwise`: nine weights, bias, slope and offset; the C source gives their order."""
    channels = f"{name}.channels"
    return [*whole_numbers(f"{channels} {name}.stride"), *tensors("float32", f"{name}.parameters", 12, channels)]


def quantization(name: str, channels: str, where: str) -> list[Field]:
    """`Quantization` of the pixels that go into a convolution of so many channels."""
    return tensors("float32", f"{name}.factor {name}.offset", channels, where=where)


BOTTLENECK: list[Field] = [
    *quantization("input", "expand.in_channels", where="has_input"),
    *pointwise("expand", "slope"),
    *depthwise("depthwise"),
    *pointwise("project", "factor"),
    *whole_numbers("is_residual"),
]

NETWORK: list[Field] = [
    *whole_numbers("clip_length n_fft hop_length num_mel_bins num_frames"),
    *whole_numbers("num_representations log_mel_position wavegram_position wavegram_kernel_size"),
    *whole_numbers("use_attention attention_channels"),
    *whole_numbers("stem_channels num_bottlenecks head_channels embedding_size num_labels is_wide"),
    Number("mel_floor", "float32"),
    # Log-mel
    *tensors("float32", "window cosine sine", "n_fft"),
    Tensor("mel_weights", "float32", None),
    *tensors("int32", "mel_first mel_count", "num_mel_bins"),
    # Wavegram
    *tensors("float32", "wavegram_filter", "wavegram_kernel_size", where="has_wavegram"),
    *tensors("float32", "wavegram_gain wavegram_offset", "num_mel_bins", where="has_wavegram"),
    Number("wavegram_bias", "float32"),
    # Attention
    *tensors("float32", "first_depthwise", "num_representations", 9, where="use_attention"),
    *tensors("float32", "first_depthwise_bias", "num_representations", where="use_attention"),
    *tensors("float32", "first_pointwise", HIDDEN, MAX_REPRESENTATIONS, where="use_attention"),
    *tensors("float32", "first_pointwise_bias first_gain first_offset", HIDDEN, where="use_attention"),
    *tensors("float32", "second_depthwise", HIDDEN, 9, where="use_attention"),
    *tensors("float32", "second_depthwise_bias", HIDDEN, where="use_attention"),
    *tensors("int16", "second_pointwise", "attention_channels", HIDDEN, where="use_attention"),
    *tensors("int32", "second_bias", "attention_channels", where="use_attention"),
    *tensors("float32", "second_gain second_offset", "attention_channels", where="use_attention"),
    *tensors("float32", "last_linear last_exponential last_offset", "attention_channels", where="use_attention"),
    *tensors("float32", "last_pointwise", "attention_channels", MAX_REPRESENTATIONS, where="use_attention"),
    *tensors("float32", "last_pointwise_bias", MAX_REPRESENTATIONS, where="use_attention"),
    # MobileFaceNet
    *tensors("float32", "stem_factor", MAX_REPRESENTATIONS),
    *tensors("int16", "stem", 9, "stem_channels", MAX_REPRESENTATIONS),
    *tensors("int32", "stem_bias", "stem_channels"),
    *tensors("float32", "stem_slope", "stem_channels"),
    *depthwise("stem_depthwise"),
    Bottlenecks("bottlenecks"),
    *quantization("head_input", "head.in_channels", where="num_bottlenecks"),
    *pointwise("head", "slope"),
    *tensors("float32", "global_depthwise", "pooled_pixels", "head_channels"),
    *tensors("float32", "global_bias", "head_channels"),
    *tensors("float32", "embedding", "head_channels", "embedding_size"),
    *tensors("float32", "embedding_bias", "embedding_size"),
    *tensors("float32", "centres", "embedding_size", "num_labels"),
]

FLOATS = {field.name for field in NETWORK if isinstance(field, Number) and field.kind == "float32"}


# The structures of ctypes


def c_structure(name: str, fields: Sequence[Field]) -> type[ctypes.Structure]:
    """The ctypes structure of a table."""

    def c_type(field: Field) -> Any:
        if isinstance(field, Number):
            return {"int32": ctypes.c_int32, "float32": ctypes.c_float}[field.kind]
        return ctypes.POINTER(Bottleneck) if isinstance(field, Bottlenecks) else ctypes.c_void_p

    return type(name, (ctypes.Structure,), {"_fields_": [(field.name, c_type(field)) for field in fields]})


Bottleneck = c_structure("Bottleneck", BOTTLENECK)
Network = c_structure("Network", NETWORK)


class Description:
    """The numbers of a network, checked, and the tensors that belong to them.

    Args:
        described: the numbers among the fields of [`NETWORK`]; those of bottleneck i begin with `bottlenecks.{i}.`.

    Raises:
        KeyError: a number is missing.
        ValueError: numbers contradict each other, or the C source has no code for them. The message names one.
    """

    def __init__(self, described: dict[str, Any]):
        check_values(described)
        self.numbers = read_numbers(NETWORK, "", described)
        check_clip(self.numbers)
        prefixes = [f"bottlenecks.{i}." for i in range(self.numbers["num_bottlenecks"])]
        self.bottlenecks = {prefix: read_numbers(BOTTLENECK, prefix, described) for prefix in prefixes}
        pooled_pixels = check_backbone(self.numbers, self.bottlenecks)
        # What the tables name besides the numbers of a file.
        pixel_bytes = 2 if self.numbers["is_wide"] else 1
        has_wavegram = self.numbers["wavegram_position"] >= 0
        self.numbers |= {"pixel_bytes": pixel_bytes, "has_wavegram": has_wavegram, "pooled_pixels": pooled_pixels}
        for prefix, block in self.bottlenecks.items():
            block |= {"pixel_bytes": pixel_bytes, "has_input": prefix != prefixes[0]}

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...] | None]]:
        """Type and shape of every tensor, by its name in the file; see [`Tensor`]."""
        tables = [("", NETWORK, self.numbers)]
        tables += [(prefix, BOTTLENECK, block) for prefix, block in self.bottlenecks.items()]
        return {
            prefix + field.name: (field.kind, None if field.shape is None else resolved(field.shape, sizes))
            for prefix, fields, sizes in tables
            for field in fields
            if isinstance(field, Tensor) and (field.where is None or sizes[field.where])
        }

    def structure(self, addresses: dict[str, int]) -> ctypes.Structure:
        """Return `Network` for the C source. It points to the tensors at `addresses`, by their names in the file."""
        bottlenecks = (Bottleneck * len(self.bottlenecks))()
        for structure, (prefix, numbers) in zip(bottlenecks, self.bottlenecks.items(), strict=True):
            fill(structure, BOTTLENECK, numbers, prefix, addresses)
        network = Network(bottlenecks=bottlenecks)
        fill(network, NETWORK, self.numbers, "", addresses)
        return network


def read_numbers(fields: Sequence[Field], prefix: str, described: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a structure by their fields' names, and nothing else that the description may hold."""
    return {field.name: described[prefix + field.name] for field in fields if isinstance(field, Number)}


def resolved(shape: Sequence[Size], sizes: dict[str, Any]) -> tuple[int, ...]:
    """A shape with numbers in the place of their names."""
    return tuple(size if isinstance(size, int) else sizes[size] for size in shape)


def fill(
    structure: ctypes.Structure,
    fields: Sequence[Field],
    numbers: dict[str, Any],
    prefix: str,
    addresses: dict[str, int],
) -> None:
    """Set the numbers of a structure, and the pointers to the tensors that there are."""
    for field in fields:
        if isinstance(field, Number):
            setattr(structure, field.name, numbers[field.name])
        elif isinstance(field, Tensor):
            setattr(structure, field.name, addresses.get(prefix + field.name))


# What the C source believes


def demand(holds: bool, what: str) -> None:
    """Raise a ValueError about `what` if it does not hold."""
    if not holds:
        raise ValueError(what)


def halved(size: int) -> int:
    """Rows or columns that a convolution with stride 2 makes of `size`."""
    return -(-size // 2)


def check_values(described: dict[str, Any]) -> None:
    """Every number has its type, and fits into 32 bits: one beyond would be another number in C."""
    demand(isinstance(described, dict), "the numbers: there are none")
    for name, value in described.items():
        if name in FLOATS:
            demand(isinstance(value, (int, float)) and abs(value) < MAX_FLOAT, name)
        else:
            demand(isinstance(value, int) and -1 <= value < 2**31, name)


def check_clip(n: dict[str, Any]) -> None:
    """Clip, log-mel, Wavegram and attention have sizes that the C source has code for."""
    representations, bins, frames = n["num_representations"], n["num_mel_bins"], n["num_frames"]
    demand(16 <= n["n_fft"] <= 2**16 and n["n_fft"] & (n["n_fft"] - 1) == 0, "n_fft")
    demand(
        n["n_fft"] // 2 < n["clip_length"] < 2**28 and n["wavegram_kernel_size"] // 2 < n["clip_length"], "clip_length"
    )
    demand(n["hop_length"] > 0 and frames == 1 + n["clip_length"] // n["hop_length"], "num_frames")
    demand(frames > LAGS[-1], "num_frames")
    demand(1e-30 <= n["mel_floor"] <= 1, "mel_floor")
    demand(0 < bins < 2**16 and frames < 2**20 and bins * frames < 2**28, "num_mel_bins and num_frames")
    demand(n["num_labels"] > 0 and n["embedding_size"] > 0, "num_labels and embedding_size")
    demand(0 < representations <= MAX_REPRESENTATIONS, "num_representations")
    positions = [n["log_mel_position"], n["wavegram_position"]]
    demand(sorted(p for p in positions if p >= 0) == list(range(representations)), "positions")
    # The C source computes a channel ahead, and the first in any case.
    demand(not n["use_attention"] or n["attention_channels"] > 0, "attention_channels")
    demand(0 <= n["num_bottlenecks"] < MAX_BOTTLENECKS, "num_bottlenecks")


def check_backbone(n: dict[str, Any], bottlenecks: dict[str, dict[str, Any]]) -> int:
    """Layers of MobileFaceNet fit each other, and no plane has more than 31 bits of numbers. Returns the pixels at its end."""
    channels, height, width = n["stem_channels"], halved(n["num_mel_bins"]), halved(n["num_frames"])
    demand(0 < channels < 2**16 and channels % BLOCK == 0 and height * width * channels < 2**31, "stem_channels")
    check_depthwise(n, "stem_depthwise", channels, strides=(1,))
    for index, (prefix, block) in enumerate(bottlenecks.items()):
        inner = check_pointwise(block, "expand", channels, prefix)
        demand(height * width * max(inner, channels) < 2**31, prefix)
        stride = check_depthwise(block, "depthwise", inner, strides=(1, 2), prefix=prefix)
        out = check_pointwise(block, "project", inner, prefix)
        keeps_size = index > 0 and stride == 1 and out == channels
        demand(not block["is_residual"] or keeps_size, f"{prefix}is_residual")
        channels = out
        if stride == 2:
            height, width = halved(height), halved(width)
    head = check_pointwise(n, "head", channels)
    demand(head == n["head_channels"] and height * width * head < 2**31, "head_channels")
    return height * width


def check_pointwise(numbers: dict[str, Any], name: str, channels: int, prefix: str = "") -> int:
    """A 1x1 convolution takes `channels`. Returns its output channels."""
    out = numbers[f"{name}.out_channels"]
    fits = numbers[f"{name}.in_channels"] == channels and 0 < out < 2**16 and out % BLOCK == 0
    demand(fits, f"{prefix}{name}.")
    return out


def check_depthwise(
    numbers: dict[str, Any], name: str, channels: int, strides: tuple[int, ...], prefix: str = ""
) -> int:
    """A depthwise convolution has `channels` and one of the strides. Returns its stride."""
    stride = numbers[f"{name}.stride"]
    demand(numbers[f"{name}.channels"] == channels and stride in strides, f"{prefix}{name}.")
    return stride
