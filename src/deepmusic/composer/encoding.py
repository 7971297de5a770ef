"""Music as the composer reads and writes it: frames, sets of symbols, positions, repeats.

What followed the same passage earlier is the best predictor of the next step of a tune. Such
repeats are found by hashes of the last steps, at several lengths, so the cost does not grow with
the length of the music; only the past is searched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic import music
from deepmusic.composer.config import ComposerConfig
from deepmusic.errors import ScoreError
from deepmusic.music import Bars, Grid, Key

POSITION_SIZES = (48, 64, 8, 10, 5)
"""Number of values of each column of positions: step in the bar, kind of bar, bar in a group of
eight, bars left (9 stands for unknown), bars since the beginning."""

UNKNOWN_BARS_LEFT = 9

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Lengths of matches in steps; level n is a match of ``LENGTHS[n - 1]`` steps or more, 0 none."""

ATTRIBUTES = ("density", "pitch", "polyphony", "length", "offbeat")
"""Of a passage: onsets per beat, mean MIDI pitch of these, pitches that sound at once where any
does, mean duration in steps, share of onsets off the beat."""

ODD = 0x9E3779B97F4A7C15
"""The odd number nearest to 2**64 over the golden ratio; base of polynomial hashes modulo 2**64."""

_MODULUS = 2**64


class Excerpt(NamedTuple):
    """Consecutive steps as arrays; t steps, e elements, y symbols, p parts.

    Args:
        before: ``(t, 2 * e)`` bool: whether each element sounded and began in the step before.
        target: ``(t, y)`` bool: the set of each step.
        repeated: ``(t, y)`` bool: the set that followed the longest match, of each part.
        match_level: ``(t, p)`` uint8: how long that match is, as in ``Repeats``.
        bar_ago: ``(t, y)`` bool: the set one bar earlier.
        positions: ``(t, 5)`` uint8, each column as in ``POSITION_SIZES``.
    """

    before: NDArray[np.bool_]
    target: NDArray[np.bool_]
    repeated: NDArray[np.bool_]
    match_level: NDArray[np.uint8]
    bar_ago: NDArray[np.bool_]
    positions: NDArray[np.uint8]

    def transposed(self, config: ComposerConfig, semitones: int) -> Excerpt:
        """All notes moved; they must stay within the pitches."""

        def moved(table: NDArray[np.bool_]) -> NDArray[np.bool_]:
            by_pitch = table.reshape(len(table), config.parts, config.pitches, -1)
            return np.roll(by_pitch, semitones, axis=2).reshape(table.shape)

        return self._replace(
            before=moved(self.before),
            target=moved(self.target),
            repeated=moved(self.repeated),
            bar_ago=moved(self.bar_ago),
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """A piece, ready to be cut into excerpts and passages; ``encode`` makes it.

    Args:
        config: of the composer.
        grid: the music.
        element: ``(n,)`` int64, the element of each note.
        repeats: of each part.
        positions: ``(steps, 5)`` uint8.
        bar_steps: ``(steps,)`` int64, length of the bar that each step is in.
        is_minor: the mode.
    """

    config: ComposerConfig
    grid: Grid
    element: NDArray[np.int64]
    repeats: tuple[Repeats, ...]
    positions: NDArray[np.uint8]
    bar_steps: NDArray[np.int64]
    is_minor: bool

    def __len__(self) -> int:
        return self.grid.steps

    def frames(self, start: int, stop: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """What sounds and what begins, ``(stop - start, elements)`` each.

        Steps before the beginning and after the end are silent.
        """
        shape = (stop - start, self.config.elements)
        sounding, onsets = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        grid = self.grid
        ends = grid.onset + grid.duration
        near = np.flatnonzero((grid.onset < stop) & (ends > start))
        first = np.maximum(grid.onset[near], start)
        length = np.minimum(ends[near], stop) - first
        note = np.repeat(near, length)
        step = np.arange(len(note)) - np.repeat(np.cumsum(length) - length, length)
        sounding[np.repeat(first - start, length) + step, self.element[note]] = True
        begun = near[grid.onset[near] >= start]
        onsets[grid.onset[begun] - start, self.element[begun]] = True
        return sounding, onsets

    def excerpt(self, start: int, stop: int) -> Excerpt:
        """Cut out steps ``start`` to ``stop``."""
        config = self.config
        steps = np.arange(start, stop)
        sounding, onsets = self.frames(start - 1, stop)
        before = np.stack([sounding[:-1], onsets[:-1]], axis=2).reshape(len(steps), -1)
        empty = np.zeros((len(steps), config.symbols), np.bool_)
        repeated, match_level = empty.copy(), np.zeros((len(steps), config.parts), np.uint8)
        width = config.pitches * config.states
        for part, repeats in enumerate(self.repeats):
            columns = slice(part * width, (part + 1) * width)
            repeated[:, columns] = self._sets_at(repeats.source[steps])[:, columns]
            match_level[:, part] = repeats.match_level[steps]
        bar_ago = self._sets_at(steps - self.bar_steps[steps]) if config.has_bars else empty
        target = symbol_sets(config, sounding[1:], onsets[1:])
        return Excerpt(before, target, repeated, match_level, bar_ago, self.positions[steps])

    def _sets_at(self, steps: NDArray[np.integer]) -> NDArray[np.bool_]:
        """The sets of single steps; those before the beginning are empty."""
        is_inside = steps >= 0
        first = int(steps[is_inside].min(initial=len(self)))
        sets = symbol_sets(self.config, *self.frames(first, int(steps.max(initial=first)) + 1))
        return sets[np.where(is_inside, steps - first, 0)] & is_inside[:, None]

    def passage(self, start: int) -> NDArray[np.bool_]:
        """What the capsules read, ``(passage_steps, 2 * e)``, as frames are in ``before``."""
        sounding, onsets = self.frames(start, start + self.config.passage_steps)
        return np.stack([sounding, onsets], axis=2).reshape(len(sounding), -1)

    def passages(self) -> NDArray[np.bool_]:
        """The consecutive passages of the piece, ``(n, passage_steps, 2 * e)``."""
        starts = range(0, max(len(self), 1), self.config.passage_steps)
        return np.stack([self.passage(start) for start in starts])


class StyledPiece(NamedTuple):
    """A piece and the index of its style."""

    piece: Encoded
    style: int


def symbol_sets(
    config: ComposerConfig, sounding: NDArray[np.bool_], onsets: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Sets of symbols ``(t, y)`` from what sounds and what begins, ``(t, e)`` each."""
    if not config.has_onsets:
        return sounding.copy()
    return np.stack([sounding & ~onsets, onsets], axis=2).reshape(-1, config.symbols)


def normalised(grid: Grid, *, lowest: int = 21, pitches: int = 88) -> tuple[Grid, Key, int]:
    """Transpose music to C major or A minor, by the fewest semitones, and into the pitches.

    Returns:
        The grid, its original key, and by how many semitones it was transposed.

    Raises:
        ScoreError: ``out_of_range``: its range is wider than the pitches.
    """
    key = music.estimate_key(grid)
    shift = ((9 if key.is_minor else 0) - key.tonic + 6) % 12 - 6
    if not len(grid.pitch):
        return transposed(grid, shift), key, shift
    low, high = int(grid.pitch.min()), int(grid.pitch.max())
    while low + shift < lowest:
        shift += 12
    while high + shift >= lowest + pitches:
        shift -= 12
    if low + shift < lowest:
        raise ScoreError(
            f"Its notes span {high - low} semitones and do not fit into the {pitches} pitches in "
            "C major or A minor.",
            code="out_of_range",
        )
    return transposed(grid, shift), key, shift


def transposed(grid: Grid, semitones: int) -> Grid:
    """All notes moved; key signatures are dropped."""
    pitch = (grid.pitch.astype(np.int64) + semitones).astype(np.uint8)
    return replace(grid, pitch=pitch, key_signatures=())


def encode(
    config: ComposerConfig, grid: Grid, *, is_minor: bool = False, has_end: bool = True
) -> Encoded:
    """Prepare a piece.

    Args:
        config: of the composer.
        grid: music within its pitches; parts from ``config.parts`` on count to the last.
        is_minor: the mode.
        has_end: whether the decoder knows how many bars are left.

    Raises:
        ScoreError: ``out_of_range``: a note lies outside the pitches.
    """
    pitch = grid.pitch.astype(np.int64) - config.lowest
    if len(pitch) and not (pitch.min() >= 0 and pitch.max() < config.pitches):
        raise ScoreError(
            f"It has notes outside MIDI pitches {config.lowest} to "
            f"{config.lowest + config.pitches - 1}.",
            code="out_of_range",
        )
    part = np.minimum(grid.part.astype(np.int64), config.parts - 1)
    repeats: tuple[Repeats, ...] = ()
    if config.repeats:
        repeats = tuple(find_repeats(codes) for codes in frame_codes(grid, part, config.parts))
    if config.has_bars:
        bars = grid.bars()
        positions = bar_positions(bars, grid.steps, has_end=has_end)
        bar_of_step = np.searchsorted(bars.start, np.arange(grid.steps), side="right") - 1
        bar_steps = bars.length[bar_of_step]
    else:
        positions = np.zeros((grid.steps, len(POSITION_SIZES)), np.uint8)
        bar_steps = np.ones(grid.steps, np.int64)
    element = part * config.pitches + pitch
    return Encoded(config, grid, element, repeats, positions, bar_steps, is_minor)


def bar_positions(bars: Bars, steps: int, *, has_end: bool) -> NDArray[np.uint8]:
    """Positions of steps in the bar and in the piece, ``(steps, 5)``; see ``POSITION_SIZES``.

    Without ``has_end`` the number of bars left is unknown.
    """
    step = np.arange(steps)
    bar = np.searchsorted(bars.start, step, side="right") - 1
    left = np.clip(len(bars.start) - 1 - bar, 0, UNKNOWN_BARS_LEFT - 1)
    kind = bars.length[bar] // 2 + 32 * bars.is_compound[bar]
    columns = (
        np.minimum(step - bars.start[bar], POSITION_SIZES[0] - 1),
        np.minimum(kind, POSITION_SIZES[1] - 1),
        bar % POSITION_SIZES[2],
        left if has_end else np.full_like(left, UNKNOWN_BARS_LEFT),
        np.minimum(bar, POSITION_SIZES[4] - 1),
    )
    return np.stack(columns, axis=1).astype(np.uint8)


class Repeats(NamedTuple):
    """For each step the earlier step whose past matches its own.

    Args:
        source: ``(steps,)`` int32, the step after the longest match, the latest of several; -1
            where there is none.
        match_level: ``(steps,)`` uint8, how long the match is, 0 to 12, as in ``LENGTHS``.
    """

    source: NDArray[np.int32]
    match_level: NDArray[np.uint8]


def find_repeats(codes: NDArray[np.int64]) -> Repeats:
    """Find the repeats of a piece, from codes ``(steps,)`` that are equal where steps are."""
    steps = len(codes)
    source = np.full(steps, -1, np.int32)
    match_level = np.zeros(steps, np.uint8)
    digits = codes.view(np.uint64)
    with np.errstate(over="ignore"):
        prefix = np.zeros(steps + 1, np.uint64)
        for step in range(steps):
            prefix[step + 1] = prefix[step] * np.uint64(ODD) + digits[step]
        for level, length in enumerate(LENGTHS, start=1):
            if steps <= length:
                break
            # window n ends before step n + length
            power = np.uint64(pow(ODD, length, _MODULUS))
            windows = prefix[length:-1] - prefix[: -1 - length] * power
            order = np.argsort(windows, kind="stable")
            is_same = windows[order[1:]] == windows[order[:-1]]
            later, earlier = order[1:][is_same] + length, order[:-1][is_same] + length
            source[later] = earlier
            match_level[later] = level
    return Repeats(source, match_level)


class RepeatFinder:
    """Finds the repeats of music that grows step by step, as ``find_repeats`` does.

    Attributes:
        next: source and match level, as in ``Repeats``, of the step to come.
    """

    def __init__(self) -> None:
        self.next = (-1, 0)
        self._prefix = [0]
        self._last_step: list[dict[int, int]] = [{} for _ in LENGTHS]  # by hash of a window
        self._powers = [pow(ODD, length, _MODULUS) for length in LENGTHS]

    def append(self, code: int) -> None:
        """Add the code of the next step."""
        self._prefix.append((self._prefix[-1] * ODD + code % _MODULUS) % _MODULUS)
        step = len(self._prefix) - 1
        self.next = (-1, 0)
        for level, (length, power, last_step) in enumerate(
            zip(LENGTHS, self._powers, self._last_step, strict=True), start=1
        ):
            if step < length:
                break
            window = (self._prefix[-1] - self._prefix[-1 - length] * power) % _MODULUS
            if window in last_step:
                self.next = (last_step[window], level)
            last_step[window] = step


def frame_codes(grid: Grid, part: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """A code ``(parts, steps)`` for what each part does in each step, 0 where it is silent.

    ``part`` ``(n,)`` is the part of each note.
    """
    codes = np.zeros((parts, grid.steps), np.uint64)
    note = np.repeat(np.arange(len(grid.onset)), grid.duration)
    age = np.arange(len(note)) - (np.cumsum(grid.duration) - grid.duration)[note]
    number = 2 * grid.pitch[note].astype(np.uint64) + (age == 0)
    # sums of scattered numbers do not depend on order, and do not collide in practice
    np.add.at(codes, (part[note], grid.onset[note] + age), scattered(number))
    return codes.view(np.int64)


def mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of each word, as SplitMix64 ends (Steele, Lea and Flood 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return result


def scattered(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers spread over 64 bits, as SplitMix64 does; never 0 for small ones."""
    return mixed((number + np.uint64(1)) * np.uint64(ODD))


def measure_attributes(config: ComposerConfig, frames: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The ``ATTRIBUTES`` of a passage ``(t, 2 * e)``; zeros where it is silent."""
    sounding, onsets = frames[:, 0::2], frames[:, 1::2]
    audible = np.flatnonzero(sounding.any(axis=1))
    step, element = np.nonzero(onsets)
    if not len(audible) or not len(step):
        return np.zeros(len(ATTRIBUTES))
    beat = config.steps_per_beat
    return np.array(
        [
            len(step) / ((audible[-1] + 1 - audible[0]) / beat),
            config.lowest + (element % config.pitches).mean(),
            sounding.sum() / len(audible),
            sounding.sum() / len(step),
            (step % beat != 0).mean(),
        ]
    )
