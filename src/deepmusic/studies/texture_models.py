"""scikit-learn's models on the textures that the capsules read: is it the network or what it hears?

A track is the mean of its segments' textures (:mod:`deepmusic.classifier.texture`), which become
the columns of a model of :mod:`deepmusic.studies.baselines`, with its settings searched as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import segment_starts
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.model_numpy import TEXTURE_SIZE, texture
from deepmusic.errors import DataError
from deepmusic.studies.baselines import TABLE_MODELS, TableModel, fit_fold
from deepmusic.studies.saved_models import FittedTable

if TYPE_CHECKING:
    from deepmusic.datasets import Fold
    from deepmusic.studies.data import StudyData
    from deepmusic.studies.models import StudyModel

_NAMES = tuple(f"texture/{number:03}" for number in range(TEXTURE_SIZE))
_MODELS = tuple(
    replace(TABLE_MODELS[of], name=name, summary=f"{TABLE_MODELS[of].summary[:-1]}, on textures.")
    for name, of in (("textures-logistic", "logistic"), ("textures-svc", "svc-rbf"))
)


def track_textures(data: StudyData, places: Sequence[int]) -> NDArray[np.float32]:
    """Mean textures ``(len(places), 554)`` of tracks, over segments as the classifier hears them.

    Raises:
        DataError: there are no spectrograms.
    """
    if data.spectrograms is None:
        raise DataError("Models of textures learn from spectrograms, and the study has none.")
    config = ClassifierConfig(genres=data.genres)
    length = config.segment_frames
    means = np.zeros((len(places), TEXTURE_SIZE), np.float32)
    for row, place in zip(means, places, strict=True):
        whole = data.spectrograms(place)
        starts = segment_starts(whole.shape[1], length=length, hop=config.hop_frames)
        for start in starts:
            segment = whole[None, :, start : start + length].astype(np.float32)
            row += texture(segment)[0] / len(starts)
    return means


@dataclass(frozen=True)
class FittedTextures:
    """A model of textures that has learned.

    Args:
        table: takes textures for its columns.
    """

    table: FittedTable

    @property
    def parameters(self) -> int:
        """How many numbers it holds to tell genres apart."""
        return self.table.parameters

    def predict_proba(self, data: StudyData, places: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities ``(len(places), genres)`` of tracks; rows add up to 1.

        Raises:
            DataError: there are no spectrograms, or the genres are others.
        """
        self.table.refuse_other_genres(data.genres)
        return self.table.probabilities(track_textures(data, places))

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``model.skops``; errors as of :meth:`FittedTable.save`."""
        self.table.save(folder)


def load_textures(folder: Path) -> FittedTextures:
    """Read what :meth:`FittedTextures.save` wrote; errors as of :meth:`FittedTable.load`."""
    return FittedTextures(FittedTable.load(folder))


def study_models() -> tuple[StudyModel, ...]:
    """The models of this module as the study takes them."""
    from deepmusic.studies.models import StudyModel

    return tuple(
        StudyModel(model.name, "textures", model.summary, partial(_fit, model), load_textures)
        for model in _MODELS
    )


def _fit(model: TableModel, data: StudyData, fold: Fold, seed: int, work: Path) -> FittedTextures:
    """Learn a fold from its tracks' textures; nothing is resumed."""
    return FittedTextures(fit_fold(model, data, fold, seed, partial(track_textures, data), _NAMES))
