"""Calibrated probabilities from scores, and the threshold below which a verdict is *unsure*."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import ShapeError

Scores = NDArray[np.floating]


@dataclass(frozen=True)
class Calibration:
    """How scores become a verdict.

    Args:
        inverse_temperature: factor of log scores before the softmax (Guo et al., On calibration of
            modern neural networks, 2017).
        threshold: below this probability of its most probable genre a track is *unsure*.
        tracks: number of tracks on which both were fitted.
    """

    inverse_temperature: float = 1.0
    threshold: float = 0.0
    tracks: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON types."""
        return asdict(self)


def probabilities(log_scores: Scores, calibration: Calibration) -> NDArray[np.float64]:
    """Calibrated probabilities ``(..., genres)`` of log scores of the same shape."""
    scaled = np.asarray(log_scores, np.float64) * calibration.inverse_temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    shares = np.exp(scaled)
    result: NDArray[np.float64] = shares / shares.sum(axis=-1, keepdims=True)
    return result


def fit_calibration(log_scores: Scores, labels: NDArray[np.integer]) -> Calibration:
    """Fit temperature (by maximum likelihood) and threshold on validation tracks.

    The threshold maximises correct less wrong verdicts, with *unsure* counting zero; of several
    such thresholds the lowest is taken.

    Args:
        log_scores: ``(tracks, genres)``, of tracks that the model has not learned from.
        labels: ``(tracks,)``, the true genres.

    Raises:
        ShapeError: the shapes disagree, or there is no track.
    """
    if log_scores.ndim != 2 or log_scores.shape[:1] != labels.shape or not len(labels):
        raise ShapeError(
            f"calibration needs scores (tracks, genres) and as many labels; got "
            f"{log_scores.shape} and {labels.shape}"
        )
    from scipy.optimize import minimize_scalar  # imports slowly, and is not needed for inference

    rows = np.arange(len(labels))

    def cross_entropy(log_factor: float) -> float:
        calibration = Calibration(float(np.exp(log_factor)))
        return float(-np.log(probabilities(log_scores, calibration)[rows, labels] + 1e-12).mean())

    # within a factor of 30: without errors on few tracks the optimum is infinite
    fitted = minimize_scalar(cross_entropy, bounds=(-3.4, 3.4), method="bounded")
    inverse_temperature = float(np.exp(fitted.x))
    predicted = probabilities(log_scores, Calibration(inverse_temperature))
    confidence = predicted.max(axis=1)
    gain = np.where(predicted.argmax(axis=1) == labels, 1, -1)
    candidates = np.concatenate([[0.0], np.unique(confidence)])
    best = int(np.argmax([gain[confidence >= candidate].sum() for candidate in candidates]))
    # half-way to the next lower track, so as not to depend on one track's last digit
    threshold = (candidates[best] + candidates[best - 1]) / 2 if best > 0 else 0.0
    return Calibration(inverse_temperature, float(threshold), len(labels))


def calibration_error(predicted: Scores, labels: NDArray[np.integer], *, bins: int = 10) -> float:
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
    predicted: Scores, labels: NDArray[np.integer], thresholds: tuple[float, ...]
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
