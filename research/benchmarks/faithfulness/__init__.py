"""How faithful the reasons are: `python -m research.benchmarks.faithfulness`.

examples: detected clips with their healthy twins; maps: the relevance maps that are compared; measures: what one map is
worth; report: tables and picture.
"""
