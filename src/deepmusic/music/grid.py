"""The grid: equal time steps, in each the set of sounding notes, as onsets or sustained.

A grid stores its notes as columns, one row per note, so that an hour of rest costs nothing; the
sets per step, which a model reads, are ``Grid.frames``. Both forms hold the same, and either
can be made from the other. A grid becomes a score without loss; the other way, see
``deepmusic.music.quantisation``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmusic.errors import ScoreError, ShapeError
from deepmusic.music.score import (
    LAST_TICK,
    Change,
    KeySignature,
    NoteArrays,
    Part,
    Score,
    Tempo,
    TimeSignature,
    in_effect,
)

MAX_CELLS = 2**27
"""The most elements of an array made of a grid: a file may claim a rest of years."""

_FINE_TICKS = 480  # the usual resolution of a MIDI file; a score from a grid has at least this


class Frames(NamedTuple):
    """The sets of sounding notes; step ``t`` has rows ``offsets[t]`` to ``offsets[t + 1]``.

    Within a step rows ascend by pitch, then part, without duplicates.
    """

    # (steps + 1,) first row of each step; the last is the number of rows
    offsets: NDArray[np.int64]
    pitch: NDArray[np.uint8]  # (rows,) MIDI pitch
    part: NDArray[np.int16]  # (rows,) index of the part
    is_onset: NDArray[np.bool_]  # (rows,) whether the note begins in this step


class Bars(NamedTuple):
    """The bars of a grid, as columns ``(bars,)``."""

    start: NDArray[np.int64]  # the first step of each; the first is 0
    length: NDArray[np.int64]  # in steps; the last may reach beyond the grid
    is_compound: NDArray[np.bool_]  # whether eighths are grouped in threes, as in 6/8


@dataclass(frozen=True, eq=False)
class Grid:
    """Music on a grid.

    Within a part a pitch sounds at most once at a time. Notes may be given in any order and are
    sorted by onset, pitch and part.

    Args:
        steps_per_beat: steps per quarter note, 1 to 32,767; with 4 a step is a sixteenth.
        steps: length in steps, including rests at the end.
        onset: ``(n,)`` int64, first step of each note.
        duration: ``(n,)`` int64, in steps, at least 1.
        pitch: ``(n,)`` uint8, MIDI pitches.
        part: ``(n,)`` int16, indices into ``parts``; or one number for all notes.
        velocity: ``(n,)`` uint8, 1 to 127; or one number for all notes.
        parts: the instruments.
        tempos, time_signatures, key_signatures: as in a ``Score``, with times in steps.

    Raises:
        ShapeError: the columns differ in length or are not columns of integers.
        ValueError: a number is out of range, or a pitch sounds twice at a time within a part.

    Example:
        >>> grid = Grid(4, 16, onset=[0, 4], duration=[4, 12], pitch=[60, 64])
        >>> grid.roll(lowest=60, pitches=5).sum(axis=0)
        array([ 4,  0,  0,  0, 12])
    """

    steps_per_beat: int
    steps: int
    onset: NDArray[np.int64]
    duration: NDArray[np.int64]
    pitch: NDArray[np.uint8]
    part: NDArray[np.int16] = 0  # type: ignore[assignment]
    velocity: NDArray[np.uint8] = 80  # type: ignore[assignment]
    parts: tuple[Part, ...] = (Part(),)
    tempos: tuple[Tempo, ...] = ()
    time_signatures: tuple[TimeSignature, ...] = ()
    key_signatures: tuple[KeySignature, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.steps_per_beat <= 32767:
            raise ValueError(f"steps_per_beat is 1 to 32767; got {self.steps_per_beat}")
        if not 0 <= self.steps <= LAST_TICK:
            raise ValueError(f"steps is 0 to {LAST_TICK}; got {self.steps}")
        columns: dict[str, NDArray[Any]] = {
            "onset": self._column("onset", 0, self.steps).astype(np.int64),
            "duration": self._column("duration", 1, self.steps).astype(np.int64),
            "pitch": self._column("pitch", 0, 127).astype(np.uint8),
            "part": self._column("part", 0, len(self.parts) - 1).astype(np.int16),
            "velocity": self._column("velocity", 1, 127).astype(np.uint8),
        }
        order = np.lexsort((columns["part"], columns["pitch"], columns["onset"]))
        for name, column in columns.items():
            ordered = column[order]
            ordered.setflags(write=False)
            object.__setattr__(self, name, ordered)
        ends = self.onset + self.duration
        if ends.max(initial=0) > self.steps:
            raise ValueError(f"a note ends at step {ends.max()}, after the {self.steps} steps")
        earlier, later = same_pitch_pairs(self.onset, self.pitch, self.part)
        if np.any(ends[earlier] > self.onset[later]):
            raise ValueError("a pitch sounds twice at a time within a part")
        signatures = in_effect(self.time_signatures, TimeSignature(0, 4, 4))
        object.__setattr__(self, "parts", tuple(self.parts))
        object.__setattr__(self, "tempos", in_effect(self.tempos, Tempo(0, 500_000)))
        object.__setattr__(self, "time_signatures", signatures)
        object.__setattr__(self, "key_signatures", in_effect(self.key_signatures))

    def _column(self, name: str, low: int, high: int) -> NDArray[np.integer]:
        count = np.size(self.onset)
        column = np.asarray(getattr(self, name))
        if column.ndim == 0 and name in ("part", "velocity"):
            column = np.full(count, column)
        if column.shape != (count,) or (count and column.dtype.kind not in "iu"):
            raise ShapeError(
                f"{name} is a column of {count} integers; got {column.dtype} {column.shape}"
            )
        if count and not (low <= column.min() and column.max() <= high):
            raise ValueError(f"{name} is {low} to {high}; got {column.min()} to {column.max()}")
        return column

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
        )

    @property
    def is_drum(self) -> NDArray[np.bool_]:
        """Which notes are of drums, ``(n,)``."""
        return np.array([part.is_drum for part in self.parts], bool)[self.part]

    def bars(self) -> Bars:
        """The bars that cover the grid, by its time signatures; a change begins a new bar.

        Bars that are not whole steps are rounded, to at least one step.
        """
        end = max(self.steps, 1)
        rows: list[tuple[int, int, bool]] = []
        stops = [*(signature.time for signature in self.time_signatures[1:]), end]
        for signature, stop in zip(self.time_signatures, stops, strict=True):
            bar = signature.bar_steps(self.steps_per_beat)
            starts = range(signature.time, min(stop, end), bar)
            rows += [(start, bar, signature.is_compound) for start in starts]
        start, length, is_compound = np.array(rows, np.int64).T
        next_start = np.append(start[1:], start[-1] + length[-1])
        return Bars(start, np.minimum(length, next_start - start), is_compound.astype(bool))

    def frames(self) -> Frames:
        """The set of sounding notes of each step.

        Raises:
            ScoreError: ``too_long``: there would be more than 2²⁷ rows or steps.
        """
        note, age = self._sounding(cells=self.steps)
        step = self.onset[note] + age
        order = np.lexsort((self.part[note], self.pitch[note], step))
        note = note[order]
        offsets = np.zeros(self.steps + 1, np.int64)
        np.cumsum(np.bincount(step, minlength=self.steps), out=offsets[1:])
        return Frames(offsets, self.pitch[note], self.part[note], age[order] == 0)

    def _sounding(self, *, cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each note and each step in which it sounds, its index and the steps since onset.

        This and an array of ``cells`` elements must each fit into ``MAX_CELLS``.
        """
        cells = max(cells, int(self.duration.sum()))
        if cells > MAX_CELLS:
            raise ScoreError(
                f"The grid would take {cells:,} cells; the limit is {MAX_CELLS:,}: cut the music, "
                "or use fewer steps per beat.",
                code="too_long",
            )
        note = np.repeat(np.arange(len(self.onset)), self.duration)
        first_row = np.cumsum(self.duration) - self.duration
        return note, np.arange(len(note)) - first_row[note]

    @classmethod
    def from_frames(
        cls,
        frames: Frames,
        *,
        steps_per_beat: int,
        parts: tuple[Part, ...] = (Part(),),
        time_signatures: tuple[TimeSignature, ...] = (),
    ) -> Grid:
        """The grid whose steps hold these sets; rows of a step may be in any order.

        Raises:
            ShapeError: the columns do not fit one another.
            ValueError: a set holds a note twice, or a sustained note did not sound before.
        """
        offsets = np.asarray(frames.offsets, np.int64)
        rows = len(frames.pitch)
        lengths = np.diff(offsets, prepend=0, append=rows)
        is_complete = rows == len(frames.part) == len(frames.is_onset)
        if not (is_complete and len(offsets) and lengths[0] == lengths[-1] == 0 <= lengths.min()):
            raise ShapeError(
                "offsets rise from 0 to the number of rows, which all columns have; got offsets "
                f"{offsets.shape}, pitch {np.shape(frames.pitch)}, part {np.shape(frames.part)}, "
                f"is_onset {np.shape(frames.is_onset)}"
            )
        step = np.repeat(np.arange(len(offsets) - 1), lengths[1:-1])
        order = np.lexsort((step, frames.pitch, frames.part))
        step = step[order]
        pitch, part = np.asarray(frames.pitch)[order], np.asarray(frames.part)[order]
        is_onset = np.asarray(frames.is_onset, bool)[order]
        is_same = (pitch[1:] == pitch[:-1]) & (part[1:] == part[:-1])
        gap = np.diff(step)
        if np.any(is_same & (gap == 0)):
            raise ValueError("a step holds a note twice")
        continues = np.concatenate([[False], is_same & (gap == 1)])[:rows]
        if not np.all(is_onset | continues):
            raise ValueError("a note is sustained that did not sound in the step before")
        first = np.flatnonzero(is_onset)
        return cls(
            steps_per_beat,
            len(offsets) - 1,
            onset=step[first],
            duration=np.diff(np.append(first, rows)),  # the rows of a note are consecutive
            pitch=pitch[first],
            part=part[first],
            parts=parts,
            time_signatures=time_signatures,
        )

    def roll(self, *, lowest: int = 21, pitches: int = 88) -> NDArray[np.bool_]:
        """Which pitches sound in each step, in any part: a piano roll ``(steps, pitches)``.

        ``lowest`` is the pitch of column 0: 21 with 88 pitches is a piano, 0 with 128 all of MIDI.

        Raises:
            ValueError: a note lies outside.
            ScoreError: ``too_long``: there would be more than 2²⁷ elements.
        """
        outside = np.count_nonzero((self.pitch < lowest) | (self.pitch >= lowest + pitches))
        if outside:
            raise ValueError(
                f"{outside} notes lie outside pitches {lowest} to {lowest + pitches - 1}"
            )
        note, age = self._sounding(cells=self.steps * pitches)
        roll = np.zeros((self.steps, pitches), np.bool_)
        roll[self.onset[note] + age, self.pitch[note].astype(np.int64) - lowest] = True
        return roll

    @classmethod
    def from_roll(cls, roll: ArrayLike, *, steps_per_beat: int, lowest: int = 21) -> Grid:
        """The grid of a piano roll, in one part; adjacent cells are one sustained note.

        What is not zero in ``(steps, pitches)`` sounds; ``lowest`` is the pitch of column 0.

        Raises:
            ShapeError: the roll is not a matrix.
        """
        sounds = np.asarray(roll) != 0
        if sounds.ndim != 2:
            raise ShapeError(f"a piano roll is (steps, pitches); got {sounds.shape}")
        edges = np.diff(sounds.astype(np.int8), axis=0, prepend=0, append=0).T
        pitch, onset = np.nonzero(edges == 1)
        duration = np.nonzero(edges == -1)[1] - onset
        pitches = (pitch + lowest).astype(np.uint8)
        return cls(steps_per_beat, len(sounds), onset, duration, pitches)


def grid_to_score(grid: Grid) -> Score:
    """Convert a grid to a score: the exact inverse of ``score_to_grid``.

    The score has the least multiple of the grid's steps per beat that is at least 480 ticks.

    Raises:
        ScoreError: ``too_long``: more ticks than a score may have.
    """
    factor = -(-_FINE_TICKS // grid.steps_per_beat)
    if grid.steps * factor > LAST_TICK:
        raise ScoreError(
            f"{grid.steps:,} steps of {factor} ticks are longer than a score may be.",
            code="too_long",
        )

    def moved(changes: tuple[Change, ...]) -> tuple[Change, ...]:
        return tuple(replace(change, time=change.time * factor) for change in changes)

    times = (grid.onset * factor, grid.duration * factor)
    columns = (column.astype(np.int64) for column in (*times, grid.pitch, grid.velocity, grid.part))
    return Score(
        ticks_per_beat=grid.steps_per_beat * factor,
        notes=NoteArrays(*columns).notes(),
        parts=grid.parts,
        tempos=moved(grid.tempos),
        time_signatures=moved(grid.time_signatures),
        key_signatures=moved(grid.key_signatures),
        end=grid.steps * factor,
    )


def same_pitch_pairs(
    onset: NDArray[np.integer], pitch: NDArray[np.integer], part: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of notes that are followed by another of their pitch and part, and of these."""
    order = np.lexsort((onset, pitch, part))
    earlier, later = order[:-1], order[1:]
    is_same = (pitch[earlier] == pitch[later]) & (part[earlier] == part[later])
    return earlier[is_same], later[is_same]
