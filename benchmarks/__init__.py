"""What is measured, each by one command from the repository's root: `python -m benchmarks.speed` and so on."""
