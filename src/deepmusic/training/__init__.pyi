from .checkpoints import (
    checkpoint_path as checkpoint_path,
    fill_model as fill_model,
    load_weights as load_weights,
    save_weights as save_weights,
)
from .config import TrainingConfig as TrainingConfig
from .history import read_history as read_history
from .loop import FitResult as FitResult, Progress as Progress, fit as fit
from .pictures import draw_history as draw_history
from .progress import show_progress as show_progress
from .task import Items as Items, Task as Task
