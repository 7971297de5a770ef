"""Loading a model for a command: imports that cost seconds happen here, when it is needed."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from deepmusic.hearing.device import gpu_may_be_here
from deepmusic.hearing.workers import ONE_THREAD, Workers

if TYPE_CHECKING:
    from deepmusic.hearing.inference import Classifier

__all__ = ["load_classifier", "start_workers"]


def load_classifier(model: str, *, device: str) -> Classifier:
    """Load a shipped model or a run, quickly and to work in one thread a track.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        DeepMusicError: the device is not there.
    """
    # The jobs take the cores; inside a track more threads gain little, and wait for each other
    # several times longer than they work where the cores are busy. NumPy and PyTorch look here
    # when they are imported.
    for name, threads in ONE_THREAD.items():
        os.environ.setdefault(name, threads)
    gc.disable()  # importing drops nothing: looking for garbage would be a sixth of the start
    try:
        from deepmusic.pretrained import load

        return load(model, device=device)
    finally:
        gc.freeze()
        gc.enable()


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
