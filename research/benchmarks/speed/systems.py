"""The systems: this project's engines, the authors' chain and the peers, in steps from WAV files to verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engines import ExportedModel, load_pipeline
from evaluation.loading import LoadedModel, load_model
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AttentionAsdConfig, AttentionAsdModel, AttentionAsdOutput
from modeling.modeling_attention_asd import spectral_statistics
from research.baselines import BASELINES, Clips
from research.benchmarks.published_network import PublishedLogMel, published_forward, random_checkpoint
from research.detectors import detector_of
from training.published_checkpoint import convert_state_dict


AUTHORS = "authors' chain as published"
EAGER = "this project, eager"
PIPELINE = "the same by a pipeline call"
# Their networks alone are compared, with random weights: speed does not depend on them.
PEERS = ("mobilenet_v2", "stgram_mfn", "noisy_arcmix")
STEPS = ("decode", "log-mel", "network", "scoring")
# What makes the architecture of the paper's network.
ARCHITECTURE = ("input_representations", "use_attention", "use_separable_convolutions", "embedding_size",
                "bottlenecks", "attention_channels", "stem_channels", "head_channels")  # fmt: skip


# Waveforms `(clips, clip_length)` -> outputs that a detector takes, of the network or of an export.
Network = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class Task:
    """What is measured, as it travels to the processes that measure.

    Args:
        model: directory of the model.
        exported: directories of its exports.
        audio: a recording of one clip's length.
        data_dir: labelled test clips, where there are some.
        repeats: turns of every system with one clip.
    """

    model: str
    exported: list[str]
    audio: str
    data_dir: str | None
    repeats: int


@dataclass
class System:
    """A way from WAV files to verdicts and maps.

    Args:
        name: name of the system in the tables.
        steps: functions by name; the first gets the paths, each other what the one before returned. A system that is one
            call has its one step under the name "all".
        network: outputs of waveforms `(clips, clip_length)`, for the accuracy; None for a system that is not compared.
    """

    name: str
    steps: dict[str, Callable[[Any], Any]]
    network: Network | None = None


def load_systems(task: Task) -> list[System]:
    """Load this project's systems, eager first."""
    loaded = load_model(task.model)
    calls = [pipeline_system(directory) for directory in [task.model, *task.exported]]
    return [eager_system(loaded), *(exported_system(directory, loaded) for directory in task.exported), *calls]


def eager_system(loaded: LoadedModel) -> System:
    """Return the model in eager PyTorch."""
    model, extractor = loaded.model, loaded.feature_extractor

    def log_mel(waveforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return waveforms, extractor.log_mel(waveforms)

    def network(inputs: tuple[torch.Tensor, torch.Tensor]) -> AttentionAsdOutput:
        return model(input_values=inputs[0], input_features=inputs[1])

    steps = {
        "decode": clip_reader(extractor),
        "log-mel": log_mel,
        "network": network,
        "scoring": detector_of(loaded).decide,
    }
    return System(EAGER, steps, lambda waveforms: network(log_mel(waveforms)))


def exported_system(directory: str, loaded: LoadedModel) -> System:
    """Return an export of the model, whose graph holds log-mel and network."""
    network = ExportedModel.from_exported(directory)
    steps = {"decode": clip_reader(loaded.feature_extractor), "network": network, "scoring": detector_of(loaded).decide}
    return System(Path(directory).name, steps, network)


def pipeline_system(directory: str) -> System:
    """Return the model or an export of it behind one pipeline call."""
    detect = load_pipeline(directory)
    call = {"all": lambda paths: detect(list(paths), return_attention_maps=True)}
    return System(f"{PIPELINE}, {Path(directory).name}", call)


def load_published(task: Task) -> System:
    """Load the authors' chain, with the model's weights and this project's decision.

    The authors' chain has no verdict of its own: it is given this project's, from the same embedding.

    Raises:
        ImportError: librosa is not installed.
        ValueError: the model is not the paper's network.
    """
    try:
        import librosa
    except ImportError:
        raise ImportError("The authors read sounds with librosa: pip install -e '.[benchmarks]'") from None
    loaded = load_model(task.model)
    state, extractor = published_state(loaded.model), loaded.feature_extractor
    decide, published_log_mel = detector_of(loaded).decide, PublishedLogMel()

    def decode(paths: Sequence[str]) -> torch.Tensor:
        clips = [librosa.load(path, sr=extractor.sampling_rate)[0] for path in paths]
        return torch.stack([extractor.fit_length(torch.from_numpy(clip)) for clip in clips])

    def log_mel(waveforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return waveforms, published_log_mel(waveforms)

    def network(inputs: tuple[torch.Tensor, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        return published_forward(state, *inputs, torch.zeros(len(inputs[0]), dtype=torch.long)), inputs[1]

    def outputs_of(computed: tuple[dict[str, torch.Tensor], torch.Tensor]) -> AttentionAsdOutput:
        arrays, features = computed
        spectra = spectral_statistics(features)
        return AttentionAsdOutput(embeddings=arrays["embedding"], cosines=arrays["cosine"], spectra=spectra)

    steps = {
        "decode": decode,
        "log-mel": log_mel,
        "network": network,
        "scoring": lambda computed: decide(outputs_of(computed)),
    }
    return System(AUTHORS, steps, lambda waveforms: outputs_of(network(log_mel(waveforms))))


def published_state(model: AttentionAsdModel) -> dict[str, torch.Tensor]:
    """Return the model's weights under the authors' key names, so that their network gives this model's verdicts.

    Raises:
        ValueError: the model is not the paper's network.
    """
    default = AttentionAsdConfig()
    for name in ARCHITECTURE:
        if getattr(model.config, name) != getattr(default, name):
            raise ValueError(
                f"{model.name_or_path}: has {name}={getattr(model.config, name)}, the published network "
                f"{getattr(default, name)}. The comparison needs a model with the paper's architecture."
            )
    state = random_checkpoint(0, model.config.num_labels, model.config.num_frames)["state_dict"]
    theirs, _, _ = convert_state_dict({key: key for key in state})
    own = model.state_dict()
    return state | {key: own[name] for name, key in theirs.items()}


def load_peers(task: Task) -> list[System]:
    """Load the peers' networks for the model's clip length, with random weights and this project's decoding and log-mel."""
    extractor = AttentionAsdFeatureExtractor.from_pretrained(task.model)
    return [peer_system(key, extractor) for key in PEERS]


def peer_system(key: str, extractor: AttentionAsdFeatureExtractor) -> System:
    """Return a peer's network; the peer is a key of `BASELINES`."""

    def clips_of(waveforms: torch.Tensor, machines: list[str]) -> Clips:
        return Clips(extractor.log_mel(waveforms).numpy(), waveforms.numpy(), machines)

    silence = torch.zeros(2, extractor.clip_length)
    peer = BASELINES[key](updates=0).fit(clips_of(silence, ["fan_id_00", "fan_id_02"]), progress=False)
    network = peer.network
    if network is None:
        raise ValueError(f"{key}: has no network whose speed could be measured.")
    steps = {
        "decode": clip_reader(extractor),
        "log-mel": lambda waveforms: peer.network_inputs(clips_of(waveforms, ["fan_id_00"] * len(waveforms))),
        "network": lambda inputs: network(*inputs),
    }
    return System(f"{peer.title}, eager network", steps)


def clip_reader(extractor: AttentionAsdFeatureExtractor) -> Callable[[Sequence[str]], torch.Tensor]:
    """Return this project's way from paths to waveforms `(clips, clip_length)`."""

    def read(paths: Sequence[str]) -> torch.Tensor:
        clips = [extractor.read_clip(path) for path in paths]
        return clips[0].unsqueeze(0) if len(clips) == 1 else torch.stack(clips)

    return read
