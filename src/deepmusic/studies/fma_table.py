"""FMA's table of baselines, computed and published: the records, and the table as text.

The published scores are those of FMA's notebook (github.com/mdeff/fma, ``baselines.ipynb``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

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
_PUBLISHED_SUBSET = (10.5, 13.6)  # subset accuracy in percent of its nine multi-label cells
_PUBLISHED_COUNTS = (19922, 2505, 2573)  # training, validation and test tracks of medium


@dataclass(frozen=True)
class Cell:
    """A feature set with a classifier, and its scores."""

    task: Task  # "single": the top genre of each track; "multi": all its genres
    features: str  # name of the feature set
    model: str  # a key of MODELS
    size: int  # columns of the set
    accuracy: float | None = None  # share of test tracks entirely right, in [0, 1]
    published: float | None = None  # the published accuracy, if there is one
    seconds: float = 0.0  # for fitting and predicting
    training: int = 0  # tracks
    test: int = 0  # tracks
    scores: Mapping[str, float] = field(default_factory=dict)  # of "multi", by name
    note: str = ""  # anything out of the ordinary
    error: str = ""  # why there is no accuracy

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

    @property
    def standard_error(self) -> float:
        """Of the accuracy; 0 without one."""
        accuracy = self.accuracy or 0.0
        return math.sqrt(accuracy * (1 - accuracy) / max(self.test, 1))


@dataclass(frozen=True)
class Reproduction:
    """The table as far as it could be computed."""

    subset: str  # of FMA
    cells: tuple[Cell, ...]  # in the order of sets, then of models
    counts: tuple[int, ...]  # tracks of training, validation and test
    majority_genre: str = ""  # the most frequent top genre in training, of the single-label task
    majority_accuracy: float = float("nan")  # share of test tracks that have it


_SCORES = {
    "macro_average_precision": "macro AP",
    "micro_average_precision": "micro AP",
    "macro_roc_auc": "macro AUC",
    "micro_roc_auc": "micro AUC",
    "hierarchical_precision": "hier. P",
    "hierarchical_recall": "hier. R",
    "hierarchical_f": "hier. F",
}


def csv_table(table: Reproduction) -> str:
    """One row per cell; accuracies in [0, 1], seconds, counts of tracks."""
    head = ["task", "features", "columns", "model", "accuracy", "published", "difference"]
    head += ["seconds", "training", "test", *_SCORES, "labels", "labels_left_out", "note", "error"]
    records = [
        {**vars(cell), **cell.scores, "columns": cell.size, "difference": cell.difference}
        for cell in table.cells
    ]
    text: str = pd.DataFrame(records, columns=head).to_csv(index=False, lineterminator="\r\n")
    return text


def markdown(table: Reproduction) -> str:
    """The tables with remarks, in Markdown; ends in a line end."""

    def write(frame: pd.DataFrame) -> str:
        rows = [f"| {' | '.join(row)} |" for row in (frame.columns, *frame.to_numpy())]
        return "\n".join([rows[0], "|---" * len(frame.columns) + "|", *rows[1:]])

    return _text(table, write)


def plain_text(table: Reproduction) -> str:
    """The tables with remarks, for a terminal; ends in a line end."""

    def write(frame: pd.DataFrame) -> str:
        rows = [frame.columns, *frame.to_numpy()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    return _text(table, write)


def _text(table: Reproduction, write: Callable[[pd.DataFrame], str]) -> str:
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("deepmusic.studies"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("fma_table.j2").render(
        table=table,
        accuracies=_accuracies,
        scores=_scores,
        write=write,
        published_counts=_PUBLISHED_COUNTS,
        published_range=_PUBLISHED_SUBSET,
    )


def _accuracies(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row per feature set, one column per model."""
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        text = "failed" if cell.accuracy is None else f"{100 * cell.accuracy:.1f}"
        if cell.published is not None:
            difference = "" if cell.difference is None else f", {100 * cell.difference:+.1f}"
            text += f" ({100 * cell.published:.1f}{difference})"
        row = {"features": cell.features, "columns": str(cell.size)}
        rows.setdefault(cell.features, row)[cell.model] = text
    return pd.DataFrame([*rows.values()]).fillna("")


def _scores(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row per cell of the multi-label task."""
    return pd.DataFrame(
        {"features": cell.features, "model": cell.model}
        | {
            title: f"{100 * cell.scores[name]:.1f}" if name in cell.scores else "-"
            for name, title in _SCORES.items()
        }
        for cell in cells
    )
