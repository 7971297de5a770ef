"""All models of the study under one interface: fit, predict probabilities, save, load.

Models of feature columns live in :mod:`deepmusic.studies.baselines`, those of textures in
:mod:`deepmusic.studies.texture_models`, networks on log-mel segments, hybrids and averages in
:mod:`deepmusic.studies.segment_models`; each module is imported only when one of its models is
wanted, so that a study of tables alone does without PyTorch::

    model = model_named("logistic")
    fitted = model.fit(data, fold, 0, Path("work"))
    heard = fitted.predict_proba(data, fold.test)  # (tracks, genres), as data.genres orders
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import RequestError

if TYPE_CHECKING:
    from deepmusic.datasets import Fold
    from deepmusic.studies.data import StudyData

Kind = Literal["features", "textures", "segments", "hybrid", "average"]
"""What a model learns from: a table of features, textures of log-mel segments, the segments
themselves, both features and segments, or other models."""

QUICK_KINDS: tuple[Kind, ...] = ("features", "textures")
"""Those whose models are scikit-learn's: they learn in seconds, and without PyTorch."""


class FittedModel(Protocol):
    """A model that has learned."""

    @property
    def parameters(self) -> int:
        """How many numbers it holds to tell genres apart."""

    def predict_proba(self, data: StudyData, places: Sequence[int]) -> NDArray[np.floating]:
        """Probabilities ``(len(places), genres)`` as ``data.genres`` orders; rows add up to 1.

        Args:
            data: the data that it learned from, or others with the same genres.
            places: in ``data.dataset.tracks``.
        """

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and the weights, without pickle, into a folder."""


@dataclass(frozen=True)
class StudyModel:
    """A model that can be studied.

    Args:
        name: how it is called in tables and on the command line.
        kind: what it learns from.
        summary: one sentence for people: what it is, and its paper.
        fit: takes the data, a fold, a seed and a folder to work and resume in. It never touches
            the test part: models of feature columns learn from the training and the validation
            tracks, networks stop by the validation tracks.
        load: reads what :meth:`FittedModel.save` wrote.
    """

    name: str
    kind: Kind
    summary: str
    fit: Callable[[StudyData, Fold, int, Path], FittedModel]
    load: Callable[[Path], FittedModel]


_QUICK = {
    "deepmusic.studies.baselines": (
        "majority",
        "logistic",
        "knn",
        "svc-linear",
        "svc-rbf",
        "tree",
        "forest",
        "adaboost",
        "boosting",
        "mlp",
        "naive-bayes",
        "lda",
        "qda",
    ),
    "deepmusic.studies.texture_models": ("textures-logistic", "textures-svc"),
}
_MODULE_OF = {name: module for module, names in _QUICK.items() for name in names}
_SEGMENT_MODULE = "deepmusic.studies.segment_models"


class _Models(Mapping[str, StudyModel]):
    """Models by name; those of tables and textures are known without importing anything."""

    def __getitem__(self, name: str) -> StudyModel:
        return _of_module(_MODULE_OF.get(name, _SEGMENT_MODULE))[name]

    def __iter__(self) -> Iterator[str]:
        yield from _MODULE_OF
        yield from _of_module(_SEGMENT_MODULE)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@lru_cache
def _of_module(module: str) -> dict[str, StudyModel]:
    """The models of a module by name; its function ``study_models`` lists them."""
    listed: tuple[StudyModel, ...] = import_module(module).study_models()
    return {model.name: model for model in listed}


MODELS: Mapping[str, StudyModel] = _Models()
"""By name, in the order of the report."""


def model_named(name: str) -> StudyModel:
    """Look a model up.

    Raises:
        RequestError: there is none of that name.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise RequestError(f"There is no model {name!r}; there are {', '.join(MODELS)}.") from None
