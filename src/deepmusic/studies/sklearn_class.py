"""Any classifier with scikit-learn's interface, by the name of its class, as a table model."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from sklearn.base import clone, is_classifier

from deepmusic.errors import RequestError
from deepmusic.studies.baselines import TABLE_MODELS
from deepmusic.studies.table_models import TableModel
from deepmusic.studies.tabular_io import one_line


def table_model(name: str, parameters: Mapping[str, Any] | None = None) -> TableModel:
    """A model of ``TABLE_MODELS``, or of any other class.

    Args:
        name: a name of ours, or ``package.module:Class``. The module is imported: its code runs.
        parameters: of the estimator; they are fixed, not searched.

    Returns:
        The model. Imputation and scaling come before it; if it gives no probabilities, Platt
        scaling on inner folds makes them from its decision function.

    Raises:
        RequestError: there is no such model, module, class or parameter, or the class is not a
            classifier that can give probabilities.
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
    try:
        classifier = clone(model.classifier).set_params(**parameters)
        classifier._validate_params()  # as fit does, after tracks were decoded
    except ValueError as error:
        raise RequestError(f"{name}: {one_line(error)}.") from error
    grid = {k: v for k, v in model.grid.items() if k.rpartition("__")[2] not in parameters}
    return replace(model, classifier=classifier, grid=grid)


def read_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Parameters from ``name=value``; a value is a Python literal, or else text.

    Raises:
        RequestError: one has another form, or is given twice.

    Example:
        >>> read_parameters(["C=0.5", "kernel=linear", "class_weight=None"])
        {'C': 0.5, 'kernel': 'linear', 'class_weight': None}
    """
    parameters: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise RequestError(f"{text!r} is not a parameter; write name=value, such as C=0.5.")
        if name in parameters:
            raise RequestError(f"The parameter {name!r} is given twice.")
        try:
            parameters[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            parameters[name] = value
    return parameters


def _of_class(name: str, parameters: dict[str, Any]) -> TableModel:
    module_name, _, class_name = name.partition(":")
    try:
        cls = getattr(import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        raise RequestError(
            f"There is no module {error.name or module_name!r} for {name}: install it, or run the "
            "command in its folder."
        ) from error
    except Exception as error:  # whatever its code does when it is imported
        raise RequestError(
            f"The module {module_name!r} cannot be imported: {one_line(error)}."
        ) from error
    if not isinstance(cls, type):
        raise RequestError(f"The module {module_name!r} has no class {class_name!r}.")
    try:
        estimator = cls(**parameters)
    except Exception as error:
        raise RequestError(f"{name} cannot be created: {one_line(error)}.") from error
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")) or not is_classifier(
        estimator
    ):
        raise RequestError(
            f"{name} is not a classifier with scikit-learn's interface (fit, predict, get_params)."
        )
    if not (hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function")):
        raise RequestError(
            f"{name} has neither predict_proba nor decision_function, so that there are no "
            "probabilities; choose another class."
        )
    return TableModel(name, f"{class_name} of {module_name}.", estimator)
