"""Classifiers on feature columns (scikit-learn): what every network has to be better than.

Each entry of ``FEATURE_MODELS`` makes an unfitted pipeline that takes a table of columns as it is,
holes included: the median of the training tracks fills a hole (NaN), and every column is scaled to
zero mean and unit variance by the training tracks alone. All of them give probabilities::

    model = FEATURE_MODELS["logistic"](0).fit(columns, genres)
    probabilities = model.predict_proba(others)  # (tracks, genres), as model.classes_ orders
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

__all__ = ["FEATURE_MODELS", "count_parameters"]


def _scaled(classifier: Any) -> Pipeline:
    return Pipeline(
        [
            # a column of holes only stays, as zeros: every fold sees the same columns
            ("fill", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
            ("classify", classifier),
        ]
    )


def _svc(seed: int) -> Pipeline:
    # Platt scaling on five inner folds, then one machine on all tracks. Which machine and what it
    # holds stays that of a plain SVC; the likeliest genre differs from its vote in few tracks.
    return _scaled(CalibratedClassifierCV(SVC(C=10.0, random_state=seed), ensemble=False))


FEATURE_MODELS: dict[str, Callable[[int], Pipeline]] = {
    "majority": lambda seed: _scaled(DummyClassifier(strategy="prior", random_state=seed)),
    "logistic": lambda seed: _scaled(LogisticRegression(C=0.01, max_iter=2000, random_state=seed)),
    "svc": _svc,
    "boosting": lambda seed: _scaled(HistGradientBoostingClassifier(random_state=seed)),
    "forest": lambda seed: _scaled(RandomForestClassifier(500, random_state=seed)),
    "lda": lambda seed: _scaled(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
    "knn": lambda seed: _scaled(KNeighborsClassifier(5)),
}
"""Name -> function of a seed that makes an unfitted pipeline."""


def count_parameters(model: Pipeline) -> int:
    """How many numbers a fitted model of ``FEATURE_MODELS`` holds to tell genres apart.

    Coefficients, support vectors with their coefficients, tree nodes, or kept tracks, as the kind
    has it; the medians and scales of the columns are left out.
    """
    classifier = model["classify"]
    if isinstance(classifier, CalibratedClassifierCV):
        classifier = classifier.calibrated_classifiers_[0].estimator
    if isinstance(classifier, SVC):
        support, dual = classifier.support_vectors_, classifier.dual_coef_
        return int(support.size + dual.size + classifier.intercept_.size)
    if isinstance(classifier, RandomForestClassifier):
        return sum(tree.tree_.node_count for tree in classifier.estimators_)
    if isinstance(classifier, HistGradientBoostingClassifier):
        # scikit-learn shows the trees only here; one list a round, one tree a genre
        return sum(len(tree.nodes) for trees in classifier._predictors for tree in trees)
    if isinstance(classifier, KNeighborsClassifier):
        return int(classifier.n_samples_fit_ * classifier.n_features_in_)
    if isinstance(classifier, DummyClassifier):
        return int(classifier.class_prior_.size)
    return int(classifier.coef_.size + classifier.intercept_.size)
