"""How many numbers a fitted scikit-learn classifier holds to tell genres apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def count_parameters(model: Pipeline) -> int:
    """How many numbers a fitted pipeline holds to tell genres apart.

    Coefficients and intercepts, support vectors with their coefficients, nodes of trees, kept
    tracks, means and variances, as the kind has it, and principal components where it has some.
    The medians and scales of the columns, and what turns scores into probabilities, are left out.
    Of other estimators, the numbers in all arrays that they learned.
    """
    found = sum(_of(step) for _, step in model.steps[:-1] if isinstance(step, PCA))
    return found + _of(model.steps[-1][1])


def _of(estimator: Any) -> int:
    if isinstance(estimator, CalibratedClassifierCV):
        return sum(_of(one.estimator) for one in estimator.calibrated_classifiers_)
    if isinstance(estimator, PCA):
        return int(estimator.components_.size + estimator.mean_.size)
    if isinstance(estimator, SVC):
        support, dual = estimator.support_vectors_, estimator.dual_coef_
        return int(support.size + dual.size + estimator.intercept_.size)
    if isinstance(estimator, HistGradientBoostingClassifier):
        # scikit-learn shows the trees only here; one list a round, one tree a genre
        return sum(len(tree.nodes) for trees in estimator._predictors for tree in trees)
    if isinstance(estimator, KNeighborsClassifier):
        return int(estimator.n_samples_fit_ * estimator.n_features_in_)
    if isinstance(estimator, DummyClassifier):
        return int(np.size(estimator.class_prior_))
    if isinstance(estimator, GaussianNB):
        return int(estimator.theta_.size + estimator.var_.size + estimator.class_prior_.size)
    if isinstance(estimator, QuadraticDiscriminantAnalysis):
        axes = sum(rotation.size for rotation in estimator.rotations_)
        widths = sum(np.size(scaling) for scaling in estimator.scalings_)
        return int(estimator.means_.size + axes + widths + estimator.priors_.size)
    if hasattr(estimator, "coefs_"):  # a perceptron
        layers = (*estimator.coefs_, *estimator.intercepts_)
        return int(sum(layer.size for layer in layers))
    if hasattr(estimator, "coef_"):
        return int(np.size(estimator.coef_) + np.size(getattr(estimator, "intercept_", ())))
    nodes = [part.node_count for part in parts_of(estimator) if hasattr(part, "node_count")]
    if nodes:  # a tree or many
        return int(sum(nodes))
    arrays = [part for part in parts_of(estimator) if isinstance(part, np.ndarray)]
    return int(sum(array.size for array in arrays if array.dtype.kind in "fiu"))


def parts_of(thing: Any) -> Iterator[Any]:
    """An estimator, and all that is in it: estimators, trees, arrays, each once."""
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | type(None)):
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set):
            waiting.extend(part)
        elif isinstance(part, np.ndarray):
            if part.dtype == object:
                waiting.extend(part.ravel().tolist())
        elif not isinstance(part, type | StandardScaler):
            waiting.extend(getattr(part, "__dict__", {}).values())
