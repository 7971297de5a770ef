"""FMA's table of baselines, computed and published: the records, and the table as text.

The published scores are those of FMA's notebook (github.com/mdeff/fma, ``baselines.ipynb``).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Task = Literal["single", "multi"]

MODELS = {
    "lr": "logistic regression",
    "knn": "200 nearest neighbours",
    "svm": "support vector machine, RBF kernel",
    "mlp": "multi-layer perceptron, 100 units",
}
"""The classifiers of the published table, in its order."""
MULTI_LABEL_MODELS = ("lr", "svm", "mlp")
MULTI_LABEL_SETS = (
    "mfcc",
    "mfcc/contrast/chroma/centroid/tonnetz",
    "mfcc/contrast/chroma/centroid/zcr",
)
"""The feature sets of the notebook's multi-label task."""

_PERCENT = {
    "chroma_cens": (39.3, 37.5, 42.3, 40.2),
    "chroma_cqt": (40.1, 40.0, 44.3, 44.8),
    "chroma_stft": (43.6, 43.9, 48.3, 48.5),
    "mfcc": (57.8, 55.0, 61.0, 53.2),
    "rmse": (37.3, 38.5, 38.9, 39.1),
    "spectral_bandwidth": (40.5, 45.4, 44.5, 45.0),
    "spectral_centroid": (42.4, 45.4, 45.7, 47.8),
    "spectral_contrast": (50.9, 49.6, 54.5, 52.9),
    "spectral_rolloff": (41.7, 46.3, 47.5, 48.1),
    "tonnetz": (40.1, 37.3, 42.3, 40.9),
    "zcr": (42.3, 44.7, 45.4, 46.4),
    "mfcc/contrast": (59.8, 55.3, 63.0, 53.8),
    "mfcc/contrast/centroid": (59.8, 55.2, 63.4, 52.6),
    "all": (61.1, 51.8, 62.9, 58.1),
}
PUBLISHED: Mapping[tuple[str, str], float] = {
    (name, model): percent / 100
    for name, row in _PERCENT.items()
    for model, percent in zip(MODELS, row, strict=True)
}
"""Feature set and model -> test accuracy on medium, of the notebook; the paper rounds to whole
percents. Four of the notebook's combinations have no score here."""
PUBLISHED_SUBSET_ACCURACY = (0.105, 0.136)
"""The lowest and the highest subset accuracy of the notebook's nine multi-label cells."""
PUBLISHED_COUNTS = (19922, 2505, 2573)
"""Training, validation and test tracks of medium as published."""


@dataclass(frozen=True)
class Cell:
    """A feature set with a classifier, and its scores.

    Args:
        task: ``"single"``, the top genre of each track, or ``"multi"``, all its genres.
        features: name of the feature set.
        model: a key of ``MODELS``.
        size: columns of the set.
        accuracy: share of test tracks that are entirely right, in [0, 1]; None after an error.
        published: the published accuracy, if there is one.
        seconds: for fitting and predicting.
        training: number of training tracks.
        test: number of test tracks.
        scores: of ``"multi"``, by name, as of `score_labels` and `hierarchical_score`.
        note: anything out of the ordinary; usually empty.
        error: why there is no accuracy; empty if there is one.
    """

    task: Task
    features: str
    model: str
    size: int
    accuracy: float | None = None
    published: float | None = None
    seconds: float = 0.0
    training: int = 0
    test: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    error: str = ""

    @property
    def path(self) -> str:
        """The key of the cell in the store."""
        return f"{self.task}:{self.features}:{self.model}"

    @property
    def difference(self) -> float | None:
        """Accuracy minus the published one."""
        if self.accuracy is None or self.published is None:
            return None
        return self.accuracy - self.published


@dataclass(frozen=True)
class Reproduction:
    """The table as far as it could be computed.

    Args:
        subset: of FMA.
        cells: in the order of sets, then of models.
        counts: tracks of training, validation and test.
        majority_genre: the most frequent top genre in training; empty without the single-label
            task.
        majority_accuracy: share of test tracks that have it.
    """

    subset: str
    cells: tuple[Cell, ...]
    counts: tuple[int, ...]
    majority_genre: str = ""
    majority_accuracy: float = float("nan")


_TITLES: dict[Task, str] = {
    "single": "Test accuracy in percent, one top genre per track",
    "multi": "Test subset accuracy in percent, all genres of a track",
}
_SCORES = {
    "macro_average_precision": "macro AP",
    "micro_average_precision": "micro AP",
    "macro_roc_auc": "macro AUC",
    "micro_roc_auc": "micro AUC",
    "hierarchical_precision": "hier. P",
    "hierarchical_recall": "hier. R",
    "hierarchical_f": "hier. F",
}


def markdown(table: Reproduction) -> str:
    """The tables with remarks, in Markdown; ends in a line end."""
    return "\n".join(_lines(table, _markdown_rows))


def plain_text(table: Reproduction) -> str:
    """The tables with remarks, for a terminal; ends in a line end."""
    return "\n".join(_lines(table, _aligned_rows))


def csv_table(table: Reproduction) -> str:
    """One row per cell; accuracies in [0, 1], seconds, counts of tracks."""
    records = [
        {
            "task": cell.task,
            "features": cell.features,
            "columns": cell.size,
            "model": cell.model,
            "accuracy": cell.accuracy,
            "published": cell.published,
            "difference": cell.difference,
            "seconds": cell.seconds,
            "training": cell.training,
            "test": cell.test,
            **{name: cell.scores.get(name) for name in (*_SCORES, "labels", "labels_left_out")},
            "note": cell.note,
            "error": cell.error,
        }
        for cell in table.cells
    ]
    buffer = io.StringIO()
    rows = csv.DictWriter(buffer, list(records[0]))  # None becomes empty
    rows.writeheader()
    rows.writerows(records)
    return buffer.getvalue()


def _lines(table: Reproduction, write: Callable[[list[list[str]]], Iterator[str]]) -> Iterator[str]:
    training, validation, test = table.counts
    yield (
        f"FMA {table.subset}, official split: {training:,} training, {validation:,} validation "
        f"and {test:,} test tracks."
    )
    if table.subset == "medium" and table.counts != PUBLISHED_COUNTS:
        published = " / ".join(f"{count:,}" for count in PUBLISHED_COUNTS)
        yield (
            f"The published medium subset has {published}: these are other tracks, so differences "
            "from the published scores mean nothing."
        )
    for task, title in _TITLES.items():
        cells = [cell for cell in table.cells if cell.task == task]
        if not cells:
            continue
        has_published = any(cell.published is not None for cell in cells)
        yield from ("", f"{title}{' (published, difference)' * has_published}:", "")
        yield from write(_accuracy_rows(cells))
        if task == "multi":
            yield ""
            yield from write(_score_rows(cells))
        yield ""
        yield from _remarks(table, task, cells)
    yield ""


def _accuracy_rows(cells: list[Cell]) -> list[list[str]]:
    models = [model for model in MODELS if any(cell.model == model for cell in cells)]
    by_key = {(cell.features, cell.model): _accuracy(cell) for cell in cells}
    sets = dict.fromkeys((cell.features, cell.size) for cell in cells)
    return [
        ["features", "columns", *models],
        *([name, str(n), *(by_key.get((name, model), "") for model in models)] for name, n in sets),
    ]


def _accuracy(cell: Cell) -> str:
    mine = "failed" if cell.accuracy is None else f"{100 * cell.accuracy:.1f}"
    if cell.published is None:
        return mine
    difference = "" if cell.difference is None else f", {100 * cell.difference:+.1f}"
    return f"{mine} ({100 * cell.published:.1f}{difference})"


def _score_rows(cells: list[Cell]) -> list[list[str]]:
    rows = [["features", "model", *_SCORES.values()]]
    for cell in cells:
        scores = [f"{100 * cell.scores[n]:.1f}" if n in cell.scores else "-" for n in _SCORES]
        rows.append([cell.features, cell.model, *scores])
    return rows


def _remarks(table: Reproduction, task: Task, cells: list[Cell]) -> Iterator[str]:
    accuracies = [(cell.accuracy, cell.test) for cell in cells if cell.accuracy is not None]
    if task == "single" and table.majority_genre:
        yield (
            f"- Always predicting {table.majority_genre!r} scores "
            f"{100 * table.majority_accuracy:.1f} %."
        )
    if accuracies and task == "single":
        widest = max(math.sqrt(a * (1 - a) / max(tracks, 1)) for a, tracks in accuracies)
        yield f"- The standard error of an accuracy is up to {100 * widest:.1f} points."
    if task == "multi":
        low, high = PUBLISHED_SUBSET_ACCURACY
        if table.subset == "medium":
            yield f"- Published for these sets and models: {100 * low:.1f} to {100 * high:.1f} %."
        counted = next((cell.scores for cell in cells if "labels" in cell.scores), None)
        if counted:
            yield (
                f"- Of {counted['labels']:.0f} genres, {counted['labels_left_out']:.0f} have no "
                "test track and are left out of the macro averages."
            )
    for note in dict.fromkeys(cell.note for cell in cells if cell.note):
        noted = [f"{cell.features} {cell.model}" for cell in cells if cell.note == note]
        yield f"- {', '.join(noted)}: {note}."
    yield from (f"- {cell.error}" for cell in cells if cell.error)


def _markdown_rows(rows: list[list[str]]) -> Iterator[str]:
    head, *body = rows
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in body)


def _aligned_rows(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
