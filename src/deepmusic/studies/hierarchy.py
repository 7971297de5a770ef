"""Genres that lie in a tree: predictions that agree with it, and scores that forgive near misses.

Who is told that a Punk track is Rock was told something true. The hierarchical scores of
Kiritchenko, Matwin and Famili (2005, *Functional annotation of genes using hierarchical text
categorization*) add to the truth and to the prediction all genres above, and then count what both
have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmusic.datasets.genre_tree import GenreTree
from deepmusic.errors import DataError, ShapeError
from deepmusic.studies.multilabel import check_scores, check_truth


@dataclass(frozen=True)
class HierarchicalScore:
    """How well genres of a tree are told, each with those above it; figures lie in [0, 1].

    Args:
        precision: of all genres told, the share that is true; NaN where none was told.
        recall: of all true genres, the share that was told; NaN where no track has any.
        f: harmonic mean of both; 0 where nothing told was true.
    """

    precision: float
    recall: float
    f: float


def with_ancestors(
    matrix: ArrayLike, genres: Sequence[int], tree: GenreTree
) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """Give every track the genres above its own.

    Args:
        matrix: ``(tracks, len(genres))``, whether a track has a genre.
        genres: what the columns stand for.
        tree: that all of them are in.

    Returns:
        The matrix with a column for each of the genres and of those above them, and what its
        columns stand for, ascending.

    Raises:
        ShapeError: there are not as many columns as genres.
        DataError: a genre is not in the tree, or stands twice.
    """
    found = check_truth(matrix, "matrix")
    _check_genres(genres, found.shape[1], tree)
    order = tuple(sorted({link for genre in genres for link in tree.path(genre)}))
    place = {genre: number for number, genre in enumerate(order)}
    wider = np.zeros((len(found), len(order)), np.bool_)
    for column, genre in enumerate(genres):
        for link in tree.path(genre):
            wider[:, place[link]] |= found[:, column]
    return wider, order


def consistent(scores: ArrayLike, genres: Sequence[int], tree: GenreTree) -> NDArray[np.float64]:
    """Raise scores so that no genre has more than one above it.

    Each genre gets the largest score among itself and the genres below it that have columns; these
    are the least changes that do. A threshold then gives sets that hold all genres above theirs.

    Args:
        scores: ``(tracks, len(genres))``, such as probabilities.
        genres: what the columns stand for; some of the tree may be missing.
        tree: that all of them are in.

    Returns:
        The same shape; the scores of genres that have none below them are as they were.

    Raises:
        ShapeError: there are not as many columns as genres.
        DataError: a genre is not in the tree, or stands twice; a score is not a finite number.
    """
    given = np.asarray(scores)
    if given.ndim != 2 or not given.size:
        raise ShapeError(
            f"scores need the shape (tracks, genres), at least one of both; got {given.shape}."
        )
    _check_genres(genres, given.shape[1], tree)
    raised = check_scores(given, given.shape)
    place = {genre: column for column, genre in enumerate(genres)}
    for genre in sorted(genres, key=tree.depth, reverse=True):  # a parent waits for its children
        above = next((link for link in tree.ancestors(genre) if link in place), None)
        if above is not None:
            column = place[above]
            np.maximum(raised[:, column], raised[:, place[genre]], out=raised[:, column])
    return raised


def hierarchical_score(
    truth: ArrayLike, predicted: ArrayLike, genres: Sequence[int], tree: GenreTree
) -> HierarchicalScore:
    """Precision, recall and F of genres with those above them, summed over tracks.

    The roots of the tree count; what would be above them, and is true of all music, does not.

    Args:
        truth: ``(tracks, len(genres))``, whether a track has a genre.
        predicted: the same shape, whether a track was told to have it.
        genres: what the columns stand for.
        tree: that all of them are in.

    Raises:
        ShapeError: the matrices differ in shape, or have not as many columns as there are genres.
        DataError: a genre is not in the tree, or stands twice; a matrix is not of yes and no.
    """
    truth, predicted = check_truth(truth, "truth"), check_truth(predicted, "predicted")
    if truth.shape != predicted.shape:
        raise ShapeError(
            f"truth and predicted need one shape; got {truth.shape} and {predicted.shape}."
        )
    true, _ = with_ancestors(truth, genres, tree)
    told, _ = with_ancestors(predicted, genres, tree)
    both, n_told, n_true = int((true & told).sum()), int(told.sum()), int(true.sum())
    return HierarchicalScore(
        precision=both / n_told if n_told else float("nan"),
        recall=both / n_true if n_true else float("nan"),
        # 2PR / (P + R), which is defined also where P or R alone is not
        f=2 * both / (n_told + n_true) if n_told + n_true else float("nan"),
    )


def _check_genres(genres: Sequence[int], columns: int, tree: GenreTree) -> None:
    if len(genres) != columns:
        raise ShapeError(
            f"Each column needs one genre; got {columns} columns and {len(genres)} genres."
        )
    seen: set[int] = set()
    for genre in genres:
        if tree[genre].id in seen:
            raise DataError(f"The genre {genre} ({tree.title(genre)!r}) has two columns.")
        seen.add(genre)
