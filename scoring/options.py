"""What the options of score.py can be. Nothing heavy is imported here: `--help` and usage errors need not wait for torch."""

# Values of --machine that are no machine's name.
CLOSEST_MACHINE, MACHINE_FROM_PATH = "auto", "from-path"
STANDARD_INPUT = "-"
# Raw samples on standard input, as numpy calls them.
SAMPLE_FORMATS = {"s16le": "<i2", "f32le": "<f4"}
FORMAT_OF_SUFFIX = {".jsonl": "json", ".csv": "csv"}
# A recording is whole when it stays unchanged for so long. Recorders write to disk every 1 to 3 seconds.
SETTLE_SECONDS = 5.0
