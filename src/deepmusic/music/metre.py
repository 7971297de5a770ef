"""Where bars begin: by the time signatures, or, where they say nothing, by ear."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music.grid import Grid
from deepmusic.music.score import Score, TimeSignature


@dataclass(frozen=True)
class Bar:
    """Where a bar starts, in ticks, and its metre such as "3/4" where that is new."""

    start: Fraction
    metre: str = ""


class Bars(NamedTuple):
    """The bars of a grid.

    Args:
        start: ``(bars,)`` int64, the first step of each; the first is 0.
        length: ``(bars,)`` int64, steps of each; the last may reach beyond the grid.
        is_compound: ``(bars,)`` bool, whether eighths are counted, as in 6/8.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    is_compound: NDArray[np.bool_]


def bars(score: Score) -> Iterator[Bar]:
    """The bars of a score in order, and one more that starts where the last ends; at least two.

    A metre that changes within a bar cuts it short. The last bar is whole.
    """
    metres = score.time_signatures
    last = Fraction(0)
    for metre, after in zip(metres, [*metres[1:], None], strict=True):
        stop = score.end if after is None else min(after.time, score.end)
        length = metre.beats_per_bar * score.ticks_per_beat
        last = Fraction(metre.time)
        name = f"{metre.numerator}/{metre.denominator}"
        while last < stop or last == 0:
            yield Bar(last, name)
            name = ""
            last += length
        if after is not None:
            last = min(last, Fraction(after.time))
            if after.time >= score.end:
                break
    yield Bar(last)


def bars_of(grid: Grid) -> Bars:
    """The bars that cover a grid, by its time signatures; a change begins a new bar.

    Metres that fall between steps are rounded to whole steps, one at least.
    """
    starts, lengths, compound = [], [], []
    signatures = grid.time_signatures
    ends = [*(s.time for s in signatures[1:]), max(grid.steps, 1)]
    for signature, end in zip(signatures, ends, strict=True):
        length = signature.bar_steps(grid.steps_per_beat)
        begin = np.arange(signature.time, min(end, max(grid.steps, 1)), length, dtype=np.int64)
        starts.append(begin)
        lengths.append(np.minimum(length, end - begin) if end != ends[-1] else length + 0 * begin)
        compound.append(np.full(len(begin), signature.is_compound))
    return Bars(np.concatenate(starts), np.concatenate(lengths), np.concatenate(compound))


def with_estimated_bars(grid: Grid, lengths: tuple[int, ...] = (16, 12)) -> Grid:
    """The grid with rests before it so that its bars begin where they seem to.

    A bar begins where much is struck that lasts, the bass above all; of the lengths that one is
    taken at which this comes back most regularly.

    Args:
        grid: music of which the metre is not known.
        lengths: steps that a bar may have, the usual one first, whole beats each.

    Returns:
        The grid, later by less than a bar, with one time signature.
    """
    weight = np.zeros(grid.steps)
    lowest = np.full(grid.steps, 128)
    np.minimum.at(lowest, grid.onset, grid.pitch.astype(np.int64))
    is_bass = grid.pitch == lowest[grid.onset]
    lasting = np.minimum(grid.duration, max(lengths))
    np.add.at(weight, grid.onset, lasting * np.where(is_bass, 2.0, 1.0))
    best = (-np.inf, lengths[0], 0)
    for length in lengths:
        folded = np.zeros(length)
        np.add.at(folded, np.arange(grid.steps) % length, weight)
        folded /= max(grid.steps / length, 1)
        # bars begin on beats: only these are compared
        phase = int(folded[:: grid.steps_per_beat].argmax()) * grid.steps_per_beat
        others = np.delete(folded[:: grid.steps_per_beat], phase // grid.steps_per_beat)
        clear = (folded[phase] - others.mean()) / (folded.mean() + 1e-9)
        clear *= 1.15 if length == lengths[0] else 1.0
        best = max(best, (float(clear), length, phase))
    _, length, phase = best
    later = -phase % length
    beats = length // grid.steps_per_beat
    return replace(
        grid,
        steps=grid.steps + later,
        onset=grid.onset + later,
        tempos=tuple(replace(t, time=t.time + later if t.time else 0) for t in grid.tempos),
        time_signatures=(TimeSignature(0, beats, 4),),
        key_signatures=tuple(
            replace(k, time=k.time + later if k.time else 0) for k in grid.key_signatures
        ),
    )
