"""Table models: one scikit-learn pipeline each, hyper-parameters searched with artists kept apart.

A pipeline takes a table of columns with missing values: the median of the training tracks replaces
NaN and infinite values, every column is standardized and then clipped at four standard deviations,
since the columns have long tails and a few outliers would dominate distances.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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

from deepmusic.classifier.evaluation import fit_calibration, measure
from deepmusic.datasets.groups import group_tracks
from deepmusic.errors import DataError, DeepMusicError, ShapeError, counted
from deepmusic.studies.tabular_io import (
    COLUMN_NAMES,
    COMPUTED,
    FittedTable,
    as_table,
    one_line,
    track_columns,
    with_doubt,
)

if TYPE_CHECKING:
    from deepmusic.datasets import Fold
    from deepmusic.studies.data import StudyData

INNER_FOLDS = 3
"""Folds of the search at most; fewer where a genre has fewer groups."""
SEARCH_TRACKS = 3000
"""On more training tracks than this, the search uses a subset, drawn by whole groups."""

_CLIP = 4.0  # standard deviations

# What trained classifiers keep, by kind; the first kind whose attributes exist is counted.
_LEARNED = (
    ("support_vectors_", "dual_coef_", "intercept_"),
    ("coefs_", "intercepts_"),
    ("coef_", "intercept_"),
    ("theta_", "var_", "class_prior_"),
    ("rotations_", "scalings_", "means_", "priors_"),
    ("components_", "mean_"),
    ("_fit_X",),
    ("class_prior_",),
)

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class TableModel:
    """An untrained classifier on columns."""

    name: str  # in tables and on the command line
    summary: str  # one sentence on what it is
    classifier: Any  # the estimator, with its default hyper-parameters
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # "classify__C" -> values
    steps: tuple[tuple[str, Any], ...] = ()  # of the pipeline, between clipping and classifier
    is_calibrated: bool = True  # whether its probabilities are calibrated on the inner folds
    kind: Literal["features", "textures", "ear"] = (
        "features"  # the columns that it takes of a study
    )

    @property
    def has_probabilities(self) -> bool:
        """Whether the classifier itself gives probabilities."""
        return hasattr(self.classifier, "predict_proba")

    def fit_fold(
        self, data: StudyData, fold: Fold, seed: int = 0, work: Path | None = None
    ) -> FittedTable:
        """Train on the training and the validation tracks of a fold.

        Its test tracks are not used; nor is the folder ``work``, as this takes seconds.

        Raises:
            DataError: the data lack the columns, or the model cannot learn from the tracks.
        """
        rows = sorted((*fold.train, *fold.validation))
        groups = np.array(group_tracks([data.dataset.tracks[row] for row in rows]))
        names: Sequence[str] = COLUMN_NAMES
        if self.kind == "features":
            columns = track_columns(data, rows, names)
        else:
            columns = COMPUTED[self.kind](data, rows)
            names = [f"{self.kind}/{number:03}" for number in range(columns.shape[1])]
        return self.fit(
            columns, data.labels[rows], data.genres, groups=groups, seed=seed, names=names
        )

    def fit(
        self,
        columns: NDArray[np.floating],
        labels: Labels,
        genres: Sequence[str],
        *,
        groups: Labels | None = None,
        seed: int = 0,
        names: Sequence[str] = COLUMN_NAMES,
    ) -> FittedTable:
        """Choose hyper-parameters within the training tracks, then train on all of them.

        Args:
            columns: ``(tracks, columns)``; NaN and infinite values count as missing.
            labels: ``(tracks,)``, the index of each track's genre in ``genres``.
            genres: their names.
            groups: ``(tracks,)``, never on two sides of an inner fold; None: each track is one.
            seed: of the inner folds and of the estimator.
            names: of the columns.

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
        with _explained(self.name, len(table)):
            try:
                chosen = self._search(table, labels, groups, genres, seed)
            except _TooFewGroupsError:
                chosen = {}
                notes.append(_too_few_groups(self.name, labels, groups, genres))
            pipeline = self._pipeline(seed, [targets], table.shape[1], chosen.get("settings"))
            try:
                pipeline.fit(table, targets, **self._fit_options(groups))
            except _TooFewGroupsError as error:
                raise DataError(f"{notes[-1]} It needs inner folds for them.") from error
        return FittedTable(
            estimator=pipeline,
            genres=tuple(map(str, genres)),
            classes=tuple(classes.tolist()),
            columns=tuple(names),
            name=self.name,
            parameters=count_parameters(pipeline),
            notes=tuple(notes),
            **chosen,
        )

    def _search(
        self,
        table: NDArray[np.float64],
        labels: Labels,
        groups: Labels,
        genres: Sequence[str],
        seed: int,
    ) -> dict[str, Any]:
        """The best setting, its calibration and its figures on the inner folds."""
        if len(table) > SEARCH_TRACKS:
            draw = GroupShuffleSplit(1, train_size=SEARCH_TRACKS / len(table), random_state=seed)
            rows = next(draw.split(table, labels, groups))[0]
            table, labels, groups = table[rows], labels[rows], groups[rows]
        classes, targets = np.unique(labels, return_inverse=True)
        folds = inner_folds(targets, groups, seed=seed)
        parts, options = [targets[train] for train, _ in folds], self._fit_options(groups)
        chosen: dict[str, Any] = {"settings": {}}
        if self.grid:
            limits = _limits(parts, table.shape[1])
            grid = {
                name: list(dict.fromkeys(min(v, limits.get(name, v)) for v in values))
                for name, values in self.grid.items()
            }
            search = GridSearchCV(
                self._pipeline(seed, parts, table.shape[1]),
                grid,
                scoring=_neg_log_loss,
                cv=folds,
                refit=False,
                error_score="raise",
            ).fit(table, targets, **options)
            scores = -search.cv_results_["mean_test_score"]
            chosen["settings"] = dict(search.best_params_)
            chosen["searched"] = tuple(
                {"setting": dict(setting), "log_loss": float(score)}
                for setting, score in zip(search.cv_results_["params"], scores, strict=True)
            )
        pipeline = self._pipeline(seed, parts, table.shape[1], chosen["settings"])
        shares = cross_val_predict(
            pipeline, table, targets, cv=folds, method="predict_proba", params=options
        )
        threshold = 0.0
        if self.is_calibrated:
            logs = with_doubt(shares)
            chosen["calibration"] = calibration = fit_calibration(logs, targets)
            shares, threshold = calibration.probabilities(logs), calibration.threshold
        whole = np.zeros((len(table), len(genres)))
        whole[:, classes] = shares
        chosen["validation"] = measure(whole, labels, genres, threshold=threshold)
        return chosen

    def _pipeline(
        self,
        seed: int,
        parts: Sequence[Labels],
        columns: int,
        settings: Mapping[str, Any] | None = None,
    ) -> Pipeline:
        """The untrained pipeline for training on tracks with any of these labels."""
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
        ).set_params(**settings or {})
        values = pipeline.get_params()
        states = {
            name: seed
            for name, value in values.items()
            if name.endswith("__random_state") and value is None
        }
        limits = _limits(parts, columns)
        limited = {n: min(values[n], most) for n, most in limits.items() if n in values}
        return pipeline.set_params(**states, **limited)

    def _fit_options(self, groups: Labels) -> dict[str, Labels]:
        """What ``fit`` takes besides the tracks: the groups, where Platt scaling needs them."""
        return {} if self.has_probabilities else {"classify__groups": groups}


class _TooFewGroupsError(Exception):
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


def inner_folds(labels: Labels, groups: Labels, *, seed: int = 0) -> list[tuple[Labels, Labels]]:
    """Training and test rows of at most ``INNER_FOLDS`` folds of whole groups.

    Labels and groups are ``(tracks,)``. Folds are stratified by genre, and each trains on all.

    Raises:
        _TooFewGroupsError: there are no two such folds, such as with one artist in a genre.
    """
    genres = np.unique(labels)
    fewest = min(len(np.unique(groups[labels == genre])) for genre in genres)
    for count in range(min(INNER_FOLDS, fewest), 1, -1):
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        folds = list(splitter.split(labels, labels, groups))
        if all(len(test) and len(np.unique(labels[train])) == len(genres) for train, test in folds):
            return folds
    raise _TooFewGroupsError


def _neg_log_loss(estimator: Any, columns: NDArray[np.floating], targets: Labels) -> float:
    """Mean log probability of the true genres at the best temperature; what the search maximizes.

    It uses all probabilities, whereas the accuracy of a few hundred tracks varies more at random
    than settings differ. The temperature makes up for settings that are too sure of themselves.
    """
    logs = with_doubt(estimator.predict_proba(columns))
    shares = fit_calibration(logs, targets).probabilities(logs)
    return float(np.log(shares[np.arange(len(targets)), targets] + 1e-12).mean())


def _limits(parts: Sequence[Labels], columns: int) -> dict[str, int]:
    """Hyper-parameters that the number of tracks limits, with their largest values.

    ``parts`` are the labels of the tracks of each training.
    """
    fewest = min(int(np.unique(labels, return_counts=True)[1].min()) for labels in parts)
    return {
        "classify__n_neighbors": min(map(len, parts)),
        # the covariance of each genre must have full rank
        "reduce__n_components": max(1, min(fewest - 1, columns)),
    }


def count_parameters(estimator: Any) -> int:
    """How many numbers a trained classifier has learned.

    Coefficients, support vectors with theirs, nodes of trees, the tracks of nearest neighbours,
    means and variances, principal components. Imputation, scaling and Platt scaling do not count,
    and neither do estimators of unknown kinds.
    """
    if isinstance(estimator, Pipeline):
        return sum(count_parameters(step) for _, step in estimator.steps[3:])
    if hasattr(estimator, "calibrated_classifiers_"):
        return sum(count_parameters(c.estimator) for c in estimator.calibrated_classifiers_)
    if hasattr(estimator, "tree_"):
        return int(estimator.tree_.node_count)
    if hasattr(estimator, "estimators_"):
        return sum(count_parameters(part) for part in np.ravel(estimator.estimators_))
    if hasattr(estimator, "_predictors"):  # of histogram gradient boosting
        return sum(len(tree.nodes) for trees in estimator._predictors for tree in trees)
    for names in _LEARNED:
        if all(hasattr(estimator, name) for name in names):
            values = [getattr(estimator, name) for name in names]
            lists = [value if isinstance(value, list) else [value] for value in values]
            return int(sum(np.size(part) for parts in lists for part in parts))
    return 0


@contextmanager
def _explained(name: str, tracks: int) -> Iterator[None]:
    """Turn any error of scikit-learn, or of a class that was given, into one sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (DeepMusicError, _TooFewGroupsError, MemoryError):
            raise
        except Exception as error:
            raise DataError(
                f"{name} cannot learn from these {tracks} tracks: {one_line(error)}."
            ) from error


def _too_few_groups(name: str, labels: Labels, groups: Labels, genres: Sequence[str]) -> str:
    counts = {int(index): len(np.unique(groups[labels == index])) for index in np.unique(labels)}
    poorest = min(counts, key=counts.__getitem__)
    tracks = counted(int(np.sum(labels == poorest)), "training track")
    few = counted(counts[poorest], "group")
    return (
        f"Genre {genres[poorest]!r} has {tracks} in {few} of artist or "
        f"album, too few for inner folds: {name} has default hyper-parameters and uncalibrated "
        "probabilities."
    )
