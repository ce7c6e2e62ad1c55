"""Settings of the app, from the environment and the machine. This module is imported before every library."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any


# Libraries read these while they are imported. Nothing is reported to anybody, and all files of users lie in a folder of
# the app's own, which the app may sweep.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
TEMPORARY = os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="space-")

try:
    import spaces  # pyright: ignore[reportMissingImports]  # only on ZeroGPU; before torch
except ImportError:
    spaces = None

import torch


HERE = Path(__file__).resolve().parent
DEMO_MODEL, EXAMPLES_DIR = HERE / "demo_model", HERE / "examples"
MODEL_ID = os.environ.get("MODEL_ID") or str(DEMO_MODEL)
IS_DEMO = str(DEMO_MODEL) == MODEL_ID
# The name of the repository, on the Hub.
SPACE_ID = os.environ.get("SPACE_ID")
if IS_DEMO and not DEMO_MODEL.is_dir():
    sys.exit(f"{DEMO_MODEL} is missing: set MODEL_ID to a model, or make it as README.md says.")

# Limits on what a user sends. Longer recordings are for score.py.
MAX_SECONDS = 10 * 60
MAX_ENROLLED_CLIPS, MAX_ENROLLED_SECONDS = 30, 30 * 60
MAX_FILE_SIZE, MAX_BASE64 = "100mb", 140 * 10**6
# A detector of a hundred machines takes 10 MB.
MAX_DETECTOR_BYTES = 50 * 10**6
MAX_JUDGED_FILES = 100
# What is kept of a live microphone, and what it may send at once: the browser waits for an answer with up to 30 seconds.
MAX_LIVE_ALARMS, MAX_CHUNK_SECONDS = 200, 31

# Verdicts over time are kept by the browser, or in a folder of this name: then all users see one history. MAX_HISTORY_BYTES
# are 200,000 rows, of which a browser gets the last MAX_SENT_BYTES; a test for drift takes 20 microseconds a value.
HISTORY_DIR = os.environ.get("HISTORY_DIR")
MAX_HISTORY_BYTES, MAX_SENT_BYTES, MAX_DRIFT_VALUES = 100 * 10**6, 10 * 10**6, 40_000

# Every minute the app deletes files that were last handed out half an hour ago.
SWEEP_SECONDS, KEEP_SECONDS = 60, 1800
SESSION_SECONDS = 3600
MAX_SESSIONS, MAX_WAITING = 500, 200

# Two answers at once, each on half of the cores. Gradio counts by `concurrency_id`: all that runs the network has the same.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
AT_ONCE = 1 if torch.cuda.is_available() else 2
MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": AT_ONCE}
torch.set_num_threads(max(CORES // AT_ONCE, 1))
