"""The state of a run in training, and the folder that keeps it.

The checkpoint is one file that is renamed into place: a kill leaves the old one or the new one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from deepmusic.errors import CheckpointError, DeepMusicError, os_reason
from deepmusic.files import write_json
from deepmusic.training.config import Task, TrainingConfig
from deepmusic.training.progress import write_history
from deepmusic.training.weights import fill_model, load_weights, save_weights
from deepmusic.version import __version__

_TENSORS = ("weights", "average", "optimizer")
_VALUES = ("step", "totals", "seconds", "history", "config", "metadata")


def checkpoint_path(run: Path) -> Path:
    """The file that holds a run's latest checkpoint."""
    return run / "checkpoint" / "state.safetensors"


def best_path(run: Path) -> Path:
    """The file that holds a run's best weights."""
    return run / "best" / "weights.safetensors"


@dataclass(kw_only=True)
class TrainState:
    """Everything a run needs to continue as if it had never stopped.

    Random states are absent on purpose: order, augmentation and dropout of a step follow from the
    seed and the number of the step.

    Args:
        task: with the network itself.
        wrapped: the network as Accelerate runs it.
        average: a copy with the moving average of the weights, or None.
        optimizer: AdamW.
        config: settings of the training.
        metadata: of the task.
        step: steps made.
        seconds: time spent in the current epoch.
        totals: sums over the items of the current epoch, by measure, and their ``"count"``.
        history: one record per finished epoch.
    """

    task: Task
    wrapped: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    config: TrainingConfig
    metadata: Mapping[str, Any]
    step: int = 0
    seconds: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def validated(self) -> nn.Module:
        """The network whose weights are validated and kept."""
        return self.task.model if self.average is None else self.average

    @property
    def best_epoch(self) -> int:
        """The first epoch, from 1, with the best validation; 0 before the first."""
        sign = 1.0 if self.task.higher_is_better else -1.0
        measures = [sign * record["validation"][self.task.monitor] for record in self.history]
        return measures.index(max(measures)) + 1 if measures else 0

    @property
    def out_of_patience(self) -> bool:
        """Whether validation has not improved for too long."""
        patience = self.config.patience
        return patience is not None and len(self.history) - self.best_epoch >= patience

    @property
    def description(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return {**self.metadata, "training": self.config.to_dict(), "version": __version__}

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights, if there are any, towards those of the step just made.

        The decay starts small, ``(1 + step) / (10 + step)``, so that the random first weights are
        soon forgotten. Running statistics are averaged too, counters copied.
        """
        if self.average is None or self.config.ema_decay is None:
            return
        keep = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        current = self.task.model.state_dict()
        for name, mean in self.average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(current[name], 1 - keep)
            else:
                mean.copy_(current[name])

    def save(self, run: Path) -> None:
        """Replace the checkpoint.

        Raises:
            CheckpointError: it cannot be written, such as on a full disk; the old one is intact.
        """
        parts = {
            "weights": self.task.model.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
        }
        tensors = {f"{part}/{n}": tensor for part in parts for n, tensor in parts[part].items()}
        values = {name: getattr(self, name) for name in _VALUES}
        values |= {"config": self.config.to_dict(), "metadata": dict(self.metadata)}
        path = checkpoint_path(run)
        try:
            save_weights(path, tensors, values)
        except DeepMusicError as error:
            kept = "; the previous checkpoint is intact, so resume the run" if path.exists() else ""
            raise CheckpointError(f"{str(error).rstrip('.')}{kept}.") from error

    def save_epoch(self, run: Path) -> None:
        """Write the history, and the best weights if they are those of the last epoch.

        After the checkpoint, from which they follow if a kill comes in between.
        """
        if self.history and self.best_epoch == len(self.history):
            record = self.history[-1]
            about = {name: record[name] for name in ("epoch", "validation")}
            save_weights(best_path(run), self.validated.state_dict(), {**self.description, **about})
            write_json(best_path(run).with_name("config.json"), {**self.description, **about})
        write_history(run, self.history)


def load_checkpoint(run: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """A run's latest checkpoint: tensors (``weights``, ``average``, ``optimizer``) and values.

    Raises:
        CheckpointError: there is none, or it is damaged or of a newer DeepMusic.
    """
    path = checkpoint_path(run)
    if not path.exists():
        raise CheckpointError(f"{run} holds no checkpoint to resume from; start without resuming.")
    tensors, values = load_weights(path)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _TENSORS}
    for full_name, tensor in tensors.items():
        part, _, name = full_name.partition("/")
        parts.setdefault(part, {})[name] = tensor
    if len(parts) > len(_TENSORS) or values.keys() != set(_VALUES):
        raise CheckpointError(f"{path} holds weights, not the checkpoint of a run.")
    return parts, values


def check_resumable(
    values: Mapping[str, Any], config: TrainingConfig, metadata: Mapping[str, Any], *, run: Path
) -> None:
    """Refuse to resume a run with other settings, another model or other data.

    Raises:
        CheckpointError: names the first difference to the checkpoint's values.
    """

    def shortened(value: object) -> str:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 40 else text[:39] + "…"

    now = {**metadata, **config.resume_key()}
    then = {**values["metadata"], **TrainingConfig.from_dict(values["config"]).resume_key()}
    for name in sorted(now.keys() | then.keys()):
        if now.get(name) != then.get(name):
            raise CheckpointError(
                f"{run} was trained with another {name} ({shortened(then.get(name))}, "
                f"now {shortened(now.get(name))}); resume with the same, or start a new run."
            )


def start_run(
    task: Task, config: TrainingConfig, run: Path, accelerator: Accelerator, *, resume: bool
) -> TrainState:
    """The first state of a new run, or the last one of a run that is resumed.

    Raises:
        CheckpointError: there is no checkpoint to resume from, it is damaged or of another
            training, or a new run would overwrite it.
        DeepMusicError: the folder cannot be written.
    """
    # the way through JSON makes lists of tuples, as in the checkpoint
    metadata = {**json.loads(json.dumps(dict(task.metadata))), "training_items": len(task.dataset)}
    path, main = checkpoint_path(run), accelerator.is_main_process
    tensors: dict[str, dict[str, Tensor]] = {}
    values: dict[str, Any] = {}
    if resume:
        tensors, values = load_checkpoint(run)
        check_resumable(values, config, metadata, run=run)
        fill_model(task.model, tensors["weights"], source=path)
    elif main and path.exists():
        raise CheckpointError(f"{run} already holds a run; resume it, or choose another folder.")

    average = copy.deepcopy(task.model).to(accelerator.device) if config.ema_decay else None
    if config.compiled:  # after the copy, which is not to be compiled
        task.model.compile()
    optimizer = torch.optim.AdamW(parameter_groups(task.model, config.weight_decay), lr=0.0)
    # here all processes get the first weights of the main one
    wrapped, optimizer = accelerator.prepare(task.model, optimizer)
    if average is not None:
        fill_model(average, tensors.get("average") or task.model.state_dict(), source=path)
    if resume:
        load_optimizer_tensors(optimizer, tensors["optimizer"], source=path)
    state = TrainState(
        task=task,
        wrapped=wrapped,
        average=average,
        optimizer=optimizer,
        config=config,
        metadata=metadata,
        **{name: values[name] for name in ("step", "seconds", "totals", "history") if resume},
    )
    accelerator.wait_for_everyone()
    if main:
        _prepare_folder(run)
        write_json(run / "config.json", state.description)
        if not resume:
            state.save(run)  # a run can be resumed from its first weights
        if not state.totals:  # else the best weights are of an earlier epoch, and written
            state.save_epoch(run)
        else:
            write_history(run, state.history)
    return state


def _prepare_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        for leftover in run.rglob(".*.tmp"):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)
    except OSError as error:
        raise DeepMusicError(f"{run} could not be made: {os_reason(error)}.") from error


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups for AdamW: with weight decay and without.

    Vectors and scalars (biases, norms) are not decayed: pulling them to zero only biases them.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts by name, ``"INDEX.moment"``; empty before the first step."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, moments in state.items() for name, value in moments.items()}


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], *, source: Path
) -> None:
    """The inverse of `optimizer_tensors`.

    Raises:
        CheckpointError: the moments are those of another model; the message names ``source``.
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
