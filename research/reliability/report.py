"""The report of a run as a page of Markdown."""

import subprocess
from collections.abc import Sequence

from evaluation.markdown import markdown_table

from .processes import ROOT
from .trials import Part, Tally


INTRODUCTION = """# Reliability

What happens when a file is damaged, a process is killed, or an export is hostile. One command tries it and writes this page:

```bash
{command}
```

A case is drawn from the seed and its number alone, so each can be tried again: `--parts PART --case NUMBER`. A case fails where

- an error is no `ValueError` or `OSError`, or does not name the file;
- a result is not finite;
- a process crashes, hangs, or takes more than {memory} MiB;
- what a killed process left is neither the old files, nor the new ones, nor refused with what to do.

This run: seed {seed}, {minutes:.0f} minutes, commit `{commit}`.
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
    text = f"## {part.title}\n\n{markdown_table(['what', 'cases', *outcomes], rows)}\n\n{most if tally.cpu_seconds else ''}"
    return text + ("\nFailed:\n\n" + "\n".join(failures) + "\n" if failures else "")


def page(sections: Sequence[str], command: str, seed: int, minutes: float, memory_mib: int, revision: str) -> str:
    """The whole page."""
    head = INTRODUCTION.format(command=command, seed=seed, minutes=minutes, memory=memory_mib, commit=revision)
    return "\n".join([head, *sections])
