"""Models compared over the same folds of several seeds: scores, and intervals of differences.

Over several folds the corrected resampled t-test is used, over one split a bootstrap of artists:
seeds of one split tell how much training varies, not how much another choice of tracks would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from deepmusic.classifier.evaluation import calibration_error

if TYPE_CHECKING:
    from deepmusic.studies.jobs import JobRecord


class Score(NamedTuple):
    """One model over all its folds and seeds."""

    accuracy: list[float]  # per seed, pooled over its folds
    macro_f1: list[float]  # likewise
    recall: NDArray[np.floating]  # (genres,), mean over seeds
    merged: float | None  # accuracy with pop and rock counted as one genre, mean over seeds
    parameters: float
    seconds: float  # of training, median over folds
    folds: dict[tuple[int, int], float]  # (seed, fold) -> accuracy
    calibration: float  # expected calibration error, mean over seeds
    reliability: NDArray[np.floating]  # (2, bins), confidence and accuracy, all seeds together
    confusion: NDArray[np.int64]  # (genres, genres), true genres as rows, tracks of all seeds
    seconds_per_track: float | None  # of prediction, median over folds
    peak_memory_bytes: float | None  # of the process, maximum over folds


def predictions(records: Sequence[JobRecord]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities ``(tracks, genres)`` and labels ``(tracks,)`` of some results together."""
    genres = records[0]["genres"]
    rows = [row for record in records for row in record["probabilities"].values()]
    labels = [genres.index(genre) for record in records for genre in record["truth"]]
    return np.array(rows, np.float64), np.array(labels, np.int64)


def score(records: Sequence[JobRecord]) -> Score:
    """The score of one model from its results."""
    genres = records[0]["genres"]
    indices = np.arange(len(genres))
    common: dict[str, Any] = {"labels": indices, "zero_division": 0}
    # indices of genres with pop and rock as one
    merged_genre = np.where(np.isin(genres, ["pop", "rock"]), -1, indices)
    accuracy, macro_f1, recall, merged, calibration = [], [], [], [], []
    for seed in sorted({record["seed"] for record in records}):
        shares, truth = predictions([r for r in records if r["seed"] == seed])
        predicted = shares.argmax(axis=1)
        accuracy.append(float(np.mean(truth == predicted)))
        macro_f1.append(float(f1_score(truth, predicted, average="macro", **common)))
        recall.append(recall_score(truth, predicted, average=None, **common))
        merged.append(float(np.mean(merged_genre[truth] == merged_genre[predicted])))
        calibration.append(calibration_error(shares, truth))
    shares, truth = predictions(records)
    predicted, confidence = shares.argmax(axis=1), shares.max(axis=1).clip(0, 1)
    reliability = calibration_curve(predicted == truth, confidence, n_bins=10, strategy="quantile")
    speeds = [s for r in records if (s := r.get("seconds_per_track")) is not None]
    peaks = [b for r in records if (b := r.get("peak_memory_bytes")) is not None]
    return Score(
        accuracy=accuracy,
        macro_f1=macro_f1,
        recall=np.mean(recall, axis=0),
        merged=float(np.mean(merged)) if {"pop", "rock"} <= set(genres) else None,
        parameters=float(np.median([record["parameters"] for record in records])),
        seconds=float(np.median([record["seconds"] for record in records])),
        folds={(r["seed"], r["fold"]): r["correct"] / r["tracks"] for r in records},
        calibration=float(np.mean(calibration)),
        reliability=np.array(reliability[::-1]),
        confusion=confusion_matrix(truth, predicted, labels=indices),
        seconds_per_track=float(np.median(speeds)) if speeds else None,
        peak_memory_bytes=max(peaks, default=None),
    )


MIN_FOLDS = 3
"""For an interval; that of two folds, with one degree of freedom, would say nothing."""


class Difference(NamedTuple):
    """How much better a model is than another, as shares of tracks."""

    mean: float  # ours minus theirs
    low: float = math.nan  # of the 95 % interval; NaN with too few folds or artists
    high: float = math.nan
    p: float = math.nan  # two-sided


def difference_by_fold(ours: Sequence[JobRecord], theirs: Sequence[JobRecord]) -> Difference:
    """The difference between two models over folds that both have."""
    both = [*ours, *theirs]
    overlap = sum(r["tracks"] for r in both) / sum(r["trained_on"] for r in both)
    return paired_difference(score(ours).folds, score(theirs).folds, overlap=overlap)


def difference_by_track(
    ours: Sequence[JobRecord], theirs: Sequence[JobRecord], groups: Mapping[str, int]
) -> Difference:
    """The difference on the tracks that both have predicted, resampled by group of the path."""
    mine, other = _right_by_track(ours), _right_by_track(theirs)
    shared = [path for path in mine if path in other]
    return bootstrap_difference(
        [mine[path] for path in shared],
        [other[path] for path in shared],
        [groups[path] for path in shared],
    )


def _right_by_track(records: Sequence[JobRecord]) -> dict[str, float]:
    """The share of seeds in which each track was classified correctly."""
    right: dict[str, list[bool]] = {}
    for record in records:
        shares, labels = predictions([record])
        is_right = shares.argmax(axis=1) == labels
        for path, hit in zip(record["probabilities"], is_right.tolist(), strict=True):
            right.setdefault(path, []).append(hit)
    return {path: float(np.mean(hits)) for path, hits in right.items()}


def paired_difference(
    ours: Mapping[tuple[int, int], float],
    theirs: Mapping[tuple[int, int], float],
    *,
    overlap: float,
) -> Difference:
    """Mean difference over the same folds, with the interval of the corrected resampled t-test.

    Folds of several seeds share tracks, so the variance of the mean is (1/n + test/train) times
    that of one difference (Nadeau and Bengio 2003). The interval keeps to what is possible,
    -1 to 1; fewer than three folds give none.

    Args:
        ours: accuracy by (seed, fold); only folds that both models have are compared.
        theirs: of the model to compare with.
        overlap: test tracks divided by training tracks of a fold.
    """
    shared = sorted(ours.keys() & theirs.keys())
    differences = np.array([ours[key] - theirs[key] for key in shared])
    mean = float(differences.mean()) if shared else math.nan
    if len(shared) < MIN_FOLDS:
        return Difference(mean)
    error = math.sqrt(differences.var(ddof=1) * (1 / len(shared) + overlap))
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    freedom = len(shared) - 1
    half = float(stats.t.ppf(0.975, freedom) * error)
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Difference(mean, max(mean - half, -1.0), min(mean + half, 1.0), p)


def bootstrap_difference(
    ours: Sequence[float] | NDArray[np.floating],
    theirs: Sequence[float] | NDArray[np.floating],
    groups: Sequence[int],
    *,
    draws: int = 4000,
    seed: int = 0,
) -> Difference:
    """Mean difference on the same tracks, with a percentile interval over resampled groups.

    Predictions for tracks of one artist are right or wrong together, so whole groups are resampled,
    not tracks (the cluster bootstrap; Davison and Hinkley 1997, chapter 3).

    Args:
        ours: ``(tracks,)``, how often each track was right, such as the share of seeds.
        theirs: ``(tracks,)``, of the model to compare with.
        groups: ``(tracks,)``; tracks of one group are resampled together.
        draws: how often groups are resampled.
        seed: of the draws.
    """
    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    if not len(differences):
        return Difference(math.nan)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(member, differences), np.bincount(member)
    mean = float(differences.mean())
    if len(sums) < 2:
        return Difference(mean)
    rng = np.random.default_rng(seed)
    shares = np.full(len(sums), 1 / len(sums))
    # one draw at a time: draws times groups would not fit into memory for large data
    weights = (rng.multinomial(len(sums), shares) for _ in range(draws))
    resampled = np.array([(weight @ sums) / (weight @ counts) for weight in weights])
    low, high = (float(value) for value in np.percentile(resampled, [2.5, 97.5]))
    # draws at zero speak for neither side, and no p is 0
    above, below = float(np.mean(resampled >= 0)), float(np.mean(resampled <= 0))
    p = min(1.0, 2 * max(min(above, below), 1 / (draws + 1)))
    return Difference(mean, low, high, p)
