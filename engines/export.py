"""Writing an export: a whole model directory, with an engine's files and a comparison beside the rest."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers.utils.hub import cached_file

from dcase2020_task2 import label_name, load_clips
from evaluation.loading import load_model
from evaluation.model_card import DEFAULT_LICENSE
from feature_extraction import AttentionAsdFeatureExtractor
from modeling.digests_attention_asd import file_digest, weights_digest
from modeling.saving_attention_asd import replacing_files

from .comparison import compare
from .engine_attention_asd import FORMAT_VERSION, ExportedModel, write_description
from .exported_pipeline_attention_asd import ExportedPipeline, write_engine_code
from .table import Content, Engine, FittedModel


NOISE_CLIPS = 8
# Normal clips that the ranges of the quantized activations are taken from.
CALIBRATION_CLIPS = 64


def export(name_or_path: str, directory: Path, engine: Engine, data_dir: str | None) -> dict[str, Any]:
    """Export a model, and compare the export with the network as it was.

    Args:
        name_or_path: directory of a model, or its name on the Hub.
        directory: where the export is written.
        data_dir: folder in the DCASE layout. Its test clips (the normal training clips where it has none) are compared,
            its normal training clips calibrate. Without one, noise is compared.

    Returns:
        The contents of `export.json`.

    Raises:
        ValueError: the folder has no clips of the model's machines, or the engine cannot run the architecture.
        ImportError: a package that the engine needs is not installed.
        OSError: a file cannot be read or written.
    """
    fitted = load_fitted(name_or_path)
    extractor = fitted.feature_extractor
    normal, checked = find_clips(data_dir, fitted.detector.machines)
    calibration = None
    if engine.needs_calibration:
        if not normal:
            raise ValueError(f"{data_dir}: no normal training clips of the model's machines to quantize with.")
        # Spread over the machines, which follow each other.
        chosen = normal[:: -(-len(normal) // CALIBRATION_CLIPS)]
        calibration = read_clips(extractor, chosen, "normal clips")
    clips = read_clips(extractor, checked, "clips to check") if checked else noise(extractor.clip_length)
    with replacing_files(directory) as scratch:
        write_model(fitted, scratch)
        files = [scratch / name for name in engine.runtime.files]
        description = describe(fitted, engine, engine.write(fitted, calibration, files)) | read_license(name_or_path)
        checks = check_export(fitted, engine, description, files, clips, checked)
        description["checks"] = {"clips_of": Path(data_dir).name if data_dir else "noise", **checks}
        description["sha256"] = {file.name: file_digest(file) for file in files} | {"weights": weights_digest(scratch)}
        write_description(scratch, description)
    return description


def check_export(
    fitted: FittedModel,
    engine: Engine,
    description: dict[str, Any],
    files: list[Path],
    clips: torch.Tensor,
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Load the files of an export, and compare it with the network; see [`compare`]. No file is open afterwards.

    Args:
        fitted: the model as it was.
        engine: what runs the export.
        description: the contents of `export.json`.
        files: the engine's files.
        clips: `(clips, clip_length)`.
        rows: what the clips are of; empty for noise.
    """
    paths, graph_verdicts = [str(file) for file in files], None
    exported = ExportedModel(engine.name, description, paths)
    if "is_anomalous" in description["outputs"]:
        graph_verdicts = engine.runtime.load(paths, ["is_anomalous"], torch.get_num_threads(), None)
    return compare(fitted, exported, graph_verdicts, clips, rows or [None] * len(clips))


def load_fitted(name_or_path: str) -> FittedModel:
    """Load a model directory or a repository on the Hub, with the detector that it must have."""
    loaded = load_model(name_or_path)
    if loaded.detector is None:
        raise ValueError(
            f"{name_or_path}: has no detector, and an export needs one. Fit it with scripts/fit_detector.py."
        )
    return FittedModel(loaded.model, loaded.feature_extractor, loaded.detector)


def read_license(name_or_path: str) -> dict[str, str]:
    """Return the `license` of a model's weights, and the `attribution` that it asks for, from its `all_results.json`.

    A directory without that file says nothing of a license.
    """
    path = cached_file(name_or_path, "all_results.json", _raise_exceptions_for_missing_entries=False)
    if path is None:
        return {}
    results = {"license": DEFAULT_LICENSE, **json.loads(Path(path).read_text(encoding="utf-8"))}
    return {name: results[name] for name in ("license", "attribution") if results.get(name)}


def find_clips(data_dir: str | None, machines: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the normal training clips of these machines, and of the clips that are compared."""
    splits: Any = load_clips(data_dir) if data_dir else {}
    normal, test = (
        [row for row in splits.get(split, []) if label_name(row["machine_type"], row["machine_id"]) in machines]
        for split in ("train", "test")
    )
    if data_dir and not (test or normal):
        raise ValueError(f"{data_dir}: no clips of {', '.join(machines)}. Give a folder with some.")
    return normal, test or normal


def read_clips(extractor: AttentionAsdFeatureExtractor, rows: list[dict[str, Any]], what: str) -> torch.Tensor:
    """Clips `(clips, clip_length)`."""
    return torch.stack([extractor.read_clip(row["path"]) for row in tqdm(rows, desc=f"Reading {what}", unit="clip")])


def noise(clip_length: int) -> torch.Tensor:
    """Clips `(NOISE_CLIPS, clip_length)` of white noise, always the same ones."""
    return 0.1 * torch.randn(NOISE_CLIPS, clip_length, generator=torch.Generator().manual_seed(0))


def write_model(fitted: FittedModel, directory: Path) -> None:
    """Write a model whose `config.json` names the pipeline of an export, with the code of both, into a scratch folder."""
    ExportedPipeline(
        model=fitted.model,
        feature_extractor=fitted.feature_extractor,
        detector=fitted.detector,
        engine="torch",
        device="cpu",
    ).save_pretrained(directory)
    write_engine_code(directory)


def describe(fitted: FittedModel, engine: Engine, content: Content) -> dict[str, Any]:
    """The contents of `export.json`, but for the comparison."""
    extractor, detector = fitted.feature_extractor, fitted.detector
    return {
        "format_version": FORMAT_VERSION,
        "engine": engine.name,
        "precision": engine.precision,
        "versions": {package: version(package) for package in ("torch", *engine.packages)},
        "sampling_rate": extractor.sampling_rate,
        "clip_length": extractor.clip_length,
        "scale": fitted.model.config.scale,
        **content,
        "backend": detector.backend,
        "false_alarm_rate": detector.false_alarm_rate,
        "machines": [{"name": name, "threshold": detector.threshold(name)} for name in detector.machines],
    }
