"""Training a model: the loop, its checkpoints and its record; it knows none of our models.

The public names are looked up on first use: reading weights does without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepmusic.lazy import lazy_names

if TYPE_CHECKING:
    from deepmusic.training.checkpoints import (
        checkpoint_path,
        fill_model,
        load_weights,
        save_weights,
    )
    from deepmusic.training.config import TrainingConfig
    from deepmusic.training.history import read_history
    from deepmusic.training.loop import FitResult, Progress, fit
    from deepmusic.training.pictures import draw_history
    from deepmusic.training.progress import show_progress
    from deepmusic.training.task import Items, Task

__all__ = [
    "FitResult",
    "Items",
    "Progress",
    "Task",
    "TrainingConfig",
    "checkpoint_path",
    "draw_history",
    "fill_model",
    "fit",
    "load_weights",
    "read_history",
    "save_weights",
    "show_progress",
]

_MODULES = {
    "checkpoints": ("checkpoint_path", "fill_model", "load_weights", "save_weights"),
    "config": ("TrainingConfig",),
    "history": ("read_history",),
    "loop": ("FitResult", "Progress", "fit"),
    "pictures": ("draw_history",),
    "progress": ("show_progress",),
    "task": ("Items", "Task"),
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _MODULES)
