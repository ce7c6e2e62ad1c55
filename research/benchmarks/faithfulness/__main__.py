"""How faithful are the reasons? Relevance maps are compared with faults whose place in time and frequency is known.

    python -m machine_room ROOM
    python -m research.benchmarks.faithfulness --model OUT --data_dir ROOM --output_dir R

The clips are anomalous test clips of the machine room. The detector calls them anomalous and passes their healthy twins.
A twin is its clip without the fault, and otherwise equal to the sample. Deletion gives back the twin's time-frequency
cells, the most relevant first, and insertion gives the fault's cells to the twin. Both ends, and all that is changed,
are natural sound of that machine, and no map knows the twin. R gets faithfulness.md, faithfulness.csv (a row for each clip
and map), reasons.csv and reasons.png.
"""

import argparse
import csv
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from evaluation.command import run
from evaluation.figures import save
from evaluation.loading import LoadedModel, load_model
from modeling.reasons_attention_asd import sentence
from modeling.regions_attention_asd import Region
from research.detectors import detector_of
from training.allocator import keep_freed_memory

from .examples import FALSE_ALARM_RATE, Example, Room, examples
from .maps import REASONS_MAP, relevance_maps
from .measures import measure, regions_of_map
from .report import five_examples, reasons_figure, report


@dataclass
class Results:
    """What was measured: a row for each clip and map, a reason for each clip, and the clips with their regions."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[dict[str, Any]] = field(default_factory=list)
    explained: list[tuple[Example, list[Region]]] = field(default_factory=list)


def measure_maps(loaded: LoadedModel, room: Room, backend: str, clips: int, seed: int) -> Results:
    """Measure every map on so many detected clips."""
    results = Results()
    found = examples(loaded, room, backend, seed)
    for example in tqdm(islice(found, clips), "clips", clips):
        regions = {}
        for name, compute in relevance_maps(example, loaded.feature_extractor, seed).items():
            started = time.perf_counter()
            relevance = compute().detach().float()
            seconds = time.perf_counter() - started
            regions[name] = regions_of_map(example, relevance, loaded.feature_extractor)
            figures = measure(example, relevance, regions[name], loaded.feature_extractor, seed)
            clip = {"file": example.name, "fault": example.truth["fault"], "map": name}
            results.rows.append({**clip, **figures, "seconds": seconds})
        truth = {key: example.truth[key] for key in ("fault", "severity", "period_s")}
        results.reasons.append({"file": example.name, **truth, "reason": sentence(regions[REASONS_MAP])})
        results.explained.append((example, regions[REASONS_MAP]))
    return results


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows with the same keys."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory that train.py wrote, or a repository on the Hub")
    parser.add_argument("--data_dir", required=True, type=Path, help="folder that machine_room made")
    parser.add_argument("--output_dir", required=True, type=Path, help="where the results go")
    parser.add_argument("--clips", type=int, default=48, help="detected clips to use (default 48)")
    parser.add_argument("--backend", help="back end that gives the score (default: the detector's)")
    parser.add_argument("--seed", type=int, default=0, help="key of the clips' order and of the random map")
    options = parser.parse_args(argv)

    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    loaded = load_model(options.model)
    loaded.model.requires_grad_(False)
    backend = options.backend or detector_of(loaded).backend
    room = Room(options.data_dir, loaded.feature_extractor)
    results = measure_maps(loaded, room, backend, options.clips, options.seed)
    if not results.rows:
        parser.error(
            f"{options.model} detects no fault of {options.data_dir} at a false-alarm rate of {FALSE_ALARM_RATE}: "
            "train for longer, or make a room with more clips."
        )

    options.output_dir.mkdir(parents=True, exist_ok=True)
    text = report(results.rows, len(results.reasons), backend, options.seed)
    (options.output_dir / "faithfulness.md").write_text(text, encoding="utf-8")
    write_csv(options.output_dir / "faithfulness.csv", results.rows)
    write_csv(options.output_dir / "reasons.csv", results.reasons)
    figure = reasons_figure(five_examples(results.explained), loaded.feature_extractor)
    save(figure, options.output_dir / "reasons.png")
    print(text)


if __name__ == "__main__":
    run(main)
