"""The bars of a given piece, and which of them the model reads and composes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np

from deepmusic.composer.request import BARS, Request
from deepmusic.errors import RequestError
from deepmusic.music import Score, TimeSignature

USUAL_BARS = 16

_BAR_STEPS = (2, 48)  # bars of other lengths are read as the usual ones of the style


class Barlines:
    """The bars of a score, counted from 0 and going on after its end.

    Bars that are too short or too long to read are read as ``usual`` ones.
    """

    def __init__(self, score: Score, usual: TimeSignature, steps_per_beat: int) -> None:
        shortest, longest = _BAR_STEPS
        self.signatures = [
            s if shortest <= s.bar_steps(steps_per_beat) <= longest else replace(usual, time=s.time)
            for s in score.time_signatures
        ]
        self._lengths = [s.beats_per_bar * score.ticks_per_beat for s in self.signatures]
        self._times = [s.time for s in self.signatures]
        self._first = [0]
        for index, length in enumerate(self._lengths[:-1]):
            bars = ceil((self._times[index + 1] - self._times[index]) / length)
            self._first.append(self._first[-1] + bars)

    def number(self, tick: int) -> int:
        """The bar in which a tick lies."""
        index = bisect_right(self._times, tick) - 1
        return self._first[index] + int((tick - self._times[index]) / self._lengths[index])

    def start(self, bar: int) -> Fraction:
        """The tick at which a bar begins."""
        index = bisect_right(self._first, bar) - 1
        return self._times[index] + (bar - self._first[index]) * self._lengths[index]

    def signature(self, bar: int) -> TimeSignature:
        """The time signature of a bar, as from the start."""
        return replace(self.signatures[bisect_right(self._first, bar) - 1], time=0)


class BarRange(NamedTuple):
    """Bars of a piece, from 0, without the last of each pair."""

    read: tuple[int, int]  # by the model, with those to compose
    free: tuple[int, int]  # to compose
    sounding: tuple[int, int]  # from the first note to the last


def bars_to_read(request: Request, score: Score, lines: Barlines) -> BarRange:
    """Which bars the model reads and which it composes.

    Raises:
        RequestError: the piece does not have the bars that are to be rewritten, or is longer than
            requested.
    """
    notes, most = score.arrays, BARS[1]
    ends = notes.onset + notes.duration
    # what ends just after a bar line ends with the bar
    last = np.maximum(notes.onset, ends - 1 - score.ticks_per_beat // 8)
    start, stop = lines.number(int(notes.onset.min())), lines.number(int(last.max())) + 1
    given = stop - start
    if request.infill is not None:
        first, end = request.infill[0] - 1, request.infill[1]
        if end > stop:
            raise RequestError(
                f"{request.given} has {stop} bars, so bars up to {end} cannot be rewritten."
            )
        if end - first > most:
            raise RequestError(f"At most {most} bars are rewritten at a time.")
        low, high = min(start, first), stop
        if high - low > most:
            low = max(low, min(first - most // 2, high - most), end - most)
            high = low + most
        return BarRange((low, high), (first, end), (start, stop))
    if request.harmonize is not None:
        bars = request.bars or min(max(given, BARS[0]), most)
        if bars < given <= most:
            raise RequestError(
                f"The melody in {request.harmonize} has {given} bars, more than the {bars} "
                "requested: request as many, or omit bars."
            )
        low = max(start, stop - bars)
        return BarRange((low, low + bars), (low, low + bars), (start, stop))
    bars = request.bars or min(given + USUAL_BARS, most)
    if given >= most:
        low = stop - max(bars - USUAL_BARS, bars // 2)
    elif bars > given:
        low = start
    else:
        raise RequestError(
            f"The primer {request.primer} has {given} bars, and the piece is to have {bars}: "
            "request more bars, or shorten the primer."
        )
    return BarRange((low, low + bars), (stop, low + bars), (start, stop))
