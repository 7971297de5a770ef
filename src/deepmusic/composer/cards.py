"""What is known of a style besides the weights of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepmusic.composer.encoding import StyledPiece
from deepmusic.datasets import Piece
from deepmusic.music import bars_of


@dataclass(frozen=True)
class StyleCard:
    """What is known of a style besides the network's weights.

    Args:
        parts: name and General MIDI program of each.
        metres: ``(numerator, denominator, share of the pieces)``, the commonest first.
        minor: share of pieces in a minor key.
        tempo: beats a minute, the median of pieces that say one, else 120.
        bars: the median number of bars.
        range: lowest and highest pitch of each part, in C major or A minor, among all but the
            rarest hundredth of notes at either end.
        pieces: trained on.
    """

    parts: tuple[tuple[str, int], ...]
    metres: tuple[tuple[int, int, float], ...]
    minor: float
    tempo: float
    bars: int
    range: tuple[tuple[int, int], ...]
    pieces: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StyleCard:
        """Read what ``dataclasses.asdict`` made of a card, through JSON or not."""
        return cls(
            parts=tuple((str(name), int(program)) for name, program in values["parts"]),
            metres=tuple((int(a), int(b), float(share)) for a, b, share in values["metres"]),
            minor=float(values["minor"]),
            tempo=float(values["tempo"]),
            bars=int(values["bars"]),
            range=tuple((int(low), int(high)) for low, high in values["range"]),
            pieces=int(values["pieces"]),
        )


def style_card(pieces: Sequence[StyledPiece], style: int, raw: Sequence[Piece]) -> StyleCard:
    """Describe a style by its training pieces."""
    mine = [piece for piece, of in pieces if of == style]
    config = pieces[0].piece.config
    name = config.styles[style]
    parts = Counter(
        tuple((part.name, part.program) for part in piece.grid.parts[: config.parts])
        for piece in mine
    )
    metres = Counter(
        (piece.grid.time_signatures[0].numerator, piece.grid.time_signatures[0].denominator)
        for piece in mine
    )
    # the tempo that MIDI takes where a file says none is no evidence
    tempos = [t.beats_per_minute for p in raw if p.style == name for t in p.grid.tempos[:1]]
    ranges = []
    for part in range(config.parts):
        rows = [p.element[p.element // config.keys == part] % config.keys for p in mine]
        pitch = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        ends = np.percentile(pitch, [1, 99]) if len(pitch) else np.array([0, config.keys - 1])
        ranges.append((int(ends[0]) + config.lowest, int(ends[1]) + config.lowest))
    return StyleCard(
        parts=parts.most_common(1)[0][0] if parts else (),
        metres=tuple((a, b, n / len(mine)) for (a, b), n in metres.most_common(8)),
        minor=float(np.mean([piece.is_minor for piece in mine])) if mine else 0.0,
        tempo=round(float(np.median(tempos)), 1) if tempos else 120.0,
        bars=int(np.median([len(bars_of(piece.grid).start) for piece in mine])) if mine else 32,
        range=tuple(ranges),
        pieces=len(mine),
    )
