"""The tab History: the verdicts of a machine over days, and whether its sound has changed for good."""

from history import drift, kept_in_folder
from parts import pictures
from texts import told


def history_tab() -> None:
    pictures("history", told("history.hint"), [drift, kept_in_folder])
