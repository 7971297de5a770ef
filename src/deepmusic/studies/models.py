"""All models of the study under one interface: fit, predict probabilities, save, load.

Models of feature columns and of textures live in ``deepmusic.studies.baselines``, those of
the pretrained ear in ``deepmusic.studies.ear_models``, networks on log-mel segments in
``deepmusic.studies.segment_models``, hybrids and averages in ``deepmusic.studies.ensembles``.
PyTorch is imported only when a network is fitted or loaded::

    model = model_named("logistic")
    fitted = model.fit(data, fold, 0, Path("work"))
    fitted.predict_proba(data, fold.test)  # (tracks, genres), in the order of data.genres
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

Kind = Literal["features", "textures", "ear", "segments", "hybrid", "average"]
"""What a model learns from: feature columns, textures of log-mel segments, what the pretrained ear
gives, the segments themselves, both features and segments, or the predictions of other models."""

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

    ``fit`` takes the data, a fold, a seed and a folder to work and resume in. It must not use the
    test tracks: models of columns learn from the training and the validation tracks, networks stop
    early by the validation tracks.
    """

    name: str  # in tables and on the command line
    kind: Kind  # what it learns from
    summary: str  # one sentence on what it is, with its paper
    fit: Callable[[StudyData, Fold, int, Path], FittedModel]
    load: Callable[[Path], FittedModel]  # what FittedModel.save wrote


_MODULES = (
    "deepmusic.studies.baselines",
    "deepmusic.studies.ear_models",
    "deepmusic.studies.segment_models",
    "deepmusic.studies.ensembles",
)


@lru_cache
def _entries() -> dict[str, StudyModel]:
    """The models of all modules by name; the function ``study_models`` of each lists them."""
    listed = [import_module(module).study_models() for module in _MODULES]
    return {model.name: model for models in listed for model in models}


class _Models(Mapping[str, StudyModel]):
    """The entries; their modules import this one, and are imported when one is looked up."""

    def __getitem__(self, name: str) -> StudyModel:
        return _entries()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_entries())

    def __len__(self) -> int:
        return len(_entries())


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
