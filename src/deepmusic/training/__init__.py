"""Training a model: the loop, its checkpoints and its record; it knows none of our models."""

from __future__ import annotations

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
