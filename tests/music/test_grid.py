"""Grids: frames, rolls, bars and bad input, against slow references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scores import grids

from deepmusic.errors import ScoreError, ShapeError
from deepmusic.music import Frames, Grid, Note, Score, TimeSignature, grid_to_score, score_to_grid

EMPTY = np.zeros(0, int)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(grids())
def test_a_score_holds_all_of_a_grid(grid: Grid) -> None:
    score = grid_to_score(grid)
    assert score.ticks_per_beat >= 480
    assert score_to_grid(score, grid.steps_per_beat) == grid


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(grids())
def test_frames_are_the_sounding_notes_and_hold_all_but_velocity(grid: Grid) -> None:
    frames = grid.frames()
    columns = (grid.onset, grid.duration, grid.pitch, grid.part)
    notes = list(zip(*(column.tolist() for column in columns), strict=True))
    assert len(frames.offsets) == grid.steps + 1
    for step in range(grid.steps):
        rows = slice(*frames.offsets[step : step + 2])
        result = list(zip(*(c[rows].tolist() for c in frames[1:]), strict=True))
        assert result == sorted(
            (pitch, part, onset == step)
            for onset, duration, pitch, part in notes
            if onset <= step < onset + duration
        )
    options = {"parts": grid.parts, "time_signatures": grid.time_signatures}
    plain = Grid(grid.steps_per_beat, grid.steps, *columns, **options)
    assert Grid.from_frames(frames, steps_per_beat=grid.steps_per_beat, **options) == plain


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(grids())
def test_rolls_are_the_frames_without_parts(grid: Grid) -> None:
    frames = grid.frames()
    step = np.repeat(np.arange(grid.steps), np.diff(frames.offsets))
    sounds = np.zeros((grid.steps, 128), bool)
    sounds[step, frames.pitch] = True
    np.testing.assert_array_equal(grid.roll(lowest=0, pitches=128), sounds)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), max_size=12))
def test_a_roll_comes_back(rows: list[list[bool]]) -> None:
    roll = np.array(rows, bool).reshape(-1, 5)
    grid = Grid.from_roll(roll, steps_per_beat=4, lowest=60)
    np.testing.assert_array_equal(grid.roll(lowest=60, pitches=5), roll)
    assert len(grid.onset) == np.count_nonzero(np.diff(roll.astype(int), axis=0, prepend=0) == 1)


def slow_bars(grid: Grid) -> list[tuple[int, int, bool]]:
    """Walk over the steps; a bar ends when it is full, or where the time signature changes."""
    signatures = {signature.time: signature for signature in grid.time_signatures}
    bars: list[tuple[int, int, bool]] = []
    current, length, begun = None, 0, 0
    for step in range(max(grid.steps, 1)):
        if step in signatures:
            current = signatures[step]
            length = max(round(current.beats_per_bar * grid.steps_per_beat), 1)
            begun = step
        elif step - begun == length:
            begun = step
        if begun == step:
            end = min((time for time in signatures if time > step), default=step + length)
            is_compound = current.denominator == 8 and current.numerator % 3 == 0
            bars.append((step, min(end, step + length) - step, is_compound))
    return bars


SIGNATURES = st.builds(
    TimeSignature, st.integers(0, 90), st.integers(1, 13), st.sampled_from([1, 2, 4, 8, 16, 32])
)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(st.integers(0, 90), st.sampled_from([1, 3, 4, 12]), st.lists(SIGNATURES, max_size=4))
def test_bars_equal_a_slow_walk(
    steps: int, steps_per_beat: int, signatures: list[TimeSignature]
) -> None:
    inside = tuple(change for change in signatures if change.time < max(steps, 1))
    grid = Grid(steps_per_beat, steps, EMPTY, EMPTY, EMPTY, time_signatures=inside)
    bars = grid.bars()
    assert list(zip(*(column.tolist() for column in bars), strict=True)) == slow_bars(grid)
    # without a gap, from the start to the end of the music at least
    assert bars.start[0] == 0
    np.testing.assert_array_equal(bars.start[:-1] + bars.length[:-1], bars.start[1:])
    assert bars.start[-1] + bars.length[-1] >= steps


def test_bars_of_three_time_signatures() -> None:
    changes = (TimeSignature(0, 4, 4), TimeSignature(20, 6, 8), TimeSignature(44, 3, 4))
    bars = Grid(4, 60, EMPTY, EMPTY, EMPTY, time_signatures=changes).bars()
    assert bars.start.tolist() == [0, 16, 20, 32, 44, 56]
    assert bars.length.tolist() == [16, 4, 12, 12, 12, 12]
    assert bars.is_compound.tolist() == [False, False, True, True, False, False]


def column(**changed: Any) -> dict[str, Any]:
    return {"onset": [0, 2], "duration": [1, 2], "pitch": [60, 60]} | changed


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        (column(pitch=[60]), ShapeError),
        (column(pitch=[60.0, 61.0]), ShapeError),
        (column(pitch=[[60], [60]]), ShapeError),
        (column(pitch=[60, 128]), ValueError),
        (column(duration=[1, 0]), ValueError),
        (column(duration=[1, 3]), ValueError),  # beyond the end
        (column(duration=[3, 2]), ValueError),  # into the next of its pitch
        (column(onset=[0, -1]), ValueError),
        (column(part=1), ValueError),
        (column(velocity=[1, 0]), ValueError),
    ],
)
def test_bad_columns_are_refused(columns: dict[str, Any], error: type[Exception]) -> None:
    Grid(4, 4, **column())
    with pytest.raises(error, match=r"is a column|is \d|ends at|twice"):
        Grid(4, 4, **columns)


@pytest.mark.parametrize(
    ("offsets", "pitch", "is_onset", "message"),
    [
        ([0, 1, 3], [60, 60], [True, False], "offsets"),
        ([0, 2, 1], [60], [True], "offsets"),
        ([0, 2], [60, 60], [True, True], "twice"),
        ([0, 1], [60], [False], "did not sound"),
        ([0, 1, 1, 2], [60, 60], [True, False], "did not sound"),
        ([0, 1, 2], [60, 61], [True, False], "did not sound"),
    ],
)
def test_bad_frames_are_refused(
    offsets: list[int], pitch: list[int], is_onset: list[bool], message: str
) -> None:
    frames = Frames(*map(np.array, (offsets, pitch, [0] * len(pitch), is_onset)))
    with pytest.raises(ValueError, match=message):
        Grid.from_frames(frames, steps_per_beat=4)


def test_bad_rolls_are_refused() -> None:
    with pytest.raises(ShapeError, match="steps, pitches"):
        Grid.from_roll(np.zeros(88), steps_per_beat=4)
    with pytest.raises(ValueError, match="1 notes lie outside"):
        Grid(4, 4, **column(pitch=[60, 20])).roll()


def test_a_claim_of_years_takes_no_memory() -> None:
    score = Score(1, (Note(0, 1, 60), Note(2**31 - 10, 5, 60)))
    grid = score_to_grid(score, 1)
    assert grid.onset.tolist() == [0, 2**31 - 10]
    for make, message in (
        (grid.frames, "cells"),
        (grid.roll, "cells"),
        (lambda: score_to_grid(score, 24), "steps"),
        (lambda: grid_to_score(grid), "longer than a score"),
    ):
        with pytest.raises(ScoreError, match=message) as caught:
            make()
        assert caught.value.code == "too_long"
