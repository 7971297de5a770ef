"""Models compared over the same folds of several seeds: scores, and intervals of differences.

Over several folds the corrected resampled t-test is used, over one split a bootstrap of artists:
seeds of one split tell how much training varies, not how much another choice of tracks would.

Results are records as ``deepmusic.studies.jobs.JobRecord`` describes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from deepmusic.classifier.calibration import calibration_error

Record = Mapping[str, Any]
_DRAWS = 4000


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


def predictions(results: Sequence[Record]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities ``(tracks, genres)`` and labels ``(tracks,)`` of some results together."""
    genres = results[0]["genres"]
    rows = [row for result in results for row in result["probabilities"].values()]
    labels = [genres.index(genre) for result in results for genre in result["truth"]]
    return np.array(rows, np.float64), np.array(labels, np.int64)


def score(results: Sequence[Record]) -> Score:
    """The score of one model from its results."""
    genres = results[0]["genres"]
    indices = np.arange(len(genres))
    common: dict[str, Any] = {"labels": indices, "zero_division": 0}
    # indices of genres with pop and rock as one
    merged_genre = np.where(np.isin(genres, ["pop", "rock"]), -1, indices)
    accuracy, macro_f1, recall, merged, calibration = [], [], [], [], []
    confusion = np.zeros((len(genres), len(genres)), np.int64)
    for seed in sorted({result["seed"] for result in results}):
        shares, truth = predictions([r for r in results if r["seed"] == seed])
        predicted = shares.argmax(axis=1)
        confusion += confusion_matrix(truth, predicted, labels=indices)
        accuracy.append(float(np.mean(truth == predicted)))
        macro_f1.append(float(f1_score(truth, predicted, average="macro", **common)))
        recall.append(recall_score(truth, predicted, average=None, **common))
        merged.append(float(np.mean(merged_genre[truth] == merged_genre[predicted])))
        calibration.append(calibration_error(shares, truth))
    speeds = [s for r in results if (s := r.get("seconds_per_track")) is not None]
    peaks = [b for r in results if (b := r.get("peak_memory_bytes")) is not None]
    shares, truth = predictions(results)
    confidence, is_right = shares.max(axis=1).clip(0, 1), shares.argmax(axis=1) == truth
    reliability = calibration_curve(is_right, confidence, n_bins=10, strategy="quantile")
    return Score(
        accuracy=accuracy,
        macro_f1=macro_f1,
        recall=np.mean(recall, axis=0),
        merged=float(np.mean(merged)) if {"pop", "rock"} <= set(genres) else None,
        parameters=float(np.median([result["parameters"] for result in results])),
        seconds=float(np.median([result["seconds"] for result in results])),
        folds={(r["seed"], r["fold"]): r["correct"] / r["tracks"] for r in results},
        calibration=float(np.mean(calibration)),
        reliability=np.array(reliability[::-1]),
        confusion=confusion,
        seconds_per_track=float(np.median(speeds)) if speeds else None,
        peak_memory_bytes=float(np.max(peaks)) if peaks else None,
    )


class Difference(NamedTuple):
    """How much better a model is than another, as shares of tracks."""

    mean: float  # ours minus theirs
    low: float  # of the 95 % interval; NaN with too few folds or artists
    high: float
    p: float  # two-sided; NaN likewise


def paired_difference(
    ours: Mapping[tuple[int, int], float],
    theirs: Mapping[tuple[int, int], float],
    *,
    overlap: float,
) -> tuple[float, float, float]:
    """Mean difference over the same folds, half width of its 95 % interval, and p.

    The corrected resampled t-test of Nadeau and Bengio (2003): folds of several seeds share
    tracks, so the variance of the mean is (1/n + test/train) times that of one difference.

    Args:
        ours: accuracy by (seed, fold); only folds that both models have are compared.
        theirs: of the model to compare with.
        overlap: test tracks divided by training tracks of a fold.
    """
    shared = sorted(ours.keys() & theirs.keys())
    difference = np.array([ours[key] - theirs[key] for key in shared])
    if len(shared) < 2:
        return float(difference.mean()) if shared else math.nan, math.nan, math.nan
    error = math.sqrt(difference.var(ddof=1) * (1 / len(shared) + overlap))
    if error == 0:
        return float(difference.mean()), 0.0, 1.0 if difference.mean() == 0 else 0.0
    freedom = len(shared) - 1
    p = 2 * stats.t.sf(abs(difference.mean()) / error, freedom)
    return float(difference.mean()), float(stats.t.ppf(0.975, freedom) * error), float(p)


def bootstrap_difference(
    ours: Sequence[float] | NDArray[np.floating],
    theirs: Sequence[float] | NDArray[np.floating],
    groups: Sequence[int],
    *,
    draws: int = _DRAWS,
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
        return Difference(math.nan, math.nan, math.nan, math.nan)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(member, differences), np.bincount(member)
    mean = float(differences.mean())
    if len(sums) < 2:
        return Difference(mean, math.nan, math.nan, math.nan)
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
