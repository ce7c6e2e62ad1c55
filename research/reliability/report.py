"""The report of a run, in Markdown."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evaluation.markdown import markdown_table

from .processes import ROOT
from .trials import Tally


# Above this line a page is written by people, and kept.
MARK = "<!-- What follows is written by the command, a section for the last run of each part. -->\n"
SECTION = "\n## "


def commit() -> str:
    """The commit of the clone, with a mark where files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def table_of(tally: Tally) -> str:
    """The outcomes of a part: a row for each kind of input, a column for each outcome."""
    outcomes = sorted({outcome for counts in tally.outcomes.values() for outcome in counts})
    rows = [
        [kind, f"{counts.total():,}", *(f"{counts[outcome]:,}" if counts[outcome] else "-" for outcome in outcomes)]
        for kind, counts in tally.outcomes.items()
    ]
    total = [sum(counts[outcome] for counts in tally.outcomes.values()) for outcome in outcomes]
    rows.append(["all", f"{tally.cases:,}", *(f"{count:,}" for count in total)])
    return markdown_table(["what", "cases", *outcomes], rows)


def section_of(title: str, tally: Tally, command: str, revision: str) -> str:
    """What a page says of a run of a part.

    Args:
        title: of the part.
        tally: what came of its cases.
        command: what was typed.
        revision: the commit.
    """
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    paragraphs = [title, f"`{command}`, commit `{revision}`, ended {when}.", table_of(tally), *tally.remarks]
    if tally.cpu_seconds:
        seconds, memory = f"{tally.cpu_seconds:.1f} s of processor time", f"{tally.memory_mib:.0f} MiB"
        paragraphs.append(f"The longest case took {seconds}, the largest {memory}.")
    if tally.is_cut_off:
        paragraphs.append("A signal ended the run early. The case that was under way is not counted.")
    if tally.failures:
        lines = [f"- case {case}: {message.strip().splitlines()[-1][:300]}" for case, message in tally.failures[:20]]
        paragraphs += ["Failed:", "\n".join(lines)]
    return "\n\n".join(paragraphs) + "\n"


def write_page(path: Path, section: str, titles: Sequence[str]) -> None:
    """Write a section into a page, in the place of an earlier one of that title.

    Args:
        path: the page. What stands above `MARK` stays.
        section: its first line is its title.
        titles: of all sections, in their order.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    kept, _, written = text.partition(MARK)
    sections = {part.splitlines()[0]: part.rstrip() + "\n" for part in [*written.split(SECTION)[1:], section]}
    ordered = [sections[title] for title in titles if title in sections]
    path.write_text(kept + MARK + "".join(SECTION + part for part in ordered), encoding="utf-8")
