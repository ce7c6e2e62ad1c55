#!/usr/bin/env python
"""Export a model for another engine, from the waveform to embedding, attention map, scores and verdicts.

    python scripts/export.py --model OUT --output_dir EXP --engine native-int8 --calibration_dir DATA

EXP is a whole model directory, thresholds and code included, with the engine's files and export.json beside them; `--model
EXP` of score.py and `pipeline(model="EXP")` run the engine. Engines:

{engines}

The export is compared with the network as it was: on the test clips of --calibration_dir (the normal training clips where
it has none), else on noise. The graphs (all but native-*, which leave scores and verdicts to the detector) have the clip's
axis first, of any length:

    input_values    (batch, clip_length)  waveforms in [-1, 1] at the model's sampling rate
    embeddings, cosines, spectra, attention_maps       as in AttentionAsdOutput
    scores          (batch, machines)  of the detector's back end, machines in the order of export.json
    p_values        (batch, machines)  how often a normal clip of that machine scores as high
    is_anomalous    (batch, machines)  whether a clip, claimed to be of that machine, is, at the false-alarm rate

In ONNX the input false_alarm_rate is optional, by default the detector's. Noise and other machines are the detector's to
refuse.
"""

import argparse
import logging
import textwrap
import warnings
from pathlib import Path

from transformers.utils import logging as transformers_logging

from engines.comparison import as_table, what_to_mind
from engines.export import export
from engines.table import ENGINES
from evaluation.command import run
from evaluation.lock import hold_folder
from training.allocator import keep_freed_memory


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    summaries = [f"{name:<16}{engine.summary}".replace("\n", "\n" + " " * 16) for name, engine in ENGINES.items()]
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").format(engines=textwrap.indent("\n".join(summaries), " " * 4)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="directory of a model, or its name on the Hub")
    parser.add_argument("--output_dir", required=True, type=Path, help="directory that the export is written to")
    parser.add_argument("--engine", required=True, choices=list(ENGINES))
    parser.add_argument(
        "--calibration_dir",
        help="folder in the DCASE 2020 Task 2 layout: normal clips to quantize and clips to check with",
    )
    arguments = parser.parse_args(argv)
    if ENGINES[arguments.engine].needs_calibration and arguments.calibration_dir is None:
        parser.error(f"--engine {arguments.engine} needs normal clips: give --calibration_dir")
    if arguments.output_dir.resolve() == Path(arguments.model).resolve():
        parser.error(f"--output_dir {arguments.output_dir} is the model's own directory: choose another")
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    hold_folder(arguments.output_dir)
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    # The exporter names what it could do with packages that this project does not use.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    print(f"Exporting to {arguments.output_dir} for {arguments.engine}", flush=True)
    engine = ENGINES[arguments.engine]
    exported = export(arguments.model, arguments.output_dir, engine, arguments.calibration_dir)
    checks, backend = exported["checks"], exported["backend"]
    print(as_table(checks, backend))
    if caution := what_to_mind(checks, backend):
        print(f"\n{caution}")
    if checks["graph_verdicts_changed"] is not None:
        print(f"\nVerdicts that the graph gives otherwise than the detector: {checks['graph_verdicts_changed']}")


if __name__ == "__main__":
    run(main)
