"""Classifiers on feature columns (scikit-learn): what every network has to be better than.

Each is a pipeline that takes a table of columns as it is, holes included: the median of the
training tracks fills a hole (NaN, or an infinite value), and every column is scaled to zero mean
and unit variance by the training tracks alone, then cut off at four deviations: the columns have
long tails, and a few far values would decide distances. Hyper-parameters come from a small search
within the training tracks (:mod:`deepmusic.studies.nested_search`), and all give probabilities::

    fitted = TABLE_MODELS["logistic"].fit(columns, labels, genres, groups=groups)
    heard = fitted.probabilities(others)  # (tracks, genres)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from deepmusic.classifier.calibration import Calibration
from deepmusic.classifier.evaluation import measure
from deepmusic.errors import DataError, ShapeError
from deepmusic.features.recipe import Recipe
from deepmusic.studies.nested_search import (
    SEARCHED_TRACKS,
    InnerFolds,
    Search,
    inner_folds,
    search,
    settings_of,
    some_groups,
)
from deepmusic.studies.parameters import count_parameters
from deepmusic.studies.saved_models import COLUMN_NAMES, FittedTable, as_table

if TYPE_CHECKING:
    from deepmusic.datasets import Fold
    from deepmusic.studies.data import StudyData
    from deepmusic.studies.models import StudyModel

_FARTHEST = 4.0  # deviations; beyond them a value counts as this far


def _pipeline(classifier: Any, *between: tuple[str, Any]) -> Pipeline:
    limits = {"a_min": -_FARTHEST, "a_max": _FARTHEST}
    return Pipeline(
        [
            # a column of holes only stays, as zeros: every fold sees the same columns
            ("fill", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
            ("cut", FunctionTransformer(np.clip, kw_args=limits)),
            *between,
            ("classify", classifier),
        ]
    )


@dataclass(frozen=True)
class TableModel:
    """A classifier on feature columns that has not learned yet.

    Args:
        name: how it is called.
        summary: one sentence for people.
        classifier: the estimator, with the settings that it has where no search is possible.
        grid: what is searched: a parameter of the pipeline (``classify__C``) -> values; none for
            nothing to search.
        between: steps of the pipeline between scaling and the classifier.
        is_learning: whether it looks at the columns at all; else its probabilities are left alone.
    """

    name: str
    summary: str
    classifier: Any
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    between: tuple[tuple[str, Any], ...] = ()
    is_learning: bool = True

    @property
    def has_probabilities(self) -> bool:
        """Whether the estimator gives probabilities; else they are made of its scores."""
        return hasattr(self.classifier, "predict_proba")

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
        """Find hyper-parameters within some tracks, and learn from all of them.

        Args:
            columns: ``(tracks, columns)``; NaN and infinite values count as missing.
            labels: ``(tracks,)``, place of each track's genre in ``genres``.
            genres: names.
            groups: ``(tracks,)``; tracks of one group never stand on both sides of an inner fold.
                None lets each track stand for itself.
            seed: of all that is drawn by chance.
            names: of the columns.
            recipe: that the columns are of, None where it is not known.

        Returns:
            The model, with sentences in ``notes`` on what could not be done as it should.

        Raises:
            DataError: there is one genre only, or the estimator cannot learn from these tracks.
            ShapeError: the shapes disagree.
        """
        table = as_table(columns, len(names))
        if labels.shape != (len(table),) or (groups is not None and groups.shape != labels.shape):
            raise ShapeError(
                f"{len(table)} tracks need as many labels and groups; got {labels.shape} and "
                f"{None if groups is None else groups.shape}"
            )
        known, places = np.unique(labels, return_inverse=True)
        if len(known) < 2:
            raise DataError(
                f"{self.name} cannot learn: its {len(table)} tracks are all of one genre, and it "
                "takes two."
            )
        learner = _Learner(
            self,
            table,
            places,
            np.arange(len(table)) if groups is None else groups,
            tuple(str(genres[i]) for i in known),
            seed,
        )
        found = learner.search()
        setting = {} if found is None else dict(found.setting)
        calibration = Calibration() if found is None else found.calibration
        if not self.is_learning:
            calibration = Calibration()
        fitted = learner.fit(setting, np.arange(len(table)))
        missing = [genre for i, genre in enumerate(genres) if i not in known]
        if missing:
            learner.notes.append(
                f"No track of {', '.join(missing)} is there to learn from: {self.name} never says "
                "so."
            )
        return FittedTable(
            pipeline=fitted,
            genres=tuple(map(str, genres)),
            known=tuple(int(i) for i in known),
            columns=tuple(names),
            calibration=calibration,
            parameters=count_parameters(fitted),
            name=self.name,
            settings=setting,
            searched=() if found is None else found.figures,
            validation={} if found is None else _figures(found, known, genres, calibration),
            recipe=recipe,
            notes=tuple(dict.fromkeys(learner.notes)),
        )


@dataclass
class _Learner:
    """A model and the tracks that it learns from."""

    model: TableModel
    columns: NDArray[np.float64]
    labels: NDArray[np.integer]
    groups: NDArray[np.integer]
    genres: tuple[str, ...]
    seed: int
    notes: list[str] = field(default_factory=list)

    def search(self) -> Search | None:
        """The best setting; None where no inner folds can be made."""
        rows = some_groups(self.groups, SEARCHED_TRACKS, seed=self.seed)
        folds = self._folds(rows)
        settings = settings_of(self.model.grid)
        if not folds:
            self.notes.append(
                f"{self._fewest()}: {self.model.name} takes its default hyper-parameters, and its "
                "probabilities are as they come."
            )
            return None
        if not self.model.has_probabilities and any(
            not self._folds(rows[train]) for train, _ in folds
        ):
            self.notes.append(
                f"{self._fewest()}: {self.model.name} takes its default hyper-parameters."
            )
            return None

        def predict(
            setting: Mapping[str, Any], train: NDArray[np.int64], test: NDArray[np.int64]
        ) -> NDArray[np.floating]:
            heard: NDArray[np.floating] = self.fit(setting, rows[train]).predict_proba(
                self.columns[rows[test]]
            )
            return heard

        return search(settings, predict, self.labels[rows], folds)

    def fit(self, setting: Mapping[str, Any], rows: NDArray[np.int64]) -> Pipeline:
        """A pipeline that has learned from some tracks."""
        model = self.model
        pipeline = _pipeline(clone(model.classifier), *((n, clone(s)) for n, s in model.between))
        pipeline.set_params(**setting)
        _keep_possible(pipeline, self.labels[rows], columns=self.columns.shape[1])
        _seed(pipeline, self.seed)
        if not model.has_probabilities:
            folds = self._folds(rows)
            if not folds:
                raise DataError(
                    f"{self._fewest()}, and {model.name} has no probabilities but what is made of "
                    "its scores there."
                )
            # Platt scaling on inner folds, then one machine on all tracks
            pipeline.steps[-1] = (
                "classify",
                CalibratedClassifierCV(pipeline["classify"], ensemble=False, cv=folds),
            )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                pipeline.fit(self.columns[rows], self.labels[rows])
            except MemoryError:
                raise
            except Exception as error:  # of scikit-learn, or of a class that was given
                said = " ".join(str(error).split()).rstrip(".")[:300]
                raise DataError(
                    f"{model.name} cannot learn from these {len(rows)} tracks: "
                    f"{said or type(error).__name__}."
                ) from error
        if not model.has_probabilities:
            pipeline["classify"].cv = len(folds)  # rows of tracks are of no use to who loads it
        stopped = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
        # the perceptron of the study is meant to stop after its passes
        if stopped and len(rows) == len(self.columns) and not _counts_passes(model.classifier):
            self.notes.append(f"{model.name} stopped at its limit of steps before it was done.")
        return pipeline

    def _folds(self, rows: NDArray[np.int64]) -> InnerFolds:
        return inner_folds(self.labels[rows], self.groups[rows], seed=self.seed)

    def _fewest(self) -> str:
        """Which genre is too poor, as the beginning of a sentence."""
        counts = [len(np.unique(self.groups[self.labels == i])) for i in range(len(self.genres))]
        poorest = int(np.argmin(counts))
        tracks = int(np.sum(self.labels == poorest))
        return (
            f"Genre {self.genres[poorest]!r} has {_count(tracks, 'track')} by "
            f"{_count(counts[poorest], 'artist')} to learn from, too few for inner folds"
        )


def _figures(
    found: Search, known: NDArray[np.integer], genres: Sequence[str], calibration: Calibration
) -> dict[str, Any]:
    """What the best setting was worth on the tracks of the inner folds."""
    heard = np.zeros((len(found.heard), len(genres)))
    heard[:, known] = found.heard
    return measure(heard, known[found.truth], genres, threshold=calibration.threshold)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _counts_passes(classifier: Any) -> bool:
    return isinstance(classifier, MLPClassifier) and classifier.solver != "lbfgs"


def _keep_possible(pipeline: Pipeline, labels: NDArray[np.integer], *, columns: int) -> None:
    """Take less of what cannot be had of few tracks or columns."""
    fewest = int(np.unique(labels, return_counts=True)[1].min())
    most = {
        "classify__n_neighbors": len(labels),
        # the covariance of each genre must have full rank
        "reduce__n_components": max(1, min(fewest - 1, columns)),
    }
    parameters = pipeline.get_params()
    for name, limit in most.items():
        value = parameters.get(name)
        if isinstance(value, int) and value > limit:
            pipeline.set_params(**{name: limit})


def _seed(pipeline: Pipeline, seed: int) -> None:
    for name, value in pipeline.get_params().items():
        if name.rpartition("__")[2] == "random_state" and value is None:
            pipeline.set_params(**{name: seed})


TABLE_MODELS: dict[str, TableModel] = {
    model.name: model
    for model in (
        TableModel(
            "majority",
            "Shares of the genres among the training tracks, whatever the track.",
            DummyClassifier(strategy="prior"),
            is_learning=False,
        ),
        TableModel(
            "logistic",
            "Multinomial logistic regression with an L2 penalty.",
            LogisticRegression(C=0.01, max_iter=2000),
            {"classify__C": (0.001, 0.01, 0.1, 1.0)},
        ),
        TableModel(
            "knn",
            "The nearest neighbours vote, the nearer the more (Cover and Hart, 1967).",
            # brute: exact by any metric, and no tree to be saved
            KNeighborsClassifier(30, weights="distance", metric="cosine", algorithm="brute"),
            {
                "classify__metric": ("cosine", "euclidean"),
                "classify__n_neighbors": (10, 30),
            },
        ),
        TableModel(
            "svc-linear",
            "Linear support vector machine, one genre against the rest, with Platt scaling.",
            LinearSVC(C=0.001, max_iter=5000, dual="auto"),
            {"classify__C": (0.0001, 0.001, 0.01)},
        ),
        TableModel(
            "svc-rbf",
            "Support vector machine with Gaussian kernel (Cortes and Vapnik, 1995), with Platt "
            "scaling.",
            SVC(C=10.0),
            {"classify__C": (1.0, 3.0, 10.0, 30.0)},
        ),
        TableModel(
            "tree",
            "One decision tree (CART; Breiman et al., 1984).",
            DecisionTreeClassifier(min_samples_leaf=10),
            {"classify__min_samples_leaf": (5, 10, 20)},
        ),
        TableModel(
            "forest",
            "300 trees, each on its own draw of tracks and columns (Breiman, 2001).",
            RandomForestClassifier(300, min_samples_leaf=1),
            {"classify__min_samples_leaf": (1, 3)},
        ),
        TableModel(
            "adaboost",
            "100 small trees, each minding the errors of those before (Freund and Schapire, 1997).",
            AdaBoostClassifier(
                DecisionTreeClassifier(max_depth=1, max_features=0.2), n_estimators=100
            ),
            {"classify__estimator__max_depth": (1, 2)},
        ),
        TableModel(
            "boosting",
            "Gradient boosting of trees on histograms of the columns (Friedman, 2001).",
            # few bins and columns a split: as good here, and several times as fast
            HistGradientBoostingClassifier(
                max_iter=100, max_leaf_nodes=4, min_samples_leaf=10, max_bins=32, max_features=0.1
            ),
            {"classify__max_leaf_nodes": (4, 12)},
        ),
        TableModel(
            "mlp",
            "Perceptron with one hidden layer of 64 units and weight decay, 60 passes by Adam.",
            MLPClassifier((64,), alpha=10.0, batch_size=32, max_iter=60),
            {"classify__alpha": (0.1, 10.0)},
        ),
        TableModel(
            "naive-bayes",
            "Gaussian of each column by itself, widened by a share of the largest variance.",
            GaussianNB(var_smoothing=0.1),
            {"classify__var_smoothing": (1e-9, 0.1, 1.0)},
        ),
        TableModel(
            "lda",
            "One Gaussian shape for all genres, shrunk (Ledoit and Wolf, 2004, or by a share).",
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
            {"classify__shrinkage": ("auto", 0.5, 0.9)},
        ),
        TableModel(
            "qda",
            "A Gaussian of its own for each genre, on principal components, regularised.",
            QuadraticDiscriminantAnalysis(reg_param=0.8),
            {"reduce__n_components": (10, 20), "classify__reg_param": (0.3, 0.8)},
            between=(("reduce", PCA(10, whiten=True, svd_solver="full")),),
        ),
    )
}
"""By name, as the study lists them."""


def study_models() -> tuple[StudyModel, ...]:
    """The models of this module as the study takes them."""
    from deepmusic.studies.models import StudyModel

    return tuple(
        StudyModel(model.name, "features", model.summary, partial(_study, model), FittedTable.load)
        for model in TABLE_MODELS.values()
    )


def _study(model: TableModel, data: StudyData, fold: Fold, seed: int, work: Path) -> FittedTable:
    """Learn a fold from its feature columns; nothing is resumed."""
    columns = data.columns
    if columns is None:
        raise DataError(f"{model.name} learns from feature columns, and the study has none.")
    return fit_fold(model, data, fold, seed, lambda known: columns[known])


def fit_fold(
    model: TableModel,
    data: StudyData,
    fold: Fold,
    seed: int,
    columns_of: Callable[[list[int]], NDArray[np.floating]],
    names: Sequence[str] = COLUMN_NAMES,
) -> FittedTable:
    """Learn from the training and the validation tracks of a fold.

    Args:
        model: what learns.
        data: of the study.
        fold: the test part is not touched.
        seed: of all that is drawn by chance.
        columns_of: gives the columns ``(n, columns)`` of the tracks at n places.
        names: of the columns.

    Raises:
        DataError, ShapeError: as of :meth:`TableModel.fit`.
    """
    from deepmusic.datasets import group_tracks

    known = sorted((*fold.train, *fold.validation))
    groups = np.array(group_tracks([data.dataset.tracks[place] for place in known]))
    columns, labels = columns_of(known), data.labels[known]
    return model.fit(columns, labels, data.genres, groups=groups, seed=seed, names=names)


def _plain_svc(seed: int) -> Pipeline:
    # Platt scaling on five inner folds, then one machine on all tracks. Which machine and what it
    # holds stays that of a plain SVC; the likeliest genre differs from its vote in few tracks.
    return _pipeline(CalibratedClassifierCV(SVC(C=10.0, random_state=seed), ensemble=False))


FEATURE_MODELS: dict[str, Callable[[int], Pipeline]] = {
    "majority": lambda seed: _pipeline(DummyClassifier(strategy="prior", random_state=seed)),
    "logistic": lambda seed: _pipeline(
        LogisticRegression(C=0.01, max_iter=2000, random_state=seed)
    ),
    "svc": _plain_svc,
    "boosting": lambda seed: _pipeline(HistGradientBoostingClassifier(random_state=seed)),
    "forest": lambda seed: _pipeline(RandomForestClassifier(500, random_state=seed)),
    "lda": lambda seed: _pipeline(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
    "knn": lambda seed: _pipeline(KNeighborsClassifier(5)),
}
"""Name -> function of a seed that makes an unfitted pipeline with fixed hyper-parameters."""
