"""The models that come with the package, found by name and checked; nothing is downloaded."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from deepmusic.errors import CheckpointError
from deepmusic.hearing.inference import Classifier
from deepmusic.hearing.verdict import Verdict

__all__ = ["MODELS", "classify", "load"]

_WEIGHTS = Path(__file__).parent / "weights"
MODELS = {"classifier": _WEIGHTS / "classifier.safetensors"}
"""Files of the shipped models by name; each has a card, a ``.md`` file, beside it."""


def load(name: str | os.PathLike[str] = "classifier", *, device: str = "auto") -> Classifier:
    """Load a shipped model, or one of your own training.

    Args:
        name: a key of :data:`MODELS`, a run folder, or a file of weights.
        device: ``"auto"`` takes a GPU where there is one.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        DeepMusicError: the device is not there.
    """
    path = MODELS.get(os.fspath(name)) or Path(name)
    if not path.exists():
        raise CheckpointError(
            f"There is no model {os.fspath(name)!r}: name a run folder, a file of weights, or one "
            f"of {', '.join(MODELS)}."
        )
    return Classifier.load(path, device=device)


def classify(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    model: str | os.PathLike[str] = "classifier",
    device: str = "auto",
) -> Verdict:
    """Say which genre a track is.

    Args:
        path: a sound file or video, or a binary file object that can seek.
        model: the shipped classifier, or a run of your own training; loaded on the first call.
        device: ``"auto"`` takes a GPU where there is one.

    Returns:
        Genre (None when unsure), calibrated confidence, all genres, and the verdict over time.

    Raises:
        AudioError: no sound could be had from the file.
        CheckpointError: the model is missing or damaged.
    """
    return _loaded(os.fspath(model), device=device).classify(path)


_loaded = lru_cache(maxsize=2)(load)
