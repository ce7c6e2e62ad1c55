"""The paper's tables and figures again: what was published, what is run, and how both are shown beside each other.

published -> what the paper and its peers report; systems -> which configuration each row is; data, runs, fit_peer ->
train and score; protocol -> the published evaluation's faults, on request; measure, merit, bands -> figures of merit;
tables, figures -> Markdown, CSV and PNG. `research/reproduce.py` is the command.
"""
