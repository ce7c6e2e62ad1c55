"""One table or figure as Markdown, CSV and PNG, under one name."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from evaluation.figures import save


@dataclass
class Report:
    """A table or figure of the paper, made again.

    Args:
        name: name of the three files, without their endings.
        markdown: the text with its tables.
        values: the lines of the CSV file, all with the same columns.
        figure: the picture.
        picture: what the picture shows, in words.
    """

    name: str
    markdown: str
    values: list[dict[str, Any]]
    figure: Figure
    picture: str

    def write(self, folder: Path) -> None:
        """Write `name.md`, `name.csv` and `name.png` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        text = f"{self.markdown}\n\n![{self.picture}]({self.name}.png)\n\nAll figures: [`{self.name}.csv`]({self.name}.csv).\n"
        (folder / f"{self.name}.md").write_text(text, encoding="utf-8")
        with open(folder / f"{self.name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.values[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: rounded(value) for key, value in line.items()} for line in self.values)
        save(self.figure, folder / f"{self.name}.png")


def rounded(value: Any) -> Any:
    """Return whole numbers as they are, others to five digits: more digits of a percentage say nothing."""
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else f"{value:.5g}"
