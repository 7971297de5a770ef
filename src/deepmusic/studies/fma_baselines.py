"""FMA's table of baselines, reproduced beside the published scores.

The authors of FMA (Defferrard, Benzi, Vandergheynst, Bresson, ISMIR 2017, arXiv:1612.01840) trained
scikit-learn's classifiers on each family of their features and on some combinations, with their own
split, on the medium subset (github.com/mdeff/fma, ``baselines.ipynb``). This module repeats it with
the settings as they were meant in 2017, when ``LogisticRegression`` was one-versus-rest by
liblinear, and the default ``gamma`` of ``SVC`` was one over the number of columns.

Every cell of the table, a feature set with a classifier, is one job; finished cells are in
``results.db`` and are not computed again.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import shuffle

from deepmusic.datasets.fma_tables import SPLITS
from deepmusic.errors import DataError, DeepMusicError, RequestError
from deepmusic.features.recipe import COLUMNS
from deepmusic.files import make_folder
from deepmusic.parallel import map_files
from deepmusic.store import Store
from deepmusic.studies.feature_sets import FEATURE_SETS, feature_set
from deepmusic.studies.fma_table import (
    MODELS,
    MULTI_LABEL_MODELS,
    MULTI_LABEL_SETS,
    PUBLISHED,
    Cell,
    Reproduction,
    Task,
)
from deepmusic.studies.multilabel import hierarchical_score, score_labels

if TYPE_CHECKING:
    from deepmusic.datasets.fma import Fma
    from deepmusic.datasets.genre_tree import GenreTree

_NEIGHBOURS = 200


@dataclass(frozen=True)
class _Data:
    """What the jobs read, for the tracks of a subset."""

    sides: NDArray[np.int8]  # (tracks,): index into SPLITS
    labels: Mapping[str, NDArray[Any]]  # single: (tracks,), -1 for none; multi: (tracks, genres)
    tables: Mapping[str, NDArray[np.float64]]  # (tracks, columns); NaN for tracks without a row
    genres: tuple[int, ...] = ()  # of the multi-label columns
    tree: GenreTree | None = None

    def digest(self, cell: Cell) -> str:
        """Identifies what a cell is computed from."""
        table = self.tables[feature_set(cell.features).table]
        digest: str = joblib.hash([self.sides, self.labels[cell.task], table])
        return digest


def reproduce(
    fma: Fma,
    out: str | os.PathLike[str],
    *,
    subset: str = "medium",
    sets: Sequence[str] = tuple(FEATURE_SETS),
    models: Sequence[str] = tuple(MODELS),
    tasks: Sequence[Task] = ("single",),
    seed: int = 0,
    workers: int = 1,
    dask: str | None = None,
    on_cell: Callable[[Cell, int, int, bool], object] | None = None,
) -> Reproduction:
    """Compute the table, or what is missing of it.

    Classifiers are fitted on the training tracks and scored on the test tracks; validation tracks
    are not used, as in the notebook. Columns are standardized by the training tracks. Bad clips
    are included, since the features are of full tracks.

    Args:
        fma: of `deepmusic.datasets.read_fma`.
        out: folder that keeps finished cells, in ``results.db``; made if need be.
        subset: published scores are of ``"medium"``.
        sets: names for `feature_set`. Those of Echonest are of the few tracks that Echonest has,
            with missing values replaced by the training median.
        models: keys of ``MODELS``.
        tasks: ``"multi"`` predicts all genres of each track, including ancestors, from the sets in
            ``MULTI_LABEL_SETS`` by the models in ``MULTI_LABEL_MODELS``.
        seed: of the perceptron's initial weights.
        workers: processes on this machine.
        dask: address of the scheduler of a Dask cluster to use instead.
        on_cell: called with each cell, the number of cells done, of how many, and whether it was
            finished before.

    Raises:
        RequestError: there is no such set, model or task, or no cell is left of them.
        DataError: a table is missing or damaged; the subset has no training or no test tracks;
            ``out`` holds results with other settings.
    """
    cells = _plan(subset, sets, models, tasks)
    out = make_folder(out)
    rows = fma.subset(subset)
    data = _load(fma, rows, subset, list(cells.values()))
    settings = {"subset": subset, "seed": seed, "scikit_learn": sklearn.__version__}
    done: dict[str, Cell] = {}
    with Store(out / "results.db", "FMA baselines", settings) as store:
        fit = partial(_fit_cell, cells=cells, data=data, seed=seed)
        for cell, was_done in _compute(cells, data, fit, store, workers, dask):
            done[cell.path] = cell
            if on_cell is not None:
                on_cell(cell, len(done), len(cells), was_done)
    counts = tuple(np.bincount(data.sides, minlength=3).tolist())
    majority = _majority(rows) if "single" in data.labels else ()
    return Reproduction(subset, tuple(done[key] for key in cells), counts, *majority)


def _compute(
    cells: Mapping[str, Cell],
    data: _Data,
    fit: Callable[[str], Cell],
    store: Store,
    workers: int,
    dask: str | None,
) -> Iterator[tuple[Cell, bool]]:
    """Each cell, and whether it was in the store before."""
    digests = {key: data.digest(cell) for key, cell in cells.items()}
    left = []
    for key in cells:
        record = store.get(key)
        if record is not None and record.pop("data") == digests[key]:
            yield Cell(**record), True
        else:
            left.append(key)

    def crashed(key: str) -> Cell:
        return _failed(
            cells[key], "its process crashed twice, perhaps for lack of memory; use fewer workers."
        )

    for cell in map_files(fit, left, crashed, workers=workers, dask=dask):
        if not cell.error:
            store.put(cell.path, {**asdict(cell), "data": digests[cell.path]})
        yield cell, False


def _plan(
    subset: str, sets: Sequence[str], models: Sequence[str], tasks: Sequence[Task]
) -> dict[str, Cell]:
    """The requested cells by their keys, in the order of the table."""
    chosen = [feature_set(name) for name in dict.fromkeys(sets)]
    if unknown := [model for model in models if model not in MODELS]:
        raise RequestError(f"There is no model {unknown[0]!r}; there are {', '.join(MODELS)}.")
    cells = {}
    for task in tasks:
        if task not in ("single", "multi"):
            raise RequestError(f"A task is 'single' or 'multi'; got {task!r}.")
        for one, model in product(chosen, models):
            is_multi = one.name in MULTI_LABEL_SETS and model in MULTI_LABEL_MODELS
            if task == "single" or is_multi:
                has_published = subset == "medium" and task == "single"
                published = PUBLISHED.get((one.name, model)) if has_published else None
                cell = Cell(task, one.name, model, len(one.columns), published=published)
                cells[cell.path] = cell
    if not cells:
        raise RequestError(
            f"Nothing is left to compute: the multi-label task has the models "
            f"{', '.join(MULTI_LABEL_MODELS)} and the sets {', '.join(MULTI_LABEL_SETS)}."
        )
    return cells


def _load(fma: Fma, rows: pd.DataFrame, subset: str, cells: Sequence[Cell]) -> _Data:
    """Sides, labels and columns of the tracks of a subset."""
    sides = pd.Categorical(rows["set", "split"].to_numpy(), categories=list(SPLITS)).codes
    for side in (0, 2):
        if not (sides == side).any():
            raise DataError(f"The {subset} subset has no {SPLITS[side]} tracks in {fma.root}.")
    labels: dict[str, NDArray[Any]] = {}
    genres: tuple[int, ...] = ()
    if any(cell.task == "single" for cell in cells):
        labels["single"] = rows["track", "genre_top"].cat.codes.to_numpy(np.int16)
        train, test = (labels["single"][sides == side] for side in (0, 2))
        if len(np.unique(train[train >= 0])) < 2 or not (test >= 0).any():
            raise DataError(
                f"The {subset} subset needs training tracks of two top genres, and a test track "
                "with one."
            )
    if any(cell.task == "multi" for cell in cells):
        from deepmusic.datasets.fma import genre_matrix

        matrix = genre_matrix(rows)
        genres = tuple(matrix.columns.tolist())
        labels["multi"] = matrix.reindex(rows.index, fill_value=False).to_numpy(np.bool_)
    tables: dict[str, NDArray[np.float64]] = {}
    for name in {feature_set(cell.features).table for cell in cells}:
        if name == "echonest":
            frame = fma.echonest.reindex(rows.index).apply(pd.to_numeric, errors="coerce")
        else:
            try:
                frame = fma.features.loc[rows.index, list(COLUMNS)]
            except KeyError as error:
                raise DataError(
                    f"features.csv of {fma.root} lacks columns, or tracks of the {subset} subset; "
                    "unpack fma_metadata.zip again."
                ) from error
        tables[name] = frame.to_numpy(np.float64)
    return _Data(sides, labels, tables, genres, fma.tree if genres else None)


def _majority(rows: pd.DataFrame) -> tuple[str, float]:
    """The most frequent top genre of training, and the share of test tracks that have it."""
    tops, splits = rows["track", "genre_top"], rows["set", "split"]
    genre = tops[splits == "training"].value_counts().sort_index().idxmax()
    return str(genre), float((tops[splits == "test"].dropna() == genre).mean())


def _failed(cell: Cell, reason: str) -> Cell:
    return replace(cell, error=f"{cell.features} with {cell.model}: {reason}")


def _fit_cell(key: str, *, cells: Mapping[str, Cell], data: _Data, seed: int) -> Cell:
    """Compute one cell; an error is part of it, and does not stop the others."""
    cell = cells[key]
    try:
        return _fit(cell, data, seed)
    except DeepMusicError as error:
        return _failed(cell, str(error))
    except MemoryError:
        return _failed(cell, "it needs more memory than there is.")
    except Exception as error:
        return _failed(cell, " ".join(f"unexpected {type(error).__name__}: {error}".split()))


def _fit(cell: Cell, data: _Data, seed: int) -> Cell:
    chosen = feature_set(cell.features)
    table, labels = data.tables[chosen.table], data.labels[cell.task]
    is_echonest = chosen.table == "echonest"  # which lacks tracks, and some values of the others
    usable = labels >= 0 if cell.task == "single" else labels.any(axis=1)
    if is_echonest:
        usable &= ~np.isnan(table).all(axis=1)
    train, test = (np.flatnonzero((data.sides == side) & usable) for side in (0, 2))
    if not len(train) or not len(test):
        raise DataError(
            f"{chosen.table}.csv has {len(train):,} usable tracks for training and {len(test):,} "
            "for the test; some of both are needed."
        )
    if cell.task == "single" and len(np.unique(labels[train])) < 2:
        raise DataError("all its training tracks have the same genre.")
    columns = chosen.select(table)
    used = columns[np.concatenate([train, test])]
    if bad := int((np.isinf(used) if is_echonest else ~np.isfinite(used)).sum()):
        raise DataError(
            f"{bad:,} of its values in {chosen.table}.csv are not finite numbers; the published "
            "table has none, so unpack fma_metadata.zip again."
        )
    x_train, y_train = shuffle(columns[train], labels[train], random_state=42)  # as in the notebook
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = _pipeline(cell, seed, len(train)).fit(x_train, y_train)
        predicted, truth = model.predict(columns[test]), labels[test]
        seconds = round(time.perf_counter() - started, 3)
        right = predicted == truth if cell.task == "single" else (predicted == truth).all(axis=1)
        scores: dict[str, float] = {}
        if cell.task == "multi":
            scorer = model.predict_proba if cell.model == "mlp" else model.decision_function
            assert data.tree is not None
            in_tree = hierarchical_score(truth, predicted, data.genres, data.tree)
            scores = score_labels(truth, scorer(columns[test]))
            scores |= {f"hierarchical_{name}": value for name, value in in_tree.items()}
    notes = []
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        notes.append("stopped before it converged")
    if cell.model == "knn" and len(train) < _NEIGHBOURS:
        notes.append(f"{len(train)} neighbours, since there are no more training tracks")
    if is_echonest:
        notes.append(f"of the {len(train) + len(test):,} tracks that Echonest has")
    return replace(
        cell,
        accuracy=float(right.mean()),
        seconds=seconds,
        training=len(train),
        test=len(test),
        scores=scores,
        note="; ".join(notes),
    )


def _pipeline(cell: Cell, seed: int, tracks: int) -> Pipeline:
    """The classifiers of the notebook, with the defaults of their time made explicit."""
    is_single = cell.task == "single"
    svc = SVC(kernel="rbf", gamma="auto", cache_size=500)  # the cache changes no score
    classifiers = {
        "lr": OneVsRestClassifier(LogisticRegression(solver="liblinear")),
        "knn": KNeighborsClassifier(n_neighbors=min(_NEIGHBOURS, tracks)),
        "svm": svc if is_single else OneVsRestClassifier(svc),
        "mlp": MLPClassifier((100,), max_iter=2000 if is_single else 700, random_state=seed),
    }
    # Echonest alone lacks values
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    return make_pipeline(fill, StandardScaler(), classifiers[cell.model])
