"""How accurate a classifier is: accuracy, macro-F1, confusion, calibration and coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.calibration import calibration_error, coverage_curve
from deepmusic.errors import ShapeError

_THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


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
