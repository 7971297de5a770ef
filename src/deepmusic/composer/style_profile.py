"""What is usual in a style: parts, metres, tempo, ranges; measured on its training pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepmusic.music import TimeSignature

RANGE_MARGIN = 3
"""Semitones that a part may go beyond the usual range of its style."""


@dataclass(frozen=True)
class StyleProfile:
    """Statistics of the training pieces of a style.

    Args:
        parts: name and General MIDI program of each.
        metres: ``(numerator, denominator, share of the pieces)``, the commonest first.
        minor_share: share of pieces in a minor key.
        tempo: in beats per minute, the median of pieces that give one, else 120.
        bars: the median number of bars.
        ranges: lowest and highest pitch of each part in C major or A minor, without the rarest
            hundredth of notes at either end.
        pieces: number of pieces.
    """

    parts: tuple[tuple[str, int], ...]
    metres: tuple[tuple[int, int, float], ...]
    minor_share: float
    tempo: float
    bars: int
    ranges: tuple[tuple[int, int], ...]
    pieces: int

    @property
    def signatures(self) -> tuple[TimeSignature, ...]:
        """The time signatures of the style, the commonest first."""
        return tuple(TimeSignature(0, over, under) for over, under, _ in self.metres)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StyleProfile:
        """Read what ``dataclasses.asdict`` made of a profile, through JSON or not."""
        return cls(
            parts=tuple((str(name), int(program)) for name, program in values["parts"]),
            metres=tuple((int(a), int(b), float(share)) for a, b, share in values["metres"]),
            minor_share=float(values["minor_share"]),
            tempo=float(values["tempo"]),
            bars=int(values["bars"]),
            ranges=tuple((int(low), int(high)) for low, high in values["ranges"]),
            pieces=int(values["pieces"]),
        )
