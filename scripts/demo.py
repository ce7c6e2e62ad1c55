#!/usr/bin/env python
"""The whole way in one go, on synthetic machines: train, evaluate, and show a verdict and an attention map.

python scripts/demo.py [--output_dir runs/demo]
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dcase2020_task2 import label_name, parse_clip_name
from evaluation.command import run


ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="runs/demo", help="where the model and the pictures go (runs/demo)")
    output_dir = parser.parse_args().output_dir
    # The launcher gives a CPU process one thread unless told otherwise.
    threads = str(os.cpu_count() or 1)
    launch = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_cpu_threads_per_process", threads)
    call(*launch, str(ROOT / "train.py"), "--output_dir", output_dir, "--resume_from_checkpoint", "latest")

    room = Path(output_dir) / "machine_room"
    truth = json.loads((room / "ground_truth.json").read_text(encoding="utf-8"))
    normal, faulty = normal_and_faulty_clip(room, truth)
    pictures = f"{output_dir}/pictures"
    for clip in (normal, faulty):
        machine = label_name("fan", parse_clip_name(clip).machine_id)
        # 1 says that something is anomalous, as it should be for the second clip.
        flags = ("--model", output_dir, "--machine", machine, "--picture", pictures)
        call(str(ROOT / "score.py"), str(clip), *flags, allowed=(0, 1))
    fault = truth[faulty.relative_to(room).as_posix()]
    print(f"\nThe second clip is synthetic and has the fault {fault['fault']!r} at severity {fault['severity']:.2f}.")
    print(f"Look at the attention maps and reasons in {pictures}, and at the figures in {output_dir}/evaluation.")


def call(*command: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Run a Python command; end with its exit code where that is not `allowed`."""
    print("$", " ".join(command), flush=True)
    code = subprocess.run([sys.executable, *command]).returncode
    if code not in allowed:
        sys.exit(code)


def normal_and_faulty_clip(room: Path, truth: dict[str, dict[str, Any]]) -> tuple[Path, Path]:
    """The fan's clip with the severest fault, and before it a normal clip of the same machine ID."""
    worst = max((clip for clip in truth if clip.startswith("fan/")), key=lambda clip: truth[clip]["severity"])
    machine_id = parse_clip_name(worst).machine_id
    return min((room / "fan" / "test").glob(f"normal_id_{machine_id}_*.wav")), room / worst


if __name__ == "__main__":
    run(main)
