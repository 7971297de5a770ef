"""Grids: scores and grids are each other's inverse, frames and rolls tell the same, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scores import grids, scores

from deepmusic.errors import ScoreError, ShapeError
from deepmusic.music import (
    Frames,
    Grid,
    Note,
    Score,
    Tempo,
    grid_to_score,
    score_to_grid,
)


@settings(max_examples=60, deadline=None)
@given(grids())
def test_a_score_holds_all_of_a_grid(grid: Grid) -> None:
    score = grid_to_score(grid)
    assert score.ticks_per_beat >= 480
    assert score_to_grid(score, grid.steps_per_beat) == grid


@settings(max_examples=60, deadline=None)
@given(grids())
def test_frames_hold_all_but_velocity(grid: Grid) -> None:
    frames = grid.frames()
    again = Grid.from_frames(
        frames,
        steps_per_beat=grid.steps_per_beat,
        parts=grid.parts,
        time_signatures=grid.time_signatures,
    )
    plain = Grid(
        grid.steps_per_beat,
        grid.steps,
        grid.onset,
        grid.duration,
        grid.pitch,
        grid.part,
        parts=grid.parts,
        time_signatures=grid.time_signatures,
    )
    assert again == plain


@settings(max_examples=60, deadline=None)
@given(grids())
def test_frames_are_what_a_look_at_each_step_finds(grid: Grid) -> None:
    frames = grid.frames()
    notes = list(
        zip(*(c.tolist() for c in (grid.onset, grid.duration, grid.pitch, grid.part)), strict=True)
    )
    assert len(frames.offsets) == grid.steps + 1
    for step in range(grid.steps):
        rows = slice(*frames.offsets[step : step + 2])
        result = list(zip(*(c[rows].tolist() for c in frames[1:]), strict=True))
        assert result == sorted(
            (pitch, part, onset == step)
            for onset, duration, pitch, part in notes
            if onset <= step < onset + duration
        )


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


@settings(max_examples=60, deadline=None)
@given(scores(), st.sampled_from([1, 3, 4, 24]))
def test_notes_go_to_the_nearest_step(score: Score, steps_per_beat: int) -> None:
    """A slow reference, one note at a time."""
    lines: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}
    for note in score.notes:
        begin = int(note.onset * steps_per_beat / score.ticks_per_beat + 0.5)
        stop = max(int(note.end * steps_per_beat / score.ticks_per_beat + 0.5), begin + 1)
        line = lines.setdefault((note.part, note.pitch), {})
        before = line.get(begin, (0, 0))
        line[begin] = (max(before[0], stop), max(before[1], note.velocity))
    expected = set()
    for (part, pitch), line in lines.items():
        onsets = sorted(line)
        for begin, following in zip(onsets, [*onsets[1:], 10**9], strict=True):
            stop, velocity = line[begin]
            expected.add((begin, min(stop, following) - begin, pitch, part, velocity))
    grid = score_to_grid(score, steps_per_beat)
    columns = (grid.onset, grid.duration, grid.pitch, grid.part, grid.velocity)
    assert set(zip(*(c.tolist() for c in columns), strict=True)) == expected


def test_halfway_goes_to_the_later_step_and_a_short_note_gets_one() -> None:
    grid = score_to_grid(Score(8, (Note(1, 1, 60), Note(5, 1, 62))), 4)
    assert grid.onset.tolist() == [1, 3]
    assert grid.duration.tolist() == [1, 1]


def test_changes_come_along_and_the_last_of_a_step_holds() -> None:
    score = Score(480, (Note(0, 480, 60),), tempos=(Tempo(240, 400_000), Tempo(250, 300_000)))
    assert score_to_grid(score, 4).tempos == (Tempo(0, 500_000), Tempo(2, 300_000))


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
def test_what_is_no_grid_is_refused(columns: dict[str, Any], error: type[Exception]) -> None:
    Grid(4, 4, **column())
    with pytest.raises(error, match=r"is a column|is \d|ends at|twice"):
        Grid(4, 4, **columns)


def frames(offsets: list[int], pitch: list[int], is_onset: list[bool]) -> Frames:
    part = np.zeros(len(pitch), np.int16)
    return Frames(np.array(offsets), np.array(pitch, np.uint8), part, np.array(is_onset, bool))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (frames([0, 1, 3], [60, 60], [True, False]), "offsets"),
        (frames([0, 2, 1], [60], [True]), "offsets"),
        (frames([0, 2], [60, 60], [True, True]), "twice"),
        (frames([0, 1], [60], [False]), "did not sound"),
        (frames([0, 1, 1, 2], [60, 60], [True, False]), "did not sound"),
        (frames([0, 1, 2], [60, 61], [True, False]), "did not sound"),
    ],
)
def test_sets_that_make_no_notes_are_refused(sets: Frames, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid.from_frames(sets, steps_per_beat=4)


def test_rolls_that_make_no_notes_are_refused() -> None:
    with pytest.raises(ShapeError, match="steps, pitches"):
        Grid.from_roll(np.zeros(88), steps_per_beat=4)
    with pytest.raises(ValueError, match="1 notes lie outside"):
        Grid(4, 4, **column(pitch=[60, 20])).roll()


def test_a_claim_of_years_takes_no_memory() -> None:
    score = Score(1, (Note(0, 1, 60), Note(2**31 - 10, 5, 60)))
    grid = score_to_grid(score, 1)
    assert grid.onset.tolist() == [0, 2**31 - 10]
    for read in (grid.frames, grid.roll):
        with pytest.raises(ScoreError, match="cells") as caught:
            read()
        assert caught.value.code == "too_long"
    with pytest.raises(ScoreError, match="steps") as caught:
        score_to_grid(score, 24)
    assert caught.value.code == "too_long"
    with pytest.raises(ScoreError, match="longer than a score"):
        grid_to_score(grid)
