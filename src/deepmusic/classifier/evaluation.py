"""Calibration and accuracy of a classifier, on tracks whose genres are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.verdict import Calibration
from deepmusic.errors import ShapeError

_THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def fit_calibration(log_scores: NDArray[np.floating], labels: NDArray[np.integer]) -> Calibration:
    """Fit temperature (by maximum likelihood) and threshold on validation tracks.

    The threshold maximises correct less wrong verdicts, with *unsure* counting zero; of several
    such thresholds the lowest is taken.

    Args:
        log_scores: ``(tracks, genres)``, of tracks that the model has not learned from.
        labels: ``(tracks,)``, the true genres; or ``(tracks, genres)``, one for every genre that is
            right for a track, else zero.

    Raises:
        ShapeError: the shapes disagree, or there is no track.
    """
    if labels.ndim == 1 == log_scores.ndim - 1:
        labels = np.eye(log_scores.shape[1])[labels]
    if log_scores.ndim != 2 or log_scores.shape != labels.shape or not len(labels):
        raise ShapeError(
            f"calibration needs scores (tracks, genres) and as many labels; got "
            f"{log_scores.shape} and {labels.shape}"
        )
    from scipy.optimize import minimize_scalar  # imports slowly, and is not needed for inference

    def cross_entropy(log_factor: float) -> float:
        calibration = Calibration(float(np.exp(log_factor)))
        right = (calibration.probabilities(log_scores) * labels).sum(axis=1)
        return float(-np.log(right + 1e-12).mean())

    # within a factor of 30: without errors on few tracks the optimum is infinite
    fitted = minimize_scalar(cross_entropy, bounds=(-3.4, 3.4), method="bounded")
    inverse_temperature = float(np.exp(fitted.x))
    predicted = Calibration(inverse_temperature).probabilities(log_scores)
    confidence = predicted.max(axis=1)
    gain = np.where(labels[np.arange(len(labels)), predicted.argmax(axis=1)], 1, -1)
    candidates = np.concatenate([[0.0], np.unique(confidence)])
    best = int(np.argmax([gain[confidence >= candidate].sum() for candidate in candidates]))
    # half-way to the next lower track, so as not to depend on one track's last digit
    threshold = (candidates[best] + candidates[best - 1]) / 2 if best > 0 else 0.0
    return Calibration(inverse_temperature, float(threshold), len(labels))


def calibration_error(
    predicted: NDArray[np.floating], labels: NDArray[np.integer], *, bins: int = 10
) -> float:
    """Expected calibration error in [0, 1]: mean gap between confidence and accuracy.

    Bins hold equal numbers of tracks, ordered by confidence; bins of equal width may be empty.

    Args:
        predicted: ``(tracks, genres)`` probabilities.
        labels: ``(tracks,)``.
        bins: number of bins.
    """
    confidence, is_correct = predicted.max(axis=1), predicted.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    gaps = [
        len(part) * abs(confidence[part].mean() - is_correct[part].mean())
        for part in np.array_split(order, min(bins, len(order)))
    ]
    return float(sum(gaps) / len(order))


def coverage_curve(
    predicted: NDArray[np.floating], labels: NDArray[np.integer], thresholds: tuple[float, ...]
) -> list[dict[str, float]]:
    """Coverage and accuracy at several thresholds.

    Returns:
        One record per threshold: ``threshold``, ``coverage`` (share of tracks that get a genre) and
        ``accuracy`` among those, which is absent if there are none.
    """
    confidence, is_correct = predicted.max(axis=1), predicted.argmax(axis=1) == labels
    curve = []
    for threshold in thresholds:
        covered = confidence >= threshold
        record = {"threshold": float(threshold), "coverage": float(covered.mean())}
        if covered.any():
            record["accuracy"] = float(is_correct[covered].mean())
        curve.append(record)
    return curve


def measure(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    genres: Sequence[str],
    *,
    threshold: float,
) -> dict[str, Any]:
    """Figures on tracks whose genres are known.

    Args:
        probabilities: ``(tracks, genres)``.
        labels: ``(tracks,)``, indices of genres.
        genres: names.
        threshold: below it a track is *unsure*.

    Returns:
        ``tracks``; ``accuracy`` and ``macro_f1`` as if nothing were unsure; ``recall`` by genre;
        ``confusion`` (rows are the truth); ``calibration_error``; ``unsure`` (``threshold``,
        ``coverage``, and ``accuracy`` of the tracks that get a genre); ``coverage`` (the same at
        other thresholds).

    Raises:
        ShapeError: the shapes disagree or there is no track.
    """
    if probabilities.shape != (len(labels), len(genres)) or not len(labels):
        raise ShapeError(
            f"figures need probabilities of shape ({len(labels)}, {len(genres)}) and a track; got "
            f"{probabilities.shape}"
        )
    confusion = np.zeros((len(genres), len(genres)), int)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    correct = confusion.diagonal()
    actual, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = 2 * correct / np.maximum(actual + predicted, 1)
    return {
        "tracks": len(labels),
        "accuracy": float(correct.sum() / len(labels)),
        "macro_f1": float(f1[actual > 0].mean()),
        "recall": {
            genre: float(c / a) for genre, c, a in zip(genres, correct, actual, strict=True) if a
        },
        "genres": list(genres),
        "confusion": confusion.tolist(),
        "calibration_error": calibration_error(probabilities, labels),
        "unsure": coverage_curve(probabilities, labels, (threshold,))[0],
        "coverage": coverage_curve(probabilities, labels, _THRESHOLDS),
    }


def draw_confusion(figures: Mapping[str, Any], path: Path) -> None:
    """Plot the confusion matrix of `measure` as a PNG file.

    Raises:
        DeepMusicError: the plot cannot be written.
    """
    from deepmusic.plotting import draw_confusion as draw, new_figure, save_png

    size = max(4.0, 0.6 * len(figures["genres"]) + 2)
    figure = new_figure(size, size)
    axes = figure.add_subplot()
    draw(axes, np.array(figures["confusion"]), figures["genres"])
    axes.set_title(f"{figures['tracks']} tracks, accuracy {figures['accuracy']:.1%}")
    save_png(figure, path, dpi=120)
