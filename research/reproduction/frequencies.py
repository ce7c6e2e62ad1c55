"""What Figures 2 to 4 share: values by frequency, and the floor of the attention map."""

from typing import Any

import numpy as np


# Above the floor of the attention map by more than rounding in bfloat16 or float32.
FLOOR_TOLERANCE = 1e-4


def lines_by_frequency(hertz: np.ndarray, columns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the lines of a CSV file, one for each mel bin.

    Args:
        hertz: center frequencies `(bins,)`.
        columns: name of the column -> values `(bins,)`.
    """
    return [
        {"mel_bin": index, "frequency_hz": float(frequency)}
        | {name: float(column[index]) for name, column in columns.items()}
        for index, frequency in enumerate(hertz)
    ]
