"""Tables as Markdown, for the terminal, the reports and the model card."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table: one line for the header, one for each row. `None` is an empty cell.

    Example:

    ```python
    >>> print(markdown_table(["machine", "AUC"], [["fan_id_00", 0.93]]))
    | machine | AUC |
    |---|---|
    | fan_id_00 | 0.93 |
    ```
    """
    lines = [header, *rows]
    text = ["| " + " | ".join("" if cell is None else str(cell) for cell in line) + " |" for line in lines]
    return "\n".join([text[0], "|---" * len(header) + "|", *text[1:]])
