"""Saved models predict the same; foreign, old or damaged files are refused in one sentence."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.tree import DecisionTreeClassifier

from deepmusic.datasets import FolderDataset
from deepmusic.errors import CheckpointError, DataError, ShapeError
from deepmusic.features.recipe import RECIPES
from deepmusic.studies.baselines import TABLE_MODELS
from deepmusic.studies.data import StudyData
from deepmusic.studies.sklearn_class import table_model
from deepmusic.studies.table_models import TableModel
from deepmusic.studies.tabular_io import COLUMN_NAMES, FittedTable

GENRES = ("classical", "pop", "rock")
NAMES = ("mfcc/mean/01", "mfcc/mean/02", "zcr/mean/01")


class Outsider(DecisionTreeClassifier):
    """A class that is not scikit-learn's."""


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=60)
    return rng.normal(size=(60, 3)) + 3 * np.eye(3)[labels], labels


def learned(model: TableModel | str = "logistic") -> FittedTable:
    few = {
        "forest": {"n_estimators": 5},
        "adaboost": {"n_estimators": 5},
        "boosting": {"max_iter": 3},
    }
    chosen = table_model(model, few.get(model)) if isinstance(model, str) else model
    chosen = replace(chosen, grid={})
    return replace(chosen.fit(*data(), GENRES, names=NAMES), recipe=RECIPES["fma"])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    learned().save(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        *TABLE_MODELS,
        TableModel("trees", "Trees.", ExtraTreesClassifier(5)),
        TableModel("ridge", "Ridge.", RidgeClassifier()),
    ],
    ids=str,
)
def test_a_saved_model_predicts_the_same(model: TableModel | str, tmp_path: Path) -> None:
    recipe = None if model == "majority" else RECIPES["fma"]
    before = replace(learned(model), recipe=recipe)
    before.save(tmp_path)
    after = FittedTable.load(tmp_path)
    columns, _ = data(1)
    columns[::4, 1] = np.nan
    np.testing.assert_array_equal(after.probabilities(columns), before.probabilities(columns))
    for name in ("genres", "classes", "columns", "calibration", "parameters", "name", "recipe"):
        assert getattr(after, name) == getattr(before, name)
    # no pickle: the archive holds arrays and one description
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        assert {Path(entry).suffix for entry in archive.namelist()} <= {".json", ".npy"}


def test_another_class_is_created_only_when_it_is_trusted(tmp_path: Path) -> None:
    model = learned(TableModel("own", "Own.", Outsider()))
    model.save(tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(about | {"types": []}))  # gives no trust
    name = f"{Outsider.__module__}.Outsider"
    with pytest.raises(CheckpointError, match=rf"not trusted: {name}"):
        FittedTable.load(tmp_path)
    again = FittedTable.load(tmp_path, trusted=[name])
    np.testing.assert_array_equal(again.probabilities(data()[0]), model.probabilities(data()[0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda a: a.update({"scikit-learn": "0.9.1"}), r"scikit-learn 0\.9\.1, and"),
        (lambda a: a.pop("scikit-learn"), "scikit-learn None"),
        (lambda a: a.update(format=99, deepmusic="9.9"), r"written by DeepMusic 9\.9"),
        (lambda a: a["recipe"].update(name="other"), "recipe 'other', version 1"),
        (lambda a: a["recipe"].update(version=7), "version 7"),
        (lambda a: a.update(kind="something else"), "is not a model of feature columns"),
        (lambda a: a.update(columns=["one"]), "damaged"),
        (lambda a: a.update(classes=[0, 1, 9]), "damaged"),
        (lambda a: a.pop("calibration"), "damaged"),
        (lambda a: a.update(calibration={"wrong": 1}), "damaged"),
    ],
)
def test_a_model_of_another_version_or_recipe_is_refused(
    saved: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    about = json.loads((saved / "model.json").read_text())
    edit(about)
    (saved / "model.json").write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match=message) as caught:
        FittedTable.load(saved)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model of feature columns in"):
        FittedTable.load(tmp_path)
    whole = (saved / "model.skops").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (b"", b"PK", whole[:-30], bytes(flipped), skops.io.dumps([1, 2])):
        (saved / "model.skops").write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            FittedTable.load(saved)
    (saved / "model.skops").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        FittedTable.load(saved)
    (saved / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        FittedTable.load(saved)


def test_columns_are_those_of_their_names_among_the_518(tmp_path: Path) -> None:
    model, rows = learned(), np.zeros((2, 518), np.float32)
    columns, _ = data(2)
    for index, name in enumerate(NAMES):
        rows[:, COLUMN_NAMES.index(name)] = columns[:2, index]
    dataset = FolderDataset(tmp_path, (), GENRES)
    np.testing.assert_allclose(
        model.predict_proba(StudyData(dataset, rows), [0, 1]),
        model.probabilities(columns[:2].astype(np.float32)),
    )
    with pytest.raises(ShapeError, match="no feature column 'a'"):
        replace(model, columns=("a", "b")).predict_proba(StudyData(dataset, rows), [0])


def test_a_model_without_a_recipe_classifies_no_file() -> None:
    with pytest.raises(CheckpointError, match="does not name the recipe of its features"):
        replace(learned(), recipe=None).classify("a.wav")


def test_calibration_changes_confidence_and_not_the_decision() -> None:
    model = learned()
    assert model.calibration.tracks == 60
    raw = replace(model, calibration=replace(model.calibration, tracks=0))
    columns, _ = data(3)
    calibrated, plain = model.probabilities(columns), raw.probabilities(columns)
    np.testing.assert_array_equal(calibrated.argmax(axis=1), plain.argmax(axis=1))
    assert not np.allclose(calibrated, plain)


def test_an_estimator_without_finite_probabilities_is_an_error() -> None:
    model = learned()
    model.estimator["classify"].coef_[:] = np.nan
    with pytest.raises(DataError, match="no probabilities for some tracks"):
        model.probabilities(data()[0])
