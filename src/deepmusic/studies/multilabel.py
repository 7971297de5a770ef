"""Scores of multi-label predictions, flat and in a genre tree, by scikit-learn's metrics.

The hierarchical scores of Kiritchenko, Matwin and Famili (2005, *Functional annotation of genes
using hierarchical text categorization*) add all ancestors to the true and to the predicted genres,
and then count what both have in common: predicting Rock for a Punk track is partly right.

Matrices are ``(tracks, labels)``. Labels are booleans, or 0 and 1; in a tree, ``genres`` gives the
genre of each column, and others of the tree may be missing. All functions raise ``ShapeError`` for
matrices that are empty or differ in shape or in columns from the genres, and ``DataError`` for
labels that are not boolean, scores that are not finite, and genres that occur twice or are not in
the tree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from deepmusic.datasets.genre_tree import GenreTree
from deepmusic.errors import DataError, ShapeError


def score_labels(truth: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """Rank-based scores of a multi-label prediction.

    Args:
        truth: whether a track has a label.
        scores: higher is more likely: probabilities or decision values.

    Returns:
        In [0, 1], undefined ones left out: ``macro_average_precision`` (mean over the labels that
        some track has), ``macro_roc_auc`` (mean over the labels that some but not all tracks have),
        ``micro_average_precision`` and ``micro_roc_auc`` (all pairs of track and label in one
        ranking). Two counts: ``labels``, and ``labels_left_out``, which no track has.

    Example:
        >>> score_labels([[1, 0], [0, 1]], [[0.9, 0.2], [0.3, 0.6]])["micro_roc_auc"]
        1.0
    """
    truth, values = _labels(truth, "truth"), _matrix(scores, "scores")
    if truth.shape != values.shape:
        raise ShapeError(f"truth has the shape {truth.shape}, and scores {values.shape}.")
    has, both = truth.any(axis=0), truth.any(axis=0) & ~truth.all(axis=0)
    result = {"labels": truth.shape[1], "labels_left_out": int((~has).sum())}
    if has.any():
        result["macro_average_precision"] = average_precision_score(truth[:, has], values[:, has])
        result["micro_average_precision"] = average_precision_score(truth, values, average="micro")
    if both.any():
        result["macro_roc_auc"] = roc_auc_score(truth[:, both], values[:, both])
    if has.any() and not truth.all():
        result["micro_roc_auc"] = roc_auc_score(truth, values, average="micro")
    return {name: float(value) for name, value in result.items()}


def with_ancestors(
    matrix: ArrayLike, genres: Sequence[int], tree: GenreTree
) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """Add to every track the ancestors of its genres.

    Returns:
        The matrix with a column for each of the genres and their ancestors; and the genre of each
        of its columns, ascending.
    """
    labels = _labels(matrix, "a matrix of genres")
    is_above, order = _ancestry(genres, labels.shape[1], tree)
    return labels @ is_above, order


def consistent(scores: ArrayLike, genres: Sequence[int], tree: GenreTree) -> NDArray[np.float64]:
    """Raise scores so that no genre scores higher than an ancestor.

    Each genre gets the highest score of itself and its descendants that have columns.
    """
    values = _matrix(scores, "scores")
    is_above, order = _ancestry(genres, values.shape[1], tree)
    below = is_above[:, [order.index(genre) for genre in genres]]  # (other genres, genres)
    return np.stack([values[:, column].max(axis=1) for column in below.T], axis=1)


def hierarchical_score(
    truth: ArrayLike, predicted: ArrayLike, genres: Sequence[int], tree: GenreTree
) -> dict[str, float]:
    """Precision, recall and F of genres with their ancestors, over all pairs of track and genre.

    Returns:
        ``precision`` (the share of the predicted genres that is true), ``recall`` (the share of the
        true genres that was predicted) and their harmonic mean ``f``, in [0, 1]; undefined ones are
        left out.
    """
    true, _ = with_ancestors(truth, genres, tree)
    positive, _ = with_ancestors(predicted, genres, tree)
    if true.shape != positive.shape:
        raise ShapeError("truth and predicted need the same number of tracks.")
    scores = precision_recall_fscore_support(
        true.ravel(), positive.ravel(), average="binary", zero_division=np.nan
    )
    named = zip(("precision", "recall", "f"), scores[:3], strict=True)
    return {name: float(value) for name, value in named if not np.isnan(value)}


def _matrix(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Finite numbers ``(tracks, labels)``."""
    matrix = np.asarray(values)
    if matrix.ndim != 2 or not matrix.size:
        raise ShapeError(f"{name} needs the shape (tracks, labels), not empty; got {matrix.shape}.")
    if matrix.dtype.kind not in "biuf" or not np.isfinite(matrix).all():
        raise DataError(f"{name} holds something that is not a finite number.")
    return matrix.astype(np.float64)


def _labels(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    matrix = _matrix(values, name)
    if not np.isin(matrix, (0, 1)).all():
        raise DataError(f"{name} holds booleans, or 0 and 1.")
    return matrix.astype(np.bool_)


def _ancestry(
    genres: Sequence[int], columns: int, tree: GenreTree
) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """Whether each genre ``(genres, ancestors)`` is or lies below another, and which those are."""
    if len(genres) != columns:
        raise ShapeError(f"Each column needs a genre; got {columns} columns, {len(genres)} genres.")
    paths = [tree.path(genre) for genre in genres]
    for genre in genres:
        if list(genres).count(genre) > 1:
            raise DataError(f"The genre {genre} ({tree[genre].title!r}) has two columns.")
    order = tuple(sorted({link for path in paths for link in path}))
    return np.array([[link in path for link in order] for path in paths]), order
