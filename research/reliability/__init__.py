"""The reliability programme: what happens to damaged files, to killed processes and to hostile exports."""

import os


# Before any import of transformers: nothing here may reach the Hub.
os.environ["HF_HUB_OFFLINE"] = "1"
