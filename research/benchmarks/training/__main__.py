"""How fast training is: the authors' loop as published against this project's, and what each difference brings.

    python -m research.benchmarks.training                            # CPU, at the published batch of 64
    python -m research.benchmarks.training --device cuda              # a GPU: full size, synthetic waveforms that live on it

On a CPU every row is a process of its own, at full size on clips of noise. Each row has what the row above has and one
thing more; the last is `train.py`'s own loop. The rows take turns, an update each. The authors' loop takes 15 GB of memory
at their batch. torch.compile is no row here. On a CPU the compiled network took as long as the bfloat16 row, after
minutes of compiling: 261 to 290 ms a clip, in turns with 237 to 290, on one busy core with batches of 4. On a GPU each batch
size is compiled twice, a minute each.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from evaluation.command import run
from research.benchmarks.report import describe_machine, markdown, write_json

from .cpu import measure_loops
from .device import device_report, measure_device
from .loops import device_loops


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cpu (default) or a GPU")
    parser.add_argument("--batch_size", type=int, nargs="+", help="clips in an update (default 64; on a GPU 64 256)")
    parser.add_argument("--updates", type=int, help="updates that are timed (default 2; on a GPU 30)")
    parser.add_argument("--clip_seconds", type=float, default=10.0, help="length of a clip (default 10)")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args(argv)
    results: dict[str, Any] = {"machine": describe_machine(), "device": options.device}
    if options.device == "cpu":
        results["rows"] = measure_loops((options.batch_size or [64])[0], options.updates or 2, options.clip_seconds)
        report = markdown(results["rows"])
    elif torch.cuda.is_available():
        batch_sizes = options.batch_size or [64, 256]
        results |= measure_device("cuda", batch_sizes, options.updates or 30, options.clip_seconds, device_loops())
        report = device_report(results)
    else:
        results["not_run"] = report = "no GPU here: not run"
    write_json(options.output, results)
    print(report)


if __name__ == "__main__":
    run(main)
