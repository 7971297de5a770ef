"""Loading a model for a command: imports that cost seconds happen here, when it is needed."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepmusic.hearing.inference import Classifier

__all__ = ["load_classifier"]


def load_classifier(model: str, *, device: str) -> Classifier:
    """Load a shipped model or a run, quickly and to work in one thread a track.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        DeepMusicError: the device is not there.
    """
    gc.disable()  # importing drops nothing: looking for garbage would be a sixth of the start
    try:
        import torch

        from deepmusic.pretrained import load

        # the jobs take the cores; inside a track more threads gain little, and wait for each other
        # several times longer than they work where the cores are busy
        torch.set_num_threads(1)
        return load(model, device=device)
    finally:
        gc.freeze()
        gc.enable()
