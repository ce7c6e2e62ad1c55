"""The tab History: the verdicts of a machine over days, and whether its sound has changed for good."""

from history import drift, kept_in_folder
from parts import pictures


def history_tab() -> None:
    pictures("history", "Verdicts appear here as soon as recordings are judged.", [drift, kept_in_folder])
