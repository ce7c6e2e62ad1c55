#!/usr/bin/env python
"""Export a model for another engine, from the waveform to embedding, attention map, scores and verdicts.

    python scripts/export.py --model OUT --output_dir EXP --engine native-int8 --calibration_dir DATA

EXP is a whole model directory, thresholds and code included, with the engine's files and export.json beside them; `--model
EXP` of score.py and `pipeline(model="EXP")` run the engine. Engines:

    onnx            ONNX Runtime, float32; the file also serves programs in C, C++, C# or a browser
    openvino        OpenVINO, float32
    openvino-bf16   the bottlenecks of MobileFaceNet in bfloat16, for processors that multiply in it
    openvino-int8   their 1x1 convolutions in int8, quantised after training on the normal clips of --calibration_dir
    native-int16    the same in 16-bit integers, by code of this project that is compiled where it runs: needs a C compiler
                    and a processor with AVX-512 VNNI (Intel since Ice Lake, AMD since Zen 4)
    native-int8     the same in int8; the fastest

The export is compared with the network as it was: on the test clips of --calibration_dir (the normal training clips where
it has none), else on noise. The graphs (all but native-*, which leave scores and verdicts to the detector) have the clip's
axis first, of any length:

    input_values    (batch, clip_length)  waveforms in [-1, 1] at the model's sampling rate
    embeddings, cosines, spectra, attention_maps       as in AttentionAsdOutput
    scores          (batch, machines)  of the detector's back end, machines in the order of export.json
    is_anomalous    (batch, machines)  whether a clip, claimed to be of that machine, is, at the detector's false-alarm rate
"""

import argparse
import json
import logging
import math
import shutil
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dcase2020_task2 import label_name, load_clips  # noqa: E402
from exporting.graph import Graph, write_onnx, write_openvino  # noqa: E402
from exporting.native import native_network  # noqa: E402
from feature_extraction import AttentionAsdFeatureExtractor  # noqa: E402
from metrics.asd_auc import asd_auc  # noqa: E402
from modeling import AnomalyDetector, AttentionAsdModel, AttentionAsdOutput, ClipOutputs, native_attention_asd  # noqa: E402
from modeling.engine_attention_asd import (  # noqa: E402
    ENGINE_FILES,
    EXPORT_FILE,
    FORMAT_VERSION,
    OUTPUTS,
    ExportedModel,
    load_onnx,
    load_openvino,
)
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline  # noqa: E402
from training.allocator import keep_freed_memory  # noqa: E402


PACKAGES = {
    "onnx": ("onnxruntime",),
    "openvino": ("openvino",),
    "openvino-bf16": ("openvino",),
    "openvino-int8": ("openvino", "nncf"),
    "native-int16": (),
    "native-int8": (),
}
PRECISIONS = {
    "onnx": "float32",
    "openvino": "float32",
    "openvino-bf16": "bottlenecks and head in bfloat16, the rest in float32",
    "openvino-int8": "1x1 convolutions of bottlenecks and head in int8, the rest in float32",
    "native-int16": "the first convolution and the 1x1 ones of attention, bottlenecks and head in int16, the rest in float32",
    "native-int8": "1x1 convolutions of bottlenecks and head in int8, the first one and the attention's 1x1 ones in int16, the "
    "rest in float32",
}
QUANTISED = ("openvino-int8", "native-int16", "native-int8")
NOISE_CLIPS = 8
# An AUC that moves by more is another one.
AUC_TOLERANCE = 0.002
# Normal clips that the ranges of the quantised activations are taken from.
CALIBRATION_CLIPS = 64


# The engines' files


def write_graph(
    model: AttentionAsdModel,
    extractor: AttentionAsdFeatureExtractor,
    detector: AnomalyDetector,
    engine: str,
    calibration: torch.Tensor | None,
    path: Path,
) -> dict[str, Any]:
    graph = Graph(model, extractor, detector, torch.bfloat16 if engine == "openvino-bf16" else torch.float32).eval()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        onnx_path = Path(folder) / "network.onnx"
        outputs = write_onnx(graph, extractor.clip_length, onnx_path)
        if engine == "onnx":
            shutil.copyfile(onnx_path, path)
        else:
            clips = None if calibration is None else calibration.numpy()
            write_openvino(onnx_path, path, clips, len(model.backbone.bottlenecks))
    return {"outputs": outputs}


def write_native(
    model: AttentionAsdModel,
    extractor: AttentionAsdFeatureExtractor,
    calibration: torch.Tensor,
    is_wide: bool,
    paths: list[Path],
) -> dict[str, Any]:
    weights, source = paths
    tensors, numbers = native_network(model, extractor, calibration, is_wide)
    save_file(tensors, weights, metadata={"format": "pt"})
    shutil.copyfile(Path(native_attention_asd.__file__).with_name(source.name), source)
    outputs = [name for name in OUTPUTS if name != "attention_maps" or model.attention is not None]
    return {"outputs": outputs, "network": numbers}


# What the export changes


def read_clips(extractor: AttentionAsdFeatureExtractor, rows: list[dict[str, Any]], what: str) -> torch.Tensor:
    clips = [
        extractor.fit_length(torch.from_numpy(extractor.read_audio(row["path"])))
        for row in tqdm(rows, desc=f"Reading {what}", unit="clip")
    ]
    return torch.stack(clips)


@torch.no_grad()
def compare(
    model: AttentionAsdModel,
    extractor: AttentionAsdFeatureExtractor,
    detector: AnomalyDetector,
    exported: ExportedModel,
    whole_graph: Any | None,
    clips: torch.Tensor,
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Largest differences of the outputs, and what becomes of scores, verdicts and AUC by back end.

    Clips without a machine of their own, as noise, are judged as the detector's first. `graph_verdicts_changed` counts
    verdicts that the graph, where there is one, gives by itself and [`AnomalyDetector.decide`], from its outputs, does not.
    """
    eager, other, graph = [], [], []
    for clip in tqdm(clips.split(1), desc="Comparing", unit="clip"):
        eager.append(model(input_values=clip, input_features=extractor.log_mel(clip)))
        other.append(exported(clip))
        if whole_graph is not None:
            graph.append(whole_graph(clip.numpy())["is_anomalous"][0])
    outputs = [
        AttentionAsdOutput(**{name: torch.cat([o[name] for o in parts]) for name in OUTPUTS if name in parts[0]})
        for parts in (eager, other)
    ]
    differences = {name: (outputs[0][name] - outputs[1][name]).abs().max().item() for name in outputs[1]}
    machines = [label_name(row["machine_type"], row["machine_id"]) if row else detector.machines[0] for row in rows]
    back_ends, disagreeing = {}, None
    for backend in detector.backends:
        (scores, verdicts, auc), (new_scores, new_verdicts, new_auc) = (
            judged(detector, output, machines, rows, backend) for output in outputs
        )
        changed = sum(a != b for a, b in zip(verdicts, new_verdicts, strict=True))
        back_ends[backend] = {
            "largest_score": float(np.abs(scores).max()),
            "largest_score_difference": float(np.abs(scores - new_scores).max()),
            "verdicts_changed": changed,
            "auc": auc,
            "exported_auc": new_auc,
        }
        if backend == detector.backend and graph:
            columns = [detector.machines.index(machine) for machine in machines]
            graph_verdicts = [
                "anomalous" if row[column] else "normal" for row, column in zip(graph, columns, strict=True)
            ]
            disagreeing = sum(a != b for a, b in zip(graph_verdicts, new_verdicts, strict=True))
    return {
        "clips": len(clips),
        "outputs": differences,
        "back_ends": back_ends,
        "graph_verdicts_changed": disagreeing,
    }


def judged(
    detector: AnomalyDetector,
    outputs: AttentionAsdOutput,
    machines: list[str],
    rows: list[dict[str, Any]],
    backend: str,
) -> tuple[np.ndarray, list[str], float | None]:
    """Scores and verdicts of clips of known machines, and the mean official AUC where clips are labelled."""
    clips = ClipOutputs.of(outputs)
    decisions = [detector.decide(clips[i], machine, backend=backend)[0] for i, machine in enumerate(machines)]
    scores = np.array([math.nan if decision.score is None else decision.score for decision in decisions])
    auc = None
    if all(rows) and np.isfinite(scores).all() and len({row["is_anomaly"] for row in rows}) == 2:
        types, ids = ([row[name] for row in rows] for name in ("machine_type", "machine_id"))
        labels = [int(row["is_anomaly"]) for row in rows]
        auc = asd_auc(scores, labels, types, ids, n_bootstrap=0)["auc"]["mean"]["official"]
    return scores, [decision.verdict for decision in decisions], auc


def as_table(checks: dict[str, Any], default: str) -> str:
    lines = ["| output | largest difference |", "|---|---|"]
    lines += [f"| {name} | {value:.2g} |" for name, value in checks["outputs"].items()]
    lines += [
        "",
        "| back end | largest score | largest difference | verdicts changed | AUC | exported |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in checks["back_ends"].items():
        auc = ["-" if row[key] is None else f"{row[key]:.4f}" for key in ("auc", "exported_auc")]
        numbers = [f"{row['largest_score']:.4g}", f"{row['largest_score_difference']:.2g}"]
        changed = f"{row['verdicts_changed']} of {checks['clips']}"
        lines.append("| " + " | ".join([f"**{name}**" if name == default else name, *numbers, changed, *auc]) + " |")
    return "\n".join(lines)


def what_to_mind(checks: dict[str, Any], default: str) -> str | None:
    """A sentence where the export decides otherwise than the network did, or ranks the checked clips otherwise."""
    row, found = checks["back_ends"][default], []
    if row["verdicts_changed"]:
        found.append(f"{row['verdicts_changed']} of {checks['clips']} verdicts have changed")
    if row["auc"] is not None and abs(row["exported_auc"] - row["auc"]) >= AUC_TOLERANCE:
        found.append(f"the AUC has gone from {row['auc']:.4f} to {row['exported_auc']:.4f}")
    if not found:
        return None
    return f"Mind: by {default}, {' and '.join(found)}. The fewer bits an engine has, the less it keeps to the network."


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of a model, or its name on the Hub")
    parser.add_argument("--output_dir", required=True, type=Path, help="directory that the export is written to")
    parser.add_argument("--engine", required=True, choices=list(ENGINE_FILES))
    parser.add_argument(
        "--calibration_dir",
        help="folder in the DCASE 2020 Task 2 layout: normal clips to quantise and clips to check with",
    )
    arguments = parser.parse_args(argv)
    if arguments.engine in QUANTISED and arguments.calibration_dir is None:
        parser.error(f"--engine {arguments.engine} needs normal clips: give --calibration_dir")
    if arguments.output_dir.resolve() == Path(arguments.model).resolve():
        parser.error(f"--output_dir {arguments.output_dir} is the model's own directory: choose another")
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    # The exporter names what it could do with packages that this project does not use.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    engine, directory, data_dir = arguments.engine, arguments.output_dir, arguments.calibration_dir
    model = AttentionAsdModel.from_pretrained(arguments.model).eval()
    extractor = AttentionAsdFeatureExtractor.from_pretrained(arguments.model)
    detector = AnomalyDetector.from_pretrained(arguments.model, **model.source)

    splits = load_clips(data_dir) if data_dir else {}
    normal, test = (
        [
            row
            for row in splits.get(split, [])
            if label_name(row["machine_type"], row["machine_id"]) in detector.machines
        ]
        for split in ("train", "test")
    )
    checked = test or normal
    if data_dir and not checked:
        raise ValueError(f"{data_dir}: no clips of {', '.join(detector.machines)}. Give a folder with some.")
    calibration = None
    if engine in QUANTISED:
        if not normal:
            raise ValueError(f"{data_dir}: no normal training clips of the model's machines to quantise with.")
        # Spread over the machines, which follow each other.
        chosen = normal[:: -(-len(normal) // CALIBRATION_CLIPS)]
        calibration = read_clips(extractor, chosen, "normal clips")

    directory.mkdir(parents=True, exist_ok=True)
    # Last to be written again: without it a directory is no export.
    (directory / EXPORT_FILE).unlink(missing_ok=True)
    AnomalousSoundDetectionPipeline(
        model=model, feature_extractor=extractor, detector=detector, engine="torch", device="cpu"
    ).save_pretrained(directory)
    print(f"Exporting to {directory} for {engine}", flush=True)
    files = [directory / name for name in ENGINE_FILES[engine]]
    content = (
        write_native(model, extractor, calibration, engine == "native-int16", files)
        if engine.startswith("native")
        else write_graph(model, extractor, detector, engine, calibration, files[0])
    )
    description = {
        "format_version": FORMAT_VERSION,
        "engine": engine,
        "precision": PRECISIONS[engine],
        "versions": {package: version(package) for package in ("torch", *PACKAGES[engine])},
        "sampling_rate": extractor.sampling_rate,
        "clip_length": extractor.clip_length,
        "scale": model.config.scale,
        **content,
        "backend": detector.backend,
        "false_alarm_rate": detector.false_alarm_rate,
        "machines": [{"name": name, "threshold": detector.threshold(name)} for name in detector.machines],
    }
    exported, verdicts = ExportedModel(engine, description, [str(path) for path in files]), None
    if not engine.startswith("native"):
        load = load_onnx if engine == "onnx" else load_openvino
        verdicts = load(str(files[0]), ["is_anomalous"], torch.get_num_threads())
    if checked:
        clips = read_clips(extractor, checked, "clips to check")
    else:
        generator = torch.Generator().manual_seed(0)
        clips = 0.1 * torch.randn(NOISE_CLIPS, extractor.clip_length, generator=generator)
    rows = checked or [None] * len(clips)
    checks = compare(model, extractor, detector, exported, verdicts, clips, rows)
    description["checks"] = {"clips_of": Path(data_dir).name if data_dir else "noise", **checks}
    (directory / EXPORT_FILE).write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(as_table(checks, detector.backend))
    if caution := what_to_mind(checks, detector.backend):
        print(f"\n{caution}")
    if verdicts is not None:
        print(f"\nVerdicts that the graph gives otherwise than the detector: {checks['graph_verdicts_changed']}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
