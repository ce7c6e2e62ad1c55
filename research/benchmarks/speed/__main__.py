"""How fast, and in how much memory: from a WAV file to verdict and attention map, this project's engines and its peers.

    python -m research.benchmarks.speed --model OUT --audio RECORDING.wav
    python -m research.benchmarks.speed --model OUT --exported ONNX_DIR OPENVINO_DIR --audio RECORDING.wav --data_dir DIR

The first system is the authors' chain as published, with the weights of OUT: librosa, a torch log-mel, their network in
eager float32 (`research/benchmarks/published_network.py`). The systems take turns, once on one core and once on all. In
its turn each gets the clip several times in a row; the first time, with the others' data in the caches, is reported apart.
The authors' chain and the peers run in one process, with the C library's allocator as it is. This project's systems run
in another, with the settings of `score.py`. `--data_dir` adds what each engine changes on labelled test clips. Peak memory
and start-up are those of `score.py` itself.
"""

import argparse
from pathlib import Path
from typing import Any

from evaluation.command import run
from evaluation.figures import save
from research.benchmarks.processes import FreshProcess, available_cores
from research.benchmarks.report import describe_machine, write_json

from .accuracy import measure_accuracy
from .latency import measure_systems
from .report import latency_figure, report
from .start_up import measure_processes
from .systems import Task


def main(argv: list[str] | None = None) -> None:
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


if __name__ == "__main__":
    run(main)
