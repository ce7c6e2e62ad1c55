"""What a reader of the paper needs and a user of the detector does not: peers, reproduction and benchmarks."""
