"""Table models: one scikit-learn pipeline each, hyper-parameters searched with artists kept apart.

A pipeline takes a table of columns with missing values: the median of the training tracks replaces
NaN and infinite values, every column is standardized and then clipped at four standard deviations,
since the columns have long tails and a few outliers would dominate distances.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.impute import SimpleImputer
from sklearn.model_selection import (
    GridSearchCV,
    GroupShuffleSplit,
    StratifiedGroupKFold,
    cross_val_predict,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from deepmusic.classifier.calibration import fit_calibration, probabilities
from deepmusic.classifier.evaluation import measure
from deepmusic.errors import DataError, ShapeError
from deepmusic.features.recipe import Recipe
from deepmusic.studies.tabular_io import (
    COLUMN_NAMES,
    FittedTable,
    as_table,
    count_parameters,
    with_doubt,
)

INNER_FOLDS = 3
"""Folds of the search at most; fewer where a genre has fewer groups."""
SEARCH_TRACKS = 3000
"""On more training tracks than this, the search uses a subset, drawn by whole groups."""

_CLIP = 4.0  # standard deviations

InnerFolds = list[tuple[NDArray[np.integer], NDArray[np.integer]]]


@dataclass(frozen=True)
class TableModel:
    """An untrained classifier on feature columns.

    Args:
        name: its name in tables and on the command line.
        summary: one sentence on what it is.
        classifier: the estimator, with its default hyper-parameters.
        grid: what is searched: parameter of the pipeline (``classify__C``) -> values.
        steps: steps of the pipeline between clipping and the classifier.
        is_calibrated: whether its probabilities are calibrated on the inner folds.
    """

    name: str
    summary: str
    classifier: Any
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    steps: tuple[tuple[str, Any], ...] = ()
    is_calibrated: bool = True

    @property
    def has_probabilities(self) -> bool:
        """Whether the classifier itself gives probabilities."""
        return hasattr(self.classifier, "predict_proba")

    def pipeline(self, seed: int = 0) -> Pipeline:
        """The untrained pipeline with probabilities, its random states set to a seed."""
        classifier = clone(self.classifier)
        if not self.has_probabilities:
            classifier = PlattScaling(classifier, seed=seed)
        pipeline = Pipeline(
            [
                # a column without any value is kept as zeros: every fold has the same columns
                ("fill", SimpleImputer(strategy="median", keep_empty_features=True)),
                ("scale", StandardScaler()),
                ("clip", FunctionTransformer(np.clip, kw_args={"a_min": -_CLIP, "a_max": _CLIP})),
                *((name, clone(step)) for name, step in self.steps),
                ("classify", classifier),
            ]
        )
        states = {
            name: seed
            for name, value in pipeline.get_params().items()
            if name.endswith("__random_state") and value is None
        }
        return pipeline.set_params(**states)

    def fit(
        self,
        columns: NDArray[np.floating],
        labels: NDArray[np.integer],
        genres: Sequence[str],
        *,
        groups: NDArray[np.integer] | None = None,
        seed: int = 0,
        names: Sequence[str] = COLUMN_NAMES,
        recipe: Recipe | None = None,
    ) -> FittedTable:
        """Choose hyper-parameters within the training tracks, then train on all of them.

        Args:
            columns: ``(tracks, columns)``; NaN and infinite values count as missing.
            labels: ``(tracks,)``, the index of each track's genre in ``genres``.
            genres: names.
            groups: ``(tracks,)``; tracks of one group are never on two sides of an inner fold.
                None treats each track as a group.
            seed: of the inner folds and of the estimator.
            names: of the columns.
            recipe: of the features, if known.

        Raises:
            DataError: there is only one genre, or the estimator cannot learn from these tracks.
            ShapeError: the shapes disagree.
        """
        table = as_table(columns, len(names))
        groups = np.arange(len(table)) if groups is None else groups
        if labels.shape != (len(table),) or groups.shape != labels.shape:
            raise ShapeError(
                f"{len(table)} tracks need as many labels and groups; got {labels.shape} and "
                f"{groups.shape}"
            )
        classes, targets = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"{self.name} needs tracks of two genres, and all are of one genre.")
        notes = [
            f"No training track is of the genre {genre}: {self.name} never predicts it."
            for index, genre in enumerate(genres)
            if index not in classes
        ]
        fitted = FittedTable(
            estimator=self.pipeline(seed),
            genres=tuple(map(str, genres)),
            classes=tuple(map(int, classes)),
            columns=tuple(names),
            name=self.name,
            recipe=recipe,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                fitted = self._searched(fitted, table, targets, groups, seed)
            except TooFewGroupsError:
                notes.append(_too_few_groups(self.name, labels, groups, genres))
            fitted = self._trained(fitted, table, targets, groups, seed, notes)
        return replace(fitted, notes=tuple(notes))

    def _searched(
        self,
        fitted: FittedTable,
        table: NDArray[np.float64],
        targets: NDArray[np.integer],
        groups: NDArray[np.integer],
        seed: int,
    ) -> FittedTable:
        """With the best setting, its calibration and its figures on the inner folds."""
        if len(table) > SEARCH_TRACKS:
            draw = GroupShuffleSplit(1, train_size=SEARCH_TRACKS / len(table), random_state=seed)
            rows = next(draw.split(table, targets, groups))[0]
            table, targets, groups = table[rows], targets[rows], groups[rows]
        folds = inner_folds(targets, groups, seed=seed)
        limits = _limits([targets[train] for train, _ in folds], table.shape[1])
        pipeline = self.pipeline(seed)
        if self.grid:
            grid = {
                name: list(dict.fromkeys(min(v, limits.get(name, v)) for v in values))
                for name, values in self.grid.items()
            }
            search = GridSearchCV(
                pipeline, grid, scoring=_neg_log_loss, cv=folds, refit=False, error_score="raise"
            )
            with _explained(self.name, len(table)):
                search.fit(table, targets, **self._fit_options(groups))
            results = search.cv_results_
            scores = zip(results["params"], results["mean_test_score"], strict=True)
            fitted = replace(
                fitted,
                settings=dict(search.best_params_),
                searched=tuple(
                    {"setting": dict(setting), "log_loss": -float(score)}
                    for setting, score in scores
                ),
            )
        _limit(pipeline.set_params(**fitted.settings), limits)
        with _explained(self.name, len(table)):
            shares = cross_val_predict(
                pipeline,
                table,
                targets,
                cv=folds,
                method="predict_proba",
                params=self._fit_options(groups),
            )
        if self.is_calibrated:
            logs = with_doubt(shares)
            fitted = replace(fitted, calibration=fit_calibration(logs, targets))
            shares = probabilities(logs, fitted.calibration)
        whole = np.zeros((len(table), len(fitted.genres)))
        whole[:, list(fitted.classes)] = shares
        labels = np.array(fitted.classes)[targets]
        threshold = fitted.calibration.threshold
        return replace(
            fitted, validation=measure(whole, labels, fitted.genres, threshold=threshold)
        )

    def _trained(
        self,
        fitted: FittedTable,
        table: NDArray[np.float64],
        targets: NDArray[np.integer],
        groups: NDArray[np.integer],
        seed: int,
        notes: Sequence[str],
    ) -> FittedTable:
        """With the pipeline of the best setting, trained on all tracks."""
        pipeline = self.pipeline(seed).set_params(**fitted.settings)
        _limit(pipeline, _limits([targets], table.shape[1]))
        try:
            with _explained(self.name, len(table)):
                pipeline.fit(table, targets, **self._fit_options(groups))
        except TooFewGroupsError as error:
            raise DataError(f"{notes[-1]} It needs inner folds for them.") from error
        return replace(fitted, estimator=pipeline, parameters=count_parameters(pipeline))

    def _fit_options(self, groups: NDArray[np.integer]) -> dict[str, NDArray[np.integer]]:
        """What ``fit`` takes besides the tracks: the groups, where Platt scaling needs them."""
        return {} if self.has_probabilities else {"classify__groups": groups}


class TooFewGroupsError(Exception):
    """Inner folds cannot be made."""


class PlattScaling(CalibratedClassifierCV):  # type: ignore[misc]  # untyped
    """Platt scaling on inner folds that keep groups apart, then one classifier on all tracks.

    Args:
        estimator: a classifier with a decision function.
        seed: of the inner folds.
    """

    def __init__(self, estimator: Any = None, *, seed: int = 0) -> None:
        super().__init__(estimator, ensemble=False)
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any) -> PlattScaling:
        """Train on rows ``X`` with labels ``y``; rows of one group stay together."""
        self.cv: Any = inner_folds(y, groups, seed=self.seed)
        super().fit(X, y)
        self.cv = None  # the rows mean nothing after training
        return self


def inner_folds(
    labels: NDArray[np.integer], groups: NDArray[np.integer], *, seed: int = 0
) -> InnerFolds:
    """At most ``INNER_FOLDS`` folds of whole groups, stratified by genre, each with all genres.

    Args:
        labels: ``(tracks,)``.
        groups: ``(tracks,)``.
        seed: of the draw.

    Returns:
        Training and test rows of each fold.

    Raises:
        TooFewGroupsError: there are no two such folds, such as with one artist in a genre.
    """
    genres = np.unique(labels)
    fewest = min(len(np.unique(groups[labels == genre])) for genre in genres)
    for count in range(min(INNER_FOLDS, fewest), 1, -1):
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        folds = list(splitter.split(labels, labels, groups))
        if all(len(test) and len(np.unique(labels[train])) == len(genres) for train, test in folds):
            return folds
    raise TooFewGroupsError


def _neg_log_loss(
    estimator: Any, columns: NDArray[np.floating], targets: NDArray[np.integer]
) -> float:
    """Mean log probability of the true genres at the best temperature; what the search maximizes.

    It uses all probabilities, whereas the accuracy of a few hundred tracks varies more at random
    than settings differ. The temperature makes up for settings that are too sure of themselves.
    """
    logs = with_doubt(estimator.predict_proba(columns))
    shares = probabilities(logs, fit_calibration(logs, targets))
    return float(np.log(shares[np.arange(len(targets)), targets] + 1e-12).mean())


def _limits(parts: Sequence[NDArray[np.integer]], columns: int) -> dict[str, int]:
    """Hyper-parameters that the number of tracks limits, with their largest values.

    Args:
        parts: labels of the tracks of each training.
        columns: of the table.
    """
    fewest = min(int(np.unique(labels, return_counts=True)[1].min()) for labels in parts)
    return {
        "classify__n_neighbors": min(map(len, parts)),
        # the covariance of each genre must have full rank
        "reduce__n_components": max(1, min(fewest - 1, columns)),
    }


def _limit(pipeline: Pipeline, limits: Mapping[str, int]) -> None:
    values = pipeline.get_params()
    pipeline.set_params(**{n: min(values[n], most) for n, most in limits.items() if n in values})


@contextmanager
def _explained(name: str, tracks: int) -> Iterator[None]:
    """Turn any error of scikit-learn, or of a class that was given, into one sentence."""
    try:
        yield
    except (TooFewGroupsError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
        raise DataError(f"{name} cannot learn from these {tracks} tracks: {reason}.") from error


def _too_few_groups(
    name: str, labels: NDArray[np.integer], groups: NDArray[np.integer], genres: Sequence[str]
) -> str:
    counts = {int(index): len(np.unique(groups[labels == index])) for index in np.unique(labels)}
    poorest = min(counts, key=counts.__getitem__)
    return (
        f"Genre {genres[poorest]!r} has {np.sum(labels == poorest)} training tracks in "
        f"{counts[poorest]} groups of artist or album, too few for inner folds: {name} has default "
        "hyper-parameters and uncalibrated probabilities."
    )
