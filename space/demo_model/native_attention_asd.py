"""
The network compiled for the machine that it runs on: `native_attention_asd.c`, its compilation and its call.

`scripts/export.py` folds and quantises the weights; this loads them. Only the source travels with a model: the library is
compiled where it is first needed, with the C compiler there, and kept in the user's cache. It is compiled only if it is the
source that this file was written for, so that a model's directory brings no code that its reader has not agreed to.
"""

import ctypes
import hashlib
import math
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
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file


SOURCE = "native_attention_asd.c"
SOURCE_SHA256 = "678a9507060aa46f289e028d8dd168719576f242198498baf5f6e338bb2d9d7d"
FLAGS = ["-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared"]
ALIGNMENT = 64


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
            "second_gain", "second_offset", "last_positive", "last_exponential",
            "last_offset", "last_pointwise", "last_pointwise_bias", "stem", "stem_bias", "stem_slope",
        )),
        ("stem_depthwise", Depthwise),
        ("bottlenecks", POINTER(Bottleneck)),
        ("head_input", Quantisation),
        ("head", Pointwise),
        *((name, POINTER(c_float)) for name in (
            "global_depthwise", "global_bias", "embedding", "embedding_bias", "centres",
        )),
    ]  # fmt: skip


def fill(structure: Structure, prefix: str, tensors: dict[str, np.ndarray], numbers: dict[str, Any]) -> Structure:
    """Set every field from the tensor or number named `prefix` + field; pointers keep pointing into `tensors`.

    Raises:
        ValueError: where one is missing; the message names it.
    """
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
            if name not in numbers:
                raise ValueError(f"{name} is missing in the export. Export the model again with scripts/export.py.")
            setattr(structure, field, numbers[name])
        # A network without attention or Wavegram has none of their weights, and they are not looked at.
        elif name in tensors:
            setattr(structure, field, tensors[name].ctypes.data_as(kind))
    return structure


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
        folder.mkdir(parents=True, exist_ok=True)
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
    memory = np.zeros(size + ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def load_native(
    weights: str, source: str, names: list[str], num_threads: int, numbers: dict[str, Any]
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """`(batch, clip_length)` -> the outputs in `names`. A clip is computed on one core, a batch on `num_threads`.

    Args:
        weights: the safetensors file of the export.
        source: the C source beside it.
        numbers: the numbers among the fields of [`Network`], nested fields by their dotted names.
    """
    native = library(Path(source))
    tensors = load_file(weights)
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
