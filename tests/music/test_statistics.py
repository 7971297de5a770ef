"""Measures of music: values worked out by hand, slow loops, and distances of sets."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from scipy.stats import gaussian_kde
from scores import grids

from deepmusic.datasets.symbolic import load_symbolic
from deepmusic.music import Grid, Part, TimeSignature
from deepmusic.music.statistics import MusicStatistics, distance, statistics

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "symbolic"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the symbolic data are not here")
NAMES = [field.name for field in fields(MusicStatistics)]


def grid_of(notes: list[tuple[int, int, int]], steps: int, **more: object) -> Grid:
    """The grid of (onset, duration, pitch) at four steps a beat."""
    onset, duration, pitch = np.array(notes, int).reshape(-1, 3).T
    return Grid(4, steps, onset, duration, pitch, **more)  # type: ignore[arg-type]


def test_values_worked_out_by_hand() -> None:
    # a bar of C C G E♭ in quarters over a held C, then a bar with one late half note
    notes = [(0, 4, 60), (4, 4, 72), (8, 4, 67), (12, 4, 63), (0, 16, 48), (18, 8, 61)]
    measured = statistics(grid_of(notes, 32))
    shares = np.array([3, 1, 1, 1]) / 6  # C, D♭, E♭, G
    assert measured.pitch_class_entropy == pytest.approx(-(shares * np.log2(shares)).sum())
    assert measured.scale_consistency == 1  # A♭ major has them all
    assert measured.polyphony == pytest.approx((2 * 16 + 8) / 24)
    assert measured.pitch_range == 24
    assert measured.mean_pitch == pytest.approx((60 + 72 + 67 + 63 + 48 + 61) / 6)
    assert measured.note_length == pytest.approx((4 * 1 + 4 + 2) / 6)
    assert measured.syncopation == pytest.approx(1 / 6)
    assert measured.note_density == pytest.approx(6 / 8)
    assert measured.groove_consistency == pytest.approx(1 - 5 / 16)
    assert measured.empty_beat_rate == pytest.approx(1 / 8)  # the late note sounds in three beats


def test_a_chromatic_scale_is_as_uneven_as_can_be() -> None:
    measured = statistics(grid_of([(i, 1, 60 + i) for i in range(12)], 12))
    assert measured.pitch_class_entropy == pytest.approx(math.log2(12))
    assert measured.scale_consistency == pytest.approx(7 / 12)
    assert statistics(grid_of([(0, 1, 60)], 1)).pitch_class_entropy == 0


def test_syncopation_is_a_late_note_that_is_held_over() -> None:
    for onset, duration, expected in ((2, 2, 0), (2, 3, 1), (3, 2, 1), (3, 1, 0), (4, 9, 0)):
        assert statistics(grid_of([(onset, duration, 60)], 16)).syncopation == expected
    of_beats = Grid(1, 4, [0, 1], [1, 3], [60, 62])  # type: ignore[arg-type]
    assert math.isnan(statistics(of_beats).syncopation)


def test_bars_come_from_the_metre_unless_they_are_given() -> None:
    waltz = [(start + late, 1, 60) for start in (0, 12, 24) for late in (0, 4, 8)]
    three_four = (TimeSignature(0, 3, 4),)
    assert statistics(grid_of(waltz, 36, time_signatures=three_four)).groove_consistency == 1
    in_four = statistics(grid_of(waltz, 36)).groove_consistency  # the last bar is no whole one
    assert in_four == 1  # a note on every beat
    odd = [(start + late, 1, 60) for start in (0, 12, 24) for late in (0, 3)]
    assert statistics(grid_of(odd, 36, time_signatures=three_four)).groove_consistency == 1
    assert statistics(grid_of(odd, 36)).groove_consistency == pytest.approx(1 - 6 / 16)
    assert statistics(grid_of(odd, 36), steps_per_bar=12).groove_consistency == 1
    for metres in (
        (TimeSignature(0, 3, 4), TimeSignature(12, 4, 4)),
        (TimeSignature(0, 3, 32),),  # a bar and a half steps
        (TimeSignature(0, 5, 1),),  # fewer than two bars
    ):
        assert math.isnan(statistics(grid_of(odd, 36, time_signatures=metres)).groove_consistency)
    with pytest.raises(ValueError, match="at least 1"):
        statistics(grid_of(odd, 36), steps_per_bar=0)


def test_drums_have_a_rhythm_and_no_pitch() -> None:
    parts = (Part("piano"), Part("drums", is_drum=True))
    notes = [(0, 8, 60), (4, 4, 64), (0, 1, 36), (12, 1, 99)]
    both = statistics(grid_of(notes, 16, part=np.array([0, 0, 1, 1]), parts=parts))
    alone = statistics(grid_of(notes[:2], 16))
    for name in NAMES[:7]:
        assert getattr(both, name) == getattr(alone, name)
    assert both.note_density == 1
    assert both.empty_beat_rate == 0.25
    only = statistics(grid_of(notes[2:], 16, part=1, parts=parts))
    assert [math.isnan(getattr(only, name)) for name in NAMES[:7]] == [True] * 7
    assert only.note_density == 0.5


def test_nothing_measures_as_nothing() -> None:
    empty = statistics(grid_of([], 0))
    assert all(math.isnan(getattr(empty, name)) for name in NAMES)
    assert json.loads(json.dumps(empty.to_dict())) == dict.fromkeys(NAMES)
    silent = statistics(grid_of([], 32))
    assert (silent.note_density, silent.empty_beat_rate, silent.groove_consistency) == (0, 1, 1)


@settings(max_examples=60, deadline=None)
@given(grids())
def test_measures_agree_with_slow_loops(grid: Grid) -> None:
    measured = statistics(grid)
    columns = (grid.onset, grid.duration, grid.pitch, grid.part)
    notes = list(zip(*(column.tolist() for column in columns), strict=True))
    pitched = [note for note in notes if not grid.parts[note[3]].is_drum]
    sounding = [
        {pitch for onset, length, pitch, _ in pitched if onset <= step < onset + length}
        for step in range(grid.steps)
    ]
    counts = [len(chord) for chord in sounding if chord]
    expected = sum(counts) / len(counts) if counts else math.nan
    assert measured.polyphony == pytest.approx(expected, nan_ok=True)
    beat = grid.steps_per_beat
    beats = [range(start, min(start + beat, grid.steps)) for start in range(0, grid.steps, beat)]
    empty = [
        not any(onset < b.stop and onset + length > b.start for onset, length, *_ in notes)
        for b in beats
    ]
    expected = sum(empty) / len(empty) if empty else math.nan
    assert measured.empty_beat_rate == pytest.approx(expected, nan_ok=True)
    scales = [[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10]]
    shares = [
        sum((pitch - root) % 12 in scale for _, _, pitch, _ in pitched) / len(pitched)
        for scale in scales
        for root in range(12)
        if pitched
    ]
    expected = max(shares, default=math.nan)
    assert measured.scale_consistency == pytest.approx(expected, nan_ok=True)
    bar = 3
    struck = [any(note[0] == step for note in notes) for step in range(grid.steps)]
    bars = [struck[i : i + bar] for i in range(0, grid.steps - bar + 1, bar)]
    differ = [
        sum(a != b for a, b in zip(one, two, strict=True)) / bar for one, two in pairwise(bars)
    ]
    expected = 1 - sum(differ) / len(differ) if differ else math.nan
    found = statistics(grid, steps_per_bar=bar).groove_consistency
    assert found == pytest.approx(expected, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(grids(), st.integers(-12, 12))
def test_transposing_moves_the_mean_pitch_alone(grid: Grid, semitones: int) -> None:
    moved = grid.pitch.astype(int) + semitones
    assume(not len(moved) or (moved.min() >= 0 and moved.max() <= 127))
    before, after = statistics(grid), statistics(replace(grid, pitch=moved))
    assert after.mean_pitch == pytest.approx(before.mean_pitch + semitones, nan_ok=True)
    for name in set(NAMES) - {"mean_pitch"}:
        assert getattr(after, name) == pytest.approx(getattr(before, name), nan_ok=True)


def measured_as(values: list[float]) -> list[MusicStatistics]:
    return [MusicStatistics(*[float(value)] * len(NAMES)) for value in values]


def test_distances_of_sets() -> None:
    reference = measured_as([1, 2, 3, 4])
    found = distance(measured_as([3, 4, 5, 6]), reference)
    assert list(found) == NAMES
    for name in NAMES:
        assert found[name].shift == pytest.approx(2 / np.std([1, 2, 3, 4]))
        assert 0.2 < found[name].overlap < 0.6
    assert distance(reference, reference)["polyphony"] == (0, pytest.approx(1))
    assert distance(measured_as([900, 901]), reference)["polyphony"].overlap < 0.01


def test_sets_of_one_value_have_distances() -> None:
    one, two = measured_as([1, 1, 1]), measured_as([2])
    assert distance(one, one)["mean_pitch"] == (0, 1)
    assert distance(two, one)["mean_pitch"] == (math.inf, pytest.approx(0, abs=1e-9))
    assert distance(one, measured_as([2, 2]))["mean_pitch"].shift == -math.inf
    spread = measured_as([0, 1, 2, 3])
    found = distance(one, spread)["mean_pitch"]
    assert found.shift == pytest.approx(-0.5 / np.std([0, 1, 2, 3]))
    assert 0 < found.overlap < 0.2
    third = measured_as([0.1 + 0.2] * 3)  # its mean rounds
    assert distance(third, measured_as([0.3] * 7))["mean_pitch"] == (0, 1)


def test_what_is_not_a_number_is_left_out() -> None:
    some = measured_as([1, 2, math.nan, 3])
    assert distance(some, some)["polyphony"] == (0, pytest.approx(1))
    for pair in ((measured_as([math.nan]), some), (some, []), ([], [])):
        assert all(map(math.isnan, distance(*pair)["polyphony"]))


def test_overlap_is_that_of_scipys_densities() -> None:
    random = np.random.default_rng(0)
    one, two = random.normal(0, 1, 40), random.normal(1, 2, 25)
    points = np.linspace(-12, 14, 20001)
    densities = np.minimum(gaussian_kde(one)(points), gaussian_kde(two)(points))
    expected = densities.sum() * (points[1] - points[0])
    found = distance(measured_as(one.tolist()), measured_as(two.tolist()))["polyphony"].overlap
    assert found == pytest.approx(expected, abs=2e-4)


@needs_data
def test_two_halves_of_bach_are_near() -> None:
    chorales = load_symbolic("chorales", DATA)
    train = [statistics(piece.grid) for piece in chorales.train]
    test = [statistics(piece.grid) for piece in chorales.test]
    # the metre of chorales is not in the data: all are measured in bars of four beats
    for name, found in distance(test, train).items():
        assert abs(found.shift) < 0.5, name
        assert found.overlap > 0.6, name
    assert 3 < np.mean([piece.polyphony for piece in test]) <= 4
    assert np.mean([piece.scale_consistency for piece in test]) > 0.9
