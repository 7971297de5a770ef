"""Where music repeats itself: the longest passage before that is like what was just heard.

Nothing tells more of the next step of a tune than what followed when the tune was here before. The
search looks only back. Likeness is found by hashes of the last steps, at some lengths, so that it
costs the same however long the music is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music import Grid

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Steps for which two pasts are compared; class n is likeness over ``LENGTHS[n - 1]`` steps or
more, class 0 none."""

ODD = 0x9E3779B97F4A7C15
"""The odd number nearest to 2**64 over the golden ratio."""

_BASE = ODD  # of a polynomial hash modulo 2**64; its digits are scattered codes
_WORD = 2**64


class Repeats(NamedTuple):
    """For each step the place of which the past is most like its own.

    Args:
        source: ``(steps,)`` int32, the step that came after the longest like passage, the latest of
            several; -1 where nothing is alike.
        likeness: ``(steps,)`` uint8, the class of how long that passage is, 0 to 12.
    """

    source: NDArray[np.int32]
    likeness: NDArray[np.uint8]


def repeats(codes: NDArray[np.int64]) -> Repeats:
    """Find the repeats of a piece.

    Args:
        codes: ``(steps,)``, equal where steps are equal and scattered where not.
    """
    steps = len(codes)
    source = np.full(steps, -1, np.int32)
    likeness = np.zeros(steps, np.uint8)
    digits = codes.view(np.uint64)
    with np.errstate(over="ignore"):
        prefix = np.zeros(steps + 1, np.uint64)
        for step in range(steps):
            prefix[step + 1] = prefix[step] * np.uint64(_BASE) + digits[step]
        for number, length in enumerate(LENGTHS, start=1):
            if steps <= length:
                break
            # window n ends before step n + length
            power = np.uint64(pow(_BASE, length, _WORD))
            windows = prefix[length:-1] - prefix[: -1 - length] * power
            order = np.argsort(windows, kind="stable")
            same = windows[order[1:]] == windows[order[:-1]]
            later, earlier = order[1:][same] + length, order[:-1][same] + length
            source[later] = earlier
            likeness[later] = number
    return Repeats(source, likeness)


class RepeatFinder:
    """Finds repeats while music grows, step by step; what it finds is what :func:`repeats` does."""

    def __init__(self) -> None:
        self._prefix = [0]
        self._seen: list[dict[int, int]] = [{} for _ in LENGTHS]
        self._powers = [pow(_BASE, length, _WORD) for length in LENGTHS]
        self._next = (-1, 0)

    def next(self) -> tuple[int, int]:
        """Source and likeness, as in :class:`Repeats`, of the step to come."""
        return self._next

    def append(self, code: int) -> None:
        """Take the code of the step that came."""
        self._prefix.append((self._prefix[-1] * _BASE + code % _WORD) % _WORD)
        step = len(self._prefix) - 1
        self._next = (-1, 0)
        for number, (length, power, seen) in enumerate(
            zip(LENGTHS, self._powers, self._seen, strict=True), start=1
        ):
            if step < length:
                break
            window = (self._prefix[-1] - self._prefix[-1 - length] * power) % _WORD
            if window in seen:
                self._next = (seen[window], number)
            seen[window] = step


def frame_codes(grid: Grid, part: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """A number for what each part does in each step, equal where it is equal.

    Args:
        grid: the music.
        part: ``(n,)``, for each note of the grid the part that it counts to.
        parts: how many there are.

    Returns:
        ``(parts, steps)``; 0 where the part is silent.
    """
    codes = np.zeros((parts, grid.steps), np.uint64)
    note = np.repeat(np.arange(len(grid.onset)), grid.duration)
    held = np.arange(len(note)) - (np.cumsum(grid.duration) - grid.duration)[note]
    number = 2 * grid.pitch[note].astype(np.uint64) + (held == 0)
    # sums of scattered numbers do not depend on order, and do not collide in practice
    np.add.at(codes, (part[note], grid.onset[note] + held), scattered(number))
    return codes.view(np.int64)


def mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread the bits of each word over all of it.

    This is how SplitMix64 ends (Steele, Lea and Flood 2014).
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return result


def scattered(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers spread over 64 bits, as SplitMix64 does; never 0 for small ones."""
    return mixed((number + np.uint64(1)) * np.uint64(ODD))
