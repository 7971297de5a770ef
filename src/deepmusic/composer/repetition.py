"""Where music repeats itself: the longest earlier match of the most recent steps.

What followed the same passage earlier is the best predictor of the next step of a tune. Matches
are found by hashes of the last steps, at several lengths, so the cost does not grow with the
length of the music; only the past is searched.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music import Grid

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Lengths of matches in steps; level n is a match of ``LENGTHS[n - 1]`` steps or more, 0 none."""

ODD = 0x9E3779B97F4A7C15
"""The odd number nearest to 2**64 over the golden ratio."""

_BASE = ODD  # of a polynomial hash modulo 2**64; its digits are scattered codes
_MODULUS = 2**64


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
            prefix[step + 1] = prefix[step] * np.uint64(_BASE) + digits[step]
        for level, length in enumerate(LENGTHS, start=1):
            if steps <= length:
                break
            # window n ends before step n + length
            power = np.uint64(pow(_BASE, length, _MODULUS))
            windows = prefix[length:-1] - prefix[: -1 - length] * power
            order = np.argsort(windows, kind="stable")
            is_same = windows[order[1:]] == windows[order[:-1]]
            later, earlier = order[1:][is_same] + length, order[:-1][is_same] + length
            source[later] = earlier
            match_level[later] = level
    return Repeats(source, match_level)


class RepeatFinder:
    """Finds the repeats of music that grows step by step, as ``find_repeats`` does."""

    def __init__(self) -> None:
        self._prefix = [0]
        self._last_step: list[dict[int, int]] = [{} for _ in LENGTHS]  # by hash of a window
        self._powers = [pow(_BASE, length, _MODULUS) for length in LENGTHS]
        self._next = (-1, 0)

    def next(self) -> tuple[int, int]:
        """Source and match level, as in ``Repeats``, of the step to come."""
        return self._next

    def append(self, code: int) -> None:
        """Add the code of the next step."""
        self._prefix.append((self._prefix[-1] * _BASE + code % _MODULUS) % _MODULUS)
        step = len(self._prefix) - 1
        self._next = (-1, 0)
        for level, (length, power, last_step) in enumerate(
            zip(LENGTHS, self._powers, self._last_step, strict=True), start=1
        ):
            if step < length:
                break
            window = (self._prefix[-1] - self._prefix[-1 - length] * power) % _MODULUS
            if window in last_step:
                self._next = (last_step[window], level)
            last_step[window] = step


def frame_codes(grid: Grid, part: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """A code for what each part does in each step, equal where it is equal.

    Args:
        grid: the music.
        part: ``(n,)``, the part of each note.
        parts: number of parts.

    Returns:
        ``(parts, steps)``; 0 where the part is silent.
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
