from .checkpoint import best_path as best_path, checkpoint_path as checkpoint_path
from .config import Items as Items, Task as Task, TrainingConfig as TrainingConfig
from .loop import fit as fit
from .progress import (
    Progress as Progress,
    draw_history as draw_history,
    read_history as read_history,
)
from .weights import (
    fill_model as fill_model,
    load_model as load_model,
    load_weights as load_weights,
    model_kind as model_kind,
    save_weights as save_weights,
)
