"""Quantisation and what it loses, alignment before it, and estimated bars."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scores import grids, scores

from deepmusic.music import (
    Grid,
    KeySignature,
    Note,
    Part,
    Score,
    Tempo,
    TimeSignature,
    aligned,
    grid_to_score,
    quantisation_loss,
    score_to_grid,
    with_estimated_bars,
)

ROOT = Path(__file__).resolve().parents[2]


@settings(max_examples=30, deadline=None)
@given(grids())
def test_on_the_grid_nothing_is_lost(grid: Grid) -> None:
    loss = quantisation_loss(grid_to_score(grid), grid.steps_per_beat)
    assert loss.notes == len(grid.onset)
    assert loss.merged == loss.cut == 0
    for errors in (loss.onset_error_beats, loss.onset_error_s, loss.duration_error):
        np.testing.assert_allclose(errors, 0, atol=1e-9)


@pytest.mark.slow
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
    loss = quantisation_loss(score, steps_per_beat)
    assert loss.notes - loss.merged == len(grid.onset)
    assert np.abs(loss.onset_error_beats).max() <= 0.5 / steps_per_beat + 1e-9


def test_ties_changes_and_short_notes() -> None:
    grid = score_to_grid(Score(8, (Note(1, 1, 60), Note(5, 1, 62))), 4)
    assert (grid.onset.tolist(), grid.duration.tolist()) == ([1, 3], [1, 1])
    score = Score(480, (Note(0, 480, 60),), tempos=(Tempo(240, 400_000), Tempo(250, 300_000)))
    assert score_to_grid(score, 4).tempos == (Tempo(0, 500_000), Tempo(2, 300_000))


def test_merged_and_cut_notes_are_counted() -> None:
    score = Score(
        480,
        (
            Note(10, 470, 60),  # 10 ticks early, and ends with its beat
            Note(20, 110, 60),  # merged with the first
            Note(480, 480, 62),
            Note(720, 240, 62),  # cuts the one before
            Note(0, 1, 36, part=1),  # a drum: its length means nothing
        ),
        parts=(Part(), Part(is_drum=True)),
        tempos=(Tempo(0, 1_000_000),),
    )
    loss = quantisation_loss(score, 4)
    assert (loss.notes, loss.merged, loss.cut) == (5, 1, 1)
    by_onset = dict(zip(score.arrays.onset.tolist(), loss.onset_error_s.tolist(), strict=True))
    assert by_onset == pytest.approx({0: 0, 10: -10 / 480, 20: -20 / 480, 480: 0, 720: 0})
    np.testing.assert_allclose(loss.onset_error_beats, loss.onset_error_s)
    assert sorted(loss.duration_error.tolist()) == pytest.approx([-0.5, 0, 480 / 470 - 1])


@settings(max_examples=30, deadline=None)
@given(grids(), st.integers(-59, 59))
def test_a_constant_shift_is_removed(grid: Grid, shift: int) -> None:
    if grid.steps_per_beat != 4 or not len(grid.onset):
        return
    straight = grid_to_score(grid)
    notes = tuple(
        Note(n.onset + 480 + shift, n.duration, n.pitch, n.velocity, n.part) for n in straight.notes
    )
    again = aligned(Score(480, notes, parts=straight.parts))
    assert [n.onset - 480 for n in again.notes] == [n.onset for n in straight.notes]
    assert quantisation_loss(again, 4).merged == 0


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(grids(), st.booleans())
def test_a_score_on_the_grid_is_not_moved(grid: Grid, is_coarse: bool) -> None:
    score = grid_to_score(grid)
    assert aligned(score, grid.steps_per_beat) == score


def oom_pah(beats: int, bars: int, later: int) -> Grid:
    """A low note on each first beat, chords on the others, a tune above; ``later`` steps late."""
    random = np.random.default_rng(0)
    rows = []
    for bar in range(bars):
        for beat in range(beats):
            step = later + 4 * (beats * bar + beat)
            if beat == 0:
                rows.append((step, 4, 43 + (bar % 2) * 5))
            else:
                rows += [(step, 2, pitch) for pitch in (59, 62, 67)]
        step = later + 4 * beats * bar
        rows.append((step, 8, 79 + int(random.integers(0, 3))))
        rows += [(step + 8 + n, 1, 76 - n) for n in range(4 * beats - 8)]
    rows += [(n, 1, 76) for n in range(later % 4, later, 2)]
    onset, duration, pitch = np.array(rows).T
    return Grid(
        4, later + 4 * beats * bars, onset, duration, pitch,
        parts=(Part("band"),), tempos=(Tempo(0, 400_000), Tempo(later + 4, 500_000)),
        key_signatures=(KeySignature(later + 8, 1),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("beats", "upbeat"), [(3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2), (4, 3)]
)
def test_downbeats_are_estimated(beats: int, upbeat: int) -> None:
    later = 4 * upbeat
    grid = oom_pah(beats, 12, later)
    result = with_estimated_bars(grid)
    assert result.time_signatures == (TimeSignature(0, beats, 4),)
    rest = -later % (4 * beats)
    assert result.steps == grid.steps + rest
    np.testing.assert_array_equal(result.onset, grid.onset + rest)
    np.testing.assert_array_equal(result.duration, grid.duration)
    np.testing.assert_array_equal(result.pitch, grid.pitch)
    low = result.onset[result.pitch < 50]
    assert set(low.tolist()) <= set(result.bars().start.tolist())
    assert [tempo.time for tempo in result.tempos] == [0, later + 4 + rest]
    assert [key.time for key in result.key_signatures] == [later + 8 + rest]
    assert result.parts == grid.parts


@pytest.mark.parametrize("steps", [0, 1, 7, 100])
def test_silence_has_bars_too(steps: int) -> None:
    result = with_estimated_bars(Grid(4, steps, *np.zeros((3, 0), int)))
    assert result.time_signatures == (TimeSignature(0, 4, 4),)
    assert result.steps == steps


def test_the_page_is_what_the_benchmark_makes_of_the_measurements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = ROOT / "benchmarks" / "quantisation.py"
    spec = importlib.util.spec_from_file_location("quantisation_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.syspath_prepend(str(path.parent))
    benchmark: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    page = benchmark.PAGE.read_text(encoding="utf-8")
    measured = json.loads(benchmark.MEASURED.read_text(encoding="utf-8"))
    again = "run benchmarks/quantisation.py --pages"
    assert benchmark.tables(measured) in page, again
