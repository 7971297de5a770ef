"""From a data set and its feature table to a run: split, model, test, files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmusic.classifier.evaluation import draw_confusion, measure
from deepmusic.datasets import (
    Fold,
    FolderDataset,
    Folds,
    Problem,
    dataset_digest,
    group_tracks,
    make_split,
    read_splits,
    write_splits,
)
from deepmusic.datasets.load import load_dataset
from deepmusic.datasets.splits import Protocol
from deepmusic.errors import CheckpointError, DataError, RequestError
from deepmusic.features.recipe import RECIPES, Recipe, recipe_named
from deepmusic.files import write_atomically
from deepmusic.studies.data import RECIPE, OnProgress, StudyData, load_study_data
from deepmusic.studies.given_models import given_model
from deepmusic.studies.saved_models import FittedTable

if TYPE_CHECKING:
    from deepmusic.features import FeatureTable
    from deepmusic.studies.baselines import TableModel


@dataclass(frozen=True)
class TrainedBaseline:
    """What came of a training.

    Args:
        run: the folder with everything.
        model: ready to tell genres apart.
        metrics: what ``metrics.json`` holds: ``test`` where tracks were held out, ``validation``
            where inner folds could be made.
        protocol: how the test tracks were chosen.
        problems: tracks that could not be used.
        notes: sentences on what was used and may not be as it should.
    """

    run: Path
    model: FittedTable
    metrics: Mapping[str, Any]
    protocol: Protocol
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def train_baseline(
    data: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    model: str = "logistic",
    parameters: Mapping[str, Any] | None = None,
    features: str | os.PathLike[str] | None = None,
    recipe: str | None = None,
    table: str | os.PathLike[str] | None = None,
    test: float = 0.2,
    splits: str | os.PathLike[str] | None = None,
    fold: int = 0,
    seed: int = 0,
    workers: int = 1,
    on_progress: OnProgress | None = None,
) -> TrainedBaseline:
    """Train a scikit-learn classifier on the feature columns of ``DATA/GENRE/*``.

    The run folder receives ``config.json``, ``splits.json``, ``model.json`` and ``model.skops``,
    ``metrics.json`` and, with a test, ``confusion.png``. Features that have to be computed are kept
    in its folder ``features``; a training that was stopped goes on there when it is called again.

    Args:
        data: folder of genre folders, or another data set that
            :func:`deepmusic.datasets.load_dataset` knows.
        run: folder for the run; made if missing.
        model: a name of :data:`~deepmusic.studies.baselines.TABLE_MODELS`, or
            ``package.module:Class`` of any classifier with scikit-learn's interface.
        parameters: of the estimator; they are not searched.
        features: table of ``features extract``, or FMA's; None computes the features.
        recipe: that the table is of, for a table that does not say; None takes ``"fma"``.
        table: CSV of artists; None takes ``tracks.csv`` in ``data`` or the files' tags.
        test: share of tracks held out for the test; 0 for none.
        splits: file of splits of these data; its test part is held out instead.
        fold: which of them, from 0.
        seed: of the split and of the model.
        workers: processes that compute features.
        on_progress: called with what is done, how many are, of how many.

    Returns:
        The model and its figures.

    Raises:
        RequestError: there is no such model, class, parameter or recipe.
        DataError: the data cannot be divided so, the table is of other tracks or of another
            version of its recipe, or the model cannot learn from them.
        CheckpointError: a run is there already.
        DeepMusicError: the disk is full.
    """
    run = Path(run)
    chosen = given_model(model, parameters)  # before any work is done
    _refuse_other_run(run)
    loaded = load_dataset(data, table=table, workers=workers if workers > 1 else None)
    whole = loaded.dataset
    divided = None if splits is None else _one_fold(read_splits(splits, whole), fold, splits)
    used, notes = recipe_named(RECIPE), []
    if features is not None:
        from deepmusic.features import read_features

        used, said = _recipe_of(read_features(features), features, recipe)
        notes += said
    elif recipe is not None and recipe != RECIPE:
        raise RequestError(
            f"Features are computed by recipe {RECIPE!r}; for {recipe!r} make a table by 'features "
            "extract --recipe', and name it by --features."
        )
    study = load_study_data(
        loaded,
        cache=run / "features",
        needs=("columns",),
        features=features,
        workers=workers,
        on_progress=on_progress,
    )
    with suppress(OSError):  # a table was given: nothing was computed
        (run / "features").rmdir()
    dataset = study.dataset
    if divided is None:
        folds = Folds((make_split(dataset, test=test, seed=seed),), seed)
    else:
        folds = _of_those_left(divided, whole, dataset)
    fitted, metrics = _trained(chosen, study, folds[0], seed, used)
    settings = {
        "kind": "baseline",
        "model": model,
        "parameters": {name: _plain(value) for name, value in (parameters or {}).items()},
        "features": None if features is None else os.fspath(features),
        "recipe": {"name": used.name, "version": used.version},
        "genres": list(dataset.genres),
        "seed": seed,
        "test": test if splits is None else None,
        "splits": None if splits is None else os.fspath(splits),
        "fold": None if splits is None else fold,
    }
    write_splits(run / "splits.json", folds, dataset)
    fitted.save(run)
    if "test" in metrics:
        draw_confusion(metrics["test"], run / "confusion.png")
    _write_json(run / "metrics.json", metrics)
    _write_json(run / "config.json", settings)  # last: what has one is done
    return TrainedBaseline(
        run,
        fitted,
        metrics,
        folds.protocol,
        dataset.problems,
        (*dataset.notes, *notes, *fitted.notes),
    )


def _trained(
    model: TableModel,
    study: StudyData,
    split: Fold,
    seed: int,
    recipe: Recipe,
) -> tuple[FittedTable, dict[str, Any]]:
    """The model, and its figures on the test tracks and on those of the inner folds."""
    assert study.columns is not None
    dataset, known = study.dataset, sorted((*split.train, *split.validation))
    groups = np.array(group_tracks([dataset.tracks[place] for place in known]))
    fitted = model.fit(
        study.columns[known],
        study.labels[known],
        dataset.genres,
        groups=groups,
        seed=seed,
        recipe=recipe,
    )
    metrics: dict[str, Any] = {"calibration": fitted.calibration.to_dict()}
    if split.test:
        heard = fitted.predict_proba(study, split.test)
        metrics["test"] = measure(
            heard,
            study.labels[list(split.test)],
            dataset.genres,
            threshold=fitted.calibration.threshold,
        )
    if fitted.validation:
        metrics["validation"] = fitted.validation
    card = {
        "data": dataset_digest(dataset),
        "tracks": len(dataset.tracks),
        "artists": len(set(group_tracks(dataset.tracks))),
        "trained_on": len(known),
        "seed": seed,
    }
    return replace(fitted, card=card), metrics


def _refuse_other_run(run: Path) -> None:
    """Make the folder, and refuse one that holds a run already, before any work is done."""
    if (run / "config.json").exists():
        raise CheckpointError(f"{run} holds a run already; choose another folder for a new one.")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{run} could not be made: {reason}.") from error


def _recipe_of(
    table: FeatureTable, path: str | os.PathLike[str], asked: str | None
) -> tuple[Recipe, list[str]]:
    """The recipe of a table, and what there is to say of it."""
    shown = os.fspath(path)
    if not table.recipe:
        name = asked or RECIPE
        note = f"{shown} does not say its recipe; it is taken for {name!r}"
        return recipe_named(name), [] if asked else [f"{note}: name another by --recipe."]
    if asked is not None and asked != table.recipe:
        raise RequestError(f"{shown} is of recipe {table.recipe!r}, not of {asked!r}.")
    recipe = RECIPES.get(table.recipe)
    if recipe is None or recipe.version != table.version:
        here = "has none of that name" if recipe is None else f"has version {recipe.version}"
        raise DataError(
            f"{shown} is of recipe {table.recipe!r}, version {table.version}; this DeepMusic "
            f"{here}: make the table anew by 'features extract'."
        )
    return recipe, []


def _one_fold(found: Folds, fold: int, path: str | os.PathLike[str]) -> Folds:
    if not 0 <= fold < len(found):
        raise DataError(f"{os.fspath(path)} has folds 0 to {len(found) - 1}; got {fold}.")
    return Folds((found[fold],), found.seed, found.protocol)


def _of_those_left(folds: Folds, whole: FolderDataset, left: FolderDataset) -> Folds:
    """One fold of a data set, of which tracks have dropped out."""
    place = {track.path: number for number, track in enumerate(left.tracks)}
    parts = (folds[0].train, folds[0].validation, folds[0].test)
    chosen = (
        tuple(place[path] for i in part if (path := whole.tracks[i].path) in place)
        for part in parts
    )
    return Folds((Fold(*chosen),), folds.seed, folds.protocol)


def _plain(value: Any) -> Any:
    is_plain = value is None or isinstance(value, bool | int | float | str)
    return value if is_plain else repr(value)


def _write_json(path: Path, values: object) -> None:
    with write_atomically(path) as file:
        json.dump(values, file, indent=1, ensure_ascii=False)
        file.write("\n")
