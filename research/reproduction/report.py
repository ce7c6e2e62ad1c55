"""One table or figure as Markdown, CSV and PNG, under one name."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from evaluation.figures import save


@dataclass
class Report:
    """`name` is that of the files; `values` are the CSV's lines, all with the same columns."""

    name: str
    markdown: str
    values: list[dict[str, Any]]
    figure: Figure
    picture: str

    def write(self, folder: Path) -> None:
        """`picture` says in words what the PNG shows, for the Markdown's image."""
        folder.mkdir(parents=True, exist_ok=True)
        text = f"{self.markdown}\n\n![{self.picture}]({self.name}.png)\n\nAll figures: [`{self.name}.csv`]({self.name}.csv).\n"
        (folder / f"{self.name}.md").write_text(text)
        with open(folder / f"{self.name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(self.values[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: rounded(value) for key, value in line.items()} for line in self.values)
        save(self.figure, folder / f"{self.name}.png")


def rounded(value: Any) -> Any:
    """Whole numbers as they are, others to five digits: more of a percentage is no information."""
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else f"{value:.5g}"


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in rows)
