"""How every command of this project starts and ends."""

import argparse
import io
import sys
import traceback
from collections.abc import Callable

from safetensors import SafetensorError
from tqdm import tqdm


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and end the process with the code that `main` returns, 0 for `None`.

    An expected error is one line on standard error and exit code 2. Any other error is a traceback and exit code 2 as
    well: Python's own code, 1, would say that a recording is anomalous.
    """
    # File names may hold bytes that are no text, and characters that the encoding of a redirected output lacks, as on Windows.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except (ValueError, OSError, ImportError, SafetensorError) as error:
        # In a line of its own, also where a progress bar stands.
        tqdm.write(f"error: {error}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    sys.exit(2)


def above_zero(text: str) -> int:
    """Read a command line's number of things, of which there has to be one.

    Raises:
        argparse.ArgumentTypeError: it is no whole number above 0.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return int(text)
