"""FMA's table of baselines, computed anew beside the published figures.

The makers of FMA (Defferrard, Benzi, Vandergheynst, Bresson, ISMIR 2017, arXiv:1612.01840) trained
scikit-learn's classifiers on each family of their features and on some combinations, with their own
split, on the medium subset (github.com/mdeff/fma, ``baselines.ipynb``). This module does it again
with their settings as they were meant in 2017, when ``LogisticRegression`` was one-versus-rest by
liblinear, and the default ``gamma`` of ``SVC`` was one over the number of columns.

Every cell of the table, a feature set with a classifier, is one job; what is done is in
``results.jsonl`` and is not done again.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import DataError, DeepMusicError, RequestError
from deepmusic.features.recipe import COLUMNS
from deepmusic.journal import Journal
from deepmusic.parallel import map_files
from deepmusic.studies.feature_sets import FEATURE_SETS, FeatureSet, feature_set

if TYPE_CHECKING:
    import pandas as pd

    from deepmusic.datasets.fma import Fma

Task = Literal["single", "multi"]

MODELS = {
    "lr": "logistic regression",
    "knn": "200 nearest neighbours",
    "svm": "support vector machine, RBF kernel",
    "mlp": "multi-layer perceptron, 100 units",
}
"""The classifiers of the published table, in its order."""
MULTI_LABEL_MODELS = ("lr", "svm", "mlp")
MULTI_LABEL_SETS = (
    "mfcc",
    "mfcc/contrast/chroma/centroid/tonnetz",
    "mfcc/contrast/chroma/centroid/zcr",
)
"""The sets that the notebook tries on several genres a track."""

_PERCENT = {
    "chroma_cens": (39.3, 37.5, 42.3, 40.2),
    "chroma_cqt": (40.1, 40.0, 44.3, 44.8),
    "chroma_stft": (43.6, 43.9, 48.3, 48.5),
    "mfcc": (57.8, 55.0, 61.0, 53.2),
    "rmse": (37.3, 38.5, 38.9, 39.1),
    "spectral_bandwidth": (40.5, 45.4, 44.5, 45.0),
    "spectral_centroid": (42.4, 45.4, 45.7, 47.8),
    "spectral_contrast": (50.9, 49.6, 54.5, 52.9),
    "spectral_rolloff": (41.7, 46.3, 47.5, 48.1),
    "tonnetz": (40.1, 37.3, 42.3, 40.9),
    "zcr": (42.3, 44.7, 45.4, 46.4),
    "mfcc/contrast": (59.8, 55.3, 63.0, 53.8),
    "mfcc/contrast/centroid": (59.8, 55.2, 63.4, 52.6),
    "all": (61.1, 51.8, 62.9, 58.1),
}
PUBLISHED: Mapping[tuple[str, str], float] = {
    (name, model): percent / 100
    for name, row in _PERCENT.items()
    for model, percent in zip(MODELS, row, strict=True)
}
"""Feature set and model -> test accuracy on medium, of the notebook; the paper rounds to whole
percents. Four of the notebook's combinations have no figure here."""
PUBLISHED_SUBSET_ACCURACY = (0.105, 0.136)
"""The least and the largest subset accuracy of the notebook's nine cells with several genres."""

PUBLISHED_COUNTS = (19922, 2505, 2573)
"""Training, validation and test tracks of medium as published."""

_NEIGHBOURS = 200
_TRAINING, _TEST = 0, 2
_SIDES = ("training", "validation", "test")


@dataclass(frozen=True)
class Cell:
    """A feature set with a classifier, and how well it did.

    Args:
        task: ``"single"``, the top genre of each track, or ``"multi"``, all its genres.
        features: name of the feature set.
        model: a key of :data:`MODELS`.
        size: columns of the set.
        accuracy: share of test tracks that are all right, in [0, 1]; None where there is an error.
        published: the same as published, where it is.
        seconds: of fitting and predicting.
        training, test: tracks.
        scores: further figures of ``"multi"``, by name: in [0, 1], and two counts of labels; those
            that nothing defines are left out.
        note: what was out of the ordinary; empty as a rule.
        error: why there is no accuracy; empty where there is one.
    """

    task: Task
    features: str
    model: str
    size: int
    accuracy: float | None = None
    published: float | None = None
    seconds: float = 0.0
    training: int = 0
    test: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    error: str = ""

    @property
    def path(self) -> str:
        """By what the cell is known among the jobs."""
        return f"{self.task}:{self.features}:{self.model}"

    @property
    def difference(self) -> float | None:
        """Accuracy less the published one."""
        if self.accuracy is None or self.published is None:
            return None
        return self.accuracy - self.published


@dataclass(frozen=True)
class Reproduction:
    """The table as far as it could be computed.

    Args:
        subset: of FMA.
        cells: in the order of sets, then of models.
        counts: tracks of training, validation and test.
        majority_genre: the most frequent top genre in training; empty without that task.
        majority_accuracy: share of test tracks that have it.
    """

    subset: str
    cells: tuple[Cell, ...]
    counts: tuple[int, int, int]
    majority_genre: str = ""
    majority_accuracy: float = float("nan")


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
    """Compute the table, or what is left of it.

    Classifiers learn from the training tracks and are scored on the test tracks; validation tracks
    are not used, as in the notebook. Columns are scaled to zero mean and unit variance by the
    training tracks. Bad clips stay, for the features are of whole tracks.

    Args:
        fma: of :func:`~deepmusic.datasets.fma.read_fma`.
        out: folder that keeps what is done, as ``results.jsonl``; made if need be.
        subset: published figures are of ``"medium"``.
        sets: names for :func:`~deepmusic.studies.feature_sets.feature_set`. Those of Echonest are
            of the few tracks that Echonest knew, with the training median where it has a gap.
        models: keys of :data:`MODELS`.
        tasks: ``"multi"`` tells all genres of each track, those above included; it takes those of
            the sets that are in :data:`MULTI_LABEL_SETS`, and models in
            :data:`MULTI_LABEL_MODELS`.
        seed: of the perceptron's starting weights.
        workers: processes on this machine.
        dask: address of the scheduler of a Dask cluster that sees ``out`` as well, instead.
        on_cell: called with each cell, how many are there now, of how many, and whether it was
            there from before.

    Raises:
        RequestError: there is no such set, model or task, or no cell is left of them.
        DataError: a table is missing or damaged; the subset has no training or no test tracks;
            ``out`` holds results of something else.
    """
    plan = _plan(sets, models, tasks)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{out} cannot be made: {reason}.") from error
    rows = fma.subset(subset)
    tables: set[str] = {chosen.table for chosen, _, _ in plan}
    with _working_folder(out) as folder:
        prepared = _prepare(fma, rows, subset, tables, {task for *_, task in plan}, folder)
        cells = {
            cell.path: cell
            for cell in (
                Cell(
                    task,
                    chosen.name,
                    model,
                    chosen.size,
                    published=_published(subset, task, chosen.name, model),
                )
                for chosen, model, task in plan
            )
        }
        setting = {"subset": subset, "seed": seed, "scikit_learn": _version()}
        with Journal(out / "results.jsonl", "FMA baselines", setting) as journal:
            done: dict[str, Cell] = {}
            for record in journal.records:
                known = _kept(record, cells, prepared.digests)
                if known is not None:
                    done[known.path] = known
            for number, cell in enumerate(done.values(), start=1):
                if on_cell is not None:
                    on_cell(cell, number, len(cells), True)
            fit = partial(_fit_cell, cells=cells, folder=folder.absolute(), seed=seed)
            left = [path for path in cells if path not in done]
            for cell in map_files(fit, left, partial(_died, cells), workers=workers, dask=dask):
                done[cell.path] = cell
                if not cell.error:
                    journal.add(_record(cell, prepared.digests))
                if on_cell is not None:
                    on_cell(cell, len(done), len(cells), False)
    return Reproduction(
        subset,
        tuple(done[path] for path in cells),
        prepared.counts,
        prepared.majority_genre,
        prepared.majority_accuracy,
    )


def _plan(
    sets: Sequence[str], models: Sequence[str], tasks: Sequence[Task]
) -> list[tuple[FeatureSet, str, Task]]:
    """The cells that were asked for, each once, in the order of the table."""
    chosen = [feature_set(name) for name in dict.fromkeys(sets)]
    for one in chosen:
        if not one.is_numeric:
            raise RequestError(
                f"The set {one.name!r} holds names, places and dates, which these classifiers "
                "cannot take; leave it out."
            )
    for model in models:
        if model not in MODELS:
            raise RequestError(f"There is no model {model!r}; there are {', '.join(MODELS)}.")
    for task in tasks:
        if task not in ("single", "multi"):
            raise RequestError(f"A task is 'single' or 'multi'; got {task!r}.")
    plan: list[tuple[FeatureSet, str, Task]] = []
    for task in dict.fromkeys(tasks):
        is_all = task == "single"
        plan += [
            (one, model, task)
            for one in chosen
            if is_all or one.name in MULTI_LABEL_SETS
            for model in dict.fromkeys(models)
            if is_all or model in MULTI_LABEL_MODELS
        ]
    if not plan:
        raise RequestError(
            f"Nothing is left to compute: several genres a track are told by "
            f"{', '.join(MULTI_LABEL_MODELS)} on the sets {', '.join(MULTI_LABEL_SETS)}."
        )
    return plan


def _published(subset: str, task: Task, name: str, model: str) -> float | None:
    return PUBLISHED.get((name, model)) if subset == "medium" and task == "single" else None


def _version() -> str:
    import sklearn

    return str(sklearn.__version__)


@dataclass(frozen=True)
class _Prepared:
    counts: tuple[int, int, int]
    majority_genre: str
    majority_accuracy: float
    digests: Mapping[str, str]  # of a table and a task, by "table" or "task"


@contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """A folder for what the jobs read, gone afterwards; one that a killed run left is used up."""
    folder = out / ".tables"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{out} cannot be used: {reason}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(
    fma: Fma, rows: pd.DataFrame, subset: str, tables: set[str], tasks: set[Task], folder: Path
) -> _Prepared:
    """Write what the jobs read: columns, sides and labels of the tracks, as maps of the disk.

    ``side.npy`` has for each track of the subset its part of the split, ``single.npy`` its top
    genre (-1 for none), ``multi.npy`` its genres; ``features.npy`` and ``echonest.npy`` have the
    columns, and ``*.places.npy`` the tracks that they are of.
    """
    import pandas as pd

    digests: dict[str, str] = {}

    def keep(name: str, array: NDArray[Any]) -> None:
        np.save(folder / f"{name}.npy", array)
        digests[name] = sha1(np.ascontiguousarray(array).data).hexdigest()

    sides = pd.Categorical(rows["set", "split"].to_numpy(), categories=list(_SIDES)).codes
    training, validation, tested = (int((sides == number).sum()) for number in range(3))
    counts = (training, validation, tested)
    for number in (_TRAINING, _TEST):
        if not counts[number]:
            raise DataError(
                f"The {subset} subset has no {_SIDES[number]} tracks in {fma.root}; take the "
                "tables as published."
            )
    keep("side", sides.astype(np.int8))
    genre, share = "", float("nan")
    if "single" in tasks:
        tops = rows["track", "genre_top"].astype(object).fillna("").to_numpy()
        genres = sorted({top for top in tops if top})
        codes = pd.Categorical(tops, categories=genres).codes.astype(np.int16)
        keep("single", codes)
        train, test = codes[(sides == _TRAINING) & (codes >= 0)], codes[sides == _TEST]
        if len(np.unique(train)) < 2 or not (test >= 0).any():
            raise DataError(
                f"The {subset} subset needs training tracks of two top genres and a test track "
                f"with one; it has {len(np.unique(train))} and {(test >= 0).sum()}."
            )
        most = int(np.bincount(train).argmax())
        genre, share = genres[most], float((test[test >= 0] == most).mean())
    if "multi" in tasks:
        labels = fma.multi_label(subset, column="genres_all", bad_clips=True)
        matrix = labels.reindex(rows.index, fill_value=False).to_numpy(np.bool_)
        keep("multi", matrix)
        np.save(folder / "genres.npy", labels.columns.to_numpy(np.int64))
        fma.genres.to_csv(folder / "genres.csv", index_label="genre_id")
    if "features" in tables:
        frame = fma.features
        wanted = pd.MultiIndex.from_tuples(COLUMNS)
        if not wanted.isin(frame.columns).all():
            raise DataError(f"features.csv of {fma.root} lacks columns of the published table.")
        here = frame.index.get_indexer(rows.index)
        if (here < 0).any():
            raise DataError(
                f"features.csv of {fma.root} lacks {(here < 0).sum():,} tracks of the {subset} "
                f"subset, the first is {rows.index[here < 0][0]}; unpack fma_metadata.zip again."
            )
        keep("features", frame.iloc[here][wanted].to_numpy(np.float64))
        np.save(folder / "features.places.npy", np.arange(len(rows)))
    if "echonest" in tables:
        frame = fma.echonest
        here = rows.index.get_indexer(frame.index)
        numbers = frame.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        keep("echonest", numbers[here >= 0])
        np.save(folder / "echonest.places.npy", here[here >= 0])
    return _Prepared(counts, genre, share, digests)


def _record(cell: Cell, digests: Mapping[str, str]) -> dict[str, Any]:
    return {**asdict(cell), "data": _data_of(cell, digests)}


def _kept(
    record: Mapping[str, Any], cells: Mapping[str, Cell], digests: Mapping[str, str]
) -> Cell | None:
    """A cell that is done; None where it is not asked for, or of other data."""
    try:
        known = Cell(**{key: value for key, value in record.items() if key != "data"})
        wanted = cells.get(known.path)
    except TypeError:  # changed by other hands
        return None
    if wanted is None or known.size != wanted.size or known.accuracy is None:
        return None
    if record.get("data") != _data_of(known, digests):
        return None
    return replace(known, published=wanted.published)


def _data_of(cell: Cell, digests: Mapping[str, str]) -> str:
    """What the cell was computed from, in few characters."""
    table = feature_set(cell.features).table
    return sha1("".join(digests[n] for n in ("side", cell.task, table)).encode()).hexdigest()[:16]


def _died(cells: Mapping[str, Cell], path: str) -> Cell:
    return replace(
        cells[path],
        error=f"{_shown(cells[path])}: the process that computed it was ended twice, perhaps for "
        "want of memory; take fewer workers.",
    )


def _shown(cell: Cell) -> str:
    return f"{cell.features} with {cell.model}"


def _fit_cell(path: str, *, cells: Mapping[str, Cell], folder: Path, seed: int) -> Cell:
    """Compute one cell; an error is part of it."""
    cell = cells[path]
    try:
        return _fit(cell, folder, seed)
    except DeepMusicError as error:
        return replace(cell, error=f"{_shown(cell)}: {error}")
    except MemoryError:
        return replace(cell, error=f"{_shown(cell)} needs more memory than there is.")
    except Exception as error:  # one cell that fails must not cost the others
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return replace(cell, error=f"{_shown(cell)}: unexpected {said}")


def _fit(cell: Cell, folder: Path, seed: int) -> Cell:
    from sklearn.utils import shuffle

    chosen = feature_set(cell.features)
    table = np.load(folder / f"{chosen.table}.npy", mmap_mode="r")
    places = np.load(folder / f"{chosen.table}.places.npy")
    sides = np.load(folder / "side.npy")[places]
    labels = np.load(folder / f"{cell.task}.npy")[places]
    usable = labels >= 0 if cell.task == "single" else labels.any(axis=1)
    train, test = (np.flatnonzero((sides == side) & usable) for side in (_TRAINING, _TEST))
    if not len(train) or not len(test):
        raise DataError(
            f"of the {len(places):,} tracks that {chosen.table}.csv knows, {len(train):,} are for "
            f"training and {len(test):,} for the test; it needs some of both."
        )
    if cell.task == "single" and len(np.unique(labels[train])) < 2:
        raise DataError("all its training tracks have one genre, so there is nothing to tell.")
    columns = chosen.select(table)
    x_train, x_test = _scaled(columns[train], columns[test], chosen)
    x_train, y_train = shuffle(x_train, labels[train], random_state=42)  # as in the notebook
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = _estimator(cell.task, cell.model, seed, len(train))
        model.fit(x_train, y_train)
        predicted = model.predict(x_test)
        scores = _several(model, x_test, labels[test], predicted, folder, cell)
    truth = labels[test]
    right = predicted == truth if cell.task == "single" else (predicted == truth).all(axis=1)
    notes = []
    if any("ConvergenceWarning" in warning.category.__name__ for warning in caught):
        notes.append("stopped before it converged")
    if cell.model == "knn" and len(train) < _NEIGHBOURS:
        notes.append(f"{len(train)} neighbours, for there are no more training tracks")
    if chosen.table == "echonest":
        notes.append(f"of the {len(train) + len(test):,} tracks that Echonest knew")
    return replace(
        cell,
        accuracy=float(right.mean()),
        seconds=round(time.perf_counter() - started, 3),
        training=len(train),
        test=len(test),
        scores=scores,
        note="; ".join(notes),
    )


def _scaled(
    train: NDArray[np.float64], test: NDArray[np.float64], chosen: FeatureSet
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both with zero mean and unit variance of the training tracks."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    is_echonest = chosen.table == "echonest"
    wrong = np.isinf if is_echonest else lambda part: ~np.isfinite(part)
    bad = sum(int(wrong(part).sum()) for part in (train, test))
    if bad:
        raise DataError(
            f"{bad:,} of its values in {chosen.table}.csv are not finite numbers; the published "
            "table has none, so unpack fma_metadata.zip again."
        )
    if is_echonest:  # which has gaps
        fill = SimpleImputer(strategy="median", keep_empty_features=True)
        train, test = fill.fit_transform(train), fill.transform(test)
    scale = StandardScaler()
    return scale.fit_transform(train), scale.transform(test)


def _estimator(task: Task, name: str, seed: int, tracks: int) -> Any:
    """The classifiers of the notebook, with the defaults of their time said aloud."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    if name == "lr":
        return OneVsRestClassifier(LogisticRegression(solver="liblinear"))
    if name == "knn":
        return KNeighborsClassifier(n_neighbors=min(_NEIGHBOURS, tracks))
    if name == "svm":
        machine = SVC(kernel="rbf", gamma="auto", cache_size=500)  # the cache changes no figure
        return machine if task == "single" else OneVsRestClassifier(machine)
    epochs = 2000 if task == "single" else 700
    return MLPClassifier(hidden_layer_sizes=(100,), max_iter=epochs, random_state=seed)


def _several(
    model: Any,
    columns: NDArray[np.float64],
    truth: NDArray[Any],
    predicted: NDArray[Any],
    folder: Path,
    cell: Cell,
) -> dict[str, float]:
    """Further figures where a track has several genres."""
    if cell.task == "single":
        return {}
    import pandas as pd

    from deepmusic.datasets.genre_tree import GenreTree
    from deepmusic.studies.hierarchy import hierarchical_score
    from deepmusic.studies.multilabel import score_labels

    scorer = model.predict_proba if cell.model == "mlp" else model.decision_function
    found = score_labels(truth, scorer(columns), predicted=predicted)
    genres = np.load(folder / "genres.npy").tolist()
    near = hierarchical_score(
        truth,
        predicted,
        genres,
        GenreTree.from_frame(pd.read_csv(folder / "genres.csv", index_col=0)),
    )
    figures = {
        "macro_average_precision": found.macro_average_precision,
        "micro_average_precision": found.micro_average_precision,
        "macro_roc_auc": found.macro_roc_auc,
        "micro_roc_auc": found.micro_roc_auc,
        "hierarchical_precision": near.precision,
        "hierarchical_recall": near.recall,
        "hierarchical_f": near.f,
        "labels": found.labels,
        "labels_left_out": found.without_positives,
    }
    return {key: float(value) for key, value in figures.items() if np.isfinite(value)}
