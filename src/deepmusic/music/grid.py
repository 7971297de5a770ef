"""The grid: time steps of equal length, in each the set of sounding notes, struck or held.

A grid keeps its notes as columns, one row a note, so that an hour of rest costs nothing; what a
model reads, the set of each step, is :meth:`Grid.frames`. Both forms hold the same, and each is
made from the other without loss. From a score to a grid something may be lost: see
:mod:`deepmusic.music.quantisation`. From a grid to a score nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmusic.errors import ScoreError, ShapeError
from deepmusic.music.score import (
    LAST_TICK,
    Change,
    KeySignature,
    Note,
    Part,
    Score,
    Tempo,
    TimeSignature,
    in_effect,
)

MOST_CELLS = 2**27
"""No array with more elements is made of a grid: a file may claim a rest of years."""

_FINE_TICKS = 480  # a grid becomes a score with at least so many ticks a beat, as is usual


class Frames(NamedTuple):
    """The sets of sounding notes, one after the other; step ``t`` has rows ``offsets[t:t + 2]``.

    Within a step rows ascend by pitch, then part, and no two are equal.

    Args:
        offsets: ``(steps + 1,)`` int64, where each step's rows begin; the last is their number.
        pitch: ``(rows,)`` uint8, MIDI pitch.
        part: ``(rows,)`` int16, index of the part.
        is_onset: ``(rows,)`` bool, struck in this step; otherwise held from the step before.
    """

    offsets: NDArray[np.int64]
    pitch: NDArray[np.uint8]
    part: NDArray[np.int16]
    is_onset: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Grid:
    """Music on a grid.

    Within a part a pitch sounds once at a time. Notes are sorted by onset, pitch and part, in
    whatever order they are given.

    Args:
        steps_per_beat: steps a quarter note, 1 to 32,767; 4 makes a step a sixteenth.
        steps: length in steps, rests at the end included.
        onset: ``(n,)`` steps at which notes are struck; int64.
        duration: ``(n,)`` steps for which they sound, at least 1; int64.
        pitch: ``(n,)`` MIDI pitches; uint8.
        part: ``(n,)`` indices into ``parts``; int16. One number stands for all.
        velocity: ``(n,)`` 1 to 127; uint8. One number stands for all.
        parts: what plays.
        tempos, time_signatures, key_signatures: as in a :class:`Score`, their times in steps.

    Raises:
        ShapeError: the columns differ in length or are no columns of integers.
        ValueError: a number is out of range, or a pitch sounds twice at a time within a part.

    Example:
        >>> grid = Grid(4, 16, onset=[0, 4], duration=[4, 12], pitch=[60, 64])
        >>> grid.roll(lowest=60, keys=5).sum(axis=0)
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
        count = np.size(self.onset)
        given: dict[str, tuple[ArrayLike, int, int, type[np.integer]]] = {
            "onset": (self.onset, 0, self.steps, np.int64),
            "duration": (self.duration, 1, self.steps, np.int64),
            "pitch": (self.pitch, 0, 127, np.uint8),
            "part": (self.part, 0, len(self.parts) - 1, np.int16),
            "velocity": (self.velocity, 1, 127, np.uint8),
        }
        columns = {
            name: _column(name, value, least, most, count)
            for name, (value, least, most, _) in given.items()
        }
        order = np.lexsort((columns["part"], columns["pitch"], columns["onset"]))
        for name, column in columns.items():
            ordered = column[order].astype(given[name][3])
            ordered.setflags(write=False)
            object.__setattr__(self, name, ordered)
        ends = self.onset + self.duration
        if ends.max(initial=0) > self.steps:
            raise ValueError(f"a note ends at step {ends.max()}, after the {self.steps} steps")
        same, following = _by_line(self.onset, self.pitch, self.part)
        if np.any(ends[same] > self.onset[following]):
            raise ValueError("a pitch sounds twice at a time within a part")
        for name, changes in (
            ("parts", tuple(self.parts)),
            ("tempos", in_effect(self.tempos, Tempo(0, 500_000))),
            ("time_signatures", in_effect(self.time_signatures, TimeSignature(0, 4, 4))),
            ("key_signatures", in_effect(self.key_signatures)),
        ):
            object.__setattr__(self, name, changes)

    def __len__(self) -> int:
        return self.steps

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        plain = ("steps_per_beat", "steps", "parts", "tempos", "time_signatures", "key_signatures")
        return all(getattr(self, name) == getattr(other, name) for name in plain) and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("onset", "duration", "pitch", "part", "velocity")
        )

    __hash__ = None  # type: ignore[assignment]

    def frames(self) -> Frames:
        """The set of sounding notes of each step.

        Raises:
            ScoreError: ``too_long``: there would be more than 2²⁷ rows or steps.
        """
        rows = int(self.duration.sum())
        _check_cells(max(rows, self.steps))
        note = np.repeat(np.arange(len(self.onset)), self.duration)
        first = np.cumsum(self.duration) - self.duration
        held = np.arange(rows) - first[note]
        step = self.onset[note] + held
        order = np.lexsort((self.part[note], self.pitch[note], step))
        note = note[order]
        offsets = np.zeros(self.steps + 1, np.int64)
        np.cumsum(np.bincount(step, minlength=self.steps), out=offsets[1:])
        return Frames(offsets, self.pitch[note], self.part[note], held[order] == 0)

    @classmethod
    def from_frames(
        cls,
        frames: Frames,
        *,
        steps_per_beat: int,
        velocity: int = 80,
        parts: tuple[Part, ...] = (Part(),),
        tempos: tuple[Tempo, ...] = (),
        time_signatures: tuple[TimeSignature, ...] = (),
        key_signatures: tuple[KeySignature, ...] = (),
    ) -> Grid:
        """The grid whose steps hold these sets.

        Args:
            frames: the sets; rows of a step may be in any order.
            steps_per_beat: steps a quarter note.
            velocity: of all notes, as sets have none.
            parts: what plays.
            tempos: their times in steps, as those of the two below.
            time_signatures: metres.
            key_signatures: keys.

        Raises:
            ShapeError: the columns do not fit one another.
            ValueError: a set holds a note twice, or a held note did not sound in the step before.
        """
        offsets = np.asarray(frames.offsets, np.int64)
        rows = len(frames.pitch)
        if not (
            offsets.ndim == 1
            and len(offsets) >= 1
            and offsets[0] == 0
            and offsets[-1] == rows == len(frames.part) == len(frames.is_onset)
            and np.all(np.diff(offsets) >= 0)
        ):
            raise ShapeError(
                "offsets rise from 0 to the number of rows, which all columns have; got offsets "
                f"{offsets.shape}, pitch {np.shape(frames.pitch)}, part {np.shape(frames.part)}, "
                f"is_onset {np.shape(frames.is_onset)}"
            )
        step = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        order = np.lexsort((step, frames.pitch, frames.part))
        step, pitch, part = step[order], np.asarray(frames.pitch)[order], frames.part[order]
        is_onset = np.asarray(frames.is_onset, bool)[order]
        same = (pitch[1:] == pitch[:-1]) & (part[1:] == part[:-1])
        gap = np.diff(step)
        if np.any(same & (gap == 0)):
            raise ValueError("a step holds a note twice")
        goes_on = np.concatenate([[False], same & (gap == 1)])[:rows]
        if not np.all(is_onset | goes_on):
            raise ValueError("a note is held that did not sound in the step before")
        first = np.flatnonzero(is_onset)
        return cls(
            steps_per_beat,
            len(offsets) - 1,
            onset=step[first],
            duration=np.diff(np.append(first, rows)),  # rows of a note follow one another
            pitch=pitch[first],
            part=part[first],
            velocity=np.full(len(first), velocity),
            parts=parts,
            tempos=tempos,
            time_signatures=time_signatures,
            key_signatures=key_signatures,
        )

    def roll(self, *, lowest: int = 21, keys: int = 88) -> NDArray[np.bool_]:
        """Which pitches sound in each step, whatever the part: a piano roll.

        Args:
            lowest: pitch of column 0; 21 and 88 keys are a piano, 0 and 128 are all of MIDI.
            keys: columns.

        Returns:
            ``(steps, keys)`` bool.

        Raises:
            ValueError: a note lies outside the keys.
            ScoreError: ``too_long``: there would be more than 2²⁷ elements.
        """
        return self._painted(lowest, keys, self.duration)

    def onset_roll(self, *, lowest: int = 21, keys: int = 88) -> NDArray[np.bool_]:
        """Which pitches are struck in each step; as :meth:`roll`."""
        return self._painted(lowest, keys, np.ones_like(self.duration))

    def _painted(self, lowest: int, keys: int, duration: NDArray[np.int64]) -> NDArray[np.bool_]:
        outside = (self.pitch < lowest) | (self.pitch >= lowest + keys)
        if outside.any():
            raise ValueError(
                f"{np.count_nonzero(outside)} notes lie outside pitches {lowest} to "
                f"{lowest + keys - 1}"
            )
        _check_cells(max(self.steps * keys, int(duration.sum())))
        note = np.repeat(np.arange(len(self.onset)), duration)
        held = np.arange(len(note)) - (np.cumsum(duration) - duration)[note]
        roll = np.zeros((self.steps, keys), np.bool_)
        roll[self.onset[note] + held, self.pitch[note].astype(np.int64) - lowest] = True
        return roll

    @classmethod
    def from_roll(
        cls,
        roll: ArrayLike,
        onsets: ArrayLike | None = None,
        *,
        steps_per_beat: int,
        lowest: int = 21,
        part: Part | None = None,
    ) -> Grid:
        """The grid of a piano roll, in one part.

        Args:
            roll: ``(steps, keys)``; what is not zero sounds.
            onsets: the same shape, what is not zero is struck. A pitch that begins to sound is
                struck in any case. Without onsets a repeated note cannot be told from a held one,
                and is taken for held.
            steps_per_beat: steps a quarter note.
            lowest: pitch of column 0.
            part: what plays; a piano as a rule.

        Raises:
            ShapeError: the rolls are no matrices of one shape.
            ValueError: a note is struck that does not sound.
        """
        sounds = np.asarray(roll) != 0
        if sounds.ndim != 2:
            raise ShapeError(f"a piano roll is (steps, keys); got {sounds.shape}")
        steps, keys = sounds.shape
        silence = np.zeros((1, keys), bool)
        starts = sounds & ~np.concatenate([silence, sounds])[:steps]
        if onsets is not None:
            struck = np.asarray(onsets) != 0
            if struck.shape != sounds.shape:
                raise ShapeError(f"onsets are {sounds.shape} as the roll; got {struck.shape}")
            if np.any(struck & ~sounds):
                raise ValueError("a note is struck that does not sound")
            starts |= struck
        stops = sounds & np.concatenate([starts | ~sounds, ~silence])[1:]
        key, onset = np.nonzero(starts.T)
        pitch: NDArray[Any] = key + lowest
        last = np.nonzero(stops.T)[1]
        return cls(
            steps_per_beat,
            steps,
            onset=onset,
            duration=last - onset + 1,
            pitch=pitch,
            parts=(part or Part(),),
        )


class Snapped(NamedTuple):
    """Where the notes of a score fall on a grid: columns ``(n,)`` in the order of its notes.

    Args:
        onset: the step nearest to the onset; halfway goes to the later one.
        end: the step nearest to the end, at least one after the onset; then no later than the next
            onset of the pitch in the part.
        is_kept: whether the note has a step of its own. Of notes of one pitch in one part and step
            the first is kept, with the latest end and the greatest velocity of them.
        is_cut: kept, and ended by the next onset of its pitch.
        velocity: after merging.
    """

    onset: NDArray[np.int64]
    end: NDArray[np.int64]
    is_kept: NDArray[np.bool_]
    is_cut: NDArray[np.bool_]
    velocity: NDArray[np.int64]


def snap(score: Score, steps_per_beat: int) -> Snapped:
    """Find the steps of the notes of a score; :func:`score_to_grid` makes a grid of these.

    Raises:
        ValueError: ``steps_per_beat`` is below 1.
    """
    if steps_per_beat < 1:
        raise ValueError(f"steps_per_beat is at least 1; got {steps_per_beat}")
    notes = score.arrays
    onset = _nearest(notes.onset, score.ticks_per_beat, steps_per_beat)
    end = _nearest(notes.onset + notes.duration, score.ticks_per_beat, steps_per_beat)
    end = np.maximum(end, onset + 1)
    velocity = notes.velocity.copy()
    is_kept = np.ones(len(onset), bool)
    is_cut = np.zeros(len(onset), bool)
    if len(onset):
        order = np.lexsort((notes.onset, onset, notes.pitch, notes.part))  # stable
        is_new = np.ones(len(onset), bool)
        columns = (onset[order], notes.pitch[order], notes.part[order])
        is_new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        is_kept[order] = is_new
        first = np.flatnonzero(is_new)
        kept = order[first]
        end[kept] = np.maximum.reduceat(end[order], first)
        velocity[kept] = np.maximum.reduceat(velocity[order], first)
        same, following = _by_line(onset[kept], notes.pitch[kept], notes.part[kept])
        early, late = kept[same], kept[following]
        is_cut[early] = end[early] > onset[late]
        end[early] = np.minimum(end[early], onset[late])
    return Snapped(onset, end, is_kept, is_cut, velocity)


def score_to_grid(score: Score, steps_per_beat: int) -> Grid:
    """Put a score on a grid.

    Every onset and end goes to the nearest step, and every note has at least one. Notes of one
    pitch and part that fall on one step become one, and a note ends where its pitch is struck
    again in its part. What that costs is told by :func:`quantisation_loss`. A score on the grid
    whose notes of one pitch and part do not overlap loses nothing.

    Args:
        score: the music.
        steps_per_beat: steps a quarter note.

    Returns:
        The grid, with parts, velocities, tempi, metres and keys.

    Raises:
        ScoreError: ``too_long``: more than 2³¹ steps.
        ValueError: ``steps_per_beat`` is out of range.
    """
    snapped = snap(score, steps_per_beat)
    notes, kept = score.arrays, snapped.is_kept
    steps = max(
        _nearest_step(score.end, score.ticks_per_beat, steps_per_beat),
        int(snapped.end.max(initial=0)),
    )
    if steps > LAST_TICK:
        raise ScoreError(f"The score would take {steps:,} steps.", code="too_long")

    def moved(changes: tuple[Change, ...]) -> tuple[Change, ...]:
        return tuple(
            replace(change, time=_nearest_step(change.time, score.ticks_per_beat, steps_per_beat))
            for change in changes
        )

    return Grid(
        steps_per_beat,
        steps,
        onset=snapped.onset[kept],
        duration=(snapped.end - snapped.onset)[kept],
        pitch=notes.pitch[kept].astype(np.uint8),
        part=notes.part[kept].astype(np.int16),
        velocity=snapped.velocity[kept].astype(np.uint8),
        parts=score.parts,
        tempos=moved(score.tempos),
        time_signatures=moved(score.time_signatures),
        key_signatures=moved(score.key_signatures),
    )


def grid_to_score(grid: Grid, *, ticks_per_beat: int | None = None) -> Score:
    """Turn a grid into a score: the exact inverse of :func:`score_to_grid` on what a grid holds.

    Args:
        grid: the music.
        ticks_per_beat: of the score, a multiple of the steps a beat; None takes the least that is
            480 or more.

    Raises:
        ValueError: ``ticks_per_beat`` is no such multiple.
        ScoreError: ``too_long``: more ticks than a score may have.
    """
    if ticks_per_beat is None:
        factor = -(-_FINE_TICKS // grid.steps_per_beat)
    else:
        factor, left = divmod(ticks_per_beat, grid.steps_per_beat)
        if left or factor < 1:
            raise ValueError(
                f"ticks_per_beat is a multiple of the {grid.steps_per_beat} steps a beat; got "
                f"{ticks_per_beat}"
            )
    if grid.steps * factor > LAST_TICK:
        raise ScoreError(
            f"{grid.steps:,} steps of {factor} ticks are longer than a score may be.",
            code="too_long",
        )

    def moved(changes: tuple[Change, ...]) -> tuple[Change, ...]:
        return tuple(replace(change, time=change.time * factor) for change in changes)

    columns = (grid.onset, grid.duration, grid.pitch, grid.velocity, grid.part)
    rows = zip(*(np.asarray(column).tolist() for column in columns), strict=True)
    return Score(
        ticks_per_beat=grid.steps_per_beat * factor,
        notes=tuple(
            Note(onset * factor, duration * factor, pitch, velocity, part)
            for onset, duration, pitch, velocity, part in rows
        ),
        parts=grid.parts,
        tempos=moved(grid.tempos),
        time_signatures=moved(grid.time_signatures),
        key_signatures=moved(grid.key_signatures),
        end=grid.steps * factor,
    )


def _nearest(
    ticks: NDArray[np.int64], ticks_per_beat: int, steps_per_beat: int
) -> NDArray[np.int64]:
    """The step nearest to each tick, in whole numbers; halfway goes to the later step."""
    return (2 * ticks * steps_per_beat + ticks_per_beat) // (2 * ticks_per_beat)


def _nearest_step(tick: int, ticks_per_beat: int, steps_per_beat: int) -> int:
    return (2 * tick * steps_per_beat + ticks_per_beat) // (2 * ticks_per_beat)


def _by_line(
    onset: NDArray[np.integer], pitch: NDArray[np.integer], part: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of notes, and for each of the next note of its pitch in its part."""
    order = np.lexsort((onset, pitch, part))
    early, late = order[:-1], order[1:]
    same = (pitch[early] == pitch[late]) & (part[early] == part[late])
    return early[same], late[same]


def _column(name: str, values: ArrayLike, least: int, most: int, count: int) -> NDArray[np.int64]:
    column = np.asarray(values)
    if column.ndim == 0 and name in ("part", "velocity"):
        column = np.full(count, column)
    if column.shape != (count,) or (count and column.dtype.kind not in "iu"):
        raise ShapeError(
            f"{name} is a column of {count} integers; got {column.dtype} {column.shape}"
        )
    if count and not (least <= column.min() and column.max() <= most):
        raise ValueError(f"{name} is {least} to {most}; got {column.min()} to {column.max()}")
    return column.astype(np.int64)


def _check_cells(cells: int) -> None:
    if cells > MOST_CELLS:
        raise ScoreError(
            f"The grid would take {cells:,} cells; more than {MOST_CELLS:,} are not made: cut the "
            "music, or use fewer steps a beat.",
            code="too_long",
        )
