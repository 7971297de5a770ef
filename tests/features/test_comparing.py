"""Two tables beside each other: errors, matching, and each cause found by what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from deepmusic.errors import DataError
from deepmusic.features import COLUMNS, ROWS, feature_columns, feature_rows
from deepmusic.features.comparing import (
    UNEXPLAINED,
    Comparison,
    compare,
    expectation,
    match_tracks,
    relative_errors,
)
from deepmusic.features.table import FeatureTable

Columns = NDArray[np.float32]

TRACKS = 24
CONSTANT_Q = ("chroma_cens", "chroma_cqt", "tonnetz")
IN_HZ = ("spectral_bandwidth", "spectral_centroid", "spectral_rolloff")
STFT = ("chroma_stft", "mfcc", "rmse", *IN_HZ, "spectral_contrast")
SCALED = ("max", "mean", "median", "min", "std")
EXTREME = ("kurtosis", "max", "min", "skew")
RMSE_FACTOR = 2048 / np.sqrt(2050)


NAMES = [np.array(names) for names in zip(*COLUMNS, strict=True)]


def where(
    features: Collection[str] | None = None,
    statistics: Collection[str] | None = None,
    numbers: Collection[int] | None = None,
) -> NDArray[np.bool_]:
    mask = np.ones(len(COLUMNS), np.bool_)
    wanted = (features, statistics, numbers and [f"{number:02d}" for number in numbers])
    for names, some in zip(NAMES, wanted, strict=True):
        if some is not None:
            mask &= np.isin(names, list(some))
    return mask


def made(seed: int = 0, tracks: int = TRACKS) -> Columns:
    """Features of made-up tracks: each row has a level and a spread of its own, by the track.

    The two chromas tell of the same notes.
    """
    rng = np.random.default_rng(seed)
    columns = np.empty((tracks, len(COLUMNS)))
    notes = rng.uniform(0.1, 0.9, (tracks, 12))
    for feature, rows in ROWS.items():
        for row in range(rows):
            level = rng.lognormal(rng.normal(0, 2), 0.5, tracks)
            if feature in ("chroma_cqt", "chroma_stft"):
                level = notes[:, row] * rng.normal(1, 0.05, tracks)
            width = level * rng.uniform(0.1, 0.3, tracks)
            values = {
                "kurtosis": rng.normal(0, 1, tracks),
                "max": level + width * rng.uniform(3, 4, tracks),
                "mean": level,
                "median": level - width * rng.uniform(0, 0.2, tracks),
                "min": level - width * rng.uniform(2, 3, tracks),
                "skew": rng.normal(0, 1, tracks),
                "std": width,
            }
            for statistic, value in values.items():
                columns[:, where([feature], [statistic], [row + 1])] = value[:, None]
    return columns.astype(np.float32)


def table(columns: Columns, recipe: str = "", **facts: Sequence[object]) -> FeatureTable:
    paths = [f"track {row}.mp3" for row in range(len(columns))]
    return FeatureTable({"path": paths, **{k: list(v) for k, v in facts.items()}}, columns, recipe)


def found(a: Columns, b: Columns, **facts: Sequence[object]) -> Comparison:
    return compare(table(a, **facts), table(b))


def codes(comparison: Comparison) -> set[str]:
    return {cause.code for cause in comparison.causes}


def explained_by(comparison: Comparison) -> dict[str, set[str]]:
    """For each explanation, or several at once, the features it has columns of."""
    by: dict[str, set[str]] = {}
    for column in comparison.columns:
        if not column.agrees:
            by.setdefault(" ".join(column.causes), set()).add(column.feature)
    return by


def disturbed(
    columns: Columns, mask: NDArray[np.bool_], size: float, seed: int = 1, share: float = 1
) -> Columns:
    """Some columns wrong by about a share of their standard deviation, in a share of the tracks."""
    rng = np.random.default_rng(seed)
    noise = size * columns.std(axis=0) * rng.normal(size=columns.shape)
    hit = rng.permutation(len(columns)) < max(1, round(share * len(columns)))
    return np.where(mask & hit[:, None], columns + noise, columns).astype(np.float32)


def scaled(columns: Columns, mask: NDArray[np.bool_], factor: float) -> Columns:
    return np.where(mask, columns * factor, columns).astype(np.float32)


# Errors


def slow_error(a: float, b: float, spread: float) -> float:
    if a == b or (np.isnan(a) and np.isnan(b)):
        return 0
    if not (np.isfinite(a) and np.isfinite(b)):
        return np.inf
    return abs(a - b) / (max(abs(b), spread) or abs(a))


few = hnp.arrays(
    np.float32,
    (5, 2),
    elements=st.one_of(
        st.sampled_from([0.0, 1.0, -3.0, float("nan"), float("inf")]),
        st.floats(-1000, 1000, width=32),
    ),
)


@given(few, few)
@example(np.ones((2, 2), np.float32), np.float32([[1e-45, 0], [0, 0]]))
def test_an_error_is_relative_to_the_reference_or_its_spread(a: Columns, b: Columns) -> None:
    errors = relative_errors(a, b)
    for column in range(2):
        known = b[np.isfinite(b[:, column]), column].astype("d")
        spread = known.std() if len(known) else 0
        expected = [
            slow_error(float(x), float(y), spread)
            for x, y in zip(a[:, column], b[:, column], strict=True)
        ]
        greatest = float(np.finfo(np.float32).max)  # what a finite error is cut to
        expected = [min(e, greatest) if np.isfinite(e) else e for e in expected]
        assert errors[:, column] == pytest.approx(expected, rel=1e-5)


def test_against_nothing_but_zeros_a_number_is_all_wrong() -> None:
    a, b = np.full((3, 1), 1e-8, np.float32), np.zeros((3, 1), np.float32)
    assert relative_errors(a, b).tolist() == [[1], [1], [1]]


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
    assert comparison.causes == ()
    assert comparison.differing == ()
    for column in comparison.columns:
        assert column.agrees
        assert column.beyond == column.one_sided == 0
        assert column.maximum == 0 or column.tracks == 0
        assert column.causes == ()


def test_what_is_told_of_a_column() -> None:
    b = made()
    mask = where(["zcr"], ["mean"])
    comparison = found(scaled(b, mask, 1.5), b)
    column = next(c for c in comparison.columns if not c.agrees)
    assert column.name == "zcr/mean/01"
    assert (column.tracks, column.one_sided, column.beyond) == (TRACKS, 0, 1)
    assert column.maximum >= column.p95 >= column.median > 0
    assert column.correlation == pytest.approx(1)
    assert column.ratio == pytest.approx(1.5)
    assert column.offset is None
    assert column.causes == (UNEXPLAINED,)
    shifted = found(np.where(mask, b + 2, b).astype(np.float32), b)
    column = next(c for c in shifted.columns if not c.agrees)
    assert column.offset == pytest.approx(2, rel=1e-3)
    assert column.ratio is None
    random = found(disturbed(b, mask, 1), b)
    column = next(c for c in random.columns if not c.agrees)
    assert column.ratio is column.offset is None


def test_the_tolerance_is_kept() -> None:
    b = made()
    a = disturbed(b, where(["mfcc"]), 1e-3)
    assert not compare(table(a), table(b)).agrees
    assert compare(table(a), table(b), tolerance=0.1).agrees


def test_a_number_on_one_side_only_does_not_agree() -> None:
    a, b = made(), made()
    a[:2] = np.nan
    b[1:3] = np.nan
    comparison = found(a, b, code=["too_short", "too_short"] + [""] * (TRACKS - 2))
    assert codes(comparison) == {"missing"}
    column = comparison.columns[0]
    assert (column.tracks, column.one_sided) == (TRACKS - 3, 2)
    assert column.beyond == pytest.approx(2 / TRACKS)
    assert column.maximum == 0
    cause = comparison.causes[0]
    assert cause.summary.startswith("2 of 24 tracks")
    assert "1 in A (too_short: 1)" in cause.evidence
    assert "1 in B" in cause.evidence


def test_one_track_is_compared_without_a_spread() -> None:
    b = made(tracks=1)
    comparison = found(scaled(b, where(["zcr"]), 1.25), b)
    assert "standard deviation" in comparison.notes[0]
    columns = [column for column in comparison.columns if not column.agrees]
    assert {column.feature for column in columns} == {"zcr"}
    assert all(column.median == pytest.approx(0.25, rel=1e-5) for column in columns)
    assert all(column.ratio is None and np.isnan(column.correlation) for column in columns)


# Matching

names = st.lists(
    st.sampled_from(["2", "3", "12", "002.mp3", "x/000003.mp3", "x/a.mp3", "y/a.mp3", "b", "a"]),
    max_size=4,
)


@given(names, names)
def test_matching_is_the_same_the_other_way(a: list[str], b: list[str]) -> None:
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
        # the same path wins over the same name
        (["a/1.mp3", "b/1.mp3"], ["b/1.mp3", "c/1.mp3"], "path", [(1, 0)]),
        # twice in one table does no harm where the other has none
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
    ("a", "b", "said"),
    [
        (["a"], ["b"], "no track in common, neither by path nor by name: A has such as 'a'"),
        ([], ["b"], "A has no row"),
        ([""], [""], "no track in common"),
        (["a", "a"], ["a"], "Table A has the same path twice, as of 'a' and 'a'"),
        (["z/a"], ["x/a", "y/a"], "Table B has the same name twice, as of 'x/a' and 'y/a'"),
        (["z/02.mp3", "z/2.mp3"], ["2"], "Table A has the same name twice"),
    ],
)
def test_what_cannot_be_matched_is_refused(a: list[str], b: list[str], said: str) -> None:
    with pytest.raises(DataError) as error:
        match_tracks(a, b)
    assert said in str(error.value)
    assert str(error.value).endswith(".")


# Causes: each with what leaves its pattern, and what leaves nearly that


def test_another_folding_is_told_with_its_side() -> None:
    b = made()
    other = made(seed=5)
    a = np.where(where(CONSTANT_Q), other, b)
    comparison = found(a, b)
    assert explained_by(comparison) == {"fold": set(CONSTANT_Q)}
    assert comparison.causes[0].summary.startswith("A folds 36")
    assert found(b, a).causes[0].summary.startswith("B folds 36")


def test_another_constant_q_transform_is_not_called_a_folding() -> None:
    b = made()
    # the notes are the same, the octaves that count are not
    a = disturbed(b, where(CONSTANT_Q), 0.5)
    a[:, where(["chroma_cqt"], ["mean"])] = b[:, where(["chroma_stft"], ["mean"])] * 1.3
    assert explained_by(found(a, b)) == {"constant_q": set(CONSTANT_Q)}


@pytest.mark.parametrize(
    "features", [("chroma_cqt",), ("chroma_cens", "chroma_cqt"), ("mfcc",), tuple(ROWS)]
)
def test_nor_is_any_other_difference(features: tuple[str, ...]) -> None:
    b = made()
    a = disturbed(b, where(features), 0.5)
    assert explained_by(found(a, b)) == {UNEXPLAINED: set(features)}


def test_the_fast_mode_explains_small_differences_of_chroma() -> None:
    b = made()
    a = disturbed(b, where(CONSTANT_Q), 5e-4)
    table_a, table_b = replace(table(a, "fma"), mode="fast"), table(b, "fma")
    comparison = compare(table_a, table_b)
    assert explained_by(comparison) == {"fast": set(CONSTANT_Q)}
    expected = expectation(table_a, table_b)
    assert expected is not None
    assert "fast and exact" in expected.summary
    assert expected.may_differ == set(CONSTANT_Q)
    far = replace(table(disturbed(b, where(CONSTANT_Q), 0.3), "fma"), mode="fast")
    assert "fast" not in codes(compare(far, table_b))
    assert "fast" not in codes(compare(replace(table_a, mode="exact"), table_b))


def test_chroma_that_falls_by_rounding_in_few_tracks() -> None:
    b = made()
    a = disturbed(b, where(CONSTANT_Q), 0.3, share=0.08)
    assert explained_by(found(a, b)) == {"rounding": set(CONSTANT_Q)}
    also = disturbed(a, where(["zcr"]), 0.3, share=0.08)
    assert codes(found(also, b)) == set()


@pytest.mark.parametrize(("factor", "older"), [(RMSE_FACTOR, "A"), (1 / RMSE_FACTOR, "B")])
def test_the_old_scale_of_rmse(factor: float, older: str) -> None:
    b = made()
    comparison = found(scaled(b, where(["rmse"], SCALED), factor), b)
    assert explained_by(comparison) == {"rmse_scale": {"rmse"}}
    assert comparison.causes[0].evidence.startswith(f"{older} is the older")
    ratios = [column.ratio for column in comparison.columns if not column.agrees]
    assert ratios == pytest.approx([factor] * 5, rel=1e-5)


def test_what_the_old_scale_of_rmse_does_not_explain_is_said() -> None:
    b = made()
    a = disturbed(scaled(b, where(["rmse"], SCALED), RMSE_FACTOR), where(["rmse"], ["std"]), 0.01)
    by = {c.statistic: c.causes for c in found(a, b).columns if not c.agrees}
    assert by["std"] == ("rmse_scale", UNEXPLAINED)
    assert by["mean"] == ("rmse_scale",)


@pytest.mark.parametrize(
    ("statistics", "factor"), [(SCALED, 40.0), (SCALED, 50.0), (["mean"], RMSE_FACTOR)]
)
def test_another_scale_of_rmse_is_not_the_old_one(statistics: Sequence[str], factor: float) -> None:
    b = made()
    comparison = found(scaled(b, where(["rmse"], statistics), factor), b)
    assert explained_by(comparison) == {UNEXPLAINED: {"rmse"}}


def test_rmse_of_the_samples() -> None:
    b = made()
    mask = where(["rmse"], SCALED)
    a = disturbed(scaled(b, mask, np.sqrt(8 / 3)), where(["rmse"]), 0.01)
    assert explained_by(found(a, b)) == {"window": {"rmse"}}
    # louder sound has another first coefficient
    louder = np.where(where(["mfcc"], ["mean", "median"], [1]), a + 8, a).astype(np.float32)
    louder = np.where(where(["mfcc"]), disturbed(louder, where(["mfcc"]), 0.2), louder)
    assert "window" not in codes(found(louder, b))


@pytest.mark.parametrize("factor", [2.0, 48000 / 22050, 0.5])
def test_an_assumed_rate(factor: float) -> None:
    b = made()
    a = scaled(b, where(IN_HZ, SCALED), factor)
    comparison = found(a, b)
    assert explained_by(comparison) == {"sample_rate": set(IN_HZ)}
    assert comparison.causes[0].evidence.startswith("A knows it" if factor > 1 else "B knows it")
    told = disturbed(a, where(["chroma_stft", "spectral_contrast"]), 0.1)
    assert explained_by(found(told, b)) == {
        "sample_rate": {*IN_HZ, "chroma_stft", "spectral_contrast"}
    }


def test_rates_that_are_known_must_fit() -> None:
    b = made()
    rates = [44100, 48000, 22050] * (TRACKS // 3)
    factors = np.array(rates)[:, None] / 22050
    a = np.where(where(IN_HZ, SCALED), b * factors, b).astype(np.float32)
    assert explained_by(found(a, b, sample_rate=rates)) == {"sample_rate": set(IN_HZ)}
    assert explained_by(found(a, b, sample_rate=[None] * TRACKS)) == {"sample_rate": set(IN_HZ)}
    assert codes(found(a, b, sample_rate=[44100] * TRACKS)) == set()


@pytest.mark.parametrize(
    ("features", "statistics", "factor"),
    [
        (IN_HZ, SCALED, 1.7),
        (["spectral_centroid"], SCALED, 2.0),
        (IN_HZ, ["mean"], 2.0),
        (["mfcc", "zcr"], SCALED, 2.0),
    ],
)
def test_another_factor_is_no_rate(
    features: Sequence[str], statistics: Sequence[str], factor: float
) -> None:
    b = made()
    comparison = found(scaled(b, where(features, statistics), factor), b)
    assert explained_by(comparison) == {UNEXPLAINED: set(features)}


def test_rows_that_do_not_vary() -> None:
    a, b = made(), made()
    for statistic, value in (("skew", 0), ("kurtosis", -3)):
        b[3, where(["chroma_cqt"], [statistic], [4])] = value
        a[3, where(["chroma_cqt"], [statistic], [4])] = np.nan
    comparison = found(a, b)
    assert explained_by(comparison) == {"constant_rows": {"chroma_cqt"}}
    assert comparison.causes[0].evidence == "2 cells, NaN in A"
    assert found(b, a).causes[0].evidence == "2 cells, NaN in B"
    b[3, where(["chroma_cqt"], ["skew"], [4])] = 0.5
    assert explained_by(found(a, b)) == {
        "constant_rows": {"chroma_cqt"},
        "missing": {"chroma_cqt"},
    }


def with_other_edges(b: Columns, features: Sequence[str] = STFT) -> Columns:
    a = disturbed(b, where(features, EXTREME), 0.01)
    return disturbed(a, where(features, ["mean", "std"]), 0.0005, seed=2)


def test_edges_padded_otherwise() -> None:
    b = made()
    assert explained_by(found(with_other_edges(b), b)) == {"edges": set(STFT)}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a, b: disturbed(a, where(["zcr"]), 0.01),
        lambda a, b: disturbed(a, where(STFT, ["mean", "median"]), 0.03),
        lambda a, b: np.where(where(["mfcc"]), a, b),
    ],
    ids=["zcr differs", "means differ as much", "only one feature"],
)
def test_what_are_no_edges(spoil: Callable[[Columns, Columns], Columns]) -> None:
    b = made()
    comparison = found(spoil(with_other_edges(b), b), b)
    assert not comparison.agrees
    assert codes(comparison) == set()


def test_noise_above_the_low_pass() -> None:
    b = made()
    a = disturbed(b, where(["spectral_contrast"], numbers=(6, 7)), 0.3)
    assert explained_by(found(a, b)) == {"noise": {"spectral_contrast"}}
    lower = disturbed(a, where(["spectral_contrast"]), 0.3)
    assert codes(found(lower, b)) == set()
    loud = disturbed(a, where(["rmse"]), 0.3)
    assert codes(found(loud, b)) == set()


def clips_of(b: Columns, seed: int = 3) -> Columns:
    """Of parts of the tracks: means differ somewhat, extremes are less extreme."""
    rng = np.random.default_rng(seed)
    a = disturbed(b, where(statistics=("mean", "median", "std")), 0.2, seed)
    a = disturbed(a, where(statistics=("skew", "kurtosis")), 0.5, seed)
    width = np.abs(b[:, where(statistics=["std"])]) * rng.uniform(0, 1, (len(b), 74))
    a[:, where(statistics=["max"])] -= width.astype(np.float32)
    a[:, where(statistics=["min"])] += width.astype(np.float32)
    return a


def test_clips_against_whole_tracks() -> None:
    b = made()
    a = clips_of(b)
    for comparison in (found(a, b), compare(table(a), table(b))):
        assert explained_by(comparison) == {"length": set(ROWS)}
        assert comparison.causes[0].summary.startswith("A is of parts")
    assert found(b, a).causes[0].summary.startswith("B is of parts")


def test_durations_have_their_say_on_clips() -> None:
    b = made(tracks=3)  # too few to go by correlation
    a = clips_of(b)
    assert codes(compare(table(a), table(b))) == set()
    long, short = [200.0, 300.0, 250.0], [30.0, 30.0, 30.0]
    whole = table(b, duration_s=long)
    assert codes(compare(table(a, duration_s=short), whole)) == {"length"}
    assert codes(compare(table(a, duration_s=long), whole)) == set()
    # A lasts longer, but its extremes lie inside: that is something else
    assert codes(compare(table(a, duration_s=[900.0] * 3), whole)) == set()


def test_clips_with_the_old_rmse_have_both_causes() -> None:
    b = made()
    a = clips_of(b)
    a = scaled(a, where(["rmse"], SCALED), 1 / RMSE_FACTOR)
    comparison = found(a, b)
    assert codes(comparison) == {"rmse_scale", "length"}
    means = {c.feature: c.causes for c in comparison.columns if c.statistic == "mean"}
    assert means["rmse"] == ("rmse_scale", "length")
    assert means["zcr"] == ("length",)


def test_other_sections_of_the_same_length_are_no_clips() -> None:
    b = made()
    comparison = found(disturbed(b, where(), 0.3), b)
    assert explained_by(comparison) == {UNEXPLAINED: set(ROWS)}


def test_different_tracks_of_one_name() -> None:
    a, b = made(seed=7), made()
    # the same kinds of levels, but of other tracks
    a = b[np.random.default_rng(0).permutation(TRACKS)]
    assert explained_by(found(a, b)) == {"other_tracks": set(ROWS)}
    assert "other_tracks" not in codes(found(a[:3], b[:3]))


def test_a_few_odd_tracks_are_named() -> None:
    b = made()
    a = b.copy()
    a[[4, 9]] = b[[9, 4]]
    comparison = found(a, b)
    assert codes(comparison) == {"tracks"}
    assert comparison.causes[0].evidence == "2 of 24: 'track 4.mp3', 'track 9.mp3'"
    # what else is wrong is found all the same
    also = scaled(a, where(["rmse"], SCALED), RMSE_FACTOR)
    assert codes(found(also, b)) == {"tracks", "rmse_scale"}
    mixed = np.where(where(["mfcc"]), disturbed(a, where(["mfcc"]), 0.1), a)
    mfcc = next(c for c in found(mixed, b).columns if c.feature == "mfcc")
    assert mfcc.causes == ("tracks", UNEXPLAINED)


def test_windows_that_begin_elsewhere() -> None:
    b = made()
    a = disturbed(b, where(statistics=EXTREME), 0.02)
    a = disturbed(a, where(statistics=["mean", "median", "std"]), 0.002, seed=2)
    assert explained_by(found(a, b)) == {"frames": set(ROWS)}
    assert codes(found(disturbed(b, where(), 0.01), b)) == set()


def test_tonnetz_of_another_chroma() -> None:
    b = made()
    assert explained_by(found(disturbed(b, where(["tonnetz"]), 0.3), b)) == {
        "tonnetz_source": {"tonnetz"}
    }
    a = disturbed(b, where(["tonnetz", "chroma_cens"]), 0.3)
    assert codes(found(a, b)) == set()


def test_contrast_of_power() -> None:
    b = made()
    a = disturbed(scaled(b, where(["spectral_contrast"]), 1.8), where(["spectral_contrast"]), 0.1)
    comparison = found(a, b)
    assert explained_by(comparison) == {"contrast_power": {"spectral_contrast"}}
    assert "of A is that of power" in comparison.causes[0].summary
    assert codes(found(scaled(b, where(["spectral_contrast"]), 1.2), b)) == set()


# What the recipes let one expect


def test_what_two_recipes_let_one_expect() -> None:
    b = made()
    fma, modern = table(b, "fma"), table(np.where(where(CONSTANT_Q), made(5), b), "fma-librosa")
    comparison = compare(modern, fma)
    assert comparison.expectation is not None
    assert set(comparison.expectation.must_differ) == set(CONSTANT_Q)
    verdict = comparison.expectation.verdict
    assert verdict(comparison.differing, codes(comparison)) == "So it is."
    assert verdict(["mfcc", *CONSTANT_Q], []) == "It is not so: mfcc differ as well."
    said = verdict(["tonnetz"], [])
    assert said == "It is not so: chroma_cens and chroma_cqt agree all the same."


def test_same_recipes_must_agree_unless_versions_differ() -> None:
    one = table(made(), "fma")
    same = expectation(one, one)
    assert same is not None
    assert same.verdict([], []) == "So it is."
    assert same.verdict(["zcr"], []) == "It is not so: zcr differ."
    assert same.verdict(list(ROWS), []) == "It is not so: all features differ."
    other = expectation(one, replace(one, version=2))
    assert other is not None
    assert other.verdict(list(ROWS), []) == "So it is."


def test_the_published_table_is_known_by_its_numbers() -> None:
    columns = made()
    published = FeatureTable({"path": [str(row) for row in range(TRACKS)]}, columns)
    found = expectation(table(columns, "fma"), published)
    assert found is not None
    assert found.verdict(["rmse"], ["rmse_scale"]) == "So it is."
    assert found.verdict(["rmse"], []) == "It is not so: there is no sign of rmse_scale."
    modern = expectation(table(columns, "fma-librosa"), published)
    assert modern is not None
    assert modern.must_differ == {"rmse", *CONSTANT_Q}
    assert expectation(table(columns, "fma"), table(columns)) is None
    assert expectation(table(columns, "fma"), table(columns, "another")) is None


# Real features


def chord(pitches: Sequence[int], seed: int, sample_rate: int = 44100) -> NDArray[np.float32]:
    """Five seconds: a chord of MIDI pitches that moves a fourth up in the middle, and noise."""
    time = np.arange(5 * sample_rate) / sample_rate
    sound = 0.002 * np.random.default_rng(seed).normal(size=len(time))
    for pitch in pitches:
        for harmonic in range(1, 6):
            hz = harmonic * 440 * 2 ** ((pitch - 69 + 5 * (time > 2.5)) / 12)
            sound += np.sin(2 * np.pi * np.cumsum(hz) / sample_rate) / harmonic
    sound *= np.exp(-2 * (time % 0.5)) / np.abs(sound).max()
    return sound.astype(np.float32)


@pytest.fixture(scope="module")
def recipes() -> dict[str, FeatureTable]:
    sounds = [
        chord(pitches, seed) for seed, pitches in enumerate([(48, 64, 67), (57, 60, 76), (50, 66)])
    ]
    return {
        recipe: table(
            np.array([feature_columns(feature_rows(s, 44100, recipe)) for s in sounds]), recipe
        )
        for recipe in ("fma", "fma-librosa", "fma-corrected")
    }


def test_real_sound_by_two_versions_of_the_script(recipes: dict[str, FeatureTable]) -> None:
    comparison = compare(recipes["fma-librosa"], recipes["fma"])
    assert explained_by(comparison) == {"fold": set(CONSTANT_Q)}
    assert comparison.causes[0].summary.startswith("A folds 36")
    assert comparison.expectation is not None
    assert comparison.expectation.verdict(comparison.differing, ["fold"]) == "So it is."


def test_real_sound_by_the_corrected_recipe(recipes: dict[str, FeatureTable]) -> None:
    comparison = compare(recipes["fma-corrected"], recipes["fma"])
    assert {"sample_rate", "window", "tonnetz_source"} <= codes(comparison)
    assert comparison.expectation is not None
    assert comparison.expectation.verdict(comparison.differing, codes(comparison)) == "So it is."
