"""Weight decay, the learning rate over the steps, the moving average of the weights."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deepmusic.errors import CheckpointError
from deepmusic.training.config import TrainingConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups for AdamW: with weight decay and without.

    Vectors and scalars (biases, norms) are not decayed: pulling them to zero only biases them.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def learning_rate_at(step: int, steps: int, config: TrainingConfig) -> float:
    """The learning rate of a step, which depends on nothing else.

    Args:
        step: from 0 to ``steps - 1``.
        steps: all steps of the run.
        config: peak, warm-up and schedule.
    """
    warm = round(config.warmup * steps)
    if step < warm:
        return config.learning_rate * (step + 1) / (warm + 1)
    progress = (step - warm) / max(1, steps - warm)  # in [0, 1)
    if config.schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2
    if config.schedule == "linear":
        return config.learning_rate * (1 - progress)
    return config.learning_rate


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    """Move the averaged weights towards the current ones, in place.

    The decay starts small, ``(1 + step) / (10 + step)``, so that the random first weights are soon
    forgotten. Running statistics are averaged too, counters copied.

    Args:
        average: a copy of the model that holds the averaged weights.
        model: the model with the current weights.
        decay: share of the old average to keep, in (0, 1).
        step: number of the step just made, from 0.
    """
    keep = min(decay, (1 + step) / (10 + step))
    current = model.state_dict()
    for name, mean in average.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(current[name], 1 - keep)
        else:
            mean.copy_(current[name])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts by name, ``"INDEX.moment"``; empty before the first step."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, moments in state.items() for name, value in moments.items()}


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    *,
    source: str | os.PathLike[str],
) -> None:
    """The inverse of `optimizer_tensors`.

    Args:
        optimizer: one for the same parameters; changed in place.
        tensors: moments by name.
        source: where they came from, for the message.

    Raises:
        CheckpointError: the moments are those of another model.
    """
    shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for full_name, tensor in tensors.items():
        index, _, name = full_name.partition(".")
        if int(index) >= len(shapes) or tensor.shape not in (shapes[int(index)], ()):
            raise CheckpointError(f"{source} is of another model: its optimiser state differs.")
        state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
