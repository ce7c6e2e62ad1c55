"""
The network compiled for the machine that it runs on: `native_attention_asd.c`, its compilation and its call.

`scripts/export.py` folds and quantises the weights; this loads them. Only the source travels with a model: the library is
compiled where it is first needed, with the C compiler there, and kept in the user's cache. It is compiled only if it is the
source that this file was written for, so that a model's directory brings no code that its reader has not agreed to.
"""

import ctypes
import hashlib
import math
import mmap
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, Structure, c_float, c_int8, c_int16, c_int32
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file


SOURCE = "native_attention_asd.c"
SOURCE_SHA256 = "017be2d87878b42f3e6c7636625c394c5156709fea9d7de0d8d7c63a77162e24"
FLAGS = ["-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared"]
HUGE_PAGE, ALIGNMENT = 2**21, 64
ADVICE = "The file is not whole, or was not written by scripts/export.py: export the model again."
# The numbers of a network that are no integers.
FLOATS = ("mel_floor", "wavegram_bias")
# As in the C source.
HIDDEN = 16
MAX_REPRESENTATIONS = 2


class Pointwise(Structure):
    _fields_ = [
        ("in_channels", c_int32),
        ("out_channels", c_int32),
        ("factor", POINTER(c_float)),
        ("slope", POINTER(c_float)),
        ("bias", POINTER(c_int32)),
        ("weights", POINTER(c_int8)),
    ]


class Depthwise(Structure):
    _fields_ = [
        ("channels", c_int32),
        ("stride", c_int32),
        ("parameters", POINTER(c_float)),
    ]


class Quantisation(Structure):
    _fields_ = [("factor", POINTER(c_float)), ("offset", POINTER(c_float))]


class Bottleneck(Structure):
    _fields_ = [
        ("input", Quantisation),
        ("expand", Pointwise),
        ("depthwise", Depthwise),
        ("project", Pointwise),
        ("is_residual", c_int32),
    ]


class Network(Structure):
    """As in the C source, field by field."""

    _fields_ = [
        *((name, c_int32) for name in (
            "clip_length", "n_fft", "hop_length", "num_mel_bins", "num_frames", "num_representations",
            "log_mel_position", "wavegram_position", "wavegram_kernel_size", "use_attention", "attention_channels",
            "stem_channels", "num_bottlenecks", "head_channels", "embedding_size", "num_labels", "is_wide",
        )),
        ("mel_floor", c_float),
        *((name, POINTER(c_float)) for name in ("window", "cosine", "sine", "mel_weights")),
        *((name, POINTER(c_int32)) for name in ("mel_first", "mel_count")),
        *((name, POINTER(c_float)) for name in ("wavegram_filter", "wavegram_gain", "wavegram_offset")),
        ("wavegram_bias", c_float),
        *((name, POINTER(c_float)) for name in (
            "first_depthwise", "first_depthwise_bias", "first_pointwise", "first_pointwise_bias", "first_gain",
            "first_offset", "second_depthwise", "second_depthwise_bias",
        )),
        ("second_pointwise", POINTER(c_int16)),
        ("second_bias", POINTER(c_int32)),
        *((name, POINTER(c_float)) for name in (
            "second_gain", "second_offset", "last_linear", "last_exponential",
            "last_offset", "last_pointwise", "last_pointwise_bias", "stem_factor",
        )),
        ("stem", POINTER(c_int16)),
        ("stem_bias", POINTER(c_int32)),
        ("stem_slope", POINTER(c_float)),
        ("stem_depthwise", Depthwise),
        ("bottlenecks", POINTER(Bottleneck)),
        ("head_input", Quantisation),
        ("head", Pointwise),
        *((name, POINTER(c_float)) for name in (
            "global_depthwise", "global_bias", "embedding", "embedding_bias", "centres",
        )),
    ]  # fmt: skip


def fill(structure: Structure, prefix: str, tensors: dict[str, np.ndarray], numbers: dict[str, Any]) -> Structure:
    """Set every field from the tensor or number named `prefix` + field; pointers keep pointing into `tensors`."""
    for field, kind in structure._fields_:
        name = prefix + field
        if issubclass(kind, Structure):
            fill(getattr(structure, field), f"{name}.", tensors, numbers)
        elif field == "bottlenecks":
            array = (Bottleneck * numbers["num_bottlenecks"])()
            for i, bottleneck in enumerate(array):
                fill(bottleneck, f"{name}.{i}.", tensors, numbers)
            structure.bottlenecks = array
        elif kind in (c_int32, c_float):
            setattr(structure, field, numbers[name])
        # A network without attention or Wavegram has none of their weights, and they are not looked at.
        elif name in tensors:
            setattr(structure, field, tensors[name].ctypes.data_as(kind))
    return structure


def halved(size: int) -> int:
    """Of a convolution with stride 2."""
    return -(-size // 2)


def expected_sizes(numbers: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """Type and number of elements of every tensor of a network with these numbers.

    Raises:
        KeyError: a number is missing.
        ValueError: numbers that contradict each other, or that the C source has no code for.
    """

    def demand(holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(what)

    n = numbers
    demand(isinstance(n, dict), "the numbers: there are none")
    for name, value in n.items():
        # What is beyond 32 bits would be another number in C.
        holds = isinstance(value, (int, float)) if name in FLOATS else isinstance(value, int) and -1 <= value < 2**31
        demand(holds, name)
    representations, bins, frames, hidden = n["num_representations"], n["num_mel_bins"], n["num_frames"], HIDDEN
    demand(16 <= n["n_fft"] <= 2**16 and n["n_fft"] & (n["n_fft"] - 1) == 0, "n_fft")
    demand(
        n["n_fft"] // 2 < n["clip_length"] < 2**28 and n["wavegram_kernel_size"] // 2 < n["clip_length"], "clip_length"
    )
    demand(n["hop_length"] > 0 and frames == 1 + n["clip_length"] // n["hop_length"] and frames > 1, "num_frames")
    demand(0 < bins < 2**16 and frames < 2**20 and bins * frames < 2**28, "num_mel_bins and num_frames")
    demand(n["num_labels"] > 0 and n["embedding_size"] > 0, "num_labels and embedding_size")
    positions = [n["log_mel_position"], n["wavegram_position"]]
    demand(sorted(p for p in positions if p >= 0) == list(range(representations)) and representations > 0, "positions")
    sizes: dict[str, tuple[str, int]] = {
        **{name: ("float32", n["n_fft"]) for name in ("window", "cosine", "sine")},
        **{name: ("int32", bins) for name in ("mel_first", "mel_count")},
    }
    if n["wavegram_position"] >= 0:
        sizes |= {"wavegram_filter": ("float32", n["wavegram_kernel_size"])}
        sizes |= {name: ("float32", bins) for name in ("wavegram_gain", "wavegram_offset")}
    if n["use_attention"]:
        channels = n["attention_channels"]
        # The C source computes a channel ahead, and the first in any case.
        demand(channels > 0, "attention_channels")
        counts = {
            "first_depthwise": 9 * representations, "first_depthwise_bias": representations,
            "first_pointwise": hidden * MAX_REPRESENTATIONS, "first_pointwise_bias": hidden, "first_gain": hidden,
            "first_offset": hidden, "second_depthwise": 9 * hidden, "second_depthwise_bias": hidden,
            "second_gain": channels, "second_offset": channels, "last_linear": channels,
            "last_exponential": channels, "last_offset": channels,
            "last_pointwise": channels * MAX_REPRESENTATIONS, "last_pointwise_bias": MAX_REPRESENTATIONS,
        }  # fmt: skip
        sizes |= {name: ("float32", count) for name, count in counts.items()}
        sizes |= {"second_pointwise": ("int16", channels * hidden), "second_bias": ("int32", channels)}
    group = 2 if n["is_wide"] else 4

    def pointwise(name: str, in_channels: int, parameter: str) -> int:
        out = n[f"{name}out_channels"]
        demand(n[f"{name}in_channels"] == in_channels and 0 < out < 2**16 and out % 64 == 0, name)
        sizes[f"{name}weights"] = ("int8", in_channels * out * (4 // group))
        sizes[f"{name}bias"] = ("int32", out)
        sizes[f"{name}{parameter}"] = ("float32", out)
        return out

    def depthwise(name: str, channels: int, strides: tuple[int, ...]) -> int:
        demand(n[f"{name}channels"] == channels and n[f"{name}stride"] in strides, name)
        sizes[f"{name}parameters"] = ("float32", 12 * channels)
        return n[f"{name}stride"]

    channels, height, width = n["stem_channels"], halved(bins), halved(frames)
    demand(0 < channels < 2**16 and channels % 64 == 0 and height * width * channels < 2**31, "stem_channels")
    sizes |= {"stem_factor": ("float32", MAX_REPRESENTATIONS), "stem": ("int16", 9 * channels * MAX_REPRESENTATIONS)}
    sizes |= {"stem_bias": ("int32", channels), "stem_slope": ("float32", channels)}
    depthwise("stem_depthwise.", channels, (1,))
    demand(0 <= n["num_bottlenecks"] < 1000, "num_bottlenecks")
    for i in range(n["num_bottlenecks"]):
        name = f"bottlenecks.{i}."
        if i:
            sizes |= {f"{name}input.{part}": ("float32", channels) for part in ("factor", "offset")}
        inner = pointwise(f"{name}expand.", channels, "slope")
        demand(height * width * max(inner, channels) < 2**31, name)
        stride = depthwise(f"{name}depthwise.", inner, (1, 2))
        out = pointwise(f"{name}project.", inner, "factor")
        demand(not n[f"{name}is_residual"] or (i > 0 and stride == 1 and out == channels), f"{name}is_residual")
        channels = out
        if stride == 2:
            height, width = halved(height), halved(width)
    if n["num_bottlenecks"]:
        sizes |= {f"head_input.{part}": ("float32", channels) for part in ("factor", "offset")}
    head = pointwise("head.", channels, "slope")
    demand(head == n["head_channels"] and height * width * head < 2**31, "head_channels")
    return sizes | {
        "global_depthwise": ("float32", height * width * head),
        "global_bias": ("float32", head),
        "embedding": ("float32", head * n["embedding_size"]),
        "embedding_bias": ("float32", n["embedding_size"]),
        "centres": ("float32", n["embedding_size"] * n["num_labels"]),
    }


def check(tensors: dict[str, np.ndarray], numbers: dict[str, Any], weights: str) -> None:
    """The C source believes the sizes that it is told, and weights may come from anywhere.

    Raises:
        ValueError: a tensor is missing or of another size than the numbers say; the message names it.
    """
    try:
        sizes = expected_sizes(numbers)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{weights}: the network's description is wrong about {error}. {ADVICE}") from None
    for name, (kind, count) in sizes.items():
        tensor = tensors.get(name)
        found = "missing" if tensor is None else f"{tensor.size} of {tensor.dtype}"
        if found != f"{count} of {kind}":
            raise ValueError(f"{weights}: {name} is {found}, expected {count} of {kind}. {ADVICE}")
    first, count = tensors["mel_first"].astype(np.int64), tensors["mel_count"].astype(np.int64)
    within = (first >= 0).all() and (count >= 0).all() and (first + count <= numbers["n_fft"] // 2 + 1).all()
    if not within or tensors["mel_weights"].dtype != np.float32 or tensors["mel_weights"].size != count.sum():
        raise ValueError(f"{weights}: mel_first, mel_count and mel_weights do not fit together. {ADVICE}")


def compiler() -> list[str]:
    """The C compiler: `$CC`, else `cc`, `gcc` or `clang`.

    Raises:
        ImportError: there is none.
    """
    chosen = shlex.split(os.environ.get("CC", ""))
    found = chosen or next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if not found or not shutil.which(found[0]):
        raise ImportError(
            "This export is compiled for the machine that it runs on, and "
            + (f"CC={os.environ['CC']!r} is no command here" if chosen else "there is no C compiler here")
            + ": install one (on Debian or Ubuntu: apt install gcc libc6-dev), or export the model for onnx or openvino."
        )
    return found


def processor() -> str:
    """What `-march=native` depends on: a cache may be shared by machines."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    kept = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(kept)])


@cache
def library(source: Path) -> ctypes.CDLL:
    """The compiled source, from the cache where it is there.

    Raises:
        ValueError: it is another source than this code was written for.
        ImportError: there is no compiler, or it failed.
    """
    content = source.read_bytes()
    if hashlib.sha256(content).hexdigest() != SOURCE_SHA256:
        raise ValueError(
            f"{source}: not the source that this version of the code was written for, so it is not compiled. Export the "
            "model again with scripts/export.py."
        )
    command = [*compiler(), *FLAGS]
    digest = hashlib.sha256("\0".join([SOURCE_SHA256, *command, processor()]).encode()).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attention_asd"
    path = folder / f"native-{digest[:16]}.so"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"{folder}: no place for the compiled engine ({error.strerror}). Set XDG_CACHE_HOME to a folder that can be "
                "written to."
            ) from None
        # Moved into place whole: processes may compile side by side.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            compiled = Path(scratch) / path.name
            done = subprocess.run(
                [*command, "-x", "c", "-", "-lm", "-o", str(compiled)], input=content, capture_output=True, check=False
            )
            messages = done.stderr.decode(errors="replace")
            if done.returncode and "no AVX-512 VNNI" in messages:
                raise ImportError(
                    "This export is for processors with AVX-512 VNNI, which this one has not (Intel has it since Ice Lake, AMD "
                    "since Zen 4): export the model for openvino or onnx."
                )
            if done.returncode:
                raise ImportError(
                    f"{' '.join(command)} could not compile {source.name}: {messages.strip()[-2000:]}\nInstall a newer "
                    "gcc or clang, or export the model for onnx or openvino."
                )
            os.replace(compiled, path)
    loaded = ctypes.CDLL(str(path))
    loaded.asd_workspace_bytes.restype = ctypes.c_size_t
    loaded.asd_workspace_bytes.argtypes = [ctypes.c_void_p]
    loaded.asd_run.restype = None
    loaded.asd_run.argtypes = [ctypes.c_void_p] * 7
    return loaded


def zeros(size: int) -> np.ndarray:
    """Bytes in huge pages, where the system has them: weights and workspace in pages of 4 KiB took 2.5 % longer."""
    size = -(-size // HUGE_PAGE) * HUGE_PAGE
    memory = mmap.mmap(-1, size + HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    values = np.frombuffer(memory, dtype=np.uint8)
    start = -values.ctypes.data % HUGE_PAGE
    return values[start : start + size]


def side_by_side(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same in one piece of memory."""
    ends = list(accumulate((-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors.values()), initial=0))
    memory, moved = zeros(ends[-1]), {}
    for (name, tensor), start in zip(tensors.items(), ends[:-1], strict=True):
        moved[name] = memory[start : start + tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)
        moved[name][...] = tensor
    return moved


def load_native(
    weights: str, source: str, names: list[str], num_threads: int, numbers: dict[str, Any]
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """`(batch, clip_length)` -> the outputs in `names`. A clip is computed on one core, a batch on `num_threads`.

    Args:
        weights: the safetensors file of the export.
        source: the C source beside it.
        numbers: the numbers among the fields of [`Network`], nested fields by their dotted names.

    Raises:
        ValueError: weights that do not fit the numbers, or another source than this code was written for.
        ImportError: the source cannot be compiled here.
    """
    own = Path(__file__).with_name(SOURCE)
    # Loaded from the Hub, this file is without it.
    native = library(own if own.exists() else Path(source))
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights}: {error}. {ADVICE}") from None
    check(tensors, numbers, weights)
    if not numbers["use_attention"] and "attention_maps" in names:
        raise ValueError(f"{weights}: a network without attention, described as one with attention maps. {ADVICE}")
    tensors = side_by_side(tensors)
    network = fill(Network(), "", tensors, numbers)
    # What the structure points to lives as long as it does.
    network.tensors = tensors
    workspace_bytes = native.asd_workspace_bytes(ctypes.addressof(network))
    bins, frames, maps = (numbers[key] for key in ("num_mel_bins", "num_frames", "num_representations"))
    shapes = {
        "embeddings": (numbers["embedding_size"],),
        "cosines": (numbers["num_labels"],),
        "spectra": (3, bins),
        "attention_maps": (maps, bins, frames),
    }
    address = ctypes.addressof(network)
    # Of a clip's outputs, one after the other: where each begins and ends, in floats.
    ends = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())]).tolist()
    parts = {name: slice(*between) for name, between in zip(shapes, pairwise(ends), strict=True)}
    starts = [4 * start for start in ends[:-1]]
    room = threading.local()
    workers = ThreadPoolExecutor(num_threads) if num_threads > 1 else None

    def run(waveform: int, outputs: int) -> None:
        """One clip; both are addresses."""
        if not hasattr(room, "workspace"):
            room.workspace = zeros(workspace_bytes)
            room.address = room.workspace.ctypes.data
        native.asd_run(address, waveform, room.address, *(outputs + start for start in starts))

    def infer(values: np.ndarray) -> dict[str, np.ndarray]:
        if values.shape[1:] != (numbers["clip_length"],):
            raise ValueError(
                f"{weights}: for clips of {numbers['clip_length']} samples, which {values.shape[1:]} are not. {ADVICE}"
            )
        outputs = np.empty((len(values), ends[-1]), dtype=np.float32)
        clips = [
            (values.ctypes.data + i * values.strides[0], outputs.ctypes.data + i * outputs.strides[0])
            for i in range(len(values))
        ]
        if workers is None or len(values) == 1:
            for clip in clips:
                run(*clip)
        else:
            list(workers.map(run, *zip(*clips, strict=True)))
        return {name: outputs[:, parts[name]].reshape(len(values), *shapes[name]) for name in names}

    # What the engine reads lives as long as the function does.
    infer.network = network
    return infer
