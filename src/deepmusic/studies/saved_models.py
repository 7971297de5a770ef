"""Fitted models of feature columns, and their files: ``model.json`` and ``model.skops``.

``model.json`` says what the model is, for people and for checks: genres, columns, recipe of the
features, versions, hyper-parameters. ``model.skops`` holds the pipeline, in the format of skops: a
file names the types that it needs, and nothing of it is made before each of them is trusted. No
pickle is read or written.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from deepmusic.classifier.calibration import Calibration, probabilities
from deepmusic.errors import CheckpointError, DataError, ShapeError
from deepmusic.features.recipe import COLUMNS, RECIPES, Recipe
from deepmusic.files import write_atomically
from deepmusic.studies.nested_search import log_scores
from deepmusic.studies.parameters import parts_of
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.studies.data import StudyData

COLUMN_NAMES = tuple("/".join(column) for column in COLUMNS)
"""The 518 columns as tables of features call them."""

TRUSTED_TYPES = (
    "numpy.clip",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Types that files may hold beside those that skops trusts by itself (estimators of scikit-learn,
arrays, plain values). Trees are checked once more when they are read: see :meth:`FittedTable.load`.
"""

_JSON, _SKOPS = "model.json", "model.skops"
_KIND = "deepmusic table model"
_FORMAT = 1


def as_table(columns: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """Columns as models take them: float64, with NaN for what is missing or infinite.

    Args:
        columns: ``(tracks, columns)``, at least one track.
        count: how many columns there should be.

    Raises:
        ShapeError: they are not of that shape.
    """
    table = np.array(columns, np.float64)
    if table.ndim != 2 or table.shape[1] != count or not len(table):
        raise ShapeError(f"a table of (tracks, {count}) is needed; got {np.shape(columns)}")
    table[~np.isfinite(table)] = np.nan
    return table


@dataclass(frozen=True, eq=False)
class FittedTable:
    """A classifier on feature columns that has learned.

    Args:
        pipeline: imputation, scaling, classifier.
        genres: names.
        known: places in ``genres`` of those that it has met, as the pipeline orders them.
        columns: names of the columns that it takes.
        calibration: sharpness and threshold, from tracks of inner folds.
        parameters: how many numbers it holds to tell genres apart.
        name: of the model.
        settings: the hyper-parameters that were found.
        searched: a record for each setting that was compared.
        validation: figures of :func:`deepmusic.classifier.evaluation.measure` on the tracks of the
            inner folds, which also chose the setting; empty where there were none.
        recipe: of the columns; None where it is not known.
        notes: sentences on what could not be done as it should.
        card: what is known of the training, in JSON types.
    """

    pipeline: Pipeline
    genres: tuple[str, ...]
    known: tuple[int, ...]
    columns: tuple[str, ...]
    calibration: Calibration
    parameters: int
    name: str
    settings: Mapping[str, Any]
    searched: tuple[Mapping[str, Any], ...] = ()
    validation: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None
    notes: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)

    def probabilities(self, columns: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities ``(tracks, genres)``; rows add up to one.

        Args:
            columns: ``(tracks, columns)`` as in :attr:`columns`; NaN and infinite values count as
                missing.

        Raises:
            ShapeError: the columns are others.
            DataError: the estimator gives no numbers for a track.
        """
        heard = self.pipeline.predict_proba(as_table(columns, len(self.columns)))
        if not np.isfinite(heard).all():
            raise DataError(f"{self.name} gives no probabilities for some tracks.")
        if self.calibration.tracks:
            heard = probabilities(log_scores(heard), self.calibration)
        found = np.zeros((len(heard), len(self.genres)))
        found[:, list(self.known)] = heard
        shares: NDArray[np.float64] = found / found.sum(axis=1, keepdims=True)
        return shares

    def predict_proba(self, data: StudyData, places: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities ``(len(places), genres)`` of tracks of a study, as ``data.genres``.

        Raises:
            DataError: the data have no feature columns, or other genres.
            ShapeError: the model takes columns that they lack.
        """
        if data.columns is None:
            raise DataError(f"{self.name} hears feature columns, and the study has none.")
        self.refuse_other_genres(data.genres)
        return self.probabilities(data.columns[list(places)][:, self._places()])

    def refuse_other_genres(self, genres: Sequence[str]) -> None:
        """Raise DataError if data have other genres than it tells apart."""
        if genres != self.genres:
            raise DataError(
                f"{self.name} tells {', '.join(self.genres)} apart; the data have "
                f"{', '.join(genres)}."
            )

    def _places(self) -> list[int]:
        place = {name: number for number, name in enumerate(COLUMN_NAMES)}
        missing = [name for name in self.columns if name not in place]
        if missing:
            raise ShapeError(f"the columns have no {missing[0]!r}, which {self.name} takes")
        return [place[name] for name in self.columns]

    def of_features(self, columns: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities ``(tracks, genres)`` of rows of all 518 columns.

        Raises:
            ShapeError: the model takes columns that are none of these.
        """
        return self.probabilities(columns[:, self._places()])

    def save(self, folder: str | PathLike[str]) -> None:
        """Write ``model.json`` and ``model.skops``.

        Raises:
            DeepMusicError: the files cannot be written.
            CheckpointError: the estimator holds something that can only be pickled.
        """
        import skops.io  # imports all of scikit-learn, and PyTorch: seconds

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            content = skops.io.dumps(self.pipeline, compression=zipfile.ZIP_DEFLATED)
        except Exception as error:
            said = " ".join(str(error).split()).rstrip(".")[:200]
            raise CheckpointError(
                f"{self.name} cannot be saved without pickle: {said or type(error).__name__}."
            ) from error
        about = {
            "kind": _KIND,
            "format": _FORMAT,
            "deepmusic": __version__,
            "scikit-learn": sklearn.__version__,
            "sha256": hashlib.sha256(content).hexdigest(),
            "model": self.name,
            "class": _class_name(self.pipeline),
            "settings": _plain(self.settings),
            "searched": _plain(self.searched),
            "validation": _plain(self.validation),
            "genres": list(self.genres),
            "known": list(self.known),
            "recipe": None
            if self.recipe is None
            else {"name": self.recipe.name, "version": self.recipe.version},
            "calibration": self.calibration.to_dict(),
            "parameters": self.parameters,
            "types": skops.io.get_untrusted_types(data=content),
            "notes": list(self.notes),
            "card": _plain(self.card),
            "columns": list(self.columns),
        }
        with write_atomically(folder / _SKOPS, "wb") as file:
            file.write(content)
        with write_atomically(folder / _JSON) as text:  # last: it names the other by its hash
            json.dump(about, text, indent=1, ensure_ascii=False)
            text.write("\n")

    @classmethod
    def load(cls, folder: str | PathLike[str], *, trusted: Collection[str] = ()) -> FittedTable:
        """Read what :meth:`save` wrote.

        Args:
            folder: with both files.
            trusted: full names of further types, such as ``mypackage.models.MyClassifier``. Their
                code runs: name none of a file that you do not trust.

        Raises:
            CheckpointError: the files are missing, damaged, of another recipe, of another version
                of scikit-learn or a newer one of DeepMusic, or hold a type that is not trusted.
        """
        folder = Path(folder)
        about = _read_about(folder / _JSON)
        _refuse_other_versions(folder, about)
        try:
            content = (folder / _SKOPS).read_bytes()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CheckpointError(f"{folder / _SKOPS} cannot be read: {reason}.") from error
        if hashlib.sha256(content).hexdigest() != about.get("sha256"):
            raise CheckpointError(
                f"{folder / _SKOPS} is damaged, or of another model than {_JSON} beside it; take "
                "both from a copy, or train again."
            )
        pipeline = _unpack(folder / _SKOPS, content, trusted)
        try:
            fitted = cls(
                pipeline=pipeline,
                genres=tuple(about["genres"]),
                known=tuple(int(place) for place in about["known"]),
                columns=tuple(about["columns"]),
                calibration=Calibration(**about["calibration"]),
                parameters=int(about["parameters"]),
                name=str(about["model"]),
                settings=about["settings"],
                searched=tuple(about["searched"]),
                validation=about["validation"],
                recipe=_recipe_of(folder, about["recipe"]),
                notes=tuple(about["notes"]),
                card=about["card"],
            )
            # one pass over a row without values shows whether both files fit together
            fitted.probabilities(np.full((1, len(fitted.columns)), np.nan))
        except CheckpointError:
            raise
        except Exception as error:
            raise _damaged(folder) from error
        return fitted


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged, or no model of feature columns; take it from a copy, or train again."
    )


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no model of feature columns at {path.parent}.") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CheckpointError(f"{path} cannot be read: {reason}.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(about, dict) or about.get("kind") != _KIND:
        raise CheckpointError(f"{path} describes no model of feature columns of ours.")
    return about


def _refuse_other_versions(folder: Path, about: Mapping[str, Any]) -> None:
    if not isinstance(about.get("format"), int):
        raise _damaged(folder / _JSON)
    if about["format"] > _FORMAT:
        raise CheckpointError(
            f"{folder} was written by DeepMusic {about.get('deepmusic')}, this is {__version__}; "
            "update DeepMusic to read it."
        )
    theirs = str(about.get("scikit-learn", ""))
    if theirs.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        raise CheckpointError(
            f"{folder} was trained with scikit-learn {theirs or 'of no version'}, here is "
            f"{sklearn.__version__}: a model is sure to mean the same only in the version that it "
            "was made with; install that one, or train again."
        )


def _recipe_of(folder: Path, found: Mapping[str, Any] | None) -> Recipe | None:
    if found is None:
        return None
    recipe = RECIPES.get(str(found["name"]))
    if recipe is None or recipe.version != found["version"]:
        here = "has none of that name" if recipe is None else f"has version {recipe.version}"
        raise CheckpointError(
            f"{folder} was trained on features of recipe {found['name']!r}, version "
            f"{found['version']}; this DeepMusic {here}: train again on features that it makes."
        )
    return recipe


def _unpack(path: Path, content: bytes, trusted: Collection[str]) -> Pipeline:
    """The pipeline in a file, after each type in it was looked at."""
    import skops.io

    allowed = {*TRUSTED_TYPES, *trusted}
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - allowed)
    except Exception as error:
        raise _damaged(path) from error
    if unknown:
        raise CheckpointError(
            f"{path} needs {', '.join(unknown)}, which {'are' if len(unknown) > 1 else 'is'} not "
            "trusted: if you trust the file and that code, name each by --trust (trusted= in "
            "Python)."
        )
    try:
        needed = [name for name in skops.io.get_untrusted_types(data=content) if name in allowed]
        pipeline = skops.io.loads(content, trusted=needed)
    except ImportError as error:
        raise CheckpointError(
            f"{path} needs a module that is not here: {str(error).rstrip('.')}."
        ) from error
    except Exception as error:
        raise _damaged(path) from error
    if not isinstance(pipeline, Pipeline):
        raise _damaged(path)
    try:
        _check_trees(pipeline)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _damaged(path) from error
    return pipeline


def _check_trees(pipeline: Pipeline) -> None:
    """Refuse trees that lead out of their arrays: compiled code follows them unchecked."""
    columns = int(pipeline.n_features_in_)
    for part in parts_of(pipeline):
        if hasattr(part, "children_left"):
            left, right = np.asarray(part.children_left), np.asarray(part.children_right)
            _check_tree(left, right, np.asarray(part.feature), left == -1, columns)
        elif type(part).__name__ == "TreePredictor":
            nodes = part.nodes
            _check_tree(
                nodes["left"].astype(np.int64),
                nodes["right"].astype(np.int64),
                nodes["feature_idx"].astype(np.int64),
                nodes["is_leaf"].astype(bool),
                columns,
            )
            if nodes["is_categorical"].any():
                raise ValueError("no column here is categorical")


def _check_tree(
    left: NDArray[np.integer],
    right: NDArray[np.integer],
    feature: NDArray[np.integer],
    is_leaf: NDArray[np.bool_],
    columns: int,
) -> None:
    place = np.arange(len(left))
    inner = ~is_leaf
    if not len(left):
        raise ValueError("a tree without nodes")
    for child in (left, right):
        # children come after their parent: whoever follows them arrives
        if np.any(child[inner] <= place[inner]) or np.any(child[inner] >= len(left)):
            raise ValueError("a child out of its tree")
    if np.any(feature[inner] < 0) or np.any(feature[inner] >= columns):
        raise ValueError("a column out of the table")


def _class_name(pipeline: Pipeline) -> str:
    classifier = pipeline.steps[-1][1]
    inner = getattr(classifier, "estimator", None) if _is_calibrated(classifier) else None
    kind = type(classifier if inner is None else inner)
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_calibrated(classifier: Any) -> bool:
    return type(classifier).__name__ == "CalibratedClassifierCV"


def _plain(value: Any) -> Any:
    """A value in JSON types; what has none is written as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return repr(value)
