"""A run under way: what changes while it trains, and the folder it is kept in."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from deepmusic.errors import CheckpointError, DeepMusicError
from deepmusic.files import write_atomically
from deepmusic.training.checkpoints import (
    Checkpoint,
    checkpoint_path,
    fill_model,
    load_checkpoint,
    refuse_foreign,
    save_checkpoint,
    save_weights,
)
from deepmusic.training.config import TrainingConfig
from deepmusic.training.history import best_epoch, write_history
from deepmusic.training.optimization import (
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
)
from deepmusic.training.task import Task
from deepmusic.version import __version__


def best_path(run: Path) -> Path:
    """The file that holds a run's best weights."""
    return run / "best" / "weights.safetensors"


@dataclass(kw_only=True)
class RunState:
    """What changes during a run; `Checkpoint` explains the names.

    Args:
        model: the network itself.
        wrapped: the same, as Accelerate runs it.
        average: a copy with the averaged weights, or None.
    """

    model: nn.Module
    wrapped: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    config: TrainingConfig
    metadata: Mapping[str, Any]
    monitor: str
    higher_is_better: bool
    step: int = 0
    seconds: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def judged(self) -> nn.Module:
        """The network whose weights are validated and kept."""
        return self.model if self.average is None else self.average

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, with the best validation so far."""
        return best_epoch(
            self.history, monitor=self.monitor, higher_is_better=self.higher_is_better
        )

    @property
    def out_of_patience(self) -> bool:
        """Whether validation has not improved for too long."""
        patience = self.config.patience
        return patience is not None and len(self.history) - self.best_epoch >= patience

    def save(self, run: Path) -> None:
        """Replace the checkpoint."""
        checkpoint = Checkpoint(
            step=self.step,
            weights=self.model.state_dict(),
            average={} if self.average is None else self.average.state_dict(),
            optimizer=optimizer_tensors(self.optimizer),
            totals=self.totals,
            seconds=self.seconds,
            history=self.history,
            config=self.config.to_dict(),
            metadata=dict(self.metadata),
        )
        save_checkpoint(run, checkpoint)

    def save_epoch(self, run: Path) -> None:
        """Write the history, and the best weights if the epoch just finished gave them.

        After the checkpoint: what is lost by a kill in between follows from it.
        """
        if self.history and self.best_epoch == len(self.history):
            record = self.history[-1]
            about = {**self.about, "epoch": record["epoch"], "validation": record["validation"]}
            save_weights(best_path(run), self.judged.state_dict(), about)
            _write_json(best_path(run).with_name("config.json"), about)
        write_history(run, self.history)

    @property
    def about(self) -> dict[str, Any]:
        """What ``config.json`` says."""
        return {**self.metadata, "training": self.config.to_dict(), "version": __version__}


def start_run(
    task: Task, config: TrainingConfig, run: Path, accelerator: Accelerator, *, resume: bool
) -> RunState:
    """The first state of a new run, or the last one of a run that is resumed.

    Raises:
        CheckpointError: nothing to resume from, a damaged or foreign checkpoint, or a run in the
            way of a new one.
        DeepMusicError: the folder cannot be written.
    """
    metadata = {**json.loads(json.dumps(dict(task.metadata))), "training_items": len(task.dataset)}
    path, main = checkpoint_path(run), accelerator.is_main_process
    saved = None
    if resume:
        saved = load_checkpoint(run)
        refuse_foreign(saved, config, metadata, run=run)
        fill_model(task.model, saved.weights, source=path)
    elif main and path.exists():
        raise CheckpointError(f"{run} already holds a run; resume it, or choose another folder.")

    average = copy.deepcopy(task.model).to(accelerator.device) if config.ema_decay else None
    if config.compiled:  # after the copy, which is not to be compiled
        task.model.compile()
    optimizer = torch.optim.AdamW(parameter_groups(task.model, config.weight_decay), lr=0.0)
    # Here the processes take their first weights from the main one.
    wrapped, optimizer = accelerator.prepare(task.model, optimizer)
    if average is not None:
        fill_model(average, saved.average if saved else task.model.state_dict(), source=path)
    state = RunState(
        model=task.model,
        wrapped=wrapped,
        average=average,
        optimizer=optimizer,
        config=config,
        metadata=metadata,
        monitor=task.monitor,
        higher_is_better=task.higher_is_better,
    )
    if saved:
        load_optimizer_tensors(optimizer, saved.optimizer, source=path)
        state.step, state.seconds = saved.step, saved.seconds
        state.totals, state.history = saved.totals, saved.history
    accelerator.wait_for_everyone()
    if main:
        _prepare_folder(run)
        _write_json(run / "config.json", state.about)
        if not saved:
            state.save(run)  # with the first weights a run can be resumed from its start
        if not state.totals:  # else the best weights are those of an epoch past, and written
            state.save_epoch(run)
        else:
            write_history(run, state.history)
    return state


def _prepare_folder(run: Path) -> None:
    for folder in (run, checkpoint_path(run).parent, best_path(run).parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeepMusicError(f"{folder} could not be made: {error.strerror}.") from error
        for leftover in folder.glob(".*.tmp"):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with write_atomically(path) as file:
        file.write(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
