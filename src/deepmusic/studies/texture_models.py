"""Textures as columns: the input of the capsules, for the models of feature columns.

They answer whether the network or its input makes the difference. A track's columns are the mean
textures of its segments (``deepmusic.classifier.model_numpy``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import segment_batches
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.model_numpy import TEXTURE_SIZE, texture
from deepmusic.errors import DataError

if TYPE_CHECKING:
    from deepmusic.studies.data import StudyData

TEXTURE_NAMES = tuple(f"texture/{number:03}" for number in range(TEXTURE_SIZE))


def track_textures(data: StudyData, indices: Sequence[int]) -> NDArray[np.float32]:
    """Mean textures ``(len(indices), 554)`` of tracks, over the segments that classification uses.

    Raises:
        DataError: the study has no spectrograms.
    """
    if data.spectrograms is None:
        raise DataError("Models of textures need spectrograms, and the study has none.")
    config = ClassifierConfig(genres=data.genres)
    means = np.zeros((len(indices), TEXTURE_SIZE), np.float32)
    for row, index in zip(means, indices, strict=True):
        batches = segment_batches(
            data.spectrograms(index),
            length=config.segment_frames,
            hop=config.hop_frames,
            batch_size=1,
        )
        row[:] = np.mean([texture(batch)[0] for _, batch in batches], axis=0)
    return means
