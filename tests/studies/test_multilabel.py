"""Scores of several genres a track: against scikit-learn, slow loops, and laws."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import read_tree

from deepmusic.datasets.genre_tree import Genre, GenreTree
from deepmusic.errors import DataError, ShapeError
from deepmusic.studies.hierarchy import consistent, hierarchical_score, with_ancestors
from deepmusic.studies.multilabel import (
    average_precision,
    roc_auc,
    score_labels,
    subset_accuracy,
)

# 1 > 2 > 3, 1 > 4; 5 alone
SMALL = GenreTree(
    [
        Genre(1, "Rock", None),
        Genre(2, "Punk", 1),
        Genre(3, "Oi", 2),
        Genre(4, "Metal", 1),
        Genre(5, "Jazz", None),
    ]
)
REAL = GenreTree(
    Genre(number, title, parent or None, tracks)
    for number, (tracks, parent, title, _) in read_tree().items()
)


@st.composite
def ranked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores of one shape; few different scores, so that there are ties."""
    tracks, labels = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**32 - 1))
    values = draw(st.integers(1, 6))
    random = np.random.default_rng(seed)
    return (
        random.random((tracks, labels)) < draw(st.floats(0, 1)),
        random.integers(0, values, (tracks, labels)) / values,
    )


@st.composite
def of_tree(draw: st.DrawFn, tree: GenreTree) -> tuple[list[int], int]:
    genres = draw(st.lists(st.sampled_from(tree.ids), min_size=1, max_size=12, unique=True))
    if draw(st.booleans()):  # chains, which are rare among genres drawn at random
        genres = draw(st.permutations(sorted({link for g in genres for link in tree.path(g)})))
    return genres, draw(st.integers(0, 2**32 - 1))


@given(ranked())
def test_figures_are_those_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = case
    found = score_labels(truth, scores)
    has = truth.any(axis=0)
    both = has & ~truth.all(axis=0)
    assert found.without_positives == (~has).sum()
    assert found.without_negatives == truth.all(axis=0).sum()
    if has.any():
        assert found.macro_average_precision == pytest.approx(
            average_precision_score(truth[:, has].astype(int), scores[:, has], average="macro")
        )
        assert found.micro_average_precision == pytest.approx(
            average_precision_score(truth.ravel(), scores.ravel())
        )
    else:
        assert math.isnan(found.macro_average_precision)
        assert math.isnan(found.micro_average_precision)
    if both.any():
        assert found.macro_roc_auc == pytest.approx(
            np.mean([roc_auc_score(truth[:, j], scores[:, j]) for j in np.flatnonzero(both)])
        )
        assert found.micro_roc_auc == pytest.approx(roc_auc_score(truth.ravel(), scores.ravel()))
    else:
        assert math.isnan(found.macro_roc_auc)


@given(ranked())
def test_figures_are_those_of_slow_loops(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = case[0][:, 0], case[1][:, 0]
    positives, negatives = scores[truth], scores[~truth]
    if len(positives):
        precisions = [truth[scores >= score].mean() for score in positives]
        assert average_precision(truth, scores) == pytest.approx(np.mean(precisions))
    if len(positives) and len(negatives):
        won = [(p > n) + (p == n) / 2 for p, n in itertools.product(positives, negatives)]
        assert roc_auc(truth, scores) == pytest.approx(np.mean(won))


@given(ranked(), st.permutations(range(12)))
def test_order_of_tracks_makes_no_difference(
    case: tuple[np.ndarray, np.ndarray], order: list[int]
) -> None:
    truth, scores = case
    order = [place for place in order if place < len(truth)]
    one, other = score_labels(truth, scores), score_labels(truth[order], scores[order])
    assert vars(one) == pytest.approx(vars(other), nan_ok=True)


@given(ranked())
def test_perfect_and_reversed_rankings(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, _ = case
    if not truth.any() or truth.all():
        return
    perfect = score_labels(truth, truth.astype(float))
    assert perfect.micro_average_precision == perfect.micro_roc_auc == 1
    assert perfect.subset_accuracy == 1
    assert score_labels(truth, ~truth).micro_roc_auc == 0
    assert score_labels(truth, np.zeros(truth.shape)).micro_roc_auc == 0.5


def test_labels_that_no_track_has_are_left_out() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 1]])
    found = score_labels(truth, np.array([[0.9, 0.9, 0.1], [0.2, 0.8, 0.2]]))
    assert (found.without_positives, found.without_negatives) == (1, 1)
    assert found.macro_average_precision == found.macro_roc_auc == 1
    assert (found.tracks, found.labels) == (2, 3)


def test_a_track_is_right_when_all_its_labels_are() -> None:
    truth = np.array([[1, 0], [1, 1], [0, 0]])
    assert subset_accuracy(truth, [[1, 0], [1, 0], [0, 0]]) == pytest.approx(2 / 3)
    scores = [[0.5, 0.49], [0.7, 0.6], [0.1, 0.9]]
    assert score_labels(truth, scores).subset_accuracy == pytest.approx(2 / 3)
    assert score_labels(truth, scores, threshold=0.65).subset_accuracy == pytest.approx(0)
    given_labels = score_labels(truth, scores, predicted=truth)
    assert given_labels.subset_accuracy == 1


def test_bad_matrices_are_refused() -> None:
    truth = np.array([[1, 0], [0, 1]])
    with pytest.raises(ShapeError, match=r"scores need the shape \(2, 2\)"):
        score_labels(truth, np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="at least one of both"):
        score_labels(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(DataError, match="yes or no"):
        score_labels(2 * truth, np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"1 scores are not finite numbers, .* track 1, label 0"):
        score_labels(truth, np.array([[0, 1], [np.nan, 1]]))
    with pytest.raises(DataError, match="scores are numbers"):
        score_labels(truth, np.array([["a", "b"], ["c", "d"]]))
    with pytest.raises(ShapeError, match="one shape"):
        subset_accuracy(truth, truth[:1])


def test_a_sibling_is_half_right() -> None:
    genres = [3, 4, 5]
    punk = np.array([[1, 0, 0]])
    found = hierarchical_score(punk, np.array([[0, 1, 0]]), genres, SMALL)
    # told Metal, Rock; true Oi, Punk, Rock
    assert (found.precision, found.recall) == (1 / 2, 1 / 3)
    assert found.f == pytest.approx(2 / 5)
    assert hierarchical_score(punk, np.array([[0, 0, 1]]), genres, SMALL).f == 0
    nothing = hierarchical_score(punk, np.zeros((1, 3)), genres, SMALL)
    assert math.isnan(nothing.precision)
    assert (nothing.recall, nothing.f) == (0, 0)


@settings(deadline=None)
@given(of_tree(REAL), st.integers(1, 6))
def test_hierarchical_scores_are_those_of_sets(case: tuple[list[int], int], tracks: int) -> None:
    genres, seed = case
    random = np.random.default_rng(seed)
    truth, told = (random.random((tracks, len(genres))) < 0.4 for _ in range(2))
    both = n_told = n_true = 0
    for row in range(tracks):
        above = [
            {
                link
                for column, genre in enumerate(genres)
                if matrix[row, column]
                for link in (genre, *REAL.ancestors(genre))
            }
            for matrix in (truth, told)
        ]
        both, n_true, n_told = (
            both + len(above[0] & above[1]),
            n_true + len(above[0]),
            n_told + len(above[1]),
        )
    found = hierarchical_score(truth, told, genres, REAL)
    precision = both / n_told if n_told else math.nan
    recall = both / n_true if n_true else math.nan
    assert found.precision == pytest.approx(precision, nan_ok=True)
    assert found.recall == pytest.approx(recall, nan_ok=True)
    if n_told and n_true and both:
        assert found.f == pytest.approx(2 * precision * recall / (precision + recall))
    if n_true:
        assert hierarchical_score(truth, truth, genres, REAL).f == 1


@settings(deadline=None)
@given(of_tree(REAL))
def test_with_ancestors_is_a_closure(case: tuple[list[int], int]) -> None:
    genres, seed = case
    matrix = np.random.default_rng(seed).random((4, len(genres))) < 0.3
    wider, order = with_ancestors(matrix, genres, REAL)
    place = {genre: column for column, genre in enumerate(order)}
    for genre, parent in ((genre, REAL.parent(genre)) for genre in order):
        if parent is not None:
            assert (wider[:, place[genre]] <= wider[:, place[parent]]).all()
    assert (wider[:, [place[genre] for genre in genres]] >= matrix).all()
    again, same = with_ancestors(wider, order, REAL)
    assert same == order
    np.testing.assert_array_equal(again, wider)


@settings(deadline=None)
@given(of_tree(REAL))
def test_consistent_scores_follow_the_tree(case: tuple[list[int], int]) -> None:
    genres, seed = case
    scores = np.random.default_rng(seed).random((3, len(genres)))
    kept = scores.copy()
    found = consistent(scores, genres, REAL)
    np.testing.assert_array_equal(scores, kept)
    for column, genre in enumerate(genres):
        below = [place for place, other in enumerate(genres) if genre in REAL.path(other)]
        np.testing.assert_array_equal(found[:, column], scores[:, below].max(axis=1))
    np.testing.assert_array_equal(consistent(found, genres, REAL), found)


def test_consistent_reaches_over_genres_without_a_column() -> None:
    found = consistent([[0.2, 0.7, 0.1]], [1, 3, 5], SMALL)
    np.testing.assert_array_equal(found, [[0.7, 0.7, 0.1]])
    found = consistent([[0.1, 0.2, 0.9]], [1, 2, 3], SMALL)
    np.testing.assert_array_equal(found, [[0.9, 0.9, 0.9]])


def test_bad_genres_are_refused() -> None:
    matrix = np.zeros((1, 2))
    with pytest.raises(DataError, match="no genre 9"):
        consistent(matrix, [1, 9], SMALL)
    with pytest.raises(DataError, match=r"The genre 2 \('Punk'\) has two columns"):
        with_ancestors(matrix, [2, 2], SMALL)
    with pytest.raises(ShapeError, match="2 columns and 1 genres"):
        hierarchical_score(matrix, matrix, [1], SMALL)
    with pytest.raises(ShapeError, match="one shape"):
        hierarchical_score(matrix, np.zeros((2, 2)), [1, 2], SMALL)
    with pytest.raises(DataError, match="not finite"):
        consistent([[np.inf, 0]], [1, 2], SMALL)
    with pytest.raises(ShapeError, match=r"shape \(tracks, genres\)"):
        consistent([0.5], [1], SMALL)
