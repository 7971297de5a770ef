"""A given piece: its parts and bars, what the model reads of it, and composed notes among its own.

The piece is kept as the events of its file. The model reads some of its bars as a grid; what it
composes is added to the events, so that nothing given changes.
"""

from __future__ import annotations

from bisect import insort_left
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmusic.composer.barlines import Barlines, BarRange
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.melody import melody_part, parts_of_notes
from deepmusic.errors import RequestError, ScoreError, counted
from deepmusic.music import (
    Bars,
    Grid,
    Key,
    Note,
    Part,
    Score,
    TimeSignature,
    estimate_key,
    midi_bytes,
    read_midi,
    score_to_grid,
)
from deepmusic.music.midi_events import (
    DRUM_CHANNEL,
    Event,
    EventNotes,
    Tracks,
    notes_of_events,
    read_events,
)

_NEAR_STEP = 1 / 8  # of a step: notes as close to a step count as on it
_MOVED_SHARE = 0.05  # of the onsets; if more are not near a step, that is reported
_OCTAVES = (0, -12, 12, -24, 24, -36, 36, -48, 48)  # the nearest first


@dataclass(frozen=True, eq=False)
class GivenPiece:
    """A piece as its file has it.

    Args:
        score: the piece without the events that a score does not hold.
        tracks: all events.
        notes: of the tracks.
        part: ``(n,)`` the part of each note, 0 the one with the melody; -1 for drums.
        parts: the name of each part.
        melody: of the file's parts, from 1, the one with the melody.
        warnings: what was repaired.
    """

    score: Score
    tracks: Tracks
    notes: EventNotes
    part: NDArray[np.int64]
    parts: tuple[str, ...]
    melody: int
    warnings: tuple[str, ...]


def read_given(path: str, melody: int | None = None) -> GivenPiece:
    """Read a piece; ``melody`` is the number of a part, from 1, None chooses one.

    Raises:
        ScoreError: the file cannot be used; besides the codes of ``read_midi``, ``drums``: there is
            nothing else in it.
        RequestError: there is no such part.
    """
    score = read_midi(path)
    warnings = list(score.warnings)
    try:
        file, tracks = read_events(path)
        tracks = _released(tracks, score)
        notes = notes_of_events(tracks)
        if not _is_same(notes, score):
            raise ValueError("the events are other notes than the score")
    except ValueError:
        # a damaged file, of which the notes that were recovered are kept
        file, tracks = read_events(midi_bytes(score))
        notes = notes_of_events(tracks)
        warnings.append("Of its events only notes, programs, tempos and signatures are kept.")
    if np.all(notes.channel == DRUM_CHANNEL):
        raise ScoreError(f"{path} has no notes but drums; name a file with a melody.", code="drums")
    part, names = parts_of_notes(file.format, tracks, notes)
    if melody is not None and not 1 <= melody <= len(names):
        listed = ", ".join(f"{n} {name}".strip() for n, name in enumerate(names, start=1))
        raise RequestError(f"{path} has no part {melody}; it has {listed}.")
    first = melody_part(notes, part, names) if melody is None else melody - 1
    order = [first, *(index for index in range(len(names)) if index != first)]
    rank = np.argsort([*order, len(order)])
    return GivenPiece(
        score,
        tracks,
        notes,
        np.where(part < 0, -1, rank[part]),
        tuple(names[index] for index in order),
        first + 1,
        tuple(warnings),
    )


def _released(tracks: Tracks, score: Score) -> Tracks:
    """The tracks with a note-off for each note that never ends, where it ends in the score."""
    notes = notes_of_events(tracks)
    ends = {(note.onset, note.pitch, note.velocity): note.end for note in score.notes}
    made = [list(track) for track in tracks]
    for index in np.flatnonzero(notes.end < 0).tolist():
        channel, pitch = int(notes.channel[index]), int(notes.pitch[index])
        key = (int(notes.onset[index]), pitch, int(notes.velocity[index]))
        event = Event(ends.get(key, key[0]), bytes([0x80 | channel, pitch, 0]))
        insort_left(made[int(notes.track[index])], event, key=lambda event: event.time)
    return tuple(map(tuple, made))


def _is_same(notes: EventNotes, score: Score) -> bool:
    own = np.stack(
        [notes.onset, np.maximum(notes.end, notes.onset + 1), notes.pitch, notes.velocity]
    )
    columns = score.arrays
    read = np.stack(
        [columns.onset, columns.onset + columns.duration, columns.pitch, columns.velocity]
    )
    return own.shape == read.shape and np.array_equal(
        own[:, np.lexsort(own)], read[:, np.lexsort(read)]
    )


@dataclass(frozen=True, eq=False)
class GivenBars:
    """The bars of a piece that the model reads, and how their ticks and steps correspond.

    A bar that is shorter than the next one, at the beginning, is a pickup: for the model rests
    come before it.

    Args:
        piece: the whole of it.
        ticks: ``(bars + 1,)`` where each bar begins, and the end of the last.
        steps: ``(bars + 1,)`` the same in steps of the model.
        delay: ``(bars,)`` tick ``step * ticks_per_step + delay`` is at a step.
        rests: steps before a pickup.
        layout: the bars as the model reads them; their lengths are some that it knows.
        free: the first bar to compose, and the one after the last.
        shift: ticks by which the notes lie after the steps throughout.
        steps_per_beat: of the model.
    """

    piece: GivenPiece
    ticks: NDArray[np.int64]
    steps: NDArray[np.int64]
    delay: NDArray[np.float64]
    rests: int
    layout: Bars
    free: tuple[int, int]
    shift: int
    steps_per_beat: int

    @classmethod
    def of(
        cls,
        piece: GivenPiece,
        lines: Barlines,
        chosen: BarRange,
        known: tuple[TimeSignature, ...],
        steps_per_beat: int,
    ) -> GivenBars:
        """Lay out bars for a model that knows some time signatures, the usual one first."""
        first, end = chosen.read
        starts = [lines.start(bar) for bar in range(first, end + 1)]
        per_step = Fraction(piece.score.ticks_per_beat, steps_per_beat)
        lengths = np.array([max(round((b - a) / per_step), 1) for a, b in pairwise(starts)])
        rests = max(int(lengths[1] - lengths[0]), 0) if len(lengths) > 1 else 0
        lengths[0] += rests
        steps = np.concatenate([[0], np.cumsum(lengths)])
        delay = np.array(
            [float(t - s * per_step) for t, s in zip(starts, steps.tolist(), strict=True)]
        )
        if rests:
            delay[0] = delay[1]
        kinds = []
        for bar, length in enumerate(lengths.tolist(), start=first):
            kind = lines.signature(bar)
            if kind not in known or kind.bar_steps(steps_per_beat) != length:
                kind = known[0]
            kinds.append((kind.bar_steps(steps_per_beat), kind.is_compound))
        size, is_compound = np.array(kinds).T
        bars = cls(
            piece,
            np.array([ceil(start) for start in starts]),
            steps,
            delay[:-1],
            rests,
            Bars(steps[:-1], size, is_compound.astype(bool)),
            (chosen.free[0] - first, chosen.free[1] - first),
            0,
            steps_per_beat,
        )
        return replace(bars, shift=bars._offset())

    @property
    def is_read(self) -> NDArray[np.bool_]:
        """Which notes the model reads, ``(n,)``: no drums."""
        notes = self.piece.notes
        is_inside = (notes.onset < self.ticks[-1]) & (notes.end > self.ticks[0])
        return np.asarray(is_inside & (self.piece.part >= 0))

    @property
    def is_rewritten(self) -> NDArray[np.bool_]:
        """Which notes begin in the bars to compose, ``(n,)``."""
        onset, (first, end) = self.piece.notes.onset, self.free
        is_inside = (onset >= self.ticks[first]) & (onset < self.ticks[end])
        return np.asarray(self.is_read & is_inside)

    def off_step(self) -> NDArray[np.float64]:
        """How far the onsets that are read lie from the nearest step, in steps, up to 1/2."""
        _, phase = self._phases()
        return np.abs((phase - self.shift / self._per_step + 0.5) % 1 - 0.5)

    def grid(
        self, chosen: NDArray[np.bool_], part: NDArray[np.int64], parts: int, pitch: ArrayLike
    ) -> Grid:
        """Chosen notes ``(n,)`` on the grid of the model."""
        notes = self.piece.notes
        onset = np.rint(notes.onset - self.delay[self._bar(notes.onset)])
        end = np.rint(notes.end - self.delay[self._bar(notes.end - 1)])
        rows = np.stack([onset - self.shift, end - self.shift, pitch, part])[:, chosen]
        return merged_grid(
            self.piece.score.ticks_per_beat, rows, parts, self.steps_per_beat, int(self.steps[-1])
        )

    def ticks_of(
        self, onset: NDArray[np.int64], end: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ticks of notes, in the bars to compose, that are given in steps."""
        low, high = self.ticks[self.free[0]], self.ticks[self.free[1]]

        def tick(step: NDArray[np.int64], within: NDArray[np.int64]) -> NDArray[np.int64]:
            bar = np.searchsorted(self.steps[1:-1], within, side="right")
            return np.rint(step * self._per_step + self.delay[bar]).astype(np.int64) + self.shift

        begin = np.clip(tick(onset, onset), low, high - 1)
        return begin, np.clip(tick(end, end - 1), begin + 1, high)

    @property
    def _per_step(self) -> float:
        return self.piece.score.ticks_per_beat / self.steps_per_beat

    def _bar(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.ticks[1:-1], ticks, side="right")

    def _phases(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        onset = self.piece.notes.onset[self.is_read]
        return onset, (onset - self.delay[self._bar(onset)]) / self._per_step % 1

    def _offset(self) -> int:
        """The shift that puts more onsets on steps; 0 where none does so clearly."""
        _, phase = self._phases()
        mean = np.exp(2j * np.pi * phase).sum()
        shift = round(float(np.angle(mean)) / (2 * np.pi) * self._per_step)
        moved = np.mean(replace(self, shift=shift).off_step() < _NEAR_STEP)
        return shift if moved > np.mean(self.off_step() < _NEAR_STEP) + 0.1 else 0


def merged_grid(
    ticks_per_beat: int, rows: ArrayLike, parts: int, steps_per_beat: int, steps: int
) -> Grid:
    """The grid of notes, rows onset, end, pitch and part; what meets in a part is merged."""
    onset, end, pitch, part = np.asarray(rows, np.int64)
    onset = np.maximum(onset, 0)
    notes = np.stack([onset, np.maximum(end - onset, 1), pitch, np.full_like(pitch, 80), part], 1)
    made = Score(ticks_per_beat, tuple(Note(*row) for row in notes.tolist()), (Part(),) * parts)
    grid = score_to_grid(made, steps_per_beat)
    kept = grid.onset < steps
    return Grid(
        steps_per_beat,
        steps,
        grid.onset[kept],
        np.minimum(grid.duration, steps - grid.onset)[kept],
        grid.pitch[kept],
        grid.part[kept],
        parts=made.parts,
    )


class Reading(NamedTuple):
    """What the model reads of given bars, in C major or A minor."""

    fixed: Grid  # the notes that are kept
    is_fixed: NDArray[np.bool_]  # (steps, parts) where nothing is added
    key: Key
    shift: int  # semitones from here to the given pitches
    warnings: tuple[str, ...]


def read_bars(
    bars: GivenBars,
    config: ComposerConfig,
    parts: int,
    *,
    melody_range: tuple[int, int] | None = None,
) -> Reading:
    """Read bars of a piece in so many parts.

    Its parts from the last on are merged. With a range for the melody, all notes are kept, and the
    melody alone is the first part.
    """
    piece = bars.piece
    part = np.clip(piece.part, 0, parts - 1)
    whole = bars.grid(bars.is_read, part, parts, piece.notes.pitch)
    key = estimate_key(whole)
    shift = ((9 if key.is_minor else 0) - key.tonic + 6) % 12 - 6
    lowest, highest = config.lowest, config.lowest + config.pitches - 1
    is_fixed = np.zeros((int(bars.steps[-1]), config.parts), np.bool_)
    if melody_range is None:
        fixed = bars.grid(bars.is_read & ~bars.is_rewritten, part, parts, piece.notes.pitch)
        low, high, pitch = lowest, highest, whole.pitch
        first, end = bars.steps[list(bars.free)]
        is_fixed[:] = True
        is_fixed[first:end] = False
    else:
        fixed = _melody_first(
            bars.grid(bars.is_read, piece.part, len(piece.parts), piece.notes.pitch), parts
        )
        low, high = max(melody_range[0], lowest), min(melody_range[1], highest)
        pitch = fixed.pitch[fixed.part == 0]
        is_fixed[:, 0] = True  # after its last note the melody is silent
    is_fixed[: bars.rests] = True
    near = pitch.astype(np.int64) + shift
    outside = [int(np.sum((near + o < low) | (near + o > high))) for o in _OCTAVES]
    shift += _OCTAVES[int(np.argmin(outside))]
    moved = fixed.pitch.astype(np.int64) + shift
    is_first = (fixed.part == 0) & (melody_range is not None)
    folded = np.where(is_first, _folded(moved, low, high), _folded(moved, lowest, highest))
    rows = np.stack([fixed.onset, fixed.onset + fixed.duration, folded, fixed.part])
    fixed = merged_grid(config.steps_per_beat, rows, parts, config.steps_per_beat, fixed.steps)
    warnings = []
    if count := int(np.sum(folded != moved)):
        notes = counted(count, "note")
        warnings.append(f"The model reads {notes} out of its range an octave or more away.")
    if (share := float(np.mean(bars.off_step() > _NEAR_STEP))) > _MOVED_SHARE:
        warnings.append(
            f"The model reads {share:.0%} of the onsets, such as those of triplets, on another "
            "sixteenth; they stay where they are."
        )
    return Reading(fixed, is_fixed, key, -shift, tuple(warnings))


def _folded(pitch: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """Pitches moved by octaves, each by the fewest, to between two that are an octave apart."""
    pitch = np.where(pitch < low, low + (pitch - low) % 12, pitch)
    return np.where(pitch > high, high - (high - pitch) % 12, pitch)


def _melody_first(grid: Grid, parts: int) -> Grid:
    """The highest notes of part 0, one at a time, alone in it, and all others in the last part."""
    in_part = np.flatnonzero(grid.part == 0)
    top = np.full(grid.steps, -1)
    for note in in_part:
        span = slice(int(grid.onset[note]), int(grid.onset[note] + grid.duration[note]))
        top[span] = np.maximum(top[span], int(grid.pitch[note]))
    kept = in_part[top[grid.onset[in_part]] == grid.pitch[in_part]]
    part, end = np.full(len(grid.part), parts - 1), grid.onset + grid.duration
    part[kept] = 0
    end[kept] = np.minimum(end[kept], np.append(grid.onset[kept][1:], grid.steps))
    rows = np.stack([grid.onset, end, grid.pitch, part])
    return merged_grid(grid.steps_per_beat, rows, parts, grid.steps_per_beat, grid.steps)
