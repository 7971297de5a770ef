"""Hyper-parameters chosen on the training tracks alone, and probabilities that mean what they say.

The training tracks are dealt into inner folds by whole groups (artist, album, copy) and stratified
by genre. Every setting is judged by what it says of the tracks of each inner fold after learning
from the others: the likelihood of the true genres once the probabilities are brought to the best
sharpness. It takes all probabilities into account, where the accuracy of a few hundred tracks
moves by chance more than settings differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.calibration import Calibration, fit_calibration, probabilities

INNER_FOLDS = 3
"""At most; fewer where a genre has fewer groups."""
SEARCHED_TRACKS = 3000
"""On more tracks than this the settings are compared on a part, drawn by whole groups."""
# what a model never says of a track: a tree or a neighbour is certain after one example
_DOUBT = 0.01

InnerFolds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Rows to learn from and rows to judge by, of each inner fold."""
Predict = Callable[[Mapping[str, Any], NDArray[np.int64], NDArray[np.int64]], NDArray[np.floating]]
"""Takes a setting, rows to learn from and other rows; gives the probabilities of the others."""


@dataclass(frozen=True)
class Search:
    """What came of a search.

    Args:
        setting: the best one.
        calibration: of its probabilities, on the tracks of the inner folds.
        figures: a record a setting: ``setting``, ``log_loss`` and ``accuracy``.
        heard: ``(judged, genres)``, what the best setting says of the tracks of the inner folds.
        truth: ``(judged,)``, the labels of these tracks.
    """

    setting: Mapping[str, Any]
    calibration: Calibration
    figures: tuple[dict[str, Any], ...]
    heard: NDArray[np.float64]
    truth: NDArray[np.integer]


def inner_folds(
    labels: NDArray[np.integer],
    groups: NDArray[np.integer],
    *,
    most: int = INNER_FOLDS,
    seed: int = 0,
) -> InnerFolds:
    """Deal training tracks out by whole groups, stratified by genre.

    Args:
        labels: ``(tracks,)``, genre of each.
        groups: ``(tracks,)``; tracks of one group stay together.
        most: folds, if each genre has so many groups.
        seed: another one, another draw.

    Returns:
        The folds. Whoever learns from all but one of them meets every genre; where there are no
        two such folds, as with one artist in a genre, there are none.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    genres = np.unique(labels)
    fewest = min(len(np.unique(groups[labels == genre])) for genre in genres)
    for count in range(min(most, fewest), 1, -1):
        dealer = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        rows = np.zeros((len(labels), 1))
        folds = [
            (train.astype(np.int64), test.astype(np.int64))
            for train, test in dealer.split(rows, labels, groups)
        ]
        if all(len(test) and len(np.unique(labels[train])) == len(genres) for train, test in folds):
            return folds
    return []


def some_groups(groups: NDArray[np.integer], most: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Rows of tracks of whole groups drawn by chance, ascending: all, or about ``most``."""
    if len(groups) <= most:
        return np.arange(len(groups), dtype=np.int64)
    names, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    taken = np.zeros(len(names), bool)
    taken[order[: int(np.searchsorted(np.cumsum(sizes[order]), most)) + 1]] = True
    return np.flatnonzero(taken[place]).astype(np.int64)


def settings_of(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of a grid, the first values first."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def log_scores(heard: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log probabilities ``(tracks, genres)`` with a little doubt, so that all are finite."""
    certain = np.asarray(heard, np.float64)
    scores: NDArray[np.float64] = np.log((1 - _DOUBT) * certain + _DOUBT / certain.shape[1])
    return scores


def search(
    settings: Sequence[Mapping[str, Any]],
    predict: Predict,
    labels: NDArray[np.integer],
    folds: InnerFolds,
) -> Search:
    """The best of some settings.

    Args:
        settings: to be compared, at least one; of equals the first is taken.
        predict: see :data:`Predict`; columns of probabilities are those of ``labels``.
        labels: ``(tracks,)``.
        folds: of these tracks, at least one.
    """
    truth = labels[np.concatenate([test for _, test in folds])]
    rows = np.arange(len(truth))
    figures: list[dict[str, Any]] = []
    best, least = None, np.inf
    for setting in settings:
        raw = np.concatenate([predict(setting, *fold) for fold in folds])
        calibration = fit_calibration(log_scores(raw), truth)
        heard = probabilities(log_scores(raw), calibration)
        loss = float(-np.log(heard[rows, truth]).mean())
        right = float(np.mean(heard.argmax(axis=1) == truth))
        figures.append({"setting": dict(setting), "log_loss": loss, "accuracy": right})
        if best is None or loss < least:
            best, least = Search(setting, calibration, (), heard, truth), loss
    if best is None:
        raise ValueError("a search needs a setting")
    return replace(best, figures=tuple(figures))
