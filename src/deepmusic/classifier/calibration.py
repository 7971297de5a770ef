"""From scores to probabilities that mean what they say, and the courage to say *unsure*."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import ShapeError

Scores = NDArray[np.floating]


@dataclass(frozen=True)
class Calibration:
    """How a model's scores become a verdict.

    Args:
        inverse_temperature: what log scores are multiplied by before the softmax; the inverse of a
            temperature (Guo et al., On calibration of modern neural networks, 2017).
        threshold: a track whose likeliest genre is less probable than this is *unsure*.
        tracks: how many tracks both were fitted on.
    """

    inverse_temperature: float = 1.0
    threshold: float = 0.0
    tracks: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain JSON types."""
        return asdict(self)


def probabilities(log_scores: Scores, calibration: Calibration) -> NDArray[np.float64]:
    """Calibrated probabilities ``(..., genres)`` of log scores of the same shape."""
    scaled = np.asarray(log_scores, np.float64) * calibration.inverse_temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    shares = np.exp(scaled)
    result: NDArray[np.float64] = shares / shares.sum(axis=-1, keepdims=True)
    return result


def fit_calibration(log_scores: Scores, labels: NDArray[np.integer]) -> Calibration:
    """Fit the inverse_temperature by maximum likelihood, and the threshold, on validation tracks.

    The threshold weighs a wrong genre as heavy as a right one is worth: it maximises right less
    wrong answers, with *unsure* counting nothing. Where several do, the lowest is taken: the model
    then stays silent no more than it must.

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
    from scipy.optimize import minimize_scalar  # a tenth of a second that hearing can do without

    rows = np.arange(len(labels))

    def surprise(log_inverse_temperature: float) -> float:
        sharp = Calibration(inverse_temperature=float(np.exp(log_inverse_temperature)))
        return float(-np.log(probabilities(log_scores, sharp)[rows, labels] + 1e-12).mean())

    # between a thirtieth and thirty: without errors on few tracks the optimum runs to infinity
    fitted = minimize_scalar(surprise, bounds=(-3.4, 3.4), method="bounded")
    inverse_temperature = float(np.exp(fitted.x))
    heard = probabilities(log_scores, Calibration(inverse_temperature=inverse_temperature))
    confidence = heard.max(axis=1)
    right = heard.argmax(axis=1) == labels
    candidates = np.concatenate([[0.0], np.unique(confidence)])
    gains = [np.where(right, 1, -1)[confidence >= c].sum() for c in candidates]
    best = int(np.argmax(gains))
    # half-way to the next lower track: the threshold should not depend on one track's last digit
    threshold = (candidates[best] + candidates[best - 1]) / 2 if best > 0 else 0.0
    return Calibration(inverse_temperature, float(threshold), len(labels))


def calibration_error(heard: Scores, labels: NDArray[np.integer], *, bins: int = 10) -> float:
    """Expected calibration error in [0, 1]: mean gap between confidence and accuracy.

    Tracks are put into bins of equal count by confidence (equal width leaves bins near empty).

    Args:
        heard: ``(tracks, genres)`` probabilities.
        labels: ``(tracks,)``.
        bins: how many.
    """
    confidence, right = heard.max(axis=1), heard.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    gaps = [
        len(part) * abs(confidence[part].mean() - right[part].mean())
        for part in np.array_split(order, min(bins, len(order)))
    ]
    return float(sum(gaps) / len(order))


def coverage_curve(
    heard: Scores, labels: NDArray[np.integer], thresholds: tuple[float, ...]
) -> list[dict[str, float]]:
    """What staying silent costs and brings: coverage and accuracy at each threshold.

    Returns:
        One record a threshold: ``threshold``, ``coverage`` (share of tracks that get a genre) and
        ``accuracy`` among those; accuracy is left out where none gets one.
    """
    confidence, right = heard.max(axis=1), heard.argmax(axis=1) == labels
    curve = []
    for threshold in thresholds:
        claimed = confidence >= threshold
        record = {"threshold": float(threshold), "coverage": float(claimed.mean())}
        if claimed.any():
            record["accuracy"] = float(right[claimed].mean())
        curve.append(record)
    return curve
