"""The report of a run, in Markdown."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from evaluation.markdown import markdown_table

from .processes import ROOT
from .trials import Part, Tally


# Above this line a page is written by people, and kept.
MARK = "<!-- What follows is written by the command. -->"
HEAD = """{mark}

## The last run

`{command}`, commit `{commit}`, seed {seed}.
"""


def commit() -> str:
    """The commit of the clone, with a mark where files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def table_of(part: Part, tally: Tally) -> str:
    """The outcomes of a part: a row for each kind of input, a column for each outcome."""
    outcomes = sorted({outcome for counts in tally.outcomes.values() for outcome in counts})
    rows = [
        [kind, f"{counts.total():,}", *(f"{counts[outcome]:,}" if counts[outcome] else "-" for outcome in outcomes)]
        for kind, counts in tally.outcomes.items()
    ]
    total = [sum(counts[outcome] for counts in tally.outcomes.values()) for outcome in outcomes]
    rows.append(["all", f"{tally.cases:,}", *(f"{count:,}" for count in total)])
    most = (
        f"The longest case took {tally.cpu_seconds:.1f} s of processor time, the largest {tally.memory_mib:.0f} MiB.\n"
    )
    failures = [f"- case {case}: {message.strip().splitlines()[-1][:300]}" for case, message in tally.failures[:20]]
    text = f"### {part.title}\n\n{markdown_table(['what', 'cases', *outcomes], rows)}\n\n{most if tally.cpu_seconds else ''}"
    return text + ("\nFailed:\n\n" + "\n".join(failures) + "\n" if failures else "")


def write_page(path: Path, sections: Sequence[str], command: str, seed: int, revision: str) -> None:
    """Write the sections into a page, whose text above `MARK` stays."""
    kept = path.read_text(encoding="utf-8").split(MARK)[0] if path.exists() else ""
    head = HEAD.format(mark=MARK, command=command, seed=seed, commit=revision)
    path.write_text(kept + "\n".join([head, *sections]), encoding="utf-8")
