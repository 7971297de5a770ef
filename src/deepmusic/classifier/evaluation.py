"""How well a classifier hears: accuracy, macro-F1, confusion, calibration and coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.calibration import calibration_error, coverage_curve
from deepmusic.errors import ShapeError
from deepmusic.files import write_atomically

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
        labels: ``(tracks,)``.
        genres: names.
        threshold: below it a track is *unsure*.

    Returns:
        ``tracks``, ``accuracy`` and ``macro_f1`` (as if there were no *unsure*), ``recall`` by
        genre, ``confusion`` (rows are the truth), ``calibration_error``, ``unsure`` (``threshold``,
        ``coverage``, ``accuracy`` among the claimed) and ``coverage`` at further thresholds.

    Raises:
        ShapeError: the shapes disagree or there is no track.
    """
    if probabilities.shape != (len(labels), len(genres)) or not len(labels):
        raise ShapeError(
            f"figures need probabilities of shape ({len(labels)}, {len(genres)}) and a track; got "
            f"{probabilities.shape}"
        )
    said = probabilities.argmax(axis=1)
    confusion = np.zeros((len(genres), len(genres)), int)
    np.add.at(confusion, (labels, said), 1)
    right = confusion.diagonal()
    asked, answered = confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = 2 * right / np.maximum(asked + answered, 1)
    return {
        "tracks": len(labels),
        "accuracy": float(right.sum() / len(labels)),
        "macro_f1": float(f1[asked > 0].mean()),
        "recall": {
            genre: float(r / a) for genre, r, a in zip(genres, right, asked, strict=True) if a
        },
        "genres": list(genres),
        "confusion": confusion.tolist(),
        "calibration_error": calibration_error(probabilities, labels),
        "unsure": coverage_curve(probabilities, labels, (threshold,))[0],
        "coverage": coverage_curve(probabilities, labels, _THRESHOLDS),
    }


def draw_confusion(figures: Mapping[str, Any], path: Path) -> None:
    """Draw the confusion of :func:`measure` as a picture: rows are the truth, in tracks.

    Raises:
        DeepMusicError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    confusion = np.array(figures["confusion"])
    genres = figures["genres"]
    size = max(4.0, 0.6 * len(genres) + 2)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.add_subplot()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the genre's tracks", shrink=0.8)
    for row, column in np.ndindex(confusion.shape):
        dark = share[row, column] > 0.5
        axes.text(
            column,
            row,
            str(confusion[row, column]),
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    axes.set_xticks(range(len(genres)), genres, rotation=45, ha="right")
    axes.set_yticks(range(len(genres)), genres)
    axes.set_xlabel("heard as")
    axes.set_ylabel("truth")
    axes.set_title(f"{figures['accuracy']:.1%} of {figures['tracks']} tracks right")
    with write_atomically(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
