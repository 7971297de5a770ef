"""Where bars begin: by the time signatures, or estimated from the notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music.grid import Grid
from deepmusic.music.score import Score, TimeSignature, shifted


@dataclass(frozen=True)
class Bar:
    """Where a bar starts, in ticks, and its time signature such as "3/4" where it changes."""

    start: Fraction
    time_signature: str = ""


class Bars(NamedTuple):
    """The bars of a grid.

    Args:
        start: ``(bars,)`` int64, the first step of each; the first is 0.
        length: ``(bars,)`` int64, in steps; the last may reach beyond the grid.
        is_compound: ``(bars,)`` bool, whether eighths are grouped in threes, as in 6/8.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    is_compound: NDArray[np.bool_]


def iter_bars(score: Score) -> Iterator[Bar]:
    """Yield the bars of a score in order, and one more that starts where the last ends.

    A time signature that changes within a bar cuts it short. The last bar is whole.
    """
    signatures = score.time_signatures
    start = Fraction(0)
    for signature, following in zip(signatures, [*signatures[1:], None], strict=True):
        stop = score.end if following is None else min(following.time, score.end)
        length = signature.beats_per_bar * score.ticks_per_beat
        start = Fraction(signature.time)
        name = f"{signature.numerator}/{signature.denominator}"
        while start < stop or start == 0:
            yield Bar(start, name)
            name = ""
            start += length
        if following is not None:
            start = min(start, Fraction(following.time))
            if following.time >= score.end:
                break
    yield Bar(start)


def bars_of(grid: Grid) -> Bars:
    """The bars that cover a grid, by its time signatures; a change begins a new bar.

    Bars that are not whole steps are rounded, to at least one step.
    """
    starts, lengths, compound = [], [], []
    end = max(grid.steps, 1)
    signatures = grid.time_signatures
    stops = [*(signature.time for signature in signatures[1:]), end]
    for signature, stop in zip(signatures, stops, strict=True):
        length = signature.bar_steps(grid.steps_per_beat)
        start = np.arange(signature.time, min(stop, end), length, dtype=np.int64)
        starts.append(start)
        lengths.append(
            np.minimum(length, stop - start) if stop != stops[-1] else np.full_like(start, length)
        )
        compound.append(np.full(len(start), signature.is_compound))
    return Bars(np.concatenate(starts), np.concatenate(lengths), np.concatenate(compound))


def with_estimated_bars(grid: Grid, lengths: tuple[int, ...] = (16, 12)) -> Grid:
    """The grid with rests before it, so that its bars begin where they seem to.

    Bars tend to begin with many long notes, above all in the bass; the length and phase are chosen
    at which such onsets recur most regularly.

    Args:
        grid: music without a time signature.
        lengths: steps that a bar may have, the usual one first, whole beats each.

    Returns:
        The grid, later by less than a bar, with one time signature.
    """
    weight = np.zeros(grid.steps)
    lowest = np.full(grid.steps, 128)
    np.minimum.at(lowest, grid.onset, grid.pitch.astype(np.int64))
    is_bass = grid.pitch == lowest[grid.onset]
    duration = np.minimum(grid.duration, max(lengths))
    np.add.at(weight, grid.onset, duration * np.where(is_bass, 2.0, 1.0))
    best = (-np.inf, lengths[0], 0)
    for length in lengths:
        folded = np.zeros(length)
        np.add.at(folded, np.arange(grid.steps) % length, weight)
        folded /= max(grid.steps / length, 1)
        # bars begin on beats: only these are compared
        on_beat = folded[:: grid.steps_per_beat]
        beat = int(on_beat.argmax())
        contrast = (on_beat[beat] - np.delete(on_beat, beat).mean()) / (folded.mean() + 1e-9)
        contrast *= 1.15 if length == lengths[0] else 1.0
        best = max(best, (float(contrast), length, beat * grid.steps_per_beat))
    _, length, phase = best
    delay = -phase % length
    return replace(
        grid,
        steps=grid.steps + delay,
        onset=grid.onset + delay,
        tempos=shifted(grid.tempos, delay),
        time_signatures=(TimeSignature(0, length // grid.steps_per_beat, 4),),
        key_signatures=shifted(grid.key_signatures, delay),
    )
