"""The page's texts. Each language has a file in words/, and the browser chooses among them.

Python writes no sentence for the page: it names a text and its values, and pictures/words.js says it in the page's language.
What the model's code says (reasons, notes, errors) is English.
"""

import re
import tomllib
from pathlib import Path
from typing import Any


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return texts by their whole names, such as `listen.hint`. A text with forms for one and for many stays a table."""
    texts: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, str) or "other" in value:
            texts[prefix + name] = value
        else:
            texts |= flat(value, f"{prefix}{name}.")
    return texts


ENGLISH = "en"
FOLDER = Path(__file__).resolve().parent / "words"
TEXTS = {file.stem: flat(tomllib.loads(file.read_text(encoding="utf-8"))) for file in sorted(FOLDER.glob("*.toml"))}


def say(language: str, key: str, **values: Any) -> str:
    """Return a text in a language, with its values in place."""
    text = TEXTS[language][key]
    if not isinstance(text, str):
        text = text["one" if values["count"] == 1 else "other"]
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), text)


def told(key: str, **values: Any) -> list[Any]:
    """Return a text as the browser gets it, which says it in the page's language."""
    if key not in TEXTS[ENGLISH]:
        raise KeyError(key)
    return [key, values]


class Told(ValueError):
    """What is wrong with what a user sent: English for programs, and a text that the page says in its language.

    Attributes:
        said: the text as the browser gets it.
    """

    def __init__(self, key: str, **values: Any):
        super().__init__(say(ENGLISH, key, **values))
        self.said = told(key, **values)


__all__ = ["ENGLISH", "TEXTS", "Told", "say", "told"]
