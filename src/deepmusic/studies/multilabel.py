"""How well the several genres of each track are told: precision, ROC-AUC, and whole sets.

Truth is a matrix of tracks by labels, scores a matrix of the same shape in which more means
likelier; probabilities serve, and so do decision values::

    found = score_labels(truth, model.predict_proba(columns))
    found.macro_average_precision

A label that no scored track has says nothing about precision, so the macro averages leave it out;
how many were left out is part of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmusic.errors import DataError, ShapeError


@dataclass(frozen=True)
class LabelScore:
    """How well labels are told; each figure lies in [0, 1], and is NaN where nothing defines it.

    Args:
        macro_average_precision: mean over the labels that some track has.
        micro_average_precision: all pairs of track and label in one ranking.
        macro_roc_auc: mean over the labels that some track has and some has not; 0.5 is chance.
        micro_roc_auc: all pairs of track and label in one ranking.
        subset_accuracy: share of tracks whose labels are all right, none missing, none too many.
        tracks, labels: the shape of the matrices.
        without_positives: labels that no track has; the macro averages leave them out.
        without_negatives: labels that every track has; the macro ROC-AUC leaves them out.
    """

    macro_average_precision: float
    micro_average_precision: float
    macro_roc_auc: float
    micro_roc_auc: float
    subset_accuracy: float
    tracks: int
    labels: int
    without_positives: int
    without_negatives: int


def score_labels(
    truth: ArrayLike,
    scores: ArrayLike,
    *,
    predicted: ArrayLike | None = None,
    threshold: float = 0.5,
) -> LabelScore:
    """All figures of a multi-label prediction.

    Args:
        truth: ``(tracks, labels)``, whether a track has a label: booleans, or 0 and 1.
        scores: ``(tracks, labels)``, more means likelier.
        predicted: ``(tracks, labels)``, the labels that a track is given; by default those whose
            score reaches the threshold.
        threshold: of ``scores``, where ``predicted`` is not given.

    Raises:
        ShapeError: the matrices differ in shape, or are none.
        DataError: a value is not a number, or truth is something else than yes and no.
    """
    truth = check_truth(truth, "truth")
    scores = check_scores(scores, truth.shape)
    given = scores >= threshold if predicted is None else check_truth(predicted, "predicted")
    positives = truth.sum(axis=0)
    has, misses = positives > 0, positives < len(truth)
    columns = range(truth.shape[1])
    precisions = [average_precision(truth[:, j], scores[:, j]) for j in columns if has[j]]
    areas = [roc_auc(truth[:, j], scores[:, j]) for j in columns if has[j] and misses[j]]
    return LabelScore(
        macro_average_precision=float(np.mean(precisions)) if precisions else float("nan"),
        micro_average_precision=average_precision(truth.ravel(), scores.ravel()),
        macro_roc_auc=float(np.mean(areas)) if areas else float("nan"),
        micro_roc_auc=roc_auc(truth.ravel(), scores.ravel()),
        subset_accuracy=subset_accuracy(truth, given),
        tracks=truth.shape[0],
        labels=truth.shape[1],
        without_positives=int((~has).sum()),
        without_negatives=int((~misses).sum()),
    )


def average_precision(truth: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Mean of the precision at each rank where a track that has the label stands.

    Tracks of equal score count as one rank, so their order makes no difference; nothing is
    interpolated.

    Args:
        truth: ``(n,)`` bool.
        scores: ``(n,)``, more means likelier.

    Returns:
        In (0, 1]; NaN where no track has the label.
    """
    hits, misses = _ranks(truth, scores)
    total = hits.sum()
    if not total:
        return float("nan")
    found = hits.cumsum()
    return float((hits * found / (found + misses.cumsum())).sum() / total)


def roc_auc(truth: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Chance that a track with the label scores above one without it; a tie is half of one.

    Args:
        truth: ``(n,)`` bool.
        scores: ``(n,)``, more means likelier.

    Returns:
        In [0, 1]; NaN where all tracks have the label, or none.
    """
    hits, misses = _ranks(truth, scores)
    positives, negatives = int(hits.sum()), int(misses.sum())
    if not positives or not negatives:
        return float("nan")
    below = negatives - misses.cumsum()  # tracks without the label that score less
    return float((hits * (below + misses / 2)).sum() / positives / negatives)


def subset_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of tracks whose labels are all right.

    Args:
        truth: ``(tracks, labels)``, booleans, or 0 and 1.
        predicted: the same shape.

    Raises:
        ShapeError: they differ in shape.
        DataError: they hold something else.
    """
    truth, predicted = check_truth(truth, "truth"), check_truth(predicted, "predicted")
    if truth.shape != predicted.shape:
        raise ShapeError(
            f"truth and predicted need one shape; got {truth.shape} and {predicted.shape}."
        )
    return float((truth == predicted).all(axis=1).mean())


def _ranks(
    truth: NDArray[np.bool_], scores: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many tracks with and without the label have each score, the highest score first."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # last track of each score
    hits = np.diff(truth[order].cumsum()[ends], prepend=0)
    return hits, np.diff(ends + 1, prepend=0) - hits


def check_truth(matrix: ArrayLike, name: str) -> NDArray[np.bool_]:
    """A matrix of yes and no as booleans.

    Raises:
        ShapeError: it is no matrix ``(tracks, labels)`` with at least one of both.
        DataError: it holds something else.
    """
    found = np.asarray(matrix)
    if found.ndim != 2 or not found.size:
        raise ShapeError(
            f"{name} needs the shape (tracks, labels), at least one of both; got {found.shape}."
        )
    if found.dtype == np.bool_:
        return found
    if found.dtype.kind not in "iuf" or not np.isin(found, (0, 1)).all():
        raise DataError(f"{name} says of each track and label yes or no: True, False, 1 or 0.")
    return found.astype(np.bool_)


def check_scores(matrix: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A matrix of finite scores.

    Raises:
        ShapeError: it has another shape.
        DataError: it holds a value that is not a finite number.
    """
    found = np.asarray(matrix)
    if found.shape != shape:
        raise ShapeError(f"scores need the shape {shape} of the truth; got {found.shape}.")
    if found.dtype.kind not in "biuf":
        raise DataError(f"scores are numbers; got {found.dtype}.")
    scores: NDArray[np.float64] = found.astype(np.float64)
    bad = ~np.isfinite(scores)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"{bad.sum():,} scores are not finite numbers, the first of track {row}, label "
            f"{column}; a model that gives such scores cannot be ranked."
        )
    return scores
