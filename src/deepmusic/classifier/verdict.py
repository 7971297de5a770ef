"""From scores to the verdict on a track: calibrated probabilities, and the record in JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.bandwidth import nothing_above
from deepmusic.extras import explained

if TYPE_CHECKING:
    import pandas as pd

_VERSION = 2  # of how sound becomes a verdict, beside the model: mixing, silence


@dataclass(frozen=True)
class Calibration:
    """How scores become a verdict.

    Args:
        inverse_temperature: factor of log scores before the softmax (Guo et al., On calibration of
            modern neural networks, 2017).
        threshold: below this probability of its most probable genre a track is *unsure*.
        tracks: number of tracks on which both were fitted.
    """

    inverse_temperature: float = 1.0
    threshold: float = 0.0
    tracks: int = 0

    def probabilities(self, log_scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities ``(..., genres)`` of log scores of the same shape."""
        scaled = np.asarray(log_scores, np.float64) * self.inverse_temperature
        scaled -= scaled.max(axis=-1, keepdims=True)
        shares = np.exp(scaled)
        result: NDArray[np.float64] = shares / shares.sum(axis=-1, keepdims=True)
        return result

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class GenreProbability:
    """One genre and its calibrated probability in [0, 1]."""

    genre: str
    probability: float
    score: float | None = None  # in [0, 1], of this genre by itself: several can be present


@dataclass(frozen=True)
class SegmentVerdict:
    """The genres of one segment of a track.

    Args:
        start_s, end_s: where the segment lies in the track, in seconds.
        probabilities: one calibrated probability per genre, in the order of the model's genres.
        lengths: length of each genre capsule in [0, 1); they need not sum to 1.
    """

    start_s: float
    end_s: float
    probabilities: tuple[GenreProbability, ...]
    lengths: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The segment as JSON types."""
        best = max(self.probabilities, key=lambda entry: entry.probability)
        genres = [entry.genre for entry in self.probabilities]
        lengths = zip(genres, self.lengths, strict=True)
        return {
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "genre": best.genre,
            "probabilities": {e.genre: round(e.probability, 4) for e in self.probabilities},
            "lengths": {genre: round(length, 4) for genre, length in lengths},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, up to rounding."""
        return cls(
            values["start_s"],
            values["end_s"],
            tuple(GenreProbability(*entry) for entry in values["probabilities"].items()),
            tuple(values["lengths"].values()),
        )


@dataclass(frozen=True)
class Verdict:
    """The genre of one track, or the reason why there is none.

    Args:
        path: the track, as the caller named it.
        genre: the genre; None if the model is unsure or the file failed.
        confidence: calibrated probability of the first genre in ``top``; None on failure.
        top: all genres, most probable first; empty on failure.
        duration_s: seconds of sound that were analysed; None on failure.
        segments: the genres over time, in order.
        error: one sentence on why the file failed; None if it did not.
        code: short reason behind ``error`` (see `deepmusic.AudioError`).
        warning: what was lost or doubtful, such as damaged sound.
        tags: probability of each tag of the pretrained ear; empty without it.
        silences: start and end in seconds of stretches of silence, which have no segments.
        bandwidth_hz: nothing of the sound lies above; None where it was not measured.
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
    tags: Mapping[str, float] = field(default_factory=dict)
    silences: tuple[tuple[float, float], ...] = ()
    bandwidth_hz: int | None = None

    @property
    def is_unsure(self) -> bool:
        """Whether the track was analysed and no genre reached the threshold."""
        return self.error is None and self.genre is None

    def genres(self, most: int = 1, threshold: float = 0.0) -> tuple[str, ...]:
        """The genre and those after it of at least this probability; none when unsure or failed."""
        if self.genre is None:
            return ()
        others = (e.genre for e in self.top[1:most] if e.probability >= threshold)
        return (self.genre, *others)

    @classmethod
    def from_probabilities(
        cls,
        path: str,
        genres: Sequence[str],
        probabilities: Sequence[float],
        *,
        threshold: float,
        duration_s: float | None,
        scores: Sequence[float] | None = None,
        segments: tuple[SegmentVerdict, ...] = (),
        warning: str | None = None,
        tags: Mapping[str, float] | None = None,
        silences: tuple[tuple[float, float], ...] = (),
    ) -> Self:
        """The verdict on a track with one probability per genre, *unsure* below the threshold."""
        each = scores if scores is not None else [None] * len(genres)
        entries = map(GenreProbability, genres, map(float, probabilities), each)
        top = tuple(sorted(entries, key=lambda entry: -entry.probability))
        confidence = top[0].probability
        genre = top[0].genre if confidence >= threshold else None
        return cls(
            path,
            genre,
            confidence,
            top,
            duration_s,
            segments,
            warning=warning,
            tags=tags or {},
            silences=silences,
        )

    def with_bandwidth(self, bandwidth_hz: int | None, *, reliable_hz: int) -> Self:
        """The verdict on sound of a bandwidth: *unsure*, with a warning, below ``reliable_hz``."""
        if bandwidth_hz is None or bandwidth_hz >= reliable_hz:
            return replace(self, bandwidth_hz=bandwidth_hz)
        note = f"It has {nothing_above(bandwidth_hz)}, so the genre is unsure."
        warning = " ".join(filter(None, [self.warning, note]))
        return replace(self, genre=None, bandwidth_hz=bandwidth_hz, warning=warning)

    def to_dict(
        self, *, top: int | None = None, segments: bool = False, tags: bool = False
    ) -> dict[str, Any]:
        """The verdict as JSON types.

        Args:
            top: how many genres to list; None lists all.
            segments: whether to include the genres over time, and the silences.
            tags: whether to include the tags.
        """
        result: dict[str, Any] = {
            "path": self.path,
            "genre": self.genre,
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "top": [
                {"genre": e.genre, "probability": round(e.probability, 4)}
                | ({} if e.score is None else {"score": round(e.score, 4)})
                for e in self.top[:top]
            ],
            "duration_s": None if self.duration_s is None else round(self.duration_s, 3),
            "bandwidth_hz": self.bandwidth_hz,
            "error": self.error,
            "code": self.code,
            "warning": self.warning,
        }
        if segments:
            result["segments"] = [segment.to_dict() for segment in self.segments]
            result["silences"] = [[round(time, 3) for time in span] for span in self.silences]
        if tags:
            result["tags"] = {tag: round(value, 4) for tag, value in self.tags.items()}
        return result

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, up to rounding."""
        segments = values.get("segments", ())
        return cls(
            **{
                **values,
                "top": tuple(GenreProbability(**entry) for entry in values["top"]),
                "segments": tuple(map(SegmentVerdict.from_dict, segments)),
                "silences": tuple((start, end) for start, end in values.get("silences", ())),
            }
        )


def reliable_bandwidth(limit_hz: int, facts: Mapping[str, Any]) -> int:
    """The bandwidth in Hz below which a model is *unsure*; facts on its training may lower it."""
    return min(limit_hz, facts.get("reliable_hz") or limit_hz)


def verdict_frame(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """Verdicts as a table: a row for each, with its path as index.

    Columns are ``genre`` (missing when unsure or failed), ``confidence``, ``duration_s``,
    ``bandwidth_hz``, ``error``, ``code`` and ``warning``, then the probability of each genre, such
    as ``probability/rock``, and of each tag, such as ``tag/sad``, where there are tags.

    Raises:
        MissingLibraryError: pandas is not installed.
    """
    with explained("data"):
        import pandas as pd
    columns = (
        *("path", "genre", "confidence", "duration_s"),
        *("bandwidth_hz", "error", "code", "warning"),
    )
    rows = [
        {name: getattr(verdict, name) for name in columns}
        | {f"probability/{entry.genre}": entry.probability for entry in verdict.top}
        | {f"tag/{tag}": probability for tag, probability in verdict.tags.items()}
        for verdict in verdicts
    ]
    return (pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)).set_index("path")


def model_digest(settings: object, weights: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of all that determines a verdict: settings as text, arrays by name."""
    digest = hashlib.sha256(repr((_VERSION, settings)).encode())
    for name, array in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
