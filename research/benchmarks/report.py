"""What the benchmarks print and write: Markdown for people, JSON for whoever compares runs."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation.markdown import markdown_table

from .processes import available_cores


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on, and how busy the machine was when they were taken."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(available_cores()),
        "load_average": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table whose columns are the keys of the first row; `None` is a dash."""
    columns = list(rows[0])
    return markdown_table(columns, [[cell(row.get(column)) for column in columns] for row in rows])


def cell(value: Any) -> str:
    """Return a number with as many digits as say something."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_json(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results where there is a path."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
