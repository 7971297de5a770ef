"""Scores of multi-label predictions, flat (by scikit-learn) and in a genre tree.

The hierarchical scores of Kiritchenko, Matwin and Famili (2005, *Functional annotation of genes
using hierarchical text categorization*) add all ancestors to the true and to the predicted genres,
and then count what both have in common: predicting Rock for a Punk track is partly right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmusic.datasets.genre_tree import GenreTree
from deepmusic.errors import DataError, ShapeError


def score_labels(truth: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """Rank-based scores of a multi-label prediction.

    Args:
        truth: ``(tracks, labels)``, whether a track has a label: booleans, or 0 and 1.
        scores: ``(tracks, labels)``, higher is more likely: probabilities or decision values.

    Returns:
        In [0, 1], undefined ones left out: ``macro_average_precision`` (mean over the labels that
        some track has), ``macro_roc_auc`` (mean over the labels that some but not all tracks have),
        ``micro_average_precision`` and ``micro_roc_auc`` (all pairs of track and label in one
        ranking). Two counts: ``labels``, and ``labels_left_out``, which no track has.

    Raises:
        ShapeError: the matrices differ in shape, or are empty.
        DataError: a score is not a finite number, or truth is not boolean.

    Example:
        >>> score_labels([[1, 0], [0, 1]], [[0.9, 0.2], [0.3, 0.6]])["micro_roc_auc"]
        1.0
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    truth, values = as_labels(truth, "truth"), _as_scores(scores)
    if truth.shape != values.shape:
        raise ShapeError(f"truth has the shape {truth.shape}, and scores {values.shape}.")
    has, both = truth.any(axis=0), truth.any(axis=0) & ~truth.all(axis=0)
    result = {"labels": truth.shape[1], "labels_left_out": int((~has).sum())}
    if has.any():
        averages = (average_precision_score(truth[:, has], values[:, has], average="macro"),
                    average_precision_score(truth, values, average="micro"))  # fmt: skip
        result |= zip(("macro_average_precision", "micro_average_precision"), averages, strict=True)
    if both.any():
        result["macro_roc_auc"] = roc_auc_score(truth[:, both], values[:, both], average="macro")
    if has.any() and not truth.all():
        result["micro_roc_auc"] = roc_auc_score(truth, values, average="micro")
    return {name: float(value) for name, value in result.items()}


def with_ancestors(
    matrix: ArrayLike, genres: Sequence[int], tree: GenreTree
) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """Add to every track the ancestors of its genres.

    Args:
        matrix: ``(tracks, len(genres))``, whether a track has a genre.
        genres: the genre of each column.
        tree: the tree of all of them.

    Returns:
        The matrix with a column for each of the genres and their ancestors; and the genre of each
        of its columns, ascending.

    Raises:
        ShapeError: there are not as many columns as genres.
        DataError: a genre is not in the tree, or occurs twice.
    """
    labels = as_labels(matrix, "matrix")
    _check_genres(genres, labels.shape[1], tree)
    order = tuple(sorted({link for genre in genres for link in tree.path(genre)}))
    wider = np.zeros((len(labels), len(order)), np.bool_)
    for column, genre in enumerate(genres):
        for link in tree.path(genre):
            wider[:, order.index(link)] |= labels[:, column]
    return wider, order


def consistent(scores: ArrayLike, genres: Sequence[int], tree: GenreTree) -> NDArray[np.float64]:
    """Raise scores so that no genre scores higher than an ancestor.

    Args:
        scores: ``(tracks, len(genres))``, such as probabilities.
        genres: the genre of each column; some of the tree may be missing.
        tree: the tree of all of them.

    Returns:
        The same shape: the highest score among each genre and its descendants that have columns.

    Raises:
        ShapeError: there are not as many columns as genres.
        DataError: a genre is not in the tree, or occurs twice; a score is not a finite number.
    """
    values = _as_scores(scores)
    _check_genres(genres, values.shape[1], tree)
    raised = np.empty_like(values)
    for column, genre in enumerate(genres):
        below = [index for index, other in enumerate(genres) if genre in tree.path(other)]
        raised[:, column] = values[:, below].max(axis=1)
    return raised


def hierarchical_score(
    truth: ArrayLike, predicted: ArrayLike, genres: Sequence[int], tree: GenreTree
) -> dict[str, float]:
    """Precision, recall and F of genres with their ancestors, summed over tracks.

    Args:
        truth: ``(tracks, len(genres))``, whether a track has a genre.
        predicted: the same shape, whether a track is predicted to have it.
        genres: the genre of each column.
        tree: the tree of all of them.

    Returns:
        ``precision`` (the share of the predicted genres that is true), ``recall`` (the share of the
        true genres that was predicted) and their harmonic mean ``f``, in [0, 1]; undefined ones are
        left out.

    Raises:
        ShapeError: the matrices differ in shape, or there are not as many columns as genres.
        DataError: a genre is not in the tree, or occurs twice; a matrix is not boolean.
    """
    true, _ = with_ancestors(truth, genres, tree)
    positive, _ = with_ancestors(predicted, genres, tree)
    if true.shape != positive.shape:
        raise ShapeError("truth and predicted need the same number of tracks.")
    both, n_true, n_positive = (int(m.sum()) for m in (true & positive, true, positive))
    parts = {"precision": (both, n_positive), "recall": (both, n_true),
             "f": (2 * both, n_positive + n_true)}  # fmt: skip
    return {name: above / below for name, (above, below) in parts.items() if below}


def as_labels(matrix: ArrayLike, name: str) -> NDArray[np.bool_]:
    """A boolean matrix ``(tracks, labels)``.

    Raises:
        ShapeError: it is not a matrix, or empty.
        DataError: it holds something other than booleans, 0 and 1.
    """
    values = np.asarray(matrix)
    if values.ndim != 2 or not values.size:
        raise ShapeError(f"{name} needs the shape (tracks, labels), not empty; got {values.shape}.")
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise DataError(f"{name} holds booleans, or 0 and 1.")
    return values.astype(np.bool_)


def _as_scores(matrix: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(matrix)
    if values.ndim != 2 or not values.size:
        raise ShapeError(f"scores need the shape (tracks, labels), not empty; got {values.shape}.")
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise DataError("A score is not a finite number; such scores cannot be ranked.")
    return values.astype(np.float64)


def _check_genres(genres: Sequence[int], columns: int, tree: GenreTree) -> None:
    if len(genres) != columns:
        raise ShapeError(f"Each column needs a genre; got {columns} columns, {len(genres)} genres.")
    numbers = [tree[genre].id for genre in genres]
    for genre in numbers:
        if numbers.count(genre) > 1:
            raise DataError(f"The genre {genre} ({tree[genre].title!r}) has two columns.")
