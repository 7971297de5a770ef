"""Scores of multi-label predictions: against slow loops and sets, and their laws."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import read_tree

from deepmusic.datasets.genre_tree import Genre, GenreTree
from deepmusic.errors import DataError, ShapeError
from deepmusic.studies.multilabel import (
    consistent,
    hierarchical_score,
    score_labels,
    with_ancestors,
)

# 1 > 2 > 3, 1 > 4; 5 alone
SMALL = GenreTree(
    Genre(number, title, parent)
    for number, title, parent in (
        (1, "Rock", None), (2, "Punk", 1), (3, "Oi", 2), (4, "Metal", 1), (5, "Jazz", None),
    )
)  # fmt: skip
REAL = GenreTree(
    Genre(number, title, parent or None, tracks)
    for number, (tracks, parent, title, _) in read_tree().items()
)
ONES = np.eye(2, dtype=int)


@st.composite
def ranked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores of one shape; few different scores, so that there are ties."""
    tracks, labels = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    values = draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
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


@pytest.mark.slow
@given(ranked())
def test_scores_equal_those_of_slow_loops(case: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = case

    def average_precision(labels: np.ndarray, ranks: np.ndarray) -> float:
        return float(np.mean([labels[ranks >= score].mean() for score in ranks[labels]]))

    def roc_auc(labels: np.ndarray, ranks: np.ndarray) -> float:
        pairs = itertools.product(ranks[labels], ranks[~labels])
        return float(np.mean([(p > n) + (p == n) / 2 for p, n in pairs]))

    result = score_labels(truth, scores)
    columns = list(zip(truth.T, scores.T, strict=True))
    some = [(t, s) for t, s in columns if t.any()]
    mixed = [(t, s) for t, s in some if not t.all()]
    wanted = {"labels": truth.shape[1], "labels_left_out": truth.shape[1] - len(some)}
    if some:
        wanted["macro_average_precision"] = np.mean([average_precision(*c) for c in some])
        wanted["micro_average_precision"] = average_precision(truth.ravel(), scores.ravel())
    if mixed:
        wanted["macro_roc_auc"] = np.mean([roc_auc(*c) for c in mixed])
    if some and not truth.all():
        wanted["micro_roc_auc"] = roc_auc(truth.ravel(), scores.ravel())
    assert result == pytest.approx(wanted)


def test_a_sibling_is_half_right() -> None:
    genres = [3, 4, 5]
    punk = np.array([[1, 0, 0]])
    # predicted Metal, Rock; true Oi, Punk, Rock
    result = hierarchical_score(punk, np.array([[0, 1, 0]]), genres, SMALL)
    assert result == pytest.approx({"precision": 1 / 2, "recall": 1 / 3, "f": 2 / 5})
    assert hierarchical_score(punk, np.array([[0, 0, 1]]), genres, SMALL)["f"] == 0
    nothing = hierarchical_score(punk, np.zeros((1, 3)), genres, SMALL)
    assert nothing == {"recall": 0, "f": 0}


@pytest.mark.slow
@settings(deadline=None)
@given(of_tree(REAL), st.integers(1, 6))
def test_hierarchical_scores_equal_those_of_sets(case: tuple[list[int], int], tracks: int) -> None:
    genres, seed = case
    random = np.random.default_rng(seed)
    matrices = [random.random((tracks, len(genres))) < 0.4 for _ in range(2)]
    true, predicted = (
        {(row, link) for row, column in np.argwhere(m) for link in REAL.path(genres[column])}
        for m in matrices
    )
    both = len(true & predicted)
    wanted = {"precision": (both, len(predicted)), "recall": (both, len(true)),
              "f": (2 * both, len(true) + len(predicted))}  # fmt: skip
    result = hierarchical_score(*matrices, genres, REAL)
    assert result == pytest.approx({name: a / b for name, (a, b) in wanted.items() if b})


@settings(deadline=None)
@given(of_tree(REAL))
def test_with_ancestors_is_a_closure(case: tuple[list[int], int]) -> None:
    genres, seed = case
    matrix = np.random.default_rng(seed).random((4, len(genres))) < 0.3
    wider, order = with_ancestors(matrix, genres, REAL)
    for column, genre in enumerate(order):
        parent = REAL[genre].parent
        if parent is not None:
            assert (wider[:, column] <= wider[:, order.index(parent)]).all()
    assert (wider[:, [order.index(genre) for genre in genres]] >= matrix).all()
    again, same = with_ancestors(wider, order, REAL)
    assert same == order
    np.testing.assert_array_equal(again, wider)


@settings(deadline=None)
@given(of_tree(REAL))
def test_consistent_scores_never_increase_down_the_tree(case: tuple[list[int], int]) -> None:
    genres, seed = case
    scores = np.random.default_rng(seed).random((3, len(genres)))
    result = consistent(scores, genres, REAL)
    assert (result >= scores).all()
    for column, genre in enumerate(genres):
        for link in set(REAL.path(genre)[:-1]) & set(genres):
            assert (result[:, genres.index(link)] >= result[:, column]).all()
    np.testing.assert_array_equal(consistent(result, genres, REAL), result)
    # genres between that have no column make no difference
    np.testing.assert_array_equal(
        consistent([[0.2, 0.7, 0.1]], [1, 3, 5], SMALL), [[0.7, 0.7, 0.1]]
    )


@pytest.mark.parametrize(
    ("score", "matrices", "error", "message"),
    [
        (score_labels, (ONES, np.zeros((2, 3))), ShapeError, r"\(2, 2\), and scores \(2, 3\)"),
        (score_labels, (np.zeros((0, 2)), np.zeros((0, 2))), ShapeError, "not empty"),
        (score_labels, (2 * ONES, np.zeros((2, 2))), DataError, "booleans"),
        (score_labels, (ONES, [[0, 1], [np.nan, 1]]), DataError, "not a finite number"),
        (score_labels, (ONES, [["a", "b"], ["c", "d"]]), DataError, "not a finite number"),
        (consistent, (ONES, [1, 9], SMALL), DataError, "no genre 9"),
        (with_ancestors, (ONES, [2, 2], SMALL), DataError, r"2 \('Punk'\) has two columns"),
        (hierarchical_score, (ONES, ONES, [1], SMALL), ShapeError, "2 columns, 1 genres"),
        (hierarchical_score, (ONES, ONES[:1], [1, 2], SMALL), ShapeError, "number of tracks"),
        (consistent, ([0.5], [1], SMALL), ShapeError, "not empty"),
    ],
)
def test_bad_matrices_and_genres_are_refused(
    score: Callable[..., object], matrices: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        score(*matrices)
