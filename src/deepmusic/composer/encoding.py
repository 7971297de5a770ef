"""Music as the composer reads and writes it: frames, sets of symbols, places in the bar."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.repetition import Repeats, frame_codes, repeats
from deepmusic.errors import ScoreError
from deepmusic.music import Bars, Grid, Key, bars_of, estimate_key

PLACES = (48, 64, 8, 10, 5)
"""How many values each column of places has: step in the bar, kind of bar, bar of eight, bars left
(9 stands for unknown), bars since the beginning."""

UNKNOWN_LEFT = 9


class Excerpt(NamedTuple):
    """Some steps in a row, as arrays; t steps, e elements, y symbols, p parts.

    Args:
        before: ``(t, 2 * e)`` bool: for each element whether it sounded in the step before, and
            whether it was struck then.
        written: ``(t, y)`` bool: the set of each step.
        repeated: ``(t, y)`` bool: the set that followed the longest like passage, of each part.
        likeness: ``(t, p)`` uint8: how long that passage is, as in ``Repeats``.
        earlier: ``(t, y)`` bool: the set one bar ago.
        places: ``(t, 5)`` uint8, each column as in :data:`PLACES`.
    """

    before: NDArray[np.bool_]
    written: NDArray[np.bool_]
    repeated: NDArray[np.bool_]
    likeness: NDArray[np.uint8]
    earlier: NDArray[np.bool_]
    places: NDArray[np.uint8]

    def transposed(self, config: ComposerConfig, semitones: int) -> Excerpt:
        """All notes moved, as far as the keys allow; the notes must not leave them."""

        def moved(table: NDArray[np.bool_]) -> NDArray[np.bool_]:
            by_key = table.reshape(len(table), config.parts, config.keys, -1)
            return np.roll(by_key, semitones, axis=2).reshape(table.shape)

        return self._replace(
            before=moved(self.before),
            written=moved(self.written),
            repeated=moved(self.repeated),
            earlier=moved(self.earlier),
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """A piece, ready to be cut into excerpts; :func:`encode` makes it.

    Args:
        config: of the composer.
        grid: the music.
        element: ``(n,)`` int64, the element of each note.
        found: the repeats of each part.
        places: ``(steps, 5)`` uint8.
        bar_steps: ``(steps,)`` int64, steps of the bar that each step is in.
        is_minor: the mode.
    """

    config: ComposerConfig
    grid: Grid
    element: NDArray[np.int64]
    found: tuple[Repeats, ...]
    places: NDArray[np.uint8]
    bar_steps: NDArray[np.int64]
    is_minor: bool

    def __len__(self) -> int:
        return self.grid.steps

    def frames(self, start: int, stop: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """What sounds and what is struck, ``(stop - start, elements)`` each.

        Steps before the beginning and after the end are silent.
        """
        shape = (stop - start, self.config.elements)
        sounding, struck = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        grid = self.grid
        ends = grid.onset + grid.duration
        near = np.flatnonzero((grid.onset < stop) & (ends > start))
        first = np.maximum(grid.onset[near], start)
        length = np.minimum(ends[near], stop) - first
        note = np.repeat(near, length)
        step = np.arange(len(note)) - np.repeat(np.cumsum(length) - length, length)
        sounding[np.repeat(first - start, length) + step, self.element[note]] = True
        onsets = near[grid.onset[near] >= start]
        struck[grid.onset[onsets] - start, self.element[onsets]] = True
        return sounding, struck

    def excerpt(self, start: int, stop: int) -> Excerpt:
        """Cut out steps ``start`` to ``stop``."""
        config = self.config
        here = np.arange(start, stop)
        sounding, struck = self.frames(start - 1, stop)
        before = np.stack([sounding[:-1], struck[:-1]], axis=2).reshape(
            len(here), 2 * config.elements
        )
        symbols = np.zeros((len(here), config.symbols), np.bool_)
        repeated, likeness = symbols, np.zeros((len(here), config.parts), np.uint8)
        if config.repeats:
            repeated = symbols.copy()
            for part, found in enumerate(self.found):
                source = found.source[here]
                columns = np.arange(config.symbols) // config.states // config.keys == part
                known = np.flatnonzero(source >= 0)
                rows = self._sets_at(source[known])
                repeated[np.ix_(known, np.flatnonzero(columns))] = rows[:, columns]
                likeness[:, part] = found.likeness[here]
        earlier = symbols
        if config.has_bars:
            earlier = self._sets_at(here - self.bar_steps[here])
        return Excerpt(
            before,
            written(config, sounding[1:], struck[1:]),
            repeated,
            likeness,
            earlier,
            self.places[here],
        )

    def _sets_at(self, steps: NDArray[np.integer]) -> NDArray[np.bool_]:
        """The sets of single steps; those before the beginning are empty."""
        if steps.max(initial=-1) < 0:
            return np.zeros((len(steps), self.config.symbols), np.bool_)
        first = max(int(steps.min()), 0)
        sounding, struck = self.frames(first, int(steps.max()) + 1)
        sets = written(self.config, sounding, struck)
        result: NDArray[np.bool_] = sets[np.maximum(steps - first, 0)]
        result[steps < 0] = False
        return result


def written(
    config: ComposerConfig, sounding: NDArray[np.bool_], struck: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Sets of symbols ``(t, y)`` from what sounds and what is struck, ``(t, e)`` each."""
    if not config.has_onsets:
        return sounding.copy()
    return np.stack([sounding & ~struck, struck], axis=2).reshape(-1, config.symbols)


class StyledPiece(NamedTuple):
    """A piece and the number of its style."""

    piece: Encoded
    style: int


def normalised(grid: Grid, *, lowest: int = 21, keys: int = 88) -> tuple[Grid, Key, int]:
    """Move music to C major or A minor, by the fewest semitones, and into the keys.

    Returns:
        The grid, the key that it was in, and by how many semitones it was moved.

    Raises:
        ScoreError: ``out_of_range``: it has a wider range than the keys.
    """
    key = estimate_key(grid)
    shift = ((9 if key.is_minor else 0) - key.tonic + 6) % 12 - 6
    low, high = int(grid.pitch.min(initial=127)), int(grid.pitch.max(initial=0))
    if len(grid.pitch):
        while low + shift < lowest:
            shift += 12
        while high + shift >= lowest + keys:
            shift -= 12
        if low + shift < lowest:
            raise ScoreError(
                f"Its notes span {high - low} semitones and do not fit into the {keys} keys in C "
                "major or A minor.",
                code="out_of_range",
            )
    return transposed(grid, shift), key, shift


def transposed(grid: Grid, semitones: int) -> Grid:
    """All notes moved; key signatures are left out, as they hold no more."""
    pitch = (grid.pitch.astype(np.int64) + semitones).astype(np.uint8)
    return replace(grid, pitch=pitch, key_signatures=())


def encode(
    config: ComposerConfig,
    grid: Grid,
    *,
    is_minor: bool = False,
    bars: int | None = None,
    tells_end: bool = True,
) -> Encoded:
    """Prepare a piece.

    Args:
        config: of the composer.
        grid: music within its keys; its parts from ``config.parts`` on count to the last.
        is_minor: the mode.
        bars: how many the piece has in all; None takes those of the grid.
        tells_end: whether the decoder is told how many bars are left.

    Raises:
        ScoreError: ``out_of_range``: a note lies outside the keys.
    """
    pitch = grid.pitch.astype(np.int64) - config.lowest
    if len(pitch) and not (pitch.min() >= 0 and pitch.max() < config.keys):
        raise ScoreError(
            f"It has notes outside MIDI pitches {config.lowest} to "
            f"{config.lowest + config.keys - 1}.",
            code="out_of_range",
        )
    part = np.minimum(grid.part.astype(np.int64), config.parts - 1)
    found: tuple[Repeats, ...] = ()
    if config.repeats:
        found = tuple(repeats(codes) for codes in frame_codes(grid, part, config.parts))
    if config.has_bars:
        grid_bars = bars_of(grid)
        places = places_of(grid_bars, grid.steps, len(grid_bars.start) if bars is None else bars)
        if not tells_end:
            places[:, 3] = UNKNOWN_LEFT
        bar_of_step = np.searchsorted(grid_bars.start, np.arange(grid.steps), side="right") - 1
        bar_steps = grid_bars.length[bar_of_step]
    else:
        places = np.zeros((grid.steps, len(PLACES)), np.uint8)
        bar_steps = np.ones(grid.steps, np.int64)
    return Encoded(config, grid, part * config.keys + pitch, found, places, bar_steps, is_minor)


def places_of(bars: Bars, steps: int, count: int) -> NDArray[np.uint8]:
    """Places in the bar and in the piece, ``(steps, 5)``, columns as in :data:`PLACES`.

    Args:
        bars: of the music.
        steps: of the music.
        count: bars that the whole piece has.
    """
    step = np.arange(steps)
    bar = np.searchsorted(bars.start, step, side="right") - 1
    left = np.clip(count - 1 - bar, 0, UNKNOWN_LEFT - 1)
    kind = np.minimum(bars.length[bar] // 2 + 32 * bars.is_compound[bar], PLACES[1] - 1)
    columns = (
        np.minimum(step - bars.start[bar], PLACES[0] - 1),
        kind,
        bar % PLACES[2],
        left,
        np.minimum(bar, PLACES[4] - 1),
    )
    return np.stack(columns, axis=1).astype(np.uint8)
