"""What quantisation loses, counted, and putting a score straight before it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scores import grids, scores

from deepmusic.music import (
    Grid,
    Note,
    Part,
    Score,
    Tempo,
    aligned,
    grid_to_score,
    quantisation_loss,
    score_to_grid,
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


@settings(max_examples=30, deadline=None)
@given(scores(), st.sampled_from([1, 3, 4, 24]))
def test_counts_agree_with_the_grid(score: Score, steps_per_beat: int) -> None:
    loss = quantisation_loss(score, steps_per_beat)
    grid = score_to_grid(score, steps_per_beat)
    assert loss.notes - loss.merged == len(grid.onset)
    assert np.abs(loss.onset_error_beats).max() <= 0.5 / steps_per_beat + 1e-9


def test_what_is_counted() -> None:
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
def test_a_constant_shift_is_taken_out(grid: Grid, shift: int) -> None:
    if grid.steps_per_beat != 4 or not len(grid.onset):
        return
    straight = grid_to_score(grid)
    notes = tuple(
        Note(n.onset + 480 + shift, n.duration, n.pitch, n.velocity, n.part) for n in straight.notes
    )
    again = aligned(Score(480, notes, parts=straight.parts))
    assert [n.onset - 480 for n in again.notes] == [n.onset for n in straight.notes]
    assert quantisation_loss(again, 4).merged == 0


@settings(max_examples=30, deadline=None)
@given(grids(), st.booleans())
def test_what_is_straight_stays(grid: Grid, is_coarse: bool) -> None:
    score = grid_to_score(grid)
    assert aligned(score, grid.steps_per_beat) == score


def test_the_page_is_what_the_benchmark_makes_of_the_measurements() -> None:
    path = ROOT / "benchmarks" / "quantisation.py"
    spec = importlib.util.spec_from_file_location("quantisation_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    page = benchmark.PAGE.read_text(encoding="utf-8")
    measured = json.loads(benchmark.MEASURED.read_text(encoding="utf-8"))
    again = "run benchmarks/quantisation.py --pages"
    assert page == benchmark.with_tables(page, benchmark.tables(measured)), again


def test_the_example_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "symbolic.md").read_text(encoding="utf-8")
    example = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    grid = names["grid"]
    message = [grid.onset.tolist(), grid.duration.tolist(), grid.pitch.tolist()]
    assert f"# {str(message)[1:-1]}" in example
    assert grid.roll().shape == (8, 88)
    assert quantisation_loss(names["score"], 4).onset_error_s[-1] == pytest.approx(-0.0125)
