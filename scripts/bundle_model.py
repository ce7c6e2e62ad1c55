#!/usr/bin/env python
"""Make the model that the repository brings along: trained on real machines, with the Space's synthetic ones enrolled.

    python scripts/bundle_model.py --data_dir ../shared/data/machine_clips --output_dir runs/bundled
    python scripts/build_space.py runs/bundled                      # puts the model and the examples into space/

DIR is in the DCASE 2020 Task 2 layout. Beside it lies manifest.csv, whose columns `file` and `dataset` say where each clip
comes from. Only clips of MIMII are used: its license, CC BY-SA 4.0, allows to give the weights away. Other flags, such as
--num_train_epochs 2, go to train.py.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from evaluation.command import run
from evaluation.loading import load_model
from evaluation.model_card import render_model_card
from machine_room import render_clip
from modeling.pipeline_attention_asd import AnomalousSoundDetectionPipeline
from training.finish import repository_of


ROOT = Path(__file__).resolve().parents[1]
RECIPE = {
    "num_train_epochs": 40,
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-3,
    "mixed_precision": "bf16",
    "validation_fraction": 0.15,
}
DATASET, LICENSE = "MIMII", "cc-by-sa-4.0"
ATTRIBUTION = (
    "The weights and the detector were made from {clips} normal recordings of the MIMII Dataset 1.0 by Harsh Purohit, Ryo "
    "Tanabe, Kenji Ichige, Takashi Endo, Yuki Nikaido, Kaori Suefusa and Yohei Kawaguchi (Hitachi, Ltd.), "
    "[doi:10.5281/zenodo.3384388](https://doi.org/10.5281/zenodo.3384388), "
    "[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/). The recordings are those of microphone 0. No recording "
    "is included."
)
# The machines of the Space's examples -> their type and ID in the machine room. Nobody takes the names for real machines.
SYNTHETIC_MACHINES = {
    "synthetic_fan_04": ("fan", "04"),
    "synthetic_pump_00": ("pump", "00"),
    "synthetic_conveyor_02": ("ToyConveyor", "02"),
}
ENROLLED_CLIPS = 24


def main() -> None:
    arguments, training_flags = parse_arguments()
    output_dir, clips = arguments.output_dir, arguments.output_dir / DATASET
    print(f"{clips}: links to {link_clips(arguments.data_dir, clips)} clips of {DATASET}")
    train(clips, output_dir, training_flags)
    enroll_synthetic_machines(output_dir)
    write_license(output_dir)
    print(f"{output_dir}: the model to bundle. Put it into space/ with: python scripts/build_space.py {output_dir}")


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=Path, help="folder in the DCASE 2020 Task 2 layout")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/bundled"), help="new model (runs/bundled)")
    return parser.parse_known_args()


def link_clips(data_dir: Path, folder: Path) -> int:
    """Fill `folder` with links to the clips that the manifest says to be of the data set, and return their number.

    Raises:
        ValueError: the manifest cannot be used, or names no such clip below `data_dir`; or `folder` holds
            files of its own.
    """
    manifest = data_dir.parent / "manifest.csv"
    try:
        with open(manifest, newline="", encoding="utf-8") as file:
            rows = [(manifest.parent / row["file"], row["dataset"]) for row in csv.DictReader(file)]
    except (OSError, KeyError) as error:
        raise ValueError(
            f"{manifest}: cannot be read ({error!r}). Expected a CSV file with the columns file and dataset: the license "
            "of each clip must be known."
        ) from None
    data_dir = data_dir.resolve()
    wanted = [file.resolve() for file, dataset in rows if dataset.startswith(DATASET)]
    wanted = [file for file in wanted if file.is_relative_to(data_dir) and file.is_file()]
    if not wanted:
        raise ValueError(f"{manifest}: names no clip of {DATASET} in {data_dir}.")
    own = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    if own:
        raise ValueError(
            f"{own[0]}: is no link. Expected {folder} to be missing, or to hold the links of an earlier run."
        )
    shutil.rmtree(folder, ignore_errors=True)
    for file in wanted:
        link = folder / file.relative_to(data_dir)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return len(wanted)


def train(clips: Path, output_dir: Path, flags: list[str]) -> None:
    """Run train.py on the clips. `flags` override the recipe."""
    settings = {"data_dir": clips, "output_dir": output_dir, **RECIPE}
    recipe = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    code = subprocess.run([sys.executable, str(ROOT / "train.py"), *recipe, *flags]).returncode
    if code:
        sys.exit(code)


def enroll_synthetic_machines(model_dir: Path) -> None:
    """Enroll the machines of the Space's examples in the detector of a model."""
    loaded = load_model(model_dir)
    extractor = loaded.feature_extractor
    detect = AnomalousSoundDetectionPipeline(
        model=loaded.model, feature_extractor=extractor, detector=loaded.detector, device="cpu"
    )
    for name, (machine_type, machine_id) in SYNTHETIC_MACHINES.items():
        clips = (f"{machine_type}/train/normal_id_{machine_id}_{number:08d}.wav" for number in range(ENROLLED_CLIPS))
        seconds = extractor.clip_length / extractor.sampling_rate
        sounds = [render_clip(clip, fault=None, clip_seconds=seconds)[0].astype(np.float32) for clip in clips]
        detect.enroll(name, sounds)
    detect.detector.save_pretrained(model_dir)


def write_license(model_dir: Path) -> None:
    """Note the license and the enrolled machines in `all_results.json`, and make the card anew."""
    record = model_dir / "all_results.json"
    results = json.loads(record.read_text(encoding="utf-8"))
    results |= {
        "command": " ".join(["scripts/bundle_model.py", *sys.argv[1:]]),
        "license": LICENSE,
        "attribution": ATTRIBUTION.format(clips=results["train_clips"]),
        "enrolled_machines": list(SYNTHETIC_MACHINES),
    }
    record.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    render_model_card(model_dir, repository_of(model_dir))


if __name__ == "__main__":
    run(main)
