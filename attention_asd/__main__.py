"""Run one of the project's programs: `attention-asd score recordings/ --model OUT`.

    attention-asd COMMAND [ARGUMENTS ...]

{commands}

`attention-asd COMMAND --help` explains a command. On several GPUs: `accelerate launch -m attention_asd train ...`.
"""

import sys
from importlib import import_module
from pathlib import Path


# The rooms have plain names (`evaluation`, `metrics`), which belong to nobody in an environment. So a wheel keeps the
# whole tree in one folder, and only the process of a command imports from this folder.
HERE = Path(__file__).resolve().parent
ROOT = HERE / "clone" if (HERE / "clone").is_dir() else HERE.parent

# Each command: the program whose `main` runs, and what the command's line of help says.
COMMANDS = {
    "score": ("score.py", "judge recordings, a folder, a stream, or a folder that is watched"),
    "train": ("train.py", "train a model on normal recordings"),
    "eval": ("eval.py", "measure a model on labeled recordings"),
    "enroll": ("scripts/enroll.py", "add a machine to a model, from a few normal recordings"),
    "fit": ("scripts/fit_detector.py", "fit a model's detector to other normal recordings, without training"),
    "export": ("scripts/export.py", "write a model for ONNX, OpenVINO or the compiled engine"),
    "page": ("scripts/build_static.py", "build a page that judges sounds in the browser, for any web server"),
    "push": ("scripts/push_to_hub.py", "upload a model, its Space, the data set or the metric to the Hub"),
    "convert": ("scripts/convert_original_checkpoint.py", "convert the authors' checkpoint"),
    "demo": ("scripts/demo.py", "train and judge synthetic machines, in a few minutes"),
    "dcase": ("dcase2020_task2/__main__.py", "download DCASE 2020 Task 2, checked and resumable"),
}


def usage() -> str:
    """The help text, one line a command."""
    width = max(map(len, COMMANDS))
    lines = [f"    {name:<{width}}  {help_text}" for name, (_, help_text) in COMMANDS.items()]
    return str(__doc__).format(commands="\n".join(lines))


def main() -> None:
    """Run the program of the first argument with the other arguments; end with code 2 if there is no such command."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("--help", "-h"):
        print(usage())
        return
    if command not in COMMANDS:
        print(f"error: no command {command!r}: expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    program = COMMANDS[command][0]
    # A parser of arguments takes the command's name from here.
    sys.argv = [f"attention-asd {command}", *sys.argv[2:]]
    sys.path.insert(0, str(ROOT))
    module = import_module(program.removesuffix(".py").replace("/", "."))
    # The help shows examples, which name the program as one starts it in a clone.
    examples = str(module.__doc__).replace(f"python {program}", f"attention-asd {command}")
    module.__doc__ = examples.replace(f"accelerate launch {program}", f"accelerate launch -m attention_asd {command}")
    import_module("evaluation.command").run(module.main)


if __name__ == "__main__":
    main()
