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


ROOT = Path(__file__).resolve().parents[1]


def run(*command: str, allowed: tuple[int, ...] = (0,)) -> None:
    print("$", " ".join(command), flush=True)
    code = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
    if code not in allowed:
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="runs/demo", help="where the model and the pictures go (runs/demo)")
    output_dir = parser.parse_args().output_dir
    # The launcher gives a CPU process one thread unless told otherwise.
    threads = str(os.cpu_count() or 1)
    launch = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_cpu_threads_per_process", threads)
    run(*launch, "train.py", "--output_dir", output_dir, "--resume_from_checkpoint", "latest")

    room = ROOT / output_dir / "machine_room"
    truth = json.loads((room / "ground_truth.json").read_text())
    worst = max((clip for clip in truth if clip.startswith("fan/")), key=lambda clip: truth[clip]["severity"])
    machine_id = worst.split("_id_")[1][:2]
    normal = min((room / "fan" / "test").glob(f"normal_id_{machine_id}_*.wav"))
    pictures = f"{output_dir}/pictures"
    for clip in (normal, room / worst):
        clip = str(clip.relative_to(ROOT)) if clip.is_relative_to(ROOT) else str(clip)
        command = ("score.py", clip, "--model", output_dir, "--machine", f"fan_id_{machine_id}", "--picture", pictures)
        # 1 says that something is anomalous, as it should be for the second clip.
        run(*command, allowed=(0, 1))
    fault = truth[worst]
    print(f"\nThe second clip is synthetic and has the fault {fault['fault']!r} at severity {fault['severity']:.2f}.")
    print(f"Look at the attention maps and reasons in {pictures}, and at the figures in {output_dir}/evaluation.")


if __name__ == "__main__":
    main()
