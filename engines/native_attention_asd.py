"""
The compiled engine: `native_attention_asd.c`, its compilation and its call.

An export brings the C source and the weights. The source is compiled where it is first needed, with the C compiler there,
and the library stays in the user's cache. Another source than the one that this file was written for is not compiled: a
model's directory brings no code that its reader has not agreed to.
"""

import ctypes
import hashlib
import math
import mmap
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from .native_layout_attention_asd import LAGS, Description


SOURCE = "native_attention_asd.c"
SOURCE_SHA256 = "3c0b37ccb8258602c9777f198b576ab1cabc473a9afffa2339e1b3eba29319e7"
FLAGS = ["-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared"]
NO_VNNI = (
    "This export is for processors with AVX-512 VNNI, which this one has not (Intel has it since Ice Lake, AMD since Zen 4): "
    "export the model for openvino or onnx."
)
HUGE_PAGE, ALIGNMENT = 2**21, 64
ADVICE = "The file is not whole, or was not written by scripts/export.py: export the model again."


# The library


def check_system() -> None:
    """Refuse a system that the engine was not written for.

    Raises:
        ImportError: it is Windows, or a processor of another family, as in Apple's newer computers.
    """
    if os.name == "nt":
        raise ImportError(
            "This export is compiled where it runs, with a compiler of Linux or macOS, and does not run on Windows: export "
            "the model for openvino or onnx."
        )
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise ImportError(NO_VNNI)


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
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    kept = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(kept)])


@cache
def library(source: Path) -> ctypes.CDLL:
    """The compiled source, from the user's cache where it is there.

    A library of the cache is loaded only if nobody else can have written it and its bytes are those that were compiled;
    otherwise the source is compiled again. Where the cache is not the user's own, it is not used.

    Raises:
        ValueError: it is another source than this code was written for.
        ImportError: the engine does not run on this system, there is no compiler, or it failed.
    """
    content = source.read_bytes()
    if hashlib.sha256(content).hexdigest() != SOURCE_SHA256:
        raise ValueError(
            f"{source}: not the source that this version of the code was written for, so it is not compiled. Export the "
            "model again with scripts/export.py."
        )
    check_system()
    command = [*compiler(), *FLAGS]
    digest = hashlib.sha256("\0".join([SOURCE_SHA256, *command, processor()]).encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attention_asd"
    with private_folder(cache) as folder:
        path = find_library(folder, digest[:16]) or compile_library(command, content, folder, digest[:16])
        # Once loaded, the file is not needed any more.
        loaded = ctypes.CDLL(str(path))
    loaded.asd_workspace_bytes.restype = ctypes.c_size_t
    loaded.asd_workspace_bytes.argtypes = [ctypes.c_void_p]
    loaded.asd_run.restype = None
    loaded.asd_run.argtypes = [ctypes.c_void_p] * 7
    return loaded


@contextmanager
def private_folder(cache: Path) -> Iterator[Path]:
    """The folder of the cache, if it is the user's own and no link; else a temporary folder that is."""
    is_usable = False
    # A home may be missing or on a file system that cannot be written to.
    with suppress(OSError):
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_own(cache.lstat()):
            cache.chmod(0o700)
            is_usable = os.access(cache, os.W_OK)
    if is_usable:
        yield cache
    else:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            yield Path(folder)


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to the user; a link does not count. Windows has no owners of this kind."""
    return not stat.S_ISLNK(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def find_library(folder: Path, key: str) -> Path | None:
    """The library that was compiled for `key`. Its name has the digest of its bytes; one that is not so is removed."""
    for path in sorted(folder.glob(f"native-{key}-*.so")):
        with suppress(FileNotFoundError):  # another process may have removed it
            status = path.lstat()
            is_private = is_own(status) and stat.S_ISREG(status.st_mode) and not status.st_mode & 0o022
            if is_private and path.stem == library_name(key, path.read_bytes()):
                return path
            path.unlink()
    return None


def library_name(key: str, content: bytes) -> str:
    return f"native-{key}-{hashlib.sha256(content).hexdigest()}"


def compile_library(command: list[str], content: bytes, folder: Path, key: str) -> Path:
    """Compile the source into a folder, and move it into place whole: processes may compile side by side."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        compiled = Path(scratch) / "native.so"
        compile_source(command, content, compiled)
        compiled.chmod(0o700)
        return compiled.replace(folder / f"{library_name(key, compiled.read_bytes())}.so")


def compile_source(command: list[str], content: bytes, path: Path) -> None:
    """Write the library that `command` makes of the source.

    Raises:
        ImportError: the compiler failed. The message says why, and what to do.
    """
    done = subprocess.run(
        [*command, "-x", "c", "-", "-lm", "-o", str(path)], input=content, capture_output=True, check=False
    )
    messages = done.stderr.decode(errors="replace")
    if done.returncode and "no AVX-512 VNNI" in messages:
        raise ImportError(NO_VNNI)
    if done.returncode:
        raise ImportError(
            f"{' '.join(command)} could not compile {SOURCE}: {messages.strip()[-2000:]}\nInstall a newer "
            "gcc or clang, or export the model for onnx or openvino."
        )


# The network


def what_does_not_fit(description: Description, tensors: dict[str, np.ndarray]) -> str | None:
    """Return what is wrong with the tensors, or `None`: the C source believes the sizes that the description gives."""
    for name, (kind, shape) in description.tensors().items():
        tensor = tensors.get(name)
        found = "missing" if tensor is None else f"{tensor.size} of {tensor.dtype}"
        if shape is not None and found != f"{math.prod(shape)} of {kind}":
            return f"{name} is {found}, expected {math.prod(shape)} of {kind}"
        if tensor is not None and kind == "float32" and not np.isfinite(tensor).all():
            return f"{name} is not finite"
    first, count = (tensors[name].astype(np.int64) for name in ("mel_first", "mel_count"))
    frequencies = description.numbers["n_fft"] // 2 + 1
    within = (first >= 0).all() and (count >= 0).all() and (first + count <= frequencies).all()
    weights = tensors.get("mel_weights")
    if not within or weights is None or weights.dtype != np.float32 or weights.size != count.sum():
        return "mel_first, mel_count and mel_weights do not fit together"
    if (weights < 0).any():  # the logarithm of a sum is taken from its bits, which overflow for a negative number
        return "mel_weights has numbers below 0"
    return None


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
    """Move tensors into one piece of memory."""
    ends = list(accumulate((-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors.values()), initial=0))
    memory, moved = zeros(ends[-1]), {}
    for (name, tensor), start in zip(tensors.items(), ends[:-1], strict=True):
        moved[name] = memory[start : start + tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)
        moved[name][...] = tensor
    return moved


class CompiledNetwork:
    """A network that the compiled source computes: `(batch, clip_length)` -> arrays by their names.

    One core computes a clip, `num_threads` compute a batch.
    """

    def __init__(
        self,
        native: ctypes.CDLL,
        description: Description,
        tensors: dict[str, np.ndarray],
        weights: str,
        names: list[str],
        num_threads: int,
    ):
        self.native, self.weights, self.names = native, weights, names
        # The structure points to the tensors: both live as long as this object.
        known = description.tensors()
        self.tensors = side_by_side({name: tensor for name, tensor in tensors.items() if name in known})
        self.network = description.structure({name: tensor.ctypes.data for name, tensor in self.tensors.items()})
        self.address = ctypes.addressof(self.network)
        self.workspace_bytes = native.asd_workspace_bytes(self.address)
        numbers = description.numbers
        self.clip_length = numbers["clip_length"]
        bins, frames, maps = (numbers[name] for name in ("num_mel_bins", "num_frames", "num_representations"))
        # In the order of asd_run's arguments.
        self.shapes = {
            "embeddings": (numbers["embedding_size"],),
            "cosines": (numbers["num_labels"],),
            "spectra": (2 + len(LAGS), bins),
            "attention_maps": (maps, bins, frames),
        }
        # A clip's outputs follow each other: where each begins and ends, in floats.
        self.ends = list(accumulate((math.prod(shape) for shape in self.shapes.values()), initial=0))
        self.of_thread = threading.local()
        self.workers = ThreadPoolExecutor(num_threads) if num_threads > 1 else None

    def __call__(self, values: np.ndarray) -> dict[str, np.ndarray]:
        if values.shape[1:] != (self.clip_length,):
            raise ValueError(
                f"{self.weights}: for clips of {self.clip_length} samples, which {values.shape[1:]} are not. {ADVICE}"
            )
        outputs = np.empty((len(values), self.ends[-1]), dtype=np.float32)
        clips = [
            (values.ctypes.data + i * values.strides[0], outputs.ctypes.data + i * outputs.strides[0])
            for i in range(len(values))
        ]
        if self.workers is None or len(values) == 1:
            for clip in clips:
                self.run(*clip)
        else:
            list(self.workers.map(self.run, *zip(*clips, strict=True)))
        parts = {name: slice(*ends) for name, ends in zip(self.shapes, pairwise(self.ends), strict=True)}
        return {name: outputs[:, parts[name]].reshape(len(values), *self.shapes[name]) for name in self.names}

    def run(self, waveform: int, outputs: int) -> None:
        """Compute one clip, in a workspace of the thread's own. Both arguments are addresses."""
        if not hasattr(self.of_thread, "workspace"):
            self.of_thread.workspace = zeros(self.workspace_bytes)
            self.of_thread.address = self.of_thread.workspace.ctypes.data
        starts = (outputs + 4 * start for start in self.ends[:-1])
        self.native.asd_run(self.address, waveform, self.of_thread.address, *starts)


def load_native(files: list[str], names: list[str], num_threads: int, network: dict[str, Any]) -> CompiledNetwork:
    """Load a network that an export describes.

    Args:
        files: the safetensors file of the export, and the C source beside it.
        names: the wanted outputs.
        num_threads: as many cores compute a batch.
        network: the network's numbers; see [`Description`].

    Raises:
        ValueError: weights that do not fit the numbers, or another source than this code was written for.
        ImportError: the source cannot be compiled here.
    """
    weights, source = files
    own = Path(__file__).with_name(SOURCE)
    # transformers copies this file without the source beside it.
    native = library(own if own.exists() else Path(source))
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights}: {error}. {ADVICE}") from None
    try:
        description = Description(network)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{weights}: the network's description is wrong about {error}. {ADVICE}") from None
    problem = what_does_not_fit(description, tensors)
    if problem:
        raise ValueError(f"{weights}: {problem}. {ADVICE}")
    if not description.numbers["use_attention"] and "attention_maps" in names:
        raise ValueError(f"{weights}: a network without attention, described as one with attention maps. {ADVICE}")
    return CompiledNetwork(native, description, tensors, weights, names, num_threads)


__all__ = ["CompiledNetwork", "load_native"]
