"""What is wrong with a sound or a name, told to a program or shown on the page; and JSON for both."""

import functools
import json
from collections.abc import Callable
from typing import Any

import gradio as gr
from texts import Told


def for_program(function: Callable) -> Callable:
    """Tell a program what is wrong with what it sent."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return call


def on_page(*others: Any) -> Callable:
    """Show what is wrong where the answer would be. Further outputs get `others`."""

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args, **kwargs):
            try:
                return function(*args, **kwargs)
            except ValueError as error:
                problem = to_json({"error": said(error)})
                return (problem, *others) if others else problem

        return call

    return decorate


def said(error: ValueError) -> str | list[Any]:
    """Return an error as the browser gets it: a text of the page, or what the model's code says."""
    return error.said if isinstance(error, Told) else str(error)


def to_json(content: Any) -> str:
    return json.dumps(content, allow_nan=False, ensure_ascii=False)


__all__ = ["for_program", "on_page", "said", "to_json"]
