r"""How often the test for change over time is wrong, and how soon it finds a change. Simulated values, no recordings.

python -m research.benchmarks.drift --machines 300
"""

import argparse
from collections.abc import Callable

import numpy as np

from evaluation.command import run
from evaluation.markdown import markdown_table
from modeling.drift_attention_asd import ALPHA, DriftTest


STEADY, LENGTH = 100, 600
Values = Callable[[np.random.Generator], np.ndarray]


def steady(generator: np.random.Generator) -> np.ndarray:
    """Draw independent values of one distribution."""
    return generator.normal(size=LENGTH)


def resembling(share: float) -> Values:
    """Return a function that draws values which keep a share of the one before: an autoregression of first order."""

    def draw(generator: np.random.Generator) -> np.ndarray:
        values = generator.normal(size=LENGTH)
        for i in range(1, LENGTH):
            values[i] = share * values[i - 1] + (1 - share**2) ** 0.5 * values[i]
        return values

    return draw


def bad_clips(generator: np.random.Generator) -> np.ndarray:
    """Draw steady values with one in fifty that is ten standard deviations too high."""
    values = generator.normal(size=LENGTH)
    values[49::50] += 10
    return values


def shifted(by: float, after: int = STEADY) -> Values:
    """Return a function that draws values which are higher from some moment on, in standard deviations."""
    return lambda generator: generator.normal(size=LENGTH) + by * (np.arange(LENGTH) >= after)


def worn(generator: np.random.Generator) -> np.ndarray:
    """Draw values that rise by a fiftieth of a standard deviation each, after a steady time."""
    return generator.normal(size=LENGTH) + 0.02 * np.maximum(np.arange(LENGTH) - STEADY, 0)


CASES: list[tuple[str, Values, int | None]] = [
    ("no change", steady, None),
    ("no change, one bad clip in 50", bad_clips, None),
    ("no change, each value keeps 0.2 of the one before", resembling(0.2), None),
    ("no change, each value keeps 0.5 of the one before", resembling(0.5), None),
    ("0.5 standard deviations higher after 100", shifted(0.5), STEADY),
    ("1 higher after 100", shifted(1.0), STEADY),
    ("2 higher after 100", shifted(2.0), STEADY),
    ("4 higher after 100", shifted(4.0), STEADY),
    ("2 higher after 20", shifted(2.0, 20), 20),
    ("0.02 higher with each recording after 100", worn, STEADY),
]


def first_report(values: np.ndarray, seed: int) -> tuple[int, int] | None:
    """Return after how many values a change is reported, and the first value after it; `None` where none is."""
    test = DriftTest(seed=seed)
    for count, value in enumerate(values.tolist(), start=1):
        if change := test.update(value, str(count - 1)):
            return count, int(change.since)
    return None


def measure(name: str, values: Values, change: int | None, machines: int) -> list[str]:
    """Return a row of the table: a case, the share of machines with a report, and how soon and how well dated it is."""
    found = [first_report(values(np.random.default_rng([7, seed])), seed) for seed in range(machines)]
    reports = [report for report in found if report is not None]
    early = sum(change is not None and count <= change for count, _ in reports)
    share = f"{100 * (len(reports) - early) / machines:.1f}"
    delays = [count - change for count, _ in reports if change is not None and count > change]
    errors = [abs(since - change) for count, since in reports if change is not None and count > change]
    if not delays:
        return [name, share, "", ""]
    middle, late = np.quantile(delays, [0.5, 0.9])
    return [name, share, f"{middle:.0f} ({late:.0f})", f"{np.median(errors):.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=300, help="simulated machines for each case (default 300)")
    machines = parser.parse_args().machines
    print(f"{machines} machines, {LENGTH} recordings each, bound {100 * ALPHA:g} %\n")
    header = ["values", "reported [%]", "recordings until then: median (90 %)", "dated wrong by: median"]
    print(markdown_table(header, [measure(*case, machines) for case in CASES]))


if __name__ == "__main__":
    run(main)
