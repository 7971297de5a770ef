"""Any classifier with scikit-learn's interface, by the name of its class, as a table model."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from sklearn.base import clone, is_classifier

from deepmusic.errors import RequestError
from deepmusic.studies.baselines import TABLE_MODELS, TableModel


def given_model(name: str, parameters: Mapping[str, Any] | None = None) -> TableModel:
    """A model of :data:`~deepmusic.studies.baselines.TABLE_MODELS`, or of any other class.

    Args:
        name: a name of ours, or ``package.module:Class``. The module is imported: its code runs.
        parameters: of the estimator; what is given here is not searched.

    Returns:
        The model. Imputation and scaling come before it; where it gives no probabilities, they are
        made of its scores by Platt scaling on inner folds.

    Raises:
        RequestError: there is no such model, module, class or parameter, or the class is no
            classifier that could give probabilities.
    """
    parameters = dict(parameters or {})
    if ":" in name:
        return _of_class(name, parameters)
    if name not in TABLE_MODELS:
        raise RequestError(
            f"There is no model {name!r}; there are {', '.join(TABLE_MODELS)}, or give a class as "
            "package.module:Class."
        )
    model = TABLE_MODELS[name]
    if not parameters:
        return model
    known = model.classifier.get_params()
    _refuse_unknown(name, parameters, known)
    grid = {
        key: values
        for key, values in model.grid.items()
        if key.removeprefix("classify__") not in parameters
    }
    classifier = clone(model.classifier)
    return replace(model, classifier=classifier.set_params(**parameters), grid=grid)


def read_parameters(given: Sequence[str]) -> dict[str, Any]:
    """Parameters from ``name=value``; a value is a Python literal, or else text.

    Raises:
        RequestError: one is not of this form, or named twice.

    Example:
        >>> read_parameters(["C=0.5", "kernel=linear", "class_weight=None"])
        {'C': 0.5, 'kernel': 'linear', 'class_weight': None}
    """
    found: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise RequestError(f"{text!r} is no parameter; write it as name=value, such as C=0.5.")
        if name in found:
            raise RequestError(f"The parameter {name!r} is given twice.")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found[name] = value
    return found


def _of_class(name: str, parameters: dict[str, Any]) -> TableModel:
    module_name, _, class_name = name.partition(":")
    found = _class(name, module_name, class_name)
    try:
        estimator = found(**parameters)
    except Exception as error:
        known = _parameters_of(found)
        if known is not None:
            _refuse_unknown(name, parameters, known)
        raise RequestError(f"{name} cannot be made: {_said(error)}.") from error
    if not _is_classifier(estimator):
        raise RequestError(
            f"{name} is no classifier; give a class with scikit-learn's interface of one (fit, "
            "predict, get_params)."
        )
    model = TableModel(name, f"{class_name} of {module_name}.", estimator)
    if not model.has_probabilities and not hasattr(estimator, "decision_function"):
        raise RequestError(
            f"{name} gives neither probabilities (predict_proba) nor scores to make them of "
            "(decision_function); choose another class."
        )
    return model


def _class(name: str, module_name: str, class_name: str) -> type:
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        raise RequestError(
            f"There is no module {missing!r} for {name}: install it, or run where it lies."
        ) from error
    except Exception as error:  # whatever code of others does when it is imported
        raise RequestError(
            f"The module {module_name!r} cannot be imported: {_said(error)}."
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise RequestError(f"The module {module_name!r} has no class {class_name!r}.")
    return found


def _parameters_of(found: type) -> Mapping[str, Any] | None:
    """Names of the parameters of a class; None where it takes any."""
    try:
        known = inspect.signature(found).parameters
    except (ValueError, TypeError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return None
    return known


def _refuse_unknown(name: str, parameters: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for parameter in parameters:
        if parameter not in known:
            listed = ", ".join(sorted(key for key in known if "__" not in key))
            raise RequestError(f"{name} has no parameter {parameter!r}; it has {listed}.")


def _is_classifier(estimator: Any) -> bool:
    if not all(callable(getattr(estimator, part, None)) for part in ("fit", "get_params")):
        return False
    try:
        return bool(is_classifier(estimator))
    except Exception:  # scikit-learn asks for tags that a class may lack
        return False


def _said(error: Exception) -> str:
    said = " ".join(str(error).split()).rstrip(".")[:300]
    return said or type(error).__name__
