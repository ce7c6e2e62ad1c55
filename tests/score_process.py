"""score.py started by tests, in their own process or in one of its own."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import score


ROOT = Path(__file__).resolve().parents[1]


def run_here(capsys, *arguments) -> tuple[int, list[dict], str]:
    """main() in this process: its exit code, the JSON lines and standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["score.py", *map(str, arguments), "--format", "json"])
        previous = signal.getsignal(signal.SIGTERM)
        try:
            code = score.main()
        finally:
            signal.signal(signal.SIGTERM, previous)
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def start(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, ROOT / "score.py", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, **pipes)


def next_row(process: subprocess.Popen) -> dict:
    """The next JSON line of a running process."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def send(process: subprocess.Popen, data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()
