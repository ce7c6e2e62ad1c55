#!/usr/bin/env python
"""Put into space/ what the app carries with it: the demonstration model and the synthetic examples.

    python scripts/bundle_model.py --data_dir ../shared/data/machine_clips --output_dir runs/bundled
    python scripts/build_space.py runs/bundled

Without a directory only the links are made anew: the model's code in space/demo_model is links to modeling/ and
feature_extraction/. A push sends files in their place. Where links cannot be made, as on many Windows computers, the code is
copied.
"""

import argparse
import os
import shutil
from pathlib import Path

import soundfile

from evaluation.command import run
from machine_room import Fault, render_clip
from training.hub import code_files, model_files


SPACE = Path(__file__).resolve().parents[1] / "space"
DEMO_MODEL, EXAMPLES_DIR = SPACE / "demo_model", SPACE / "examples"
SAMPLING_RATE = 16_000
# Name of the example -> clip of the machine room, the clip's fault, and the length in seconds. The machines are enrolled in
# the demonstration model by scripts/bundle_model.py.
EXAMPLES = {
    "fan_normal.flac": ("fan/test/normal_id_04_00000090.wav", None, 10.0),
    "fan_clogged.flac": ("fan/test/anomaly_id_04_00000090.wav", Fault("clogging", 1.0), 10.0),
    "pump_normal.flac": ("pump/test/normal_id_00_00000090.wav", None, 10.0),
    "pump_clogged.flac": ("pump/test/anomaly_id_00_00000090.wav", Fault("clogging", 1.0), 10.0),
    "conveyor_normal.flac": ("ToyConveyor/test/normal_id_02_00000090.wav", None, 10.0),
    "conveyor_low_voltage.flac": ("ToyConveyor/test/anomaly_id_02_00000090.wav", Fault("voltage", 1.0), 10.0),
    "fan_60_s.flac": ("fan/test/anomaly_id_04_00000095.wav", Fault("clogging", 1.0), 60.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=Path, nargs="?", help="directory that train.py wrote")
    model_dir = parser.parse_args().model_dir
    if model_dir is not None:
        copy_model(model_dir, DEMO_MODEL)
        write_examples(EXAMPLES_DIR)
    link_code(DEMO_MODEL)
    total = sum(file.stat().st_size for folder in (DEMO_MODEL, EXAMPLES_DIR) for file in folder.iterdir())
    print(f"{DEMO_MODEL} and {EXAMPLES_DIR}: {total / 1e6:.1f} MB")


def copy_model(model_dir: Path, destination: Path) -> None:
    """Replace `destination` by the files of a model that the app reads: no code, pictures or score files."""
    contents = {
        path: file.read_bytes()
        for path, file in model_files(model_dir).items()
        if isinstance(file, Path) and "/" not in path and file.suffix not in (".py", ".png")
    }
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir(parents=True)
    for path, content in contents.items():
        (destination / path).write_bytes(content)


def link_code(model_dir: Path) -> None:
    """Replace the code in a model directory by relative links to this project's files.

    Windows lets only some users make links. For the others the directory gets copies, which git shows as changes.
    """
    for code in model_dir.glob("*.py"):
        code.unlink()
    for name, file in code_files().items():
        try:
            (model_dir / name).symlink_to(os.path.relpath(file, model_dir))
        except OSError:
            shutil.copyfile(file, model_dir / name)


def write_examples(folder: Path) -> None:
    """Replace `folder` by the synthetic sounds that the app offers to begin with."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, (clip, fault, seconds) in EXAMPLES.items():
        waveform, _ = render_clip(clip, fault=fault, clip_seconds=seconds)
        soundfile.write(folder / name, waveform, SAMPLING_RATE, subtype="PCM_16")


if __name__ == "__main__":
    run(main)
