"""Two tables compared: errors, matching of tracks, and what their recipes explain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from recordings import chord

from deepmusic.errors import DataError
from deepmusic.features import COLUMNS, FEATURE_SIZES, feature_columns, frame_features
from deepmusic.features.compare import (
    Comparison,
    compare,
    expected_difference,
    match_tracks,
    relative_error,
)
from deepmusic.features.table import FeatureTable

Columns = NDArray[np.float32]

TRACKS = 24
CONSTANT_Q = {"chroma_cens", "chroma_cqt", "tonnetz"}
FEATURES = np.array([feature for feature, _, _ in COLUMNS])


def made(seed: int = 0, tracks: int = TRACKS) -> Columns:
    values = np.random.default_rng(seed).lognormal(size=(tracks, len(COLUMNS)))
    return values.astype(np.float32)


def changed(columns: Columns, *features: str, factor: float = 1.5) -> Columns:
    return np.where(np.isin(FEATURES, features), columns * factor, columns).astype(np.float32)


def table(columns: Columns, recipe: str = "") -> FeatureTable:
    return FeatureTable({"path": [f"{row}.mp3" for row in range(len(columns))]}, columns, recipe)


def differing(comparison: Comparison) -> set[str]:
    return {column.feature for column in comparison.columns if not column.agrees}


def slow_error(a: float, b: float, spread: float) -> float:
    if np.isnan(a) and np.isnan(b):
        return np.nan
    if a == b:
        return 0
    if not (np.isfinite(a) and np.isfinite(b)):
        return np.inf
    return abs(a - b) / (max(abs(b), spread) or abs(a))


values = hnp.arrays(
    np.float64,
    5,
    elements=st.one_of(
        st.sampled_from([0.0, 1.0, -3.0, float("nan"), float("inf")]),
        st.floats(-1000, 1000, width=32),
    ),
)


@pytest.mark.slow
@given(values, values)
@example(np.full(5, 1e-8), np.zeros(5))
def test_errors_are_relative_to_the_reference_or_its_spread(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> None:
    finite = b[np.isfinite(b)]
    spread = finite.std() if len(finite) else 0
    expected = [slow_error(x, y, spread) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(relative_error(a, b), expected, rtol=1e-9)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.just(len(COLUMNS))),
        elements=st.one_of(st.just(float("nan")), st.floats(width=32)),
        fill=st.floats(-1e6, 1e6, width=32),
    ),
    st.floats(0, 1),
)
def test_a_table_agrees_with_itself(columns: Columns, tolerance: float) -> None:
    comparison = compare(table(columns), table(columns.copy()), tolerance=tolerance)
    assert comparison.agrees
    for column in comparison.columns:
        assert column.beyond == column.one_sided == 0
        assert column.maximum == 0 or column.tracks == 0


def test_differences_of_one_column() -> None:
    b = made()
    a = b.copy()
    index = COLUMNS.index(("zcr", "mean", "01"))
    a[:6, index] = 2 * b[:6, index] + 10
    comparison = compare(table(a), table(b))
    (column,) = [column for column in comparison.columns if not column.agrees]
    assert column.name == "zcr/mean/01"
    assert (column.tracks, column.one_sided, column.beyond) == (TRACKS, 0, 0.25)
    assert column.maximum >= column.p95 > 0
    assert column.median == 0
    assert compare(table(a), table(b), tolerance=1e6).agrees


def test_a_value_in_one_table_only_does_not_agree() -> None:
    a, b = made(), made()
    a[:2] = np.nan
    b[1:3] = np.nan
    column = compare(table(a), table(b)).columns[0]
    assert (column.tracks, column.one_sided) == (TRACKS - 3, 2)
    assert column.beyond == pytest.approx(2 / TRACKS)
    assert column.maximum == 0


names = st.lists(
    st.sampled_from(["2", "3", "12", "002.mp3", "x/000003.mp3", "x/a.mp3", "y/a.mp3", "b", "a"]),
    max_size=4,
)


@given(names, names)
def test_matching_is_symmetric(a: list[str], b: list[str]) -> None:
    try:
        there = match_tracks(a, b)
    except DataError:
        with pytest.raises(DataError):
            match_tracks(b, a)
        return
    back = match_tracks(b, a)
    assert set(zip(there.a, there.b, strict=True)) == set(zip(back.b, back.a, strict=True))
    assert (there.by, there.only_a, there.only_b) == (back.by, back.only_b, back.only_a)
    assert len(there) + len(there.only_a) == len(a)


@pytest.mark.parametrize(
    ("a", "b", "by", "pairs"),
    [
        (["x/a.mp3", "b.mp3"], ["c.mp3", "./x//a.mp3"], "path", [(0, 1)]),
        (["x/a.mp3", "x/b.ogg"], ["y/b.mp3", "y/a.wav"], "name", [(0, 1), (1, 0)]),
        (["000/000002.mp3", "100/100000.mp3"], ["100000", "2"], "name", [(0, 1), (1, 0)]),
        (["/data/fma/000/000002.mp3"], ["2", "20"], "name", [(0, 0)]),
        # the same path is preferred to the same name
        (["a/1.mp3", "b/1.mp3"], ["b/1.mp3", "c/1.mp3"], "path", [(1, 0)]),
        # a duplicate in one table is harmless if the other table does not have it
        (["x/a.mp3", "y/a.mp3", "b.mp3"], ["z/b.mp3"], "name", [(2, 0)]),
    ],
)
def test_tracks_are_matched(
    a: list[str], b: list[str], by: str, pairs: list[tuple[int, int]]
) -> None:
    matching = match_tracks(a, b)
    assert matching.by == by
    assert list(zip(matching.a, matching.b, strict=True)) == pairs
    assert len(matching.only_a) == len(a) - len(pairs)
    assert len(matching.only_b) == len(b) - len(pairs)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (["a"], ["b"], "no track in common, neither by path nor by name: A has such as 'a'"),
        ([], ["b"], "A has no row"),
        ([""], [""], "no track in common"),
        (["a", "a"], ["a"], "Table A has the same path twice, 'a' and 'a'"),
        (["z/a"], ["x/a", "y/a"], "Table B has the same name twice, 'x/a' and 'y/a'"),
        (["z/02.mp3", "z/2.mp3"], ["2"], "Table A has the same name twice"),
    ],
)
def test_tracks_that_cannot_be_matched(a: list[str], b: list[str], message: str) -> None:
    with pytest.raises(DataError) as error:
        match_tracks(a, b)
    assert message in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.slow
def test_what_two_recipes_explain() -> None:
    b = made()
    fma = table(b, "fma")
    comparison = compare(table(changed(b, *CONSTANT_Q), "fma-librosa"), fma)
    assert differing(comparison) == CONSTANT_Q
    assert comparison.verdict == "The tables are as expected."
    too_many = compare(table(changed(b, "mfcc", *CONSTANT_Q), "fma-librosa"), fma)
    assert too_many.verdict == "Unexpected: mfcc should agree but differ."
    too_few = compare(table(changed(b, "tonnetz"), "fma-librosa"), fma)
    assert too_few.verdict == "Unexpected: chroma_cens and chroma_cqt should differ but agree."
    assert compare(table(changed(b, "zcr"), "fma"), fma).verdict.startswith("Unexpected: zcr")
    other_version = replace(table(changed(b, "zcr"), "fma"), version=2)
    assert compare(other_version, fma).verdict == "The tables are as expected."


def test_the_published_table_is_recognized_by_its_numbers() -> None:
    columns = made()
    published = FeatureTable({"path": [str(row) for row in range(TRACKS)]}, columns)
    older = compare(table(changed(columns, "rmse", factor=1 / 45.2), "fma"), published)
    assert older.verdict == "The tables are as expected."
    assert older.expectation is not None
    assert "rmse by a factor of 45.2" in older.expectation.summary
    assert compare(table(columns, "fma"), published).verdict.startswith("Unexpected: rmse")
    modern = expected_difference(table(columns, "fma-librosa"), published)
    assert modern is not None
    assert modern.must_differ == {"rmse", *CONSTANT_Q}
    assert modern.may_differ == set(FEATURE_SIZES)
    assert expected_difference(table(columns, "fma"), table(columns)) is None
    assert expected_difference(table(columns, "fma"), table(columns, "another")) is None


@pytest.mark.slow
def test_recipes_of_real_sound_differ_as_expected() -> None:
    sounds = [chord(44100, seed=seed) for seed in range(3)]
    tables = [
        table(np.array([feature_columns(frame_features(s, 44100, recipe)) for s in sounds]), recipe)
        for recipe in ("fma", "fma-librosa", "fma-corrected")
    ]
    for other in tables[1:]:
        assert compare(other, tables[0]).verdict == "The tables are as expected."
