"""How fast training is: `python -m research.benchmarks.training`.

loops: which ways to train are compared; steps: one update of each; cpu: every way in a process of its own; device: the
whole update on one GPU.
"""
