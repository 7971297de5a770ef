"""What the classifier says of one track, and how that is written for machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GenreProbability:
    """One genre and its calibrated probability in [0, 1]."""

    genre: str
    probability: float


@dataclass(frozen=True)
class SegmentVerdict:
    """What was heard in one segment of a track.

    Args:
        start_s, end_s: place of the segment in the track, in seconds.
        probabilities: one calibrated probability a genre, in the order of the model's genres.
        lengths: length of each genre capsule in [0, 1); unlike the probabilities they need not
            add up to one.
    """

    start_s: float
    end_s: float
    probabilities: tuple[GenreProbability, ...]
    lengths: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The segment as plain JSON types."""
        best = max(self.probabilities, key=lambda entry: entry.probability)
        return {
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "genre": best.genre,
            "probabilities": {e.genre: round(e.probability, 4) for e in self.probabilities},
            "lengths": {
                e.genre: round(length, 4)
                for e, length in zip(self.probabilities, self.lengths, strict=True)
            },
        }


@dataclass(frozen=True)
class Verdict:
    """What the classifier says of one track.

    Args:
        path: the track, as the caller named it.
        genre: the genre, or None when the model is unsure or nothing could be heard.
        confidence: calibrated probability of the first genre in ``top``; None on failure.
        top: all genres with their probabilities, the likeliest first; empty on failure.
        duration_s: seconds of sound that were heard; None on failure.
        segments: the verdict over time, in order.
        error: why there is no verdict, in one sentence; None when there is one.
        code: the short reason behind ``error`` (see :class:`deepmusic.AudioError`).
        warning: what was lost on the way to a verdict (such as damaged sound); None as a rule.
    """

    path: str
    genre: str | None = None
    confidence: float | None = None
    top: tuple[GenreProbability, ...] = ()
    duration_s: float | None = None
    segments: tuple[SegmentVerdict, ...] = ()
    error: str | None = None
    code: str | None = None
    warning: str | None = None

    @property
    def is_unsure(self) -> bool:
        """Whether the track was heard and no genre claimed it."""
        return self.error is None and self.genre is None

    def to_dict(self, *, top: int | None = None, segments: bool = False) -> dict[str, Any]:
        """The verdict as plain JSON types.

        Args:
            top: how many genres to list; None lists all.
            segments: whether to add the verdict over time.
        """
        result: dict[str, Any] = {
            "path": self.path,
            "genre": self.genre,
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "top": [
                {"genre": e.genre, "probability": round(e.probability, 4)} for e in self.top[:top]
            ],
            "duration_s": None if self.duration_s is None else round(self.duration_s, 3),
            "error": self.error,
            "code": self.code,
            "warning": self.warning,
        }
        if segments:
            result["segments"] = [segment.to_dict() for segment in self.segments]
        return result
