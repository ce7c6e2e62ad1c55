#!/usr/bin/env python
"""Convert the authors' Lightning checkpoint to a directory that the Auto classes load.

The authors' repository (michaelneri/unsupervised-audio-anomaly-detection) publishes `MWM_93.44_s40_m0.7.ckpt`:

    python scripts/convert_original_checkpoint.py MWM_93.44_s40_m0.7.ckpt converted
"""

import argparse
from pathlib import Path

from evaluation.command import run
from training.published_checkpoint import convert_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="the authors' .ckpt file; read with weights_only=True")
    parser.add_argument("output_dir", type=Path, help="where the model, its code and its feature extractor go")
    arguments = parser.parse_args()
    convert_checkpoint(arguments.checkpoint, arguments.output_dir)
    print(f"{arguments.output_dir}: load it with AutoModel.from_pretrained(..., trust_remote_code=True)")


if __name__ == "__main__":
    run(main)
