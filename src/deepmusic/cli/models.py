"""Loading a model for a command: imports that cost seconds happen here, when it is needed."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from deepmusic.classifier.device import gpu_may_be_here
from deepmusic.classifier.workers import ONE_THREAD, Workers
from deepmusic.errors import DeepMusicError

if TYPE_CHECKING:
    from deepmusic.classifier.inference import Classifier
    from deepmusic.studies.table_classifier import TableClassifier


def is_table_run(model: str) -> bool:
    """Whether a model is a run of ``train baseline``, which hears by features and scikit-learn."""
    path = Path(model)
    folder = path.parent if path.name in ("model.json", "model.skops") else path
    return (folder / "model.skops").is_file()


def load_classifier(
    model: str, *, device: str, trusted: Collection[str] = ()
) -> Classifier | TableClassifier:
    """Load a shipped model or a run, quickly and to work in one thread a track.

    Args:
        model: a name, a run of either kind, or a file of weights.
        device: where networks are to hear; a run of ``train baseline`` hears on the CPU.
        trusted: types that a run of ``train baseline`` may hold beside the usual ones.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        DeepMusicError: the device is not there.
    """
    # The jobs take the cores; inside a track more threads gain little, and wait for each other
    # several times longer than they work where the cores are busy. NumPy and PyTorch look here
    # when they are imported.
    for name, threads in ONE_THREAD.items():
        os.environ.setdefault(name, threads)
    if is_table_run(model):
        return _table_classifier(model, device, trusted)
    if trusted:
        raise DeepMusicError(
            f"{model} is no run of 'train baseline', and holds no types to trust; leave --trust "
            "away."
        )
    gc.disable()  # importing drops nothing: looking for garbage would be a sixth of the start
    try:
        from deepmusic.pretrained import load

        return load(model, device=device)
    finally:
        gc.freeze()
        gc.enable()


def _table_classifier(model: str, device: str, trusted: Collection[str]) -> TableClassifier:
    if device not in ("auto", "cpu"):
        raise DeepMusicError(
            f"{model} is a run of 'train baseline', which hears on the CPU only; leave --device "
            f"{device} away."
        )
    if trusted and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # where 'train baseline' looked for the class
    from deepmusic.studies.table_classifier import TableClassifier

    return TableClassifier.load(model, trusted=trusted)


def start_workers(jobs: int, *, device: str) -> Workers | None:
    """Start the processes for so many jobs, so that they get ready while the model is loaded.

    Returns:
        None for a single job, or where there may be a GPU, which threads share.

    Raises:
        DeepMusicError: the system allows no more processes.
    """
    if jobs == 1 or not (device == "cpu" or (device == "auto" and not gpu_may_be_here())):
        return None
    workers = Workers(jobs)
    try:
        workers.start()
    except BaseException:
        workers.close()
        raise
    return workers
