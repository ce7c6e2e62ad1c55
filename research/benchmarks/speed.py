#!/usr/bin/env python
"""How fast, and in how much memory: from a WAV file to verdict and attention map, this project's engines and its peers.

    python -m research.benchmarks.speed --model OUT --audio RECORDING.wav
    python -m research.benchmarks.speed --model OUT --exported ONNX_DIR OPENVINO_DIR --audio RECORDING.wav --data_dir DIR

The first system is the authors' chain as published, with the weights of OUT: librosa, a torch log-mel, their network in
eager float32 (`research/benchmarks/published_network.py`). The systems take turns, once on one core and once on all, and in its turn
each hears the clip several times in a row: the first, with the others' data in the caches, is reported apart. The authors' and
the peers run in one process with the C library's allocator as it is, this project's in another, as `score.py` sets it.
`--data_dir` adds what each engine changes on labelled test clips. Peak memory and start-up are `score.py`'s own.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from dcase2020_task2 import label_name, load_clips
from evaluation.figures import BLUE, ORANGE, SKY_BLUE, VERMILION, save
from feature_extraction import AttentionAsdFeatureExtractor
from metrics.asd_auc import asd_auc
from modeling import AnomalyDetector, AttentionAsdConfig, AttentionAsdModel, AttentionAsdOutput
from modeling.engine_attention_asd import ExportedModel
from modeling.modeling_attention_asd import spectral_statistics
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline
from scripts.convert_original_checkpoint import convert_state_dict
from training.allocator import keep_freed_memory

from .floors import count_gflop, measure_floors
from .processes import FreshProcess, available_cores, peak_memory_mib, timed_command
from .published_network import PublishedLogMel, published_forward, random_checkpoint
from .report import describe_machine, markdown, write_json


AUTHORS = "authors' chain as published"
EAGER = "this project, eager"
PIPELINE = "the same by a pipeline call"
# Their networks alone are compared, with random weights: speed does not depend on them.
PEERS = ("mobilenet_v2", "stgram_mfn", "noisy_arcmix")
THROUGHPUT_BATCH = 16
CALLS_IN_A_ROW = 4
STEPS = ("decode", "log-mel", "network", "scoring")
LONG_RECORDING_SECONDS = 30 * 60


@dataclass
class Task:
    """What is measured, as it travels to the processes that measure."""

    model: str
    exported: list[str]
    audio: str
    data_dir: str | None
    repeats: int


@dataclass
class System:
    """A way from WAV files to verdicts and maps, in steps: each gets what the one before returned, the first the paths.

    A system that is one call has its one step under the name "all".
    """

    name: str
    steps: dict[str, Callable[[Any], Any]]
    network: Callable[[torch.Tensor], AttentionAsdOutput] | None = (
        None  # what it computes of waveforms, for the accuracy
    )


# The systems


def published_state(model: AttentionAsdModel) -> dict[str, torch.Tensor]:
    """The model's weights under the authors' key names, so that their network gives this model's verdicts.

    Raises:
        ValueError: the model is not the paper's network.
    """
    default = AttentionAsdConfig()
    for name in ("input_representations", "use_attention", "use_separable_convolutions", "embedding_size",
                 "bottlenecks", "attention_channels", "stem_channels", "head_channels"):  # fmt: skip
        if getattr(model.config, name) != getattr(default, name):
            raise ValueError(
                f"{model.name_or_path}: has {name}={getattr(model.config, name)}, the published network "
                f"{getattr(default, name)}. The comparison needs a model with the paper's architecture."
            )
    state = random_checkpoint(0, model.config.num_labels, model.config.num_frames)["state_dict"]
    theirs, _, _ = convert_state_dict({key: key for key in state})
    own = model.state_dict()
    return state | {key: own[name] for name, key in theirs.items()}


def clip_reader(extractor: AttentionAsdFeatureExtractor) -> Callable[[Sequence[str]], torch.Tensor]:
    """This project's way from paths to waveforms `(clips, clip_length)`."""

    def read(paths: Sequence[str]) -> torch.Tensor:
        clips = [extractor.fit_length(torch.from_numpy(extractor.read_audio(path))) for path in paths]
        return clips[0].unsqueeze(0) if len(clips) == 1 else torch.stack(clips)

    return read


def load_systems(task: Task) -> list[System]:
    """This project's systems, eager first."""
    model = AttentionAsdModel.from_pretrained(task.model).eval()
    extractor = AttentionAsdFeatureExtractor.from_pretrained(task.model)
    detector = AnomalyDetector.from_pretrained(task.model)
    decode = clip_reader(extractor)

    def decide(outputs: AttentionAsdOutput) -> Any:
        return outputs, detector.decide(outputs)

    steps = {
        "decode": decode,
        "log-mel": lambda waveforms: (waveforms, extractor.log_mel(waveforms)),
        "network": lambda inputs: model(input_values=inputs[0], input_features=inputs[1]),
        "scoring": decide,
    }
    systems = [System(EAGER, steps, lambda waveforms: steps["network"](steps["log-mel"](waveforms)))]
    for directory in task.exported:
        network = ExportedModel.from_exported(directory)
        own_steps = {"decode": decode, "network": network, "scoring": decide}
        systems.append(System(Path(directory).name, own_steps, network))
    for directory in [task.model, *task.exported]:
        detect = AnomalousSoundDetectionPipeline(
            model=AttentionAsdModel.from_pretrained(directory), feature_extractor=extractor, device="cpu"
        )
        call = {"all": lambda paths, detect=detect: detect(list(paths), return_attention_maps=True)}
        systems.append(System(f"{PIPELINE}, {Path(directory).name}", call))
    return systems


def load_published(task: Task) -> System:
    """The authors' chain. It has no verdict of its own: it is given this project's, from the same embedding."""
    try:
        import librosa
    except ImportError:
        raise ImportError("The authors read sounds with librosa: pip install -e '.[benchmarks]'") from None
    state = published_state(AttentionAsdModel.from_pretrained(task.model))
    extractor = AttentionAsdFeatureExtractor.from_pretrained(task.model)
    detector, log_mel = AnomalyDetector.from_pretrained(task.model), PublishedLogMel()

    def decode(paths: Sequence[str]) -> torch.Tensor:
        clips = [librosa.load(path, sr=extractor.sampling_rate)[0] for path in paths]
        return torch.stack([extractor.fit_length(torch.from_numpy(clip)) for clip in clips])

    def network(inputs: tuple[torch.Tensor, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        return published_forward(state, *inputs, torch.zeros(len(inputs[0]), dtype=torch.long)), inputs[1]

    def outputs_of(computed: tuple[dict[str, torch.Tensor], torch.Tensor]) -> AttentionAsdOutput:
        arrays, features = computed
        spectra = spectral_statistics(features)
        return AttentionAsdOutput(embeddings=arrays["embedding"], cosines=arrays["cosine"], spectra=spectra)

    def decide(computed: tuple[dict[str, torch.Tensor], torch.Tensor]) -> Any:
        return computed, detector.decide(outputs_of(computed))

    steps = {
        "decode": decode,
        "log-mel": lambda waveforms: (waveforms, log_mel(waveforms)),
        "network": network,
        "scoring": decide,
    }
    return System(AUTHORS, steps, lambda waveforms: outputs_of(network((waveforms, log_mel(waveforms)))))


def load_peers(task: Task) -> list[System]:
    """The peers' networks at the model's clip length, with random weights and this project's decoding and log-mel."""
    from research.baselines import BASELINES
    from research.baselines.clips import Clips

    extractor = AttentionAsdFeatureExtractor.from_pretrained(task.model)

    def clips_of(waveforms: torch.Tensor, machines: list[str]) -> Clips:
        return Clips(extractor.log_mel(waveforms).numpy(), waveforms.numpy(), machines)

    silence, machines = torch.zeros(2, extractor.clip_length), ["fan_id_00", "fan_id_02"]
    systems = []
    for key in PEERS:
        peer = BASELINES[key](updates=0).fit(clips_of(silence, machines), progress=False)
        steps = {
            "decode": clip_reader(extractor),
            "log-mel": lambda waves, peer=peer: peer.network_inputs(clips_of(waves, ["fan_id_00"] * len(waves))),
            "network": lambda inputs, peer=peer: peer.network(*inputs),
        }
        systems.append(System(f"{peer.title}, eager network", steps))
    return systems


# Measuring. What a process has loaded stays in it, so that processes can take turns.

LOADED: list[System] = []


def load(task: Task, whose: str) -> None:
    """Load the `"theirs"` systems or `"ours"` into this process."""
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(len(available_cores()))
    if whose == "ours":
        keep_freed_memory()
        LOADED.extend(load_systems(task))
    else:
        LOADED.extend([load_published(task), *load_peers(task)])


@torch.no_grad()
def take_turn(paths: list[str], calls: int) -> dict[str, list[dict[str, float]]]:
    """Seconds of every step of every loaded system, `calls` times in a row."""
    turn: dict[str, list[dict[str, float]]] = {}
    for system in LOADED:
        turn[system.name] = []
        for _ in range(calls):
            value, taken = paths, {}
            for name, step in system.steps.items():
                started = time.perf_counter()
                value = step(value)
                taken[name] = time.perf_counter() - started
            turn[system.name].append(taken)
    return turn


@torch.no_grad()
def floors_of_network(paths: list[str]) -> dict[str, float]:
    """The machine's floors with this process's cores, and the arithmetic of the network that this process has loaded."""
    eager = LOADED[0]
    inputs = eager.steps["log-mel"](eager.steps["decode"](paths))
    return {**measure_floors(), "network_gflop": count_gflop(lambda: eager.steps["network"](inputs))}


def measure_systems(task: Task, cores: list[int]) -> dict[str, Any]:
    """Latency of one clip, throughput of a batch and the floors on these cores."""
    with FreshProcess(cores) as theirs, FreshProcess(cores) as ours:
        theirs.run(load, task, "theirs")
        ours.run(load, task, "ours")
        processes = [theirs, ours]
        batch = [task.audio] * THROUGHPUT_BATCH
        return {
            "cores": len(cores),
            "floors": ours.run(floors_of_network, [task.audio]),
            "latency": measure_turns(
                processes, [task.audio], task.repeats, CALLS_IN_A_ROW, f"1 clip, {len(cores)} cores"
            ),
            "throughput": measure_turns(processes, batch, -(-task.repeats // 10), 1, f"batch, {len(cores)} cores"),
        }


def measure_turns(
    processes: list[FreshProcess], paths: list[str], repeats: int, calls: int, what: str
) -> dict[str, Any]:
    """One system after the other, over and over: what slows the machine down for a while slows all of them."""
    # The first turn warms up: lazy imports, kernels chosen, memory allocated.
    turns = [
        {name: taken for process in processes for name, taken in process.run(take_turn, paths, calls).items()}
        for _ in tqdm(range(repeats + 1), desc=what, unit="turn")
    ][1:]
    results = {}
    for name in turns[0]:
        # Of several calls in a row the first is apart.
        in_a_row = [taken for turn in turns for taken in turn[name][min(calls - 1, 1) :]]
        totals = [sum(taken.values()) for taken in in_a_row]
        results[name] = {
            "min_s": min(totals),
            "median_s": statistics.median(totals),
            "max_s": max(totals),
            "after_others_s": statistics.median(sum(turn[name][0].values()) for turn in turns),
            "steps_s": {step: statistics.median(taken[step] for taken in in_a_row) for step in in_a_row[0]},
        }
    return results


@torch.no_grad()
def measure_accuracy(task: Task) -> list[dict[str, Any]]:
    """What each system changes on the labelled test clips, held against eager."""
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(len(available_cores()))
    systems = [*load_systems(task), load_published(task)]
    decode = clip_reader(AttentionAsdFeatureExtractor.from_pretrained(task.model))
    systems = [system for system in systems if system.network is not None]
    detector = AnomalyDetector.from_pretrained(task.model)
    rows = [
        row
        for row in load_clips(task.data_dir)["test"]
        if row["is_anomaly"] is not None and label_name(row["machine_type"], row["machine_id"]) in detector.machines
    ]
    if not rows:
        raise ValueError(f"{task.data_dir}: no labelled test clips of the machines {', '.join(detector.machines)}.")
    outputs: dict[str, list[tuple[float, float, str]]] = {system.name: [] for system in systems}
    for row in tqdm(rows, desc="Test clips", unit="clip"):
        machine, waveforms = label_name(row["machine_type"], row["machine_id"]), decode([row["path"]])
        for system in systems:
            found = system.network(waveforms)
            paper = detector.scores(found, machine, "arcface").item()
            decision = detector.decide(found, machine)[0]
            outputs[system.name].append((paper, decision.score, decision.verdict))

    def auc(scores: Sequence[float]) -> float:
        found = asd_auc(
            scores,
            [int(row["is_anomaly"]) for row in rows],
            [row["machine_type"] for row in rows],
            [row["machine_id"] for row in rows],
            n_bootstrap=0,
        )
        return found["auc"]["mean"]["official"]

    reference = outputs[EAGER]
    table = []
    for name, values in outputs.items():
        paper, own, verdicts = zip(*values, strict=True)
        paper_reference, own_reference, verdicts_reference = zip(*reference, strict=True)
        table.append(
            {
                "system": name,
                "clips": len(rows),
                "verdict changes": sum(a != b for a, b in zip(verdicts, verdicts_reference, strict=True)),
                "largest score difference, paper's score": float(np.abs(np.subtract(paper, paper_reference)).max()),
                f"the same, {detector.backend}": float(np.abs(np.subtract(own, own_reference)).max()),
                "AUC, paper's score": auc(paper),
                "AUC difference": auc(paper) - auc(paper_reference),
                f"AUC difference, {detector.backend}": auc(own) - auc(own_reference),
            }
        )
    return table


@torch.no_grad()
def score_once(task: Task) -> float:
    """Peak memory of the authors' chain over one clip, for a process of its own."""
    value: Any = [task.audio]
    for step in load_published(task).steps.values():
        value = step(value)
    return peak_memory_mib()


def measure_processes(task: Task) -> list[dict[str, Any]]:
    """Peak memory and time to the first verdict of score.py, and what an interpreter with the libraries takes by itself."""
    torch_alone = timed_command([sys.executable, "-c", "import torch, transformers; print()"])
    rows = [
        {"command": "python -c 'import torch, transformers'", "first line s": torch_alone["first_line_s"],
         "seconds": torch_alone["seconds"], "peak MiB": torch_alone["peak_mib"]}
    ]  # fmt: skip
    with FreshProcess() as process:
        rows.append({"command": f"{AUTHORS}, one clip", "first line s": None, "seconds": None,
                     "peak MiB": process.run(score_once, task)})  # fmt: skip
    samples, rate = soundfile.read(task.audio, dtype="int16", always_2d=True)
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "thirty_minutes.wav"
        with soundfile.SoundFile(recording, "w", rate, 1, subtype="PCM_16") as file:
            for _ in range(-(-LONG_RECORDING_SECONDS * rate // len(samples))):
                file.write(samples[:, 0])
        for model in tqdm([task.model, *task.exported], desc="score.py", unit="model"):
            for what, sound in (("one clip", task.audio), ("30 minutes", recording)):
                command = [sys.executable, "score.py", sound, "--model", model, "--format", "json"]
                # Exit code 1: something is anomalous.
                run = timed_command(command, allowed=(0, 1))
                rows.append({"command": f"score.py, {what}, {Path(model).name}", "first line s": run["first_line_s"],
                             "seconds": run["seconds"], "peak MiB": run["peak_mib"]})  # fmt: skip
    return rows


# The report


def latency_table(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per system: milliseconds, ratio to the authors' chain, and how far the network is above its floor."""
    latency, floors = result["latency"], result["floors"]
    floor_ms = 1000 * floors["network_gflop"] / floors["sgemm_gflops"]
    authors = latency[AUTHORS]["median_s"]
    rows = []
    for name, timing in latency.items():
        steps = {step: 1000 * seconds for step, seconds in timing["steps_s"].items()}
        batch = result["throughput"][name]["median_s"]
        rows.append(
            {
                "system": name,
                "min ms": 1000 * timing["min_s"],
                "median ms": 1000 * timing["median_s"],
                "max ms": 1000 * timing["max_s"],
                "authors' / this": authors / timing["median_s"],
                "after others ms": 1000 * timing["after_others_s"],
                **{f"{step} ms": steps.get(step) for step in STEPS},
                "network / sgemm floor": steps["network"] / floor_ms if has_our_network(name, steps) else None,
                f"clips/s, batch {THROUGHPUT_BATCH}": THROUGHPUT_BATCH / batch,
            }
        )
    return rows


def latency_figure(result: dict[str, Any]) -> Figure:
    """Median milliseconds of one clip by system, in steps; pipeline calls, which have none, are left out."""
    rows = {name: timing for name, timing in result["latency"].items() if "all" not in timing["steps_s"]}
    names = list(reversed(rows))
    figure = Figure(figsize=(8, 0.6 + 0.36 * len(names)), layout="constrained")
    ax = figure.subplots()
    left = np.zeros(len(names))
    for step, colour in zip(STEPS, (SKY_BLUE, ORANGE, BLUE, VERMILION), strict=True):
        widths = 1000 * np.array([rows[name]["steps_s"].get(step, 0.0) for name in names])
        ax.barh(names, widths, left=left, color=colour, label=step)
        left += widths
    for row, end in enumerate(left):
        ax.annotate(f"{end:.1f}", (end, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize="small")
    cores = f"{result['cores']} core{'s' if result['cores'] > 1 else ''}"
    ax.set(xlabel=f"ms from a WAV file of one clip to the verdict, {cores}", xlim=(0, 1.08 * left.max()))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower right", frameon=False, fontsize="small")
    return figure


def has_our_network(name: str, steps: dict[str, float]) -> bool:
    """Whether the floor, which is of the paper's network, is about this row."""
    return "network" in steps and not name.endswith("eager network")


def report(results: dict[str, Any]) -> str:
    machine = results["machine"]
    parts = [
        f"{machine['processor']}, cores: {machine['cores']}, PyTorch {machine['torch']} ({machine['cpu_capability']}); load "
        f"average at the start {machine['load_average']:.1f}",
    ]
    for result in results["speed"]:
        floors = result["floors"]
        floor_ms = 1000 * floors["network_gflop"] / floors["sgemm_gflops"]
        parts += [
            f"## {result['cores']} core{'s' if result['cores'] > 1 else ''}",
            markdown(latency_table(result)),
            f"Exported engines have the log-mel in their graph: their network is both. Floors: the network's "
            f"{floors['network_gflop']:.2f} GFLOP at this machine's {floors['sgemm_gflops']:.0f} GFLOP/s of float32 matrix "
            f"products take {floor_ms:.1f} ms (bfloat16: {floors['bf16_gemm_gflops']:.0f} GFLOP/s); copying memory runs at "
            f"{floors['copy_gbytes_per_s']:.1f} GB/s.",
        ]
    parts += ["## Memory and start-up", markdown(results["processes"])]
    if results["accuracy"]:
        parts += ["## What the engines change", markdown(results["accuracy"])]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory that train.py wrote, with the paper's architecture")
    parser.add_argument("--exported", nargs="*", default=[], help="directories that scripts/export.py wrote of it")
    parser.add_argument("--audio", required=True, help="a recording of one clip's length, best a normal one")
    parser.add_argument("--data_dir", help="labelled test clips in the DCASE layout, to see what the engines change")
    parser.add_argument("--repeats", type=int, default=30, help="turns of every system at batch 1 (default 30)")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--picture", type=Path, help="PNG file for the latencies on one core")
    options = parser.parse_args(argv)
    task = Task(options.model, options.exported, options.audio, options.data_dir, options.repeats)

    results: dict[str, Any] = {"machine": describe_machine(), "speed": []}
    cores = available_cores()
    for share in [cores[:1], cores][: len(cores)]:
        results["speed"].append(measure_systems(task, share))
    results["processes"] = measure_processes(task)
    results["accuracy"] = []
    if task.data_dir:
        with FreshProcess(cores) as process:
            results["accuracy"] = process.run(measure_accuracy, task)
    write_json(options.output, results)
    if options.picture:
        save(latency_figure(results["speed"][0]), options.picture)
    print(report(results))
    return results


if __name__ == "__main__":
    try:
        main()
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
