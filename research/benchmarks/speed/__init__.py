"""How fast a recording becomes a verdict: `python -m research.benchmarks.speed`.

systems: what is compared; latency: one clip and a batch, in turns; accuracy: what the engines change; processes: memory
and start-up of score.py; report: tables and picture.
"""
