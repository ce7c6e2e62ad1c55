"""The model's code, written into a model directory."""

import os
import shutil
from pathlib import Path


CODE_PATTERN = "*_attention_asd.py"


def write_code(save_directory: str | os.PathLike) -> None:
    """Write the code beside this file into a model directory, each file whole or not at all.

    transformers alone copies only what the saved class imports: a model does not import its pipeline. transformers also
    writes through links, and in a clone `space/demo_model` links to this code. So a link becomes a file of its own here.

    Args:
        save_directory: the model directory, made where it is missing.
    """
    directory = Path(save_directory)
    directory.mkdir(parents=True, exist_ok=True)
    for code in Path(__file__).parent.glob(CODE_PATTERN):
        part = directory / f"{code.name}.{os.getpid()}.part"
        shutil.copyfile(code, part)
        part.replace(directory / code.name)


__all__ = ["CODE_PATTERN", "write_code"]
