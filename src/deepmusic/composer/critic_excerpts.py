"""Excerpts that the style critic classifies, and ways to spoil them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music import Grid

BEAT = 12
"""Steps per beat, whatever the grid has: thirds and quarters of a beat are both whole."""

EXCERPT = 32 * BEAT
"""Length of an excerpt."""

_MAX_EXCERPTS = 64  # of one piece, whatever its length


class Notes(NamedTuple):
    """The notes of a piece without drums: columns ``(n,)`` int64, in twelfths of a beat."""

    onset: NDArray[np.int64]
    end: NDArray[np.int64]
    pitch: NDArray[np.int64]


def notes_of(grid: Grid) -> Notes:
    """The notes of a grid."""
    is_drum = np.array([part.is_drum for part in grid.parts], bool)[grid.part]
    onset, duration = grid.onset[~is_drum], grid.duration[~is_drum]
    start, end = (
        (2 * BEAT * step + grid.steps_per_beat) // (2 * grid.steps_per_beat)
        for step in (onset, onset + duration)
    )
    return Notes(start, np.maximum(end, start + 1), grid.pitch[~is_drum].astype(np.int64))


def extent(notes: Notes) -> tuple[int, int]:
    """Where the music begins and ends, without rests, in whole beats."""
    first = int(notes.onset.min()) // BEAT * BEAT
    last = -(-int(notes.end.max()) // BEAT) * BEAT
    return first, last


def covering_starts(notes: Notes) -> NDArray[np.int64]:
    """Starts ``(k,)`` of excerpts that cover the piece; of a long one, some of them.

    Each excerpt has an onset. The last is moved back, so that it is as long as the others.
    """
    if not len(notes.onset):
        return np.zeros(0, np.int64)
    first, last = extent(notes)
    starts = first + np.unique((notes.onset - first) // EXCERPT) * EXCERPT
    starts = np.unique(np.minimum(starts, max(first, last - EXCERPT)))
    if len(starts) > _MAX_EXCERPTS:
        chosen = np.linspace(0, len(starts) - 1, _MAX_EXCERPTS).round().astype(np.int64)
        starts = starts[chosen]
    return starts


def cut(notes: Notes, start: int, length: int) -> Notes:
    """What sounds in a span, cut at its ends, with times from its start."""
    inside = (notes.onset < start + length) & (notes.end > start)
    return Notes(
        np.maximum(notes.onset[inside] - start, 0),
        np.minimum(notes.end[inside] - start, length),
        notes.pitch[inside],
    )


def _random_flags(count: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    return rng.random(count) < share


def _off_pitch(notes: Notes, rng: np.random.Generator) -> Notes:
    """Move some pitches by up to three semitones."""
    off = _random_flags(len(notes.pitch), rng.uniform(0.15, 1), rng)
    by = rng.integers(1, 4, len(off)) * rng.choice([-1, 1], len(off))
    return notes._replace(pitch=notes.pitch + off * by)


def _off_time(notes: Notes, rng: np.random.Generator) -> Notes:
    """Move some notes by the shortest duration of the excerpt."""
    unit = int(np.gcd.reduce(np.concatenate([notes.onset, notes.end])))
    off = _random_flags(len(notes.pitch), rng.uniform(0.2, 1), rng)
    by = off * rng.integers(1, 3, len(off)) * rng.choice([-1, 1], len(off)) * min(unit, BEAT)
    by = np.maximum(by, -notes.onset)
    return notes._replace(onset=notes.onset + by, end=notes.end + by)


def _shuffled_pitches(notes: Notes, rng: np.random.Generator) -> Notes:
    """Shuffle the pitches, in the same rhythm."""
    return notes._replace(pitch=rng.permutation(notes.pitch))


def _shuffled_beats(notes: Notes, rng: np.random.Generator) -> Notes:
    """Shuffle spans of one or two beats."""
    length = int(rng.integers(1, 3)) * BEAT
    spans = -(-int(notes.end.max()) // length)
    return _joined(notes, rng.permutation(spans) * length, length)


def _looped(notes: Notes, rng: np.random.Generator) -> Notes:
    """Repeat a span of one, two or four beats throughout."""
    length = int(rng.choice([1, 2, 4])) * BEAT
    spans = -(-int(notes.end.max()) // length)
    at = int(rng.choice(notes.onset)) // length * length
    return _joined(notes, np.full(spans, at), length)


def _slowed(notes: Notes, rng: np.random.Generator) -> Notes:
    """Slow the notes down three to six times."""
    times, length = int(rng.integers(3, 7)), int(notes.end.max())
    begun = int(notes.onset.min()) * (times - 1)  # the first note stays where it is
    return cut(
        Notes(notes.onset * times - begun, notes.end * times - begun, notes.pitch), 0, length
    )


def _separated(notes: Notes, rng: np.random.Generator) -> Notes:
    """Separate high and low notes: into another key, or by some beats."""
    high = notes.pitch > np.median(notes.pitch)
    if rng.random() < 0.5:
        by = int(rng.choice([-6, -4, -3, -1, 1, 2, 3, 6]))
        return notes._replace(pitch=notes.pitch + high * by)
    late = high * int(rng.integers(1, 8)) * BEAT
    length = int(notes.end.max())
    return cut(Notes(notes.onset + late, notes.end + late, notes.pitch), 0, length)


def _thinned(notes: Notes, rng: np.random.Generator) -> Notes:
    """Leave some notes out; at least one remains."""
    kept = ~_random_flags(len(notes.pitch), rng.uniform(0.3, 0.7), rng)
    kept[rng.integers(len(kept))] = True
    return Notes(*(column[kept] for column in notes))


def _cluttered(notes: Notes, rng: np.random.Generator) -> Notes:
    """Double some notes at other pitches of the excerpt, or an octave from those."""
    twice = np.flatnonzero(_random_flags(len(notes.pitch), rng.uniform(0.2, 0.7), rng))
    more = rng.choice(notes.pitch, len(twice)) + 12 * rng.integers(-1, 2, len(twice))
    return Notes(
        np.append(notes.onset, notes.onset[twice]),
        np.append(notes.end, notes.end[twice]),
        np.append(notes.pitch, more),
    )


def _joined(notes: Notes, starts: NDArray[np.int64], length: int) -> Notes:
    """Consecutive spans of a piece."""
    spans = [cut(notes, int(start), length) for start in starts]
    late = np.repeat(np.arange(len(spans)) * length, [len(span.onset) for span in spans])
    onset, end, pitch = (np.concatenate(columns) for columns in zip(*spans, strict=True))
    return Notes(onset + late, end + late, pitch)


SPOILERS = (
    _off_pitch,
    _off_time,
    _shuffled_pitches,
    _shuffled_beats,
    _looped,
    _slowed,
    _separated,
    _thinned,
    _cluttered,
)
"""Ways to spoil an excerpt."""
