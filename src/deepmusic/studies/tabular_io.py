"""Trained models of feature columns, and their files: ``model.json`` and ``model.skops``.

``model.json`` describes the model: genres, columns, recipe of the features, versions,
hyper-parameters. ``model.skops`` holds the pipeline in the format of skops, which names the types
that it needs, so that no object is created before its type is known to be trusted. No pickle is
written or read.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from deepmusic.classifier.verdict import Calibration, Verdict, reliable_bandwidth
from deepmusic.errors import AudioError, CheckpointError, DataError, ShapeError, os_reason
from deepmusic.features.recipe import COLUMNS, RECIPES, Recipe
from deepmusic.files import make_folder, write_atomically, write_json
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.classifier.ear.patches import EarOutput
    from deepmusic.studies.data import StudyData

COLUMN_NAMES = tuple("/".join(column) for column in COLUMNS)
"""Names of the 518 columns, such as ``mfcc/mean/01``."""

TRUSTED_TYPES = (
    "deepmusic.studies.table_models.PlattScaling",
    "numpy.clip",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Types that files may hold, beside those that skops trusts by default (estimators of scikit-learn,
arrays, plain values)."""

_JSON, _SKOPS = "model.json", "model.skops"
_KIND = "deepmusic table model"
_FORMAT = 2
# fields that are JSON as they are
_PLAIN = ("name", "genres", "classes", "parameters", "settings", "searched", "validation", "notes",
          "training", "columns")  # fmt: skip
_LOUDNESS = COLUMN_NAMES.index("rmse/max/01")
_SILENT = 1e-5  # full scale is 1; a 16-bit step is 3e-5
_RELIABLE_HZ = 9_000  # as for the small model: none was measured for columns
_DOUBT = 0.01  # shared by all genres: a tree or a neighbour is certain after one example


@dataclass(frozen=True, eq=False)
class FittedTable:
    """A trained classifier of columns, which classifies files in the way of ``Classifier``, too.

    There is no verdict over time, and nothing to explain. It can be pickled for processes.
    """

    is_picklable: ClassVar[bool] = True
    has_segments: ClassVar[bool] = False

    estimator: Pipeline  # imputation, scaling, classifier
    genres: tuple[str, ...]
    classes: tuple[int, ...]  # indices in ``genres`` of those with training tracks
    columns: tuple[str, ...]  # names of the columns that it takes
    name: str
    calibration: Calibration = field(default_factory=Calibration)  # fitted on the inner folds
    parameters: int = 0  # how many numbers the classifier has learned
    settings: Mapping[str, Any] = field(default_factory=dict)  # chosen by the search
    searched: tuple[Mapping[str, Any], ...] = ()  # log loss of each setting
    validation: Mapping[str, Any] = field(default_factory=dict)  # figures on the inner folds
    recipe: Recipe | None = None  # of the features, if known
    notes: tuple[str, ...] = ()  # sentences on what had to be left out
    training: Mapping[str, Any] = field(default_factory=dict)  # facts on the training data
    digest: str = ""  # a hash of everything that decides a verdict, of a model that was read

    @property
    def reliable_hz(self) -> int:
        """The bandwidth below which verdicts are *unsure*; the training may name a lower one."""
        return reliable_bandwidth(_RELIABLE_HZ, self.training)

    def probabilities(self, columns: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities ``(tracks, genres)`` of columns ``(tracks, columns)``; rows sum to 1.

        Raises:
            ShapeError: the number of columns is wrong.
            DataError: the estimator gives no finite probabilities.
        """
        table = as_table(columns, len(self.columns))
        predicted = np.asarray(self.estimator.predict_proba(table), np.float64)
        if self.calibration.tracks:
            predicted = self.calibration.probabilities(with_doubt(predicted))
        if not np.isfinite(predicted).all():
            raise DataError(f"{self.name} gives no probabilities for some tracks.")
        shares = np.zeros((len(predicted), len(self.genres)))
        shares[:, list(self.classes)] = predicted
        normalized: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
        return normalized

    def predict_proba(self, data: StudyData, indices: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities ``(len(indices), genres)`` of tracks of a study.

        Raises:
            DataError: the data lack the columns, or have other genres.
        """
        if data.genres != self.genres:
            raise DataError(
                f"{self.name} distinguishes {', '.join(self.genres)}; the data have "
                f"{', '.join(data.genres)}."
            )
        return self.probabilities(track_columns(data, indices, self.columns))

    def classify(
        self,
        source: str | PathLike[str],
        *,
        name: str | None = None,
        max_seconds: float = 6 * 3600.0,
        segments: bool = False,
    ) -> Verdict:
        """Classify a track.

        Args:
            source: a path.
            name: of the track in the verdict; None takes the path.
            max_seconds: no more than this is decoded.
            segments: no effect; a track is classified as a whole.

        Raises:
            AudioError: features cannot be computed, or the track is silent (code ``silent``).
            CheckpointError: the model does not name the recipe of its features.
        """
        from deepmusic.features import extract_file

        if self.recipe is None:
            raise CheckpointError(
                f"{self.name} does not name the recipe of its features, so that none can be "
                "computed; train it by 'train baseline'."
            )
        row = extract_file(source, self.recipe, max_seconds=max_seconds)
        if not row.is_done:
            raise AudioError(row.error, code=row.code)
        if row.columns[_LOUDNESS] < _SILENT:
            raise AudioError(f"{row.path!r} is silent: nothing to classify.", code="silent")
        missing = f"{row.error} Medians of the training tracks replace these." if row.error else ""
        return Verdict.from_probabilities(
            row.path if name is None else name,
            self.genres,
            self.probabilities(_selected(row.columns[None], self.columns))[0].tolist(),
            threshold=self.calibration.threshold,
            duration_s=row.duration_s,
            warning=" ".join(filter(None, [row.warning, missing])) or None,
        ).with_bandwidth(row.bandwidth_hz, reliable_hz=self.reliable_hz)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write ``model.json`` and ``model.skops``.

        Raises:
            DeepMusicError: the files cannot be written.
            CheckpointError: the estimator holds something that only pickle can store.
        """
        import skops.io  # imports all of scikit-learn: seconds

        folder = make_folder(folder)
        try:
            content = skops.io.dumps(self.estimator, compression=zipfile.ZIP_DEFLATED)
        except Exception as error:
            raise CheckpointError(
                f"{self.name} cannot be saved without pickle: {one_line(error)}."
            ) from error
        about = {
            "kind": _KIND,
            "format": _FORMAT,
            "deepmusic": __version__,
            "scikit-learn": sklearn.__version__,
            "types": skops.io.get_untrusted_types(data=content),
            "recipe": self.recipe and {"name": self.recipe.name, "version": self.recipe.version},
            "calibration": self.calibration.to_dict(),
            **{name: getattr(self, name) for name in _PLAIN},
        }
        with write_atomically(folder / _SKOPS, "wb") as file:
            file.write(content)
        write_json(folder / _JSON, about)

    @classmethod
    def load(cls, folder: str | PathLike[str], *, trusted: Collection[str] = ()) -> FittedTable:
        """Read what ``save`` wrote.

        Args:
            folder: with both files, or one of them.
            trusted: full names of further types, such as ``mypackage.models.MyClassifier``. Their
                code runs, so name types only of files that you trust.

        Raises:
            CheckpointError: the files are missing, damaged, of another recipe, of another version
                of scikit-learn or a newer one of DeepMusic, or hold a type that is not trusted.
        """
        folder = Path(folder).parent if Path(folder).is_file() else Path(folder)
        about = _read_about(folder / _JSON)
        content, estimator = _load_pipeline(folder / _SKOPS, trusted)
        try:
            fields: dict[str, Any] = {
                name: tuple(value) if isinstance(value := about[name], list) else value
                for name in _PLAIN
            }
            fields["calibration"] = Calibration(**about["calibration"])
            fields["recipe"] = about["recipe"] and RECIPES[about["recipe"]["name"]]
            description = (folder / _JSON).read_bytes() + b"%d" % _RELIABLE_HZ
            fields["digest"] = hashlib.sha256(description + content).hexdigest()
            fitted = cls(estimator, **fields)
            # predicting one empty row checks that both files belong together
            fitted.probabilities(np.full((1, len(fitted.columns)), np.nan))
        except Exception as error:
            raise _damaged(folder) from error
        return fitted


def as_table(columns: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """Columns as float64, with NaN for missing and infinite values.

    Raises:
        ShapeError: they are not ``(tracks, count)`` with at least one track.
    """
    table = np.array(columns, np.float64)
    if table.ndim != 2 or table.shape[1] != count or not len(table):
        raise ShapeError(f"a table of (tracks, {count}) is needed; got {np.shape(columns)}")
    table[~np.isfinite(table)] = np.nan
    return table


def track_columns(
    data: StudyData, indices: Sequence[int], names: Sequence[str]
) -> NDArray[np.floating]:
    """Columns ``(len(indices), len(names))`` of tracks of a study, by name.

    Names are those of feature columns, or all of what one function of ``COMPUTED`` gives, such as
    ``textures/000``.

    Raises:
        DataError: the study lacks what they are taken or computed from.
        ShapeError: there is no such column.
    """
    if names and (compute := COMPUTED.get(names[0].partition("/")[0])):
        return compute(data, indices)
    if data.columns is None:
        raise DataError("The model takes feature columns, and the study has none.")
    return _selected(data.columns[list(indices)], names)


def track_textures(data: StudyData, indices: Sequence[int]) -> NDArray[np.float32]:
    """Mean textures ``(len(indices), 554)`` of tracks: the input of the capsules, as columns.

    They answer whether the network or its input makes the difference. The mean is over the
    segments that classification uses.

    Raises:
        DataError: the study has no spectrograms.
    """
    import torch

    from deepmusic.audio import segment_batches
    from deepmusic.classifier.config import ClassifierConfig
    from deepmusic.classifier.model import TEXTURE_SIZE, texture

    if data.spectrograms is None:
        raise DataError("Models of textures need spectrograms, and the study has none.")
    config = ClassifierConfig(genres=data.genres)
    sizes = {"length": config.segment_frames, "hop": config.hop_frames, "batch_size": 1}
    means = np.zeros((len(indices), TEXTURE_SIZE), np.float32)
    for row, index in zip(means, indices, strict=True):
        batches = segment_batches(data.spectrograms(index), **sizes)
        row[:] = np.mean([texture(torch.from_numpy(b))[0].numpy() for _, b in batches], axis=0)
    return means


def track_ear(data: StudyData, indices: Sequence[int]) -> list[EarOutput]:
    """What the pretrained ear gives for tracks.

    Raises:
        DataError: it was not run on the data.
    """
    if data.ear is None:
        raise DataError("The model needs what the pretrained ear gives, and the study has none.")
    return [data.ear(index) for index in indices]


def track_ear_statistics(data: StudyData, indices: Sequence[int]) -> NDArray[np.float32]:
    """Mean and standard deviation ``(len(indices), 512)`` over time of the ear's features."""
    features = [output[0] for output in track_ear(data, indices)]
    rows = [np.concatenate([one.mean(axis=0), one.std(axis=0)]) for one in features]
    return np.array(rows, np.float32)


COMPUTED: dict[str, Callable[[StudyData, Sequence[int]], NDArray[np.float32]]] = {
    "textures": track_textures,
    "ear": track_ear_statistics,
}
"""By kind of the model: columns that are computed when they are needed."""


def one_line(error: Exception) -> str:
    """The reason of an error of a library, as the end of a sentence."""
    return " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__


def with_doubt(shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log probabilities ``(tracks, genres)``, finite: a hundredth is shared by all genres."""
    certain = np.asarray(shares, np.float64)
    logs: NDArray[np.float64] = np.log((1 - _DOUBT) * certain + _DOUBT / certain.shape[1])
    return logs


def _selected(columns: NDArray[np.floating], names: Sequence[str]) -> NDArray[np.floating]:
    index = {name: number for number, name in enumerate(COLUMN_NAMES)}
    if missing := [name for name in names if name not in index]:
        raise ShapeError(f"there is no feature column {missing[0]!r}")
    return columns[:, [index[name] for name in names]]


def _read_about(path: Path) -> dict[str, Any]:
    """The content of ``model.json``, of versions that this program can use."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no model of feature columns in {path.parent}.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {os_reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(about, dict) or about.get("kind") != _KIND:
        raise CheckpointError(f"{path} is not a model of feature columns.")
    if about.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} was written by DeepMusic {about.get('deepmusic')} in another format than "
            f"that of {__version__}; train it again."
        )
    theirs = str(about.get("scikit-learn"))
    if theirs.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        raise CheckpointError(
            f"{path} was trained with scikit-learn {theirs}, and {sklearn.__version__} is "
            "installed, where the model may behave differently: install that version, or train "
            "again."
        )
    wanted = about.get("recipe")
    if isinstance(wanted, Mapping):
        recipe = RECIPES.get(str(wanted.get("name")))
        if recipe is None or recipe.version != wanted.get("version"):
            raise CheckpointError(
                f"{path} was trained on features of recipe {wanted.get('name')!r}, version "
                f"{wanted.get('version')}, which this DeepMusic does not compute: train again."
            )
    return about


def _load_pipeline(path: Path, trusted: Collection[str]) -> tuple[bytes, Pipeline]:
    """The bytes of a file and its pipeline, once every type in it is known to be trusted."""
    import skops.io

    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {os_reason(error)}.") from error
    try:
        needed = skops.io.get_untrusted_types(data=content)
        if unknown := sorted(set(needed) - {*TRUSTED_TYPES, *trusted}):
            raise CheckpointError(
                f"{path} needs types that are not trusted: {', '.join(unknown)}. If you trust the "
                "file and that code, name each with --trust (trusted= in Python)."
            )
        pipeline = skops.io.loads(content, trusted=needed)
    except ImportError as error:
        raise CheckpointError(
            f"{path} needs a module that is not installed: {one_line(error)}."
        ) from error
    except CheckpointError:
        raise
    except Exception as error:
        raise _damaged(path) from error
    if not isinstance(pipeline, Pipeline):
        raise _damaged(path)
    return content, pipeline


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged, or not a model of feature columns; copy it again, or train again."
    )
