"""Passages that pieces share in any transposition, and an exact search for them.

Two passages are the same when, step by step, the same pitches sound after all pitches of one are
moved by one interval. Parts make no difference, nor whether a note is an onset or sustained; drums
are ignored. A passage begins and ends with a sounding step and holds at least two chords: silence,
or one long chord, is in all music. It holds no pause, a silence of more than four beats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music import Grid

MIN_CHORDS = 2
_MAX_REST = 4  # beats: a bar, in most music


class Overlap(NamedTuple):
    """How much a piece shares with other music, in figures that may be of different passages.

    Args:
        steps: length of the longest shared passage, 0 where there is none.
        chords: chords in the shared passage that holds most of them.
        at: step of the piece at which the longest begins, 0 where there is none.
    """

    steps: int
    chords: int
    at: int


class ChordSteps(NamedTuple):
    """What sounds in each step, relative to the bass.

    Args:
        low: ``(n,)`` uint64, bit i is set where a pitch sounds i semitones above the bass.
        high: ``(n,)`` uint64, the same from 64 semitones on; both are 0 in silence.
        bass: ``(n,)`` int64, the lowest pitch; during silence the one before it.
        is_pause: ``(n,)`` bool, in a silence too long for a passage.
    """

    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    bass: NDArray[np.int64]
    is_pause: NDArray[np.bool_]

    @property
    def sounds(self) -> NDArray[np.bool_]:
        """``(n,)``, whether a pitch sounds; the bass always sets bit 0."""
        sounds: NDArray[np.bool_] = self.low != 0
        return sounds

    @property
    def is_change(self) -> NDArray[np.bool_]:
        """``(n,)``, whether a chord, or silence, begins in this step; true for the first."""
        change = np.ones(len(self.low), bool)
        columns = (self.low, self.high, self.bass)
        change[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        return change

    def excerpts(self, length: int | None) -> list[ChordSteps]:
        """Consecutive excerpts of this length; the whole where it is None."""
        count = len(self.low)
        if length is None:
            return [self] if count else []
        spans = (slice(first, first + length) for first in range(0, count - length + 1, length))
        return [
            ChordSteps(self.low[s], self.high[s], self.bass[s], self.is_pause[s]) for s in spans
        ]


def chord_steps(grid: Grid) -> ChordSteps:
    """The steps of a piece, without drums."""
    is_drum = np.array([part.is_drum for part in grid.parts], bool)
    frames = grid.frames()
    is_pitched = ~is_drum[frames.part]
    step = np.repeat(np.arange(grid.steps), np.diff(frames.offsets))[is_pitched]
    pitch = frames.pitch[is_pitched].astype(np.int64)
    first = np.flatnonzero(np.diff(step, prepend=-1))  # rows of a step ascend: its bass
    sounding = step[first]
    bass = np.zeros(grid.steps, np.int64)
    bass[sounding] = pitch[first]
    interval = pitch - bass[step]
    bit = np.uint64(1) << (interval % 64).astype(np.uint64)
    words = np.zeros((2, grid.steps), np.uint64)
    if len(first):
        for word, is_inside in zip(words, (interval < 64, interval >= 64), strict=True):
            word[sounding] = np.bitwise_or.reduceat(np.where(is_inside, bit, np.uint64(0)), first)
        previous = np.searchsorted(sounding, np.arange(grid.steps), side="right") - 1
        bass = bass[sounding[np.maximum(previous, 0)]]
    is_silent = words[0] == 0
    edges = np.diff(is_silent.astype(np.int8), prepend=0, append=0)
    start, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    is_pause = np.zeros(grid.steps, bool)
    for begin, end in zip(start, stop, strict=True):
        is_pause[begin:end] = end - begin > _MAX_REST * grid.steps_per_beat
    return ChordSteps(words[0], words[1], bass, is_pause)


def common_steps_per_beat(grids: Iterable[Grid], other: int | None = None) -> int:
    """The steps per beat of all grids, 0 where there is none.

    Raises:
        ValueError: they differ.
    """
    values = {grid.steps_per_beat for grid in grids} | ({other} if other else set())
    if len(values) > 1:
        raise ValueError(f"pieces are compared on one grid; got {sorted(values)} steps per beat")
    return values.pop() if values else 0


@dataclass(frozen=True)
class SharedRun:
    """A passage that two pieces share.

    Args:
        steps: its length.
        chords: number of chords, without silence.
        at: step of the piece at which it begins.
        other: index of the other piece.
        at_other: step of the other piece at which it begins.
        semitones: how much higher it is in the piece than in the other.
    """

    steps: int
    chords: int
    at: int
    other: int
    at_other: int
    semitones: int


class _Chords(NamedTuple):
    """Steps as chords with durations: columns ``(m,)``, one row per chord or silence.

    Args:
        start: its first step, from the beginning of its piece.
        length: in steps.
        sounds: whether it is a chord.
        is_pause: whether it is a silence too long for a passage.
        key: ``(m, 5)`` int64, equal for rows with equal chords, equal previous chords, and equal
            motion of the bass between them.
        bass: lowest pitch.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    sounds: NDArray[np.bool_]
    is_pause: NDArray[np.bool_]
    key: NDArray[np.int64]
    bass: NDArray[np.int64]


def _chords(steps: ChordSteps) -> _Chords:
    start = np.flatnonzero(steps.is_change)
    low, high = steps.low[start].astype(np.int64), steps.high[start].astype(np.int64)
    bass = steps.bass[start]
    previous = np.maximum(np.arange(len(start)) - 1, 0)
    key = np.stack([low[previous], high[previous], low, high, bass - bass[previous]], axis=1)
    length = np.diff(start, append=len(steps.low))
    return _Chords(start, length, low != 0, steps.is_pause[start], key, bass)


class ReferenceCorpus:
    """Music that may have been copied from, indexed for exact search.

    Args:
        grids: the pieces, all with the same steps per beat.

    Raises:
        ValueError: grids differ in steps per beat.

    Example:
        >>> tune = Grid(4, 12, onset=[0, 4, 8], duration=[4, 4, 4], pitch=[60, 62, 64])
        >>> other = Grid(4, 12, onset=[0, 4, 8], duration=[4, 4, 4], pitch=[57, 70, 72])
        >>> ReferenceCorpus([other]).longest(tune)
        SharedRun(steps=8, chords=2, at=0, other=0, at_other=4, semitones=-10)
    """

    is_exact = True

    def __init__(self, grids: Sequence[Grid]) -> None:
        self.steps_per_beat = common_steps_per_beat(grids)
        empty = Grid(1, 0, *np.zeros((3, 0), np.int64))  # so that there is always a piece
        pieces = [_chords(chord_steps(grid)) for grid in (*grids, empty)]
        self._piece = np.repeat(np.arange(len(pieces)), [len(piece.start) for piece in pieces])
        self._all = _Chords(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))
        self._rows = _rows_by_key(self._all.key, self._all.start > 0)

    def longest(self, piece: Grid) -> SharedRun | None:
        """The longest passage of a piece that is in the corpus; None where there is none.

        Of equally long ones it has the most chords.

        Raises:
            ValueError: the piece has other steps per beat.
        """
        common_steps_per_beat([piece], self.steps_per_beat)
        return self._runs(chord_steps(piece))[0]

    def overlap(self, piece: Grid) -> Overlap:
        """The length of the longest shared passage, and the most chords; as ``longest``."""
        common_steps_per_beat([piece], self.steps_per_beat)
        return self.overlap_of(chord_steps(piece))

    def overlap_of(self, steps: ChordSteps) -> Overlap:
        """As ``overlap``, of steps."""
        longest, richest = self._runs(steps)
        if longest is None or richest is None:
            return Overlap(0, 0, 0)
        return Overlap(longest.steps, richest.chords, longest.at)

    def _runs(self, steps: ChordSteps) -> tuple[SharedRun | None, SharedRun | None]:
        """The longest run and the one with most chords."""
        chords_of_piece = _chords(steps)
        longest = richest = (0, 0)
        runs: list[SharedRun | None] = [None, None]
        for i, rows, so_far, chords in self._followed(chords_of_piece):
            total = so_far + np.minimum(chords_of_piece.length[i], self._all.length[rows])
            k = np.lexsort((chords, total))[-1]
            if (total[k], chords[k]) > longest:
                longest = (total[k], chords[k])
                runs[0] = self._run(chords_of_piece, i, rows[k], so_far[k], chords[k])
            k = np.lexsort((total, chords))[-1]
            if (chords[k], total[k]) > richest:
                richest = (chords[k], total[k])
                runs[1] = self._run(chords_of_piece, i, rows[k], so_far[k], chords[k])
        return runs[0], runs[1]

    def _followed(
        self, piece: _Chords
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """Follow all runs through the chords of a piece.

        Wherever the corpus has the same chord after the same, the run that reached the chord
        before continues if that was equally long; otherwise a run begins within it.

        Yields:
            For each chord of the piece at which runs may end: its index, the rows of the corpus
            that end them, the steps of each up to the chord, and the chords of each.
        """
        corpus = self._all
        run_steps = np.zeros(len(corpus.start), np.int64)  # up to a chord; 0 where there is no run
        run_chords = np.zeros_like(run_steps)
        last = np.zeros(0, np.int64)
        for i, key in enumerate(map(tuple, piece.key.tolist())):
            rows = self._rows.get(key, last[:0]) if i else last
            length, lengths = piece.length[i - 1], corpus.length[rows - 1]
            continues = (run_steps[rows - 1] > 0) & (lengths == length)
            # silence begins no run, and a pause ends all
            begun = np.minimum(length, lengths) * piece.sounds[i - 1]
            so_far = np.where(continues, run_steps[rows - 1] + length, begun) * ~piece.is_pause[i]
            # where a run begins the chord before counts as well
            chords = np.where(continues, run_chords[rows - 1], 1) + piece.sounds[i]
            run_steps[last] = 0
            run_steps[rows], run_chords[rows] = so_far, chords
            last = rows
            is_run = so_far > 0
            if piece.sounds[i] and is_run.any():
                yield i, rows[is_run], so_far[is_run], chords[is_run]

    def _run(
        self, piece: _Chords, i: int, row: np.int64, so_far: np.int64, chords: np.int64
    ) -> SharedRun:
        """The run that ends with chord ``i`` of the piece and this row of the corpus."""
        return SharedRun(
            int(so_far + min(piece.length[i], self._all.length[row])),
            int(chords),
            at=int(piece.start[i] - so_far),
            other=int(self._piece[row]),
            at_other=int(self._all.start[row] - so_far),
            semitones=int(piece.bass[i] - self._all.bass[row]),
        )


def _rows_by_key(
    keys: NDArray[np.int64], is_wanted: NDArray[np.bool_]
) -> dict[tuple[int, ...], NDArray[np.int64]]:
    """The wanted rows that have each key."""
    rows = np.flatnonzero(is_wanted)
    rows = rows[np.lexsort(keys[rows].T)]
    ordered = keys[rows]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    first = np.flatnonzero(is_new)
    groups = np.split(rows, first[1:])
    return dict(zip(map(tuple, ordered[first].tolist()), groups, strict=True)) if len(rows) else {}
