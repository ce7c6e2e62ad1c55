#!/usr/bin/env python
r"""Put into space/ what the app carries with it: the demonstration model and the synthetic examples.

python -m machine_room runs/room --clip_seconds 2 --train_clips 120
accelerate launch train.py --data_dir runs/room --output_dir runs/demonstration --clip_seconds 2 \
    --num_train_epochs 16 --per_device_train_batch_size 32 --learning_rate 1e-3 --validation_fraction 0.2 \
    --mixed_precision bf16
python scripts/build_space.py runs/demonstration
"""

import argparse
import shutil
import sys
from pathlib import Path

import soundfile


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from machine_room import Fault, render_clip  # noqa: E402
from training.hub import model_files  # noqa: E402


SAMPLING_RATE = 16_000
# A short name, the machine room's clip, its fault, and how many seconds of it.
EXAMPLES = {
    "fan_normal.wav": ("fan/test/normal_id_04_00000090.wav", None, 2.0),
    "fan_clogged.wav": ("fan/test/anomaly_id_04_00000090.wav", Fault("clogging", 1.0), 2.0),
    "pump_normal.wav": ("pump/test/normal_id_00_00000090.wav", None, 2.0),
    "pump_clogged.wav": ("pump/test/anomaly_id_00_00000090.wav", Fault("clogging", 1.0), 2.0),
    "conveyor_normal.wav": ("ToyConveyor/test/normal_id_02_00000090.wav", None, 2.0),
    "conveyor_low_voltage.wav": ("ToyConveyor/test/anomaly_id_02_00000090.wav", Fault("voltage", 1.0), 2.0),
    "fan_30_s.flac": ("fan/test/anomaly_id_04_00000095.wav", Fault("clogging", 1.0), 30.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=Path, help="directory that train.py wrote")
    arguments = parser.parse_args()
    files = model_files(arguments.model_dir)
    demo = ROOT / "space" / "demo_model"
    shutil.rmtree(demo, ignore_errors=True)
    for path, file in files.items():
        # What the app reads: no pictures and no score files of the evaluation.
        if "/" not in path and file.suffix != ".png":
            demo.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, demo / path)
    examples = ROOT / "space" / "examples"
    examples.mkdir(parents=True, exist_ok=True)
    for name, (clip, fault, seconds) in EXAMPLES.items():
        waveform, _ = render_clip(clip, fault=fault, clip_seconds=seconds)
        soundfile.write(examples / name, waveform, SAMPLING_RATE, subtype="PCM_16")
    total = sum(file.stat().st_size for folder in (demo, examples) for file in folder.iterdir())
    print(f"{demo} and {examples}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
