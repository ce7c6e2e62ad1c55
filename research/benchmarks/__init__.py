"""What is measured, each by one command from the repository's root: `python -m research.benchmarks.speed` and so on."""
