"""Classifiers by the name of their class, and one sentence for what cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepmusic.errors import DataError, RequestError
from deepmusic.studies.baselines import TABLE_MODELS
from deepmusic.studies.sklearn_class import read_parameters, table_model

GENRES = ("pop", "rock")

MODULE = '''
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier

class Own(KNeighborsClassifier):
    """Your own classifier."""

class Dumb(ClassifierMixin, BaseEstimator):
    """Neither probabilities nor scores."""
    def fit(self, X, y):
        return self
    def predict(self, X):
        return [0] * len(X)

class Broken(Own):
    def fit(self, X, y):
        raise OSError("no such\\n  luck.")

class Lazy:
    pass

number = 3
'''


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_models_of_a_test.py").write_text(MODULE)
    (tmp_path / "broken_module_of_a_test.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "failing_module_of_a_test.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_models_of_a_test"


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=40)
    return rng.normal(size=(40, 3)) + 3 * labels[:, None], labels


def accuracy(name: str, parameters: dict[str, object] | None = None) -> float:
    columns, labels = data()
    fitted = table_model(name, parameters).fit(columns, labels, GENRES, names=("a", "b", "c"))
    return float(np.mean(fitted.probabilities(columns).argmax(axis=1) == labels))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("{}:Own", {"n_neighbors": 3}),
        ("sklearn.ensemble:ExtraTreesClassifier", {"n_estimators": 10}),
        # with a decision function alone
        ("sklearn.linear_model:RidgeClassifier", {}),
        ("sklearn.svm:SVC", {}),
    ],
)
def test_any_class_can_be_used(own_module: str, name: str, parameters: dict[str, object]) -> None:
    assert accuracy(name.format(own_module), parameters) > 0.9


def test_given_parameters_are_not_searched() -> None:
    model = table_model("qda", {"reg_param": 0.7})
    assert set(model.grid) == {"reduce__n_components"}
    assert model.classifier.reg_param == 0.7
    assert set(TABLE_MODELS["qda"].grid) == {"reduce__n_components", "classify__reg_param"}
    assert TABLE_MODELS["qda"].classifier.reg_param != 0.7  # ours is as it was
    assert table_model("svc-linear", {"C": 2.0}).grid == {}


def test_a_given_seed_is_kept() -> None:
    for given, used in (({"random_state": 11}, 11), ({}, 5)):
        model = table_model("sklearn.ensemble:RandomForestClassifier", {"n_estimators": 3} | given)
        fitted = model.fit(*data(), GENRES, names=("a", "b", "c"), seed=5)
        assert fitted.estimator["classify"].random_state == used


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("nothing", {}, "no model 'nothing'; there are majority, logistic"),
        ("no.such.module:Class", {}, "no module 'no'"),
        ("{}:Missing", {}, "has no class 'Missing'"),
        ("{}:number", {}, "has no class 'number'"),
        ("{}:Lazy", {}, "is not a classifier"),
        ("sklearn.linear_model:LinearRegression", {}, "is not a classifier"),
        ("sklearn.preprocessing:StandardScaler", {}, "is not a classifier"),
        ("sklearn.ensemble:VotingClassifier", {}, "cannot be created: .*estimators"),
        ("{}:Dumb", {}, "neither predict_proba nor decision_function"),
        ("{}:Own", {"neighbours": 3}, "cannot be created: .*'neighbours'"),
        ("logistic", {"c": 3}, "logistic: Invalid parameter 'c' .*'C'"),
        ("broken_module_of_a_test:X", {}, "no module 'no_such_package_at_all'"),
        ("failing_module_of_a_test:X", {}, "cannot be imported: division by zero"),
        (":X", {}, "cannot be imported"),
    ],
)
def test_an_unusable_class_is_one_sentence(
    own_module: str, name: str, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        table_model(name.format(own_module), parameters)
    assert "\n" not in str(caught.value)


def test_a_class_that_fails_to_learn_is_one_sentence(own_module: str) -> None:
    with pytest.raises(DataError, match=r"Broken cannot learn from these .* tracks: no such luck"):
        accuracy(f"{own_module}:Broken")
    with pytest.raises(DataError, match=r"sklearn\.naive_bayes:MultinomialNB cannot learn"):
        accuracy("sklearn.naive_bayes:MultinomialNB")  # takes no negative columns
    with pytest.raises(RequestError, match=r"logistic: .* 'C'"):
        accuracy("logistic", {"C": -1})


def test_parameters_are_literals_or_text() -> None:
    given = ["C=0.5", "kernel=linear", "class_weight=None", "sizes=(64, 32)", "name=a=b", "x="]
    assert read_parameters(given) == {
        "C": 0.5,
        "kernel": "linear",
        "class_weight": None,
        "sizes": (64, 32),
        "name": "a=b",
        "x": "",
    }


@pytest.mark.parametrize("given", [["C"], ["=3"], ["a b=3"], ["C=1", "C=2"]])
def test_a_bad_parameter_is_one_sentence(given: list[str]) -> None:
    with pytest.raises(RequestError, match=r"is not a parameter|given twice"):
        read_parameters(given)
