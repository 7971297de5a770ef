"""All models of the study under one interface: fit, predict probabilities, save, load.

Models of feature columns and of textures live in ``deepmusic.studies.baselines``, networks on
log-mel segments in ``deepmusic.studies.segment_models``, hybrids and averages in
``deepmusic.studies.ensembles``. Each module is imported only when one of its models is looked
up, so that a study of tables needs no PyTorch::

    model = model_named("logistic")
    fitted = model.fit(data, fold, 0, Path("work"))
    fitted.predict_proba(data, fold.test)  # (tracks, genres), in the order of data.genres
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import RequestError

if TYPE_CHECKING:
    from deepmusic.datasets import Fold
    from deepmusic.studies.data import StudyData

Kind = Literal["features", "textures", "segments", "hybrid", "average"]
"""What a model learns from: feature columns, textures of log-mel segments, the segments
themselves, both features and segments, or the predictions of other models."""

TABLE_KINDS: tuple[Kind, ...] = ("features", "textures")
"""Those whose models are scikit-learn's: they train in seconds, without PyTorch."""


class FittedModel(Protocol):
    """A trained model."""

    @property
    def parameters(self) -> int:
        """How many numbers it has learned."""

    def predict_proba(self, data: StudyData, indices: Sequence[int]) -> NDArray[np.floating]:
        """Probabilities ``(len(indices), genres)`` in the order of ``data.genres``; rows sum to 1.

        Args:
            data: the training data, or others with the same genres.
            indices: of tracks in ``data.dataset.tracks``.
        """

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and the weights into a folder, without pickle."""


@dataclass(frozen=True)
class StudyModel:
    """A model of the registry.

    Args:
        name: its name in tables and on the command line.
        kind: what it learns from.
        summary: one sentence on what it is, with its paper.
        fit: takes the data, a fold, a seed and a folder to work and resume in. It must not use the
            test tracks: models of columns learn from the training and the validation tracks,
            networks stop early by the validation tracks.
        load: reads what ``FittedModel.save`` wrote.
    """

    name: str
    kind: Kind
    summary: str
    fit: Callable[[StudyData, Fold, int, Path], FittedModel]
    load: Callable[[Path], FittedModel]


# names are known without an import, so that a study of tables needs no PyTorch
_NAMES = {
    "deepmusic.studies.baselines": "majority logistic knn svc-linear svc-rbf tree forest adaboost "
    "boosting mlp naive-bayes lda qda textures-logistic textures-svc",
    "deepmusic.studies.segment_models": "cnn alexnet lstm gru crnn capsules-dynamic capsules-em "
    "capsules-self capsules-variational capsules-inverted-attention capsules-self-attention "
    "capsules-uniform capsules",
    "deepmusic.studies.ensembles": "hybrid-capsules-logistic hybrid-capsules-svc "
    "hybrid-capsules-svcs average-features average-networks average-capsules",
}


class _Models(Mapping[str, StudyModel]):
    def __getitem__(self, name: str) -> StudyModel:
        for module, names in _NAMES.items():
            if name in names.split():
                return _of_module(module)[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return chain(*map(str.split, _NAMES.values()))

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
    """Look up a model.

    Raises:
        RequestError: there is no such model.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise RequestError(f"There is no model {name!r}; there are {', '.join(MODELS)}.") from None
