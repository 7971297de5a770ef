"""Saved models say the same, and nothing is made of a file that is foreign, old or damaged."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.tree import DecisionTreeClassifier

from deepmusic.errors import CheckpointError, DataError, ShapeError
from deepmusic.features.recipe import RECIPES, recipe_named
from deepmusic.studies.baselines import TABLE_MODELS, TableModel
from deepmusic.studies.given_models import given_model
from deepmusic.studies.saved_models import COLUMN_NAMES, FittedTable

GENRES = ("classical", "pop", "rock")
NAMES = ("mfcc/mean/01", "mfcc/mean/02", "zcr/mean/01")


class Outsider(DecisionTreeClassifier):
    """A class that no file of ours should need."""


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=60)
    return rng.normal(size=(60, 3)) + 3 * np.eye(3)[labels], labels


def learned(model: TableModel | str = "logistic", **options: Any) -> FittedTable:
    few = {"forest": {"n_estimators": 5}, "boosting": {"max_iter": 3}}
    chosen = given_model(model, few.get(model)) if isinstance(model, str) else model
    return replace(chosen, grid={}).fit(
        *data(), GENRES, names=NAMES, recipe=recipe_named("fma"), **options
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    learned().save(tmp_path / "run")
    return tmp_path / "run"


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change what model.json says."""
    path = folder / "model.json"
    about = json.loads(path.read_text())
    edit(about)
    path.write_text(json.dumps(about))


def put(folder: Path, content: bytes) -> None:
    """Replace the weights, with a hash that fits."""
    (folder / "model.skops").write_bytes(content)
    change(folder, lambda about: about.update(sha256=hashlib.sha256(content).hexdigest()))


@pytest.mark.parametrize("name", TABLE_MODELS)
def test_a_saved_model_says_the_same(name: str, tmp_path: Path) -> None:
    model = learned(name)
    model.save(tmp_path)
    again = FittedTable.load(tmp_path)
    columns, _ = data(1)
    columns[::4, 1] = np.nan
    np.testing.assert_array_equal(again.probabilities(columns), model.probabilities(columns))
    for field in ("genres", "known", "columns", "calibration", "parameters", "name", "recipe"):
        assert getattr(again, field) == getattr(model, field)
    about = json.loads((tmp_path / "model.json").read_text())
    kind = type(TABLE_MODELS[name].classifier)
    assert about["class"] == f"{kind.__module__}.{kind.__qualname__}"
    assert about["recipe"] == {"name": "fma", "version": 1}
    # no pickle anywhere: what is in the archive are arrays and one description
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        assert {Path(entry).suffix for entry in archive.namelist()} <= {".json", ".npy"}


@pytest.mark.parametrize(
    "estimator",
    [ExtraTreesClassifier(5), GradientBoostingClassifier(n_estimators=3), RidgeClassifier()],
)
def test_other_estimators_of_scikit_learn_need_no_trust(estimator: Any, tmp_path: Path) -> None:
    model = learned(TableModel("other", "Other.", estimator))
    model.save(tmp_path)
    again = FittedTable.load(tmp_path)
    np.testing.assert_array_equal(again.probabilities(data()[0]), model.probabilities(data()[0]))


def test_a_foreign_class_is_made_only_when_it_is_named(tmp_path: Path) -> None:
    model = learned(TableModel("own", "Own.", Outsider()))
    model.save(tmp_path)
    name = f"{Outsider.__module__}.Outsider"
    with pytest.raises(CheckpointError, match=rf"{name}, which is not trusted"):
        FittedTable.load(tmp_path)
    again = FittedTable.load(tmp_path, trusted=[name])
    np.testing.assert_array_equal(again.probabilities(data()[0]), model.probabilities(data()[0]))


def test_a_list_of_types_in_the_file_gives_no_trust(tmp_path: Path) -> None:
    learned(TableModel("own", "Own.", Outsider())).save(tmp_path)
    change(tmp_path, lambda about: about.update(types=[], trusted=["*"]))
    with pytest.raises(CheckpointError, match="not trusted"):
        FittedTable.load(tmp_path)


def test_functions_in_a_file_are_not_trusted(saved: Path) -> None:
    put(saved, skops.io.dumps({"pipeline": os.system}))
    with pytest.raises(CheckpointError, match=r"needs \w+\.system, which is not trusted"):
        FittedTable.load(saved)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda a: a.update({"scikit-learn": "0.9.1"}), r"scikit-learn 0\.9\.1, here is"),
        (lambda a: a.pop("scikit-learn"), "of no version"),
        (lambda a: a.update(format=99, deepmusic="9.9"), r"written by DeepMusic 9\.9"),
        (lambda a: a.update(format="x"), "damaged"),
        (lambda a: a["recipe"].update(name="other"), "recipe 'other', version 1; .* has none"),
        (lambda a: a["recipe"].update(version=7), "version 7; this DeepMusic has version 1"),
        (lambda a: a.update(kind="something else"), "no model of feature columns of ours"),
        (lambda a: a.update(sha256="0"), "damaged, or of another model"),
        (lambda a: a.update(columns=["one"]), "damaged"),
        (lambda a: a.update(known=[0, 1, 9]), "damaged"),
        (lambda a: a.update(genres=["one"]), "damaged"),
        (lambda a: a.pop("calibration"), "damaged"),
        (lambda a: a.update(calibration={"wrong": 1}), "damaged"),
    ],
)
def test_a_model_of_another_version_or_recipe_is_refused(
    saved: Path, edit: Callable[[dict[str, Any]], None], said: str
) -> None:
    FittedTable.load(saved)
    change(saved, edit)
    with pytest.raises(CheckpointError, match=said) as caught:
        FittedTable.load(saved)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model of feature columns at"):
        FittedTable.load(tmp_path)
    whole = (saved / "model.skops").read_bytes()
    for content in (b"", b"PK", whole[:-30], b"nothing of the kind"):
        put(saved, content)
        with pytest.raises(CheckpointError, match="damaged"):
            FittedTable.load(saved)
    put(saved, skops.io.dumps([1, 2]))  # whole, and no pipeline
    with pytest.raises(CheckpointError, match="damaged"):
        FittedTable.load(saved)
    (saved / "model.skops").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        FittedTable.load(saved)
    (saved / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        FittedTable.load(saved)


def rewritten(folder: Path, edit: Callable[[np.ndarray], np.ndarray | None]) -> None:
    """Change each array of the weights with named fields: those of trees."""
    with zipfile.ZipFile(folder / "model.skops") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name, content in files.items():
        if name.endswith(".npy"):
            array = np.load(io.BytesIO(content))
            if array.dtype.names:
                array = array.copy()
                edit(array)
                buffer = io.BytesIO()
                np.save(buffer, array)
                files[name] = buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    put(folder, buffer.getvalue())


@pytest.mark.parametrize("name", ["tree", "boosting"])
@pytest.mark.parametrize("value", [10**6, 0])  # out of the tree; back to its root, for ever
def test_a_tree_that_leads_nowhere_is_refused(name: str, value: int, tmp_path: Path) -> None:
    learned(name).save(tmp_path)
    rewritten(tmp_path, lambda nodes: None)
    FittedTable.load(tmp_path)
    field = "left_child" if name == "tree" else "left"

    def astray(nodes: np.ndarray) -> None:
        nodes[field][0] = value

    rewritten(tmp_path, astray)
    with pytest.raises(CheckpointError, match="damaged"):
        FittedTable.load(tmp_path)


def test_a_column_out_of_the_table_is_refused(tmp_path: Path) -> None:
    learned("tree").save(tmp_path)

    def astray(nodes: np.ndarray) -> None:
        nodes["feature"][0] = 10**6

    rewritten(tmp_path, astray)
    with pytest.raises(CheckpointError, match="damaged"):
        FittedTable.load(tmp_path)


def test_columns_are_found_by_name_among_the_518() -> None:
    model = learned()
    rows = np.zeros((2, 518), np.float32)
    columns, _ = data(2)
    for place, name in enumerate(NAMES):
        rows[:, COLUMN_NAMES.index(name)] = columns[:2, place]
    np.testing.assert_allclose(
        model.of_features(rows), model.probabilities(columns[:2].astype(np.float32))
    )
    other = replace(model, columns=("a", "b", "c"))
    with pytest.raises(ShapeError, match="no 'a'"):
        other.of_features(rows)


def test_a_model_is_calibrated_by_what_it_says_of_inner_folds() -> None:
    model = learned()
    assert model.calibration.tracks == 60
    raw = replace(model, calibration=replace(model.calibration, tracks=0))
    columns, _ = data(3)
    sharp, plain = model.probabilities(columns), raw.probabilities(columns)
    np.testing.assert_array_equal(sharp.argmax(axis=1), plain.argmax(axis=1))
    assert not np.allclose(sharp, plain)


def test_what_gives_no_numbers_is_said() -> None:
    model = learned()

    class Silent:
        def predict_proba(self, columns: np.ndarray) -> np.ndarray:
            return np.full((len(columns), 3), np.nan)

    with pytest.raises(DataError, match="no probabilities for some tracks"):
        replace(model, pipeline=Silent()).probabilities(data()[0])  # type: ignore[arg-type]


def test_recipes_are_read_back(tmp_path: Path) -> None:
    for name in RECIPES:
        model = replace(learned(), recipe=recipe_named(name))
        model.save(tmp_path)
        assert FittedTable.load(tmp_path).recipe == model.recipe
    replace(model, recipe=None).save(tmp_path)
    assert FittedTable.load(tmp_path).recipe is None
