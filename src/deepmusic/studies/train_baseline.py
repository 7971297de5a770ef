"""Training a baseline on a data set: split, features, model, test, files of the run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from deepmusic.classifier.data import check_division, hold_out
from deepmusic.classifier.evaluation import draw_confusion, measure
from deepmusic.datasets import (
    CodingReport,
    Folds,
    Problem,
    data_card,
    dataset_coding,
    write_splits,
)
from deepmusic.datasets.load import load_dataset
from deepmusic.datasets.splits import Protocol
from deepmusic.errors import CheckpointError, DataError, RequestError
from deepmusic.features.recipe import RECIPES, Recipe, recipe_named
from deepmusic.files import make_folder, write_json
from deepmusic.studies.analysis import RECIPE
from deepmusic.studies.data import OnProgress, StudyData, load_study_data
from deepmusic.studies.sklearn_class import table_model
from deepmusic.studies.table_models import TableModel
from deepmusic.studies.tabular_io import FittedTable


@dataclass(frozen=True)
class BaselineConfig:
    """Settings of a training."""

    model: str = "logistic"  # a name of TABLE_MODELS, or package.module:Class (sklearn_class)
    parameters: Mapping[str, Any] = field(default_factory=dict)  # fixed, not searched
    features: str | None = None  # table of `features extract`, or FMA's; None computes them
    recipe: str | None = None  # of a table that does not name its own; None takes "fma"
    table: str | None = None  # CSV of artists; None takes tracks.csv in the data, or tags
    # share of tracks held out for the test; None: the official part of FMA, else a fifth
    test: float | Literal["official"] | None = None
    splits: str | None = None  # file of splits of these data; its test part is held out instead
    fold: int = 0  # which of them
    seed: int = 0  # of the split and of the model


@dataclass(frozen=True)
class TrainedBaseline:
    """What ``train_baseline`` made."""

    run: Path  # the folder with everything
    model: FittedTable
    metrics: Mapping[str, Any]  # the content of metrics.json
    protocol: Protocol  # how the test tracks were chosen
    problems: tuple[Problem, ...]  # tracks that could not be used
    notes: tuple[str, ...]  # sentences on what may not be as it should
    coding: CodingReport  # of the files, by genre


def train_baseline(
    data: str | os.PathLike[str],
    run: str | os.PathLike[str],
    config: BaselineConfig | None = None,
    *,
    workers: int = 1,
    on_progress: OnProgress | None = None,
) -> TrainedBaseline:
    """Train a scikit-learn classifier on the feature columns of ``DATA/GENRE/*``.

    The run folder receives ``config.json``, ``splits.json``, ``model.json`` and ``model.skops``,
    ``metrics.json`` and, with a test, ``confusion.png``. Computed features are kept in its folder
    ``features``; an interrupted training resumes there.

    Args:
        data: a data set, as ``deepmusic.datasets.load_dataset`` takes it.
        run: folder for the run; created if missing.
        config: settings; None takes the defaults.
        workers: processes that compute features.
        on_progress: called with what is done, how many are done, and of how many.

    Raises:
        RequestError: there is no such model, class, parameter or recipe.
        DataError: the data cannot be divided so, the table is of other tracks or of another
            version of its recipe, or the model cannot learn from them.
        CheckpointError: the folder already holds a run.
    """
    run, config = Path(run), config or BaselineConfig()
    model = table_model(config.model, config.parameters)  # before any work is done
    recipe, notes = _recipe_of(config.features, config.recipe)
    _create_run(run)
    loaded = load_dataset(data, table=config.table, workers=workers if workers > 1 else None)
    test = config.test if config.splits is None else (config.splits, config.fold)
    divide = hold_out(test, loaded, loaded.dataset, config.seed)
    check_division(divide, loaded.dataset)
    study = load_study_data(
        loaded,
        cache=run / "features",
        needs=("columns",),
        features=config.features,
        workers=workers,
        on_progress=on_progress,
    )
    with suppress(OSError):  # empty if a table was given
        (run / "features").rmdir()
    dataset = study.dataset
    folds = divide(dataset)
    coding = dataset_coding(dataset, workers=workers)
    fitted, metrics = _trained(model, study, folds, config.seed, recipe)
    fitted = replace(fitted, training={**(fitted.training or {}), **coding.card()})
    write_splits(run / "splits.json", folds, dataset)
    fitted.save(run)
    if "test" in metrics:
        draw_confusion(metrics["test"], run / "confusion.png")
    write_json(run / "metrics.json", metrics)
    # last: a folder that has one is complete. Parameters may be any Python literal
    about = json.loads(json.dumps({"kind": "baseline", **asdict(config)}, default=repr))
    write_json(run / "config.json", about)
    notes = (*dataset.notes, *notes, *fitted.notes)
    return TrainedBaseline(run, fitted, metrics, folds.protocol, dataset.problems, notes, coding)


def _trained(
    model: TableModel, study: StudyData, folds: Folds, seed: int, recipe: Recipe
) -> tuple[FittedTable, dict[str, Any]]:
    """The model, and its figures on the test tracks and on the inner folds."""
    fold = folds[0]
    fitted = model.fit_fold(study, fold, seed)
    training = {
        **data_card(folds, study.dataset),
        "trained_on": len(fold.train) + len(fold.validation),
        "seed": seed,
    }
    metrics: dict[str, Any] = {"calibration": fitted.calibration.to_dict()}
    if fold.test:
        metrics["test"] = measure(
            fitted.predict_proba(study, fold.test),
            study.labels[list(fold.test)],
            fitted.genres,
            threshold=fitted.calibration.threshold,
        )
    if fitted.validation:
        metrics["validation"] = fitted.validation
    return replace(fitted, recipe=recipe, training=training), metrics


def _create_run(run: Path) -> None:
    if (run / "config.json").exists():
        raise CheckpointError(f"{run} already holds a run; choose another folder for a new one.")
    make_folder(run)


def _recipe_of(
    features: str | os.PathLike[str] | None, asked: str | None
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe of the columns, and notes on it."""
    if features is None:
        if asked not in (None, RECIPE):
            raise RequestError(
                f"Features are computed by recipe {RECIPE!r}; for {asked!r} make a table by "
                "'features extract --recipe', and name it by --features."
            )
        return recipe_named(RECIPE), ()
    from deepmusic.features import read_features

    table, name = read_features(features), os.fspath(features)
    if not table.recipe:
        note = f"{name} does not name its recipe; {RECIPE!r} is assumed (see --recipe)."
        return recipe_named(asked or RECIPE), () if asked else (note,)
    if asked not in (None, table.recipe):
        raise RequestError(f"{name} is of recipe {table.recipe!r}, not of {asked!r}.")
    recipe = RECIPES.get(table.recipe)
    if recipe is None or recipe.version != table.version:
        raise DataError(
            f"{name} is of recipe {table.recipe!r}, version {table.version}, which this DeepMusic "
            "does not compute: make the table again by 'features extract'."
        )
    return recipe, ()
