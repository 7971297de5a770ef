"""Loading a model for a command: imports that take long happen here, when it is needed."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from deepmusic.errors import DeepMusicError
from deepmusic.parallel import use_one_thread

if TYPE_CHECKING:
    from deepmusic.classifier.inference import Classifier
    from deepmusic.studies.table_classifier import TableClassifier


def load_classifier(
    model: str, *, device: str, trusted: Collection[str] = ()
) -> Classifier | TableClassifier:
    """Load a shipped model, a run of ``train classifier`` or a run of ``train baseline``.

    Args:
        model: a name, a run of either kind, or a file of weights.
        device: for the networks; a run of ``train baseline`` uses the CPU.
        trusted: types that a run of ``train baseline`` may hold besides the usual ones.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        DeepMusicError: the device does not exist.
    """
    # more threads gain little within a track, and on busy cores they wait for each other
    use_one_thread()
    path = Path(model)
    folder = path.parent if path.name in ("model.json", "model.skops") else path
    if (folder / "model.skops").is_file():
        if device not in ("auto", "cpu"):
            raise DeepMusicError(
                f"{model} is a run of 'train baseline', which runs on the CPU only; omit --device."
            )
        if trusted and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # where 'train baseline' found the class
        from deepmusic.studies.table_classifier import TableClassifier

        return TableClassifier.load(model, trusted=trusted)
    if trusted:
        raise DeepMusicError(f"{model} is not a run of 'train baseline'; omit --trust.")
    gc.disable()  # imports make no garbage: collecting would be a sixth of the start
    try:
        from deepmusic.pretrained import load

        return load(model, device=device)
    finally:
        gc.freeze()
        gc.enable()
