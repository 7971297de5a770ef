"""scikit-learn classifiers on feature columns: the baselines that every network has to beat.

Hyper-parameters are chosen on inner folds that keep artists apart, and all models give calibrated
probabilities (``deepmusic.studies.table_models``)::

    fitted = TABLE_MODELS["logistic"].fit(columns, labels, genres, groups=groups)
    fitted.probabilities(others)  # (tracks, genres)
"""

from __future__ import annotations

from dataclasses import replace

from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from deepmusic.studies.models import StudyModel
from deepmusic.studies.table_models import TableModel
from deepmusic.studies.tabular_io import FittedTable

TABLE_MODELS: dict[str, TableModel] = {
    model.name: model
    for model in (
        TableModel(
            "majority",
            "Genre shares of the training tracks, the same for every track.",
            DummyClassifier(strategy="prior"),
            is_calibrated=False,
        ),
        TableModel(
            "logistic",
            "Multinomial logistic regression with an L2 penalty.",
            LogisticRegression(C=0.01, max_iter=2000),
            {"classify__C": (0.001, 0.01, 0.1, 1.0)},
        ),
        TableModel(
            "knn",
            "Nearest neighbours, weighted by distance (Cover and Hart, 1967).",
            # brute: exact for any metric, and no tree to save
            KNeighborsClassifier(30, weights="distance", metric="cosine", algorithm="brute"),
            {"classify__metric": ("cosine", "euclidean"), "classify__n_neighbors": (10, 30)},
        ),
        TableModel(
            "svc-linear",
            "Linear support vector machine, one versus rest, with Platt scaling.",
            LinearSVC(C=0.001, max_iter=5000, dual="auto"),
            {"classify__estimator__C": (0.0001, 0.001, 0.01)},
        ),
        TableModel(
            "svc-rbf",
            "Support vector machine with Gaussian kernel (Cortes and Vapnik, 1995), with Platt "
            "scaling.",
            SVC(C=10.0),
            {"classify__estimator__C": (1.0, 3.0, 10.0, 30.0)},
        ),
        TableModel(
            "tree",
            "One decision tree (CART; Breiman et al., 1984).",
            DecisionTreeClassifier(min_samples_leaf=10),
            {"classify__min_samples_leaf": (5, 10, 20)},
        ),
        TableModel(
            "forest",
            "Random forest of 300 trees (Breiman, 2001).",
            RandomForestClassifier(300, min_samples_leaf=1),
            {"classify__min_samples_leaf": (1, 3)},
        ),
        TableModel(
            "adaboost",
            "AdaBoost with 100 small trees (Freund and Schapire, 1997).",
            AdaBoostClassifier(
                DecisionTreeClassifier(max_depth=1, max_features=0.2), n_estimators=100
            ),
            {"classify__estimator__max_depth": (1, 2)},
        ),
        TableModel(
            "boosting",
            "Gradient boosting of trees on histograms (Friedman, 2001).",
            # few bins and columns per split: as accurate here, and several times as fast
            HistGradientBoostingClassifier(
                max_iter=100, max_leaf_nodes=4, min_samples_leaf=10, max_bins=32, max_features=0.1
            ),
            {"classify__max_leaf_nodes": (4, 12)},
        ),
        TableModel(
            "mlp",
            "Perceptron with one hidden layer of 64 units and weight decay, 60 epochs of Adam.",
            MLPClassifier((64,), alpha=10.0, batch_size=32, max_iter=60),
            {"classify__alpha": (0.1, 10.0)},
        ),
        TableModel(
            "naive-bayes",
            "Gaussian naive Bayes with smoothed variances.",
            GaussianNB(var_smoothing=0.1),
            {"classify__var_smoothing": (1e-9, 0.1, 1.0)},
        ),
        TableModel(
            "lda",
            "Linear discriminant analysis with shrinkage (Ledoit and Wolf, 2004, or fixed).",
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
            {"classify__shrinkage": ("auto", 0.5, 0.9)},
        ),
        TableModel(
            "qda",
            "Regularized quadratic discriminant analysis on principal components.",
            QuadraticDiscriminantAnalysis(reg_param=0.8),
            {"reduce__n_components": (10, 20), "classify__reg_param": (0.3, 0.8)},
            steps=(("reduce", PCA(10, whiten=True, svd_solver="full")),),
        ),
    )
}
"""By name, in the order of the report."""


def study_models() -> tuple[StudyModel, ...]:
    """The models of this module, on feature columns and on textures, as entries of the registry."""
    textures = [
        replace(base, name=name, summary=f"{base.summary[:-1]}, on textures.", kind="textures")
        for name, base in (
            ("textures-logistic", TABLE_MODELS["logistic"]),
            ("textures-svc", TABLE_MODELS["svc-rbf"]),
        )
    ]
    return tuple(
        StudyModel(model.name, model.kind, model.summary, model.fit_fold, FittedTable.load)
        for model in (*TABLE_MODELS.values(), *textures)
    )
