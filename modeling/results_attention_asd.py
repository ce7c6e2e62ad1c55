"""The pipeline's answer about a recording, as an object, and as the dictionary that goes into JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .decision_attention_asd import Decision
from .regions_attention_asd import Region


if TYPE_CHECKING:
    # Scoring uses that file, and no model does. transformers copies what it finds imported in the text.
    from .drift_attention_asd import DriftTest  # noqa: F401  # never imported, see above


@dataclass(frozen=True)
class TimelineEntry:
    """One window of a recording: its time in seconds, and the decision about it."""

    start_s: float
    end_s: float
    decision: Decision

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of `windows` in the pipeline's dictionary."""
        decision = self.decision
        return {
            "start_s": self.start_s,
            "end_s": self.end_s,
            "score": decision.score,
            "p_value": decision.p_value,
            "verdict": decision.verdict,
        }


@dataclass(frozen=True, eq=False)
class DecidedWindow:
    """The window with the highest score: the sound that the verdict is about, for pictures.

    Attributes:
        start_s: its start in the recording, in seconds.
        waveform: `(clip_length,)` in [-1, 1], as the network gets it.
        attention_maps: the paper's attention map (Section II.B) by representation, `(num_mel_bins, frames)`; `None` for a
            model without attention.
    """

    start_s: float
    waveform: np.ndarray
    attention_maps: dict[str, np.ndarray] | None

    def to_dict(self) -> dict[str, Any]:
        """Return what `return_attention_maps` adds to the pipeline's dictionary."""
        maps = self.attention_maps
        return {
            "attention_start_s": self.start_s,
            "attention_maps": None if maps is None else {name: values.tolist() for name, values in maps.items()},
        }


@dataclass(frozen=True, eq=False)
class Result:
    """The pipeline's answer about a recording.

    Attributes:
        decision: the detector's decision about the recording.
        duration_s: length of the recording, in seconds.
        timeline: an entry for every window, of which a recording no longer than a clip has one.
        reason: why the window with the highest score is anomalous, in one sentence; `None` where it is not.
        regions: the regions in time and frequency that the reason is about, in seconds of that window.
        window: that window itself, where attention maps were asked for.
        level_db: level of the recording, in dB, see [`recording_level`]; `None` where the network gives no spectra.
    """

    decision: Decision
    duration_s: float
    timeline: Sequence[TimelineEntry]
    reason: str | None = None
    regions: Sequence[Region] = field(default=())
    window: DecidedWindow | None = None
    level_db: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer ready for JSON, without the window."""
        return {
            **self.decision.to_dict(),
            "duration_s": self.duration_s,
            "reason": self.reason,
            "regions": [asdict(region) for region in self.regions],
            "level_db": self.level_db,
            "windows": [entry.to_dict() for entry in self.timeline] if len(self.timeline) > 1 else [],
        }


__all__ = ["DecidedWindow", "Result", "TimelineEntry"]
