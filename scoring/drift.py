"""Whether the scores or the level of a machine change over time, from rows in the order of time."""

from collections import defaultdict
from dataclasses import dataclass, field

from modeling.drift_attention_asd import DriftTest

from .rows import Row


@dataclass
class DriftWatch:
    """Two tests for each machine: its scores and its level. They are apart, because the score does not hear the level.

    Attributes:
        scores, levels: by machine.
    """

    scores: dict[str, DriftTest] = field(default_factory=lambda: defaultdict(DriftTest))
    levels: dict[str, DriftTest] = field(default_factory=lambda: defaultdict(DriftTest))

    def take(self, row: Row) -> str | None:
        """Take the next row. Return a sentence where there is enough evidence of a lasting change, once for each change.

        Args:
            row: a new one, or one of an earlier run, of which CSV has all values as text. A row without a score, such as
                one about silence, plays no part.
        """
        machine, score, level_db = (row.get(name) for name in ("machine", "score", "level_db"))
        if not machine or score in (None, ""):
            return None
        start_s = row.get("start_s")
        label = row["file"] if start_s in (None, "") else f"{float(start_s):g} s of the stream"
        sentences = []
        if change := self.scores[machine].update(float(score), label):
            sentences.append(
                f"score has drifted since {change.since}: {'higher' if change.shift > 0 else 'lower'} scores"
            )
        if level_db not in (None, "") and (change := self.levels[machine].update(float(level_db), label)):
            loudness = "louder" if change.shift > 0 else "softer"
            sentences.append(f"level has changed since {change.since}: {abs(change.shift):.1f} dB {loudness}")
        return f"{machine}: {'; '.join(sentences)}" if sentences else None
