"""Crafted exports for the compiled engine, built with gcc's address and undefined-behavior sanitizers.

    LD_PRELOAD=$(gcc -print-file-name=libasan.so) python compiled.py FOLDER LIBRARY SEED FIRST EXPORTS

As a script this file runs under the sanitizer, with numpy alone. FOLDER holds copies of the engine's two Python files, from
which a crafted description is checked as that of any export. What passes is run. Each tensor, the workspace and each output
has an allocation of its own, so that the sanitizer sees a byte read or written beside it.
"""

import ctypes
import importlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


ENGINE = Path(__file__).resolve().parents[2] / "engines"
FILES = ("native_attention_asd.py", "native_layout_attention_asd.py")
# Optimized, the compilation alone takes a minute.
SANITIZERS = ["-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
BLOCK = 64
EXPORTS = 20
# A case is small enough to be run in milliseconds.
MAX_ELEMENTS = 2**22
EXTREMES = {
    "float32": (0.0, -1.0, 1e-40, 1e30, -1e30, 3e38, -3e38),
    "int32": (0, 1, -1, 2**31 - 1, -(2**31)),
    "int16": (0, 32_767, -32_768),
    "int8": (0, 127, -128),
}


def runtime() -> str | None:
    """The path of gcc's sanitizer library; `None` where there is none."""
    if not shutil.which("gcc"):
        return None
    found = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return found if os.path.isabs(found) else None


class CraftedExports:
    """Crafted exports, many a case: the sanitized engine is built once, and a process of its own runs each case.

    Args:
        seed: part of the key of each export.
        folder: an empty folder, which gets the engine.

    Raises:
        ImportError: the engine cannot be built here, or not with sanitizers.
    """

    title = "Crafted exports, run by the compiled engine under gcc's address and undefined-behavior sanitizers"
    cpu_seconds, seconds, starts_processes = 300.0, 300.0, False

    def __init__(self, seed: int, folder: Path):
        from engines.native_attention_asd import FLAGS, SOURCE, compile_source

        if runtime() is None:
            raise ImportError("needs gcc with its sanitizer library (libasan)")
        self.seed, self.folder, self.library = seed, folder, folder / "sanitized.so"
        for file in FILES:
            shutil.copyfile(ENGINE / file, folder / file)
        compile_source(["gcc", *FLAGS, *SANITIZERS], (ENGINE / SOURCE).read_bytes(), self.library)

    def check(self, case: int) -> list[tuple[str, str]]:
        """Run `EXPORTS` crafted exports: each is refused by its numbers or runs without a word of a sanitizer."""
        tally = self.run(case * EXPORTS, EXPORTS)
        return [("crafted export", outcome) for outcome in ("run", "refused") for _ in range(tally[outcome])]

    def run(self, first: int, exports: int) -> dict[str, int]:
        """Craft and run exports.

        Args:
            first: number of the first.
            exports: how many.

        Returns:
            `run` and `refused`, their numbers.

        Raises:
            RuntimeError: a sanitizer found something, which the message has.
        """
        command = [
            sys.executable,
            __file__,
            str(self.folder),
            str(self.library),
            *map(str, (self.seed, first, exports)),
        ]
        # The sanitizer reserves addresses for all of memory.
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        environment = {**os.environ, **OPTIONS, "LD_PRELOAD": runtime() or ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        if done.returncode:
            raise RuntimeError(f"{lines[-1:]}: {done.stderr[-4000:]}")
        return json.loads(lines[-1])


# Under the sanitizer


def crafted_numbers(generator: np.random.Generator) -> dict[str, Any]:
    """Draw a network's numbers that fit each other; in half of the cases some are then changed."""

    def some(low: int, high: int) -> int:
        return int(generator.integers(low, high))

    hop, frames, bins, stem = some(1, 300), some(9, 80), some(1, 70), BLOCK * some(1, 3)
    representations = some(1, 3)
    positions = [0, 1] if representations == 2 else [[0, -1], [-1, 0]][some(0, 2)]
    numbers: dict[str, Any] = {
        "clip_length": hop * (frames - 1) + some(0, hop),
        "n_fft": 2 ** some(4, 11),
        "hop_length": hop,
        "num_mel_bins": bins,
        "num_frames": frames,
        "num_representations": representations,
        "log_mel_position": positions[0],
        "wavegram_position": positions[1],
        "wavegram_kernel_size": some(0, 2000),
        "wavegram_bias": 0.1,
        "use_attention": some(0, 2),
        "attention_channels": some(1, 40),
        "stem_channels": stem,
        "num_bottlenecks": some(0, 4),
        "head_channels": BLOCK * some(1, 4),
        "embedding_size": some(1, 70),
        "num_labels": some(1, 40),
        "is_wide": some(0, 2),
        "mel_floor": 1e-10,
        "stem_depthwise.channels": stem,
        "stem_depthwise.stride": 1,
    }
    channels = stem
    for i in range(numbers["num_bottlenecks"]):
        inner, out, stride = BLOCK * some(1, 4), BLOCK * some(1, 3), some(1, 3)
        numbers |= {
            f"bottlenecks.{i}.expand.in_channels": channels,
            f"bottlenecks.{i}.expand.out_channels": inner,
            f"bottlenecks.{i}.depthwise.channels": inner,
            f"bottlenecks.{i}.depthwise.stride": stride,
            f"bottlenecks.{i}.project.in_channels": inner,
            f"bottlenecks.{i}.project.out_channels": out,
            f"bottlenecks.{i}.is_residual": int(i > 0 and stride == 1 and out == channels),
        }
        channels = out
    numbers |= {"head.in_channels": channels, "head.out_channels": numbers["head_channels"]}
    for _ in range(some(0, 3) if generator.random() < 0.5 else 0):
        name = sorted(numbers)[some(0, len(numbers))]
        value = numbers[name]
        numbers[name] = (value + 1, value - 1, 2 * value, 0, -1, value + BLOCK, 2**31 - 1, 2**16)[some(0, 8)]
    return numbers


def crafted_tensors(description: Any, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw tensors of the shapes that a description asks for: any bits, or the ends of their types."""
    tensors = {}
    for name, (kind, shape) in description.tensors().items():
        size = 0 if shape is None else math.prod(shape)
        if generator.random() < 0.3:
            values = np.full(size, generator.choice(EXTREMES[kind]), kind)
        elif kind == "float32":
            values = generator.standard_normal(size).astype(kind)
        else:
            values = np.frombuffer(generator.bytes(size * np.dtype(kind).itemsize), kind)
        tensors[name] = values
    bins, frequencies = description.numbers["num_mel_bins"], description.numbers["n_fft"] // 2 + 1
    first = generator.integers(0, frequencies + 1, bins)
    # One time in ten a filter reaches beyond the spectrum, which is to be refused.
    count = generator.integers(0, frequencies - first + 1 + (generator.random() < 0.1))
    tensors |= {"mel_first": first.astype("int32"), "mel_count": count.astype("int32")}
    tensors["mel_weights"] = generator.exponential(size=int(count.sum())).astype("float32")
    return tensors


class Allocation:
    """So many bytes from `posix_memalign`, which the sanitizer watches; freed with this object."""

    libc = ctypes.CDLL(None)

    def __init__(self, size: int):
        self.pointer = ctypes.c_void_p()
        assert self.libc.posix_memalign(ctypes.byref(self.pointer), 64, ctypes.c_size_t(max(size, 1))) == 0
        ctypes.memset(self.pointer, 0, size)

    @classmethod
    def of(cls, array: np.ndarray) -> "Allocation":
        """A copy of an array."""
        made = cls(array.nbytes)
        ctypes.memmove(made.pointer, array.ctypes.data, array.nbytes)
        return made

    def __del__(self):
        self.libc.free(self.pointer)


def run_case(native: Any, engine: Any, layout: Any, generator: np.random.Generator) -> bool:
    """Craft an export, check it as the loader does, and run it. Returns whether it was run."""
    try:
        description = layout.Description(crafted_numbers(generator))
    except (KeyError, ValueError):
        return False
    n = description.numbers
    shapes = [shape for _, shape in description.tensors().values() if shape]
    if min(map(min, shapes)) < 0:
        return False  # no file has such a tensor
    if sum(map(math.prod, shapes)) > MAX_ELEMENTS or n["clip_length"] > MAX_ELEMENTS:
        return False  # right, but too large for many cases
    tensors = crafted_tensors(description, generator)
    if engine.what_does_not_fit(description, tensors):
        return False
    kept = {name: Allocation.of(tensor) for name, tensor in tensors.items()}
    network = description.structure({name: kept[name].pointer.value for name in description.tensors()})
    address = ctypes.addressof(network)
    workspace = native.asd_workspace_bytes(address)
    if workspace > 2**28:
        return False
    waveform = generator.standard_normal(n["clip_length"]) * generator.choice([0.0, 0.1, 1.0, 1e30])
    maps = n["num_representations"] * n["num_mel_bins"] * n["num_frames"]
    sizes = (n["embedding_size"], n["num_labels"], (2 + len(layout.LAGS)) * n["num_mel_bins"], maps)
    buffers = [
        Allocation.of(waveform.astype("float32")),
        Allocation(workspace),
        *(Allocation(4 * size) for size in sizes),
    ]
    for _ in range(2):  # the workspace keeps what a clip has left
        native.asd_run(address, *(buffer.pointer for buffer in buffers))
    return True


def main(folder: str, library: str, seed: str, first: str, exports: str) -> None:
    """Run crafted exports, and print a line of counts before each."""
    sys.path.insert(0, str(Path(folder).parent))
    engine, layout = (importlib.import_module(f"{Path(folder).name}.{Path(file).stem}") for file in FILES)
    native = ctypes.CDLL(library)
    native.asd_workspace_bytes.restype = ctypes.c_size_t
    native.asd_workspace_bytes.argtypes = [ctypes.c_void_p]
    native.asd_run.restype = None
    native.asd_run.argtypes = [ctypes.c_void_p] * 7
    tally = {"run": 0, "refused": 0}
    for case in range(int(first), int(first) + int(exports)):
        print(json.dumps(tally | {"export": case}), flush=True)
        tally["run" if run_case(native, engine, layout, np.random.default_rng([int(seed), case])) else "refused"] += 1
    print(json.dumps(tally), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
