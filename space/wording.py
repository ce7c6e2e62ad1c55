"""The page's texts for Gradio's own components, which choose the language in the browser."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
from texts import TEXTS, say


# What components ask for: `label` and `composed` put it in.
TRANSLATIONS = gr.I18n(**{language: {} for language in TEXTS})


def label(key: str, **values: Any) -> Any:
    """Return a text for a component of Gradio, in all languages."""
    return composed(key + "".join(f".{value}" for value in values.values()), lambda write: write(key, **values))


def composed(name: str, compose: Callable[[Callable[..., str]], str]) -> Any:
    """Return what `compose` makes of several texts, for a component of Gradio, in all languages.

    Args:
        name: under which Gradio keeps it.
        compose: gets a function that says a text in one language, as `say` does, and returns the whole.
    """
    for language, texts in TRANSLATIONS.translations.items():
        texts[f"asd.{name}"] = compose(partial(say, language))
    return TRANSLATIONS(f"asd.{name}")


__all__ = ["TRANSLATIONS", "composed", "label"]
