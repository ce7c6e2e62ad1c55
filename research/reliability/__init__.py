"""The reliability programme: what happens to damaged files, to killed processes and to hostile exports."""

import os


# Before any import of transformers and torch. Nothing here may reach the Hub. One thread rounds all sums alike, so that
# runs can be compared to the bit.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
