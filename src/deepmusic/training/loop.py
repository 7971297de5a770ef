"""The training loop: a plain loop over steps, on one process or several, that can be resumed."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, broadcast_object_list, send_to_device
from torch import nn
from torch.utils.data import DataLoader

from deepmusic.errors import CheckpointError, DataError, DeepMusicError
from deepmusic.files import write_atomically
from deepmusic.training.batches import BatchPlan
from deepmusic.training.checkpoints import (
    Checkpoint,
    checkpoint_path,
    fill_model,
    load_checkpoint,
    load_weights,
    refuse_foreign,
    save_checkpoint,
    save_weights,
)
from deepmusic.training.config import TrainingConfig
from deepmusic.training.history import best_epoch, write_history
from deepmusic.training.optimization import (
    learning_rate_at,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    update_average,
)
from deepmusic.training.pictures import draw_history
from deepmusic.training.surroundings import (
    describe,
    deterministic,
    ignore_interrupts,
    interrupts_noted,
    seed_step,
    start_accelerator,
)
from deepmusic.training.task import Task
from deepmusic.version import __version__

__all__ = ["FitResult", "Progress", "fit"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where the training is after a step; epochs and steps count from 1.

    Args:
        setting: device, precision, processes and batch, in words.
        epoch, epochs: the epoch under way and the most there will be.
        step, steps: the step in the epoch and the steps an epoch has.
        train: means over the epoch so far, ``"loss"`` and the task's own.
        seconds_left: until the last epoch; early stopping may be sooner.
        record: the epoch's line of history, after its last step only.
    """

    setting: str
    epoch: int
    epochs: int
    step: int
    steps: int
    train: Mapping[str, float]
    seconds_left: float
    record: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What came of a training.

    Args:
        run: its folder.
        best_epoch: the epoch, from 1, whose weights are in ``best/`` and now in the model.
        best: the validation measures of that epoch.
        history: one record for each epoch.
        stopped_early: whether it ran out of patience.
        setting: device, precision, processes and batch, in words.
    """

    run: Path
    best_epoch: int
    best: dict[str, float]
    history: list[dict[str, Any]]
    stopped_early: bool
    setting: str


def fit(
    task: Task,
    config: TrainingConfig,
    run: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train a model and keep its best weights.

    The folder ``run`` receives ``config.json``, ``history.jsonl``, ``checkpoint/`` (the latest
    state), ``best/`` (``weights.safetensors`` and ``config.json``), ``loss.png`` and, where the
    task reports it, ``accuracy.png``. On the CPU, with the same number of threads, a resumed run
    ends with the very weights of an uninterrupted one. Under ``torchrun`` the processes share each
    batch and only the main one writes.

    Args:
        task: model, data, loss and validation.
        config: the settings.
        run: folder of the run; made if missing.
        resume: go on from the run's checkpoint, instead of starting a new run.
        on_progress: called in the main process after every step.

    Returns:
        The result; ``task.model`` holds the best weights, equal in all processes.

    Raises:
        CheckpointError: there is no checkpoint to resume from, it is damaged or foreign, it cannot
            be written, or a new run would overwrite one.
        DataError: the data set is empty.
        DeepMusicError: the loss or the monitored measure is not finite, or the device is missing.
        KeyboardInterrupt: Ctrl-C was pressed; the step was finished and a checkpoint written.
    """
    run = Path(run)
    accelerator = start_accelerator(config)
    plan = BatchPlan(
        items=len(task.dataset),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        processes=accelerator.num_processes,
        rank=accelerator.process_index,
    )
    if plan.items < 1:
        raise DataError("There is nothing to train on: the training set is empty.")
    try:
        state = _start(task, config, run, accelerator, resume=resume, items=plan.items)
        with deterministic(accelerator.device), interrupts_noted() as interrupted:
            _train(task, config, run, accelerator, plan, state, interrupted, on_progress)
        return _finish(task, config, run, accelerator, state)
    finally:
        # Accelerate keeps device and precision for the process; the next fit may have others.
        AcceleratorState._reset_state(reset_partial_state=plan.processes == 1)


@dataclass
class _State:
    """What changes during a run; `Checkpoint` explains the names."""

    model: nn.Module  # the network itself
    wrapped: nn.Module  # the same, as Accelerate runs it
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    config: dict[str, Any]
    metadata: dict[str, Any]
    step: int = 0
    seconds: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def judged(self) -> nn.Module:
        """The weights that are validated and kept."""
        return self.model if self.average is None else self.average

    def save(self, run: Path) -> None:
        average = {} if self.average is None else self.average.state_dict()
        save_checkpoint(
            run,
            Checkpoint(
                step=self.step,
                weights=self.model.state_dict(),
                average=average,
                optimizer=optimizer_tensors(self.optimizer),
                totals=self.totals,
                seconds=self.seconds,
                history=self.history,
                config=self.config,
                metadata=self.metadata,
            ),
        )


def _start(
    task: Task,
    config: TrainingConfig,
    run: Path,
    accelerator: Accelerator,
    *,
    resume: bool,
    items: int,
) -> _State:
    """The first state of a new run, or the last one of a run that is resumed."""
    metadata = {**json.loads(json.dumps(dict(task.metadata))), "training_items": items}
    path, main = checkpoint_path(run), accelerator.is_main_process
    saved = None
    if resume:
        saved = load_checkpoint(run)
        refuse_foreign(saved, config, metadata, run=run)
        fill_model(task.model, saved.weights, source=path)
    elif main and path.exists():
        raise CheckpointError(f"{run} already holds a run; resume it, or choose another folder.")

    average = copy.deepcopy(task.model).to(accelerator.device) if config.average_decay else None
    optimizer = torch.optim.AdamW(parameter_groups(task.model, config.weight_decay), lr=0.0)
    # Here the processes take their first weights from the main one.
    wrapped, optimizer = accelerator.prepare(task.model, optimizer)
    if average is not None:
        fill_model(average, saved.average if saved else task.model.state_dict(), source=path)
    state = _State(task.model, wrapped, average, optimizer, config.to_dict(), metadata)
    if saved:
        load_optimizer_tensors(optimizer, saved.optimizer, source=path)
        state.step, state.seconds = saved.step, saved.seconds
        state.totals, state.history = saved.totals, saved.history
    accelerator.wait_for_everyone()
    if main:
        _prepare_folder(run, state)
        if not resume:
            state.save(run)  # with the first weights a run can be resumed from its start
    return state


def _train(
    task: Task,
    config: TrainingConfig,
    run: Path,
    accelerator: Accelerator,
    plan: BatchPlan,
    state: _State,
    interrupted: Callable[[], bool],
    on_progress: Callable[[Progress], None] | None,
) -> None:
    """Make the steps that are left."""
    main, setting = accelerator.is_main_process, describe(accelerator, config)
    loader: DataLoader[Any] = DataLoader(
        task.dataset,  # type: ignore[arg-type]  # keyed by pairs, which Dataset does not foresee
        batch_sampler=plan.batches(state.step),  # used once
        collate_fn=task.collate,
        num_workers=config.workers,
        worker_init_fn=ignore_interrupts,
        pin_memory=accelerator.device.type == "cuda",
    )
    first, begun = state.step, time.monotonic()
    clock = last_checkpoint = begun
    state.wrapped.train()
    for batch in () if _out_of_patience(task, config, state.history) else loader:
        sums, rate = _step(task, config, accelerator, plan, state, batch, interrupted)
        stop = sums.pop("interrupted") > 0  # the same in all processes, as all sums are
        state.totals = {name: state.totals.get(name, 0.0) + sums[name] for name in sums}
        train = {n: v / state.totals["count"] for n, v in state.totals.items() if n != "count"}
        epoch, place = divmod(state.step, plan.steps_per_epoch)
        state.step += 1
        seconds_left = (time.monotonic() - begun) / (state.step - first) * (plan.steps - state.step)

        record = None
        if place + 1 == plan.steps_per_epoch:
            validation = _validate(task, state, accelerator)
            record = {
                "epoch": epoch + 1,
                "train": train,
                "validation": validation,
                "learning_rate": rate,
                "seconds": round(state.seconds + time.monotonic() - clock, 3),
                "seconds_left": round(seconds_left, 1),
            }
            state.history.append(record)
            state.totals, state.seconds, clock = {}, 0.0, time.monotonic()
            if main:
                if _best_epoch(task, state.history) == epoch + 1:
                    _save_best(run, state, record)
                write_history(run, state.history)
        now = time.monotonic()
        state.seconds, clock = state.seconds + now - clock, now
        if main and (record or stop or now - last_checkpoint >= 60 * config.checkpoint_minutes):
            state.save(run)
            last_checkpoint = now
        if main and on_progress:
            on_progress(
                Progress(
                    setting=setting,
                    epoch=epoch + 1,
                    epochs=config.epochs,
                    step=place + 1,
                    steps=plan.steps_per_epoch,
                    train=train,
                    seconds_left=seconds_left,
                    record=record,
                )
            )
        if record and _out_of_patience(task, config, state.history):
            break
        if stop and state.step < plan.steps:
            raise KeyboardInterrupt(f"Stopped in epoch {epoch + 1}; resume {run} to go on.")


def _step(
    task: Task,
    config: TrainingConfig,
    accelerator: Accelerator,
    plan: BatchPlan,
    state: _State,
    batch: Any,
    interrupted: Callable[[], bool],
) -> tuple[dict[str, float], float]:
    """One step of the optimiser; gives sums over the batch's items, and the learning rate."""
    seed_step(config.seed, plan.rank, state.step)
    rate = learning_rate_at(state.step, plan.steps, config)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    mine, everyones = plan.share(state.step)
    with accelerator.autocast():
        loss, metrics = task.loss(state.wrapped, send_to_device(batch, accelerator.device))
    state.optimizer.zero_grad()
    # Processes' gradients are averaged; so weighted, that is the mean over all their items.
    accelerator.backward(loss * (mine * plan.processes / everyones))
    parameters = list(state.wrapped.parameters())
    norm = float(accelerator.clip_grad_norm_(parameters, config.clip_norm or math.inf))

    # One small sum over the processes keeps their figures and their decisions the same.
    values = {"loss": loss, **metrics, "count": 1.0}
    scaled = [
        torch.as_tensor(v, device=accelerator.device).detach() * mine for v in values.values()
    ]
    scaled.append(torch.tensor(float(interrupted()), device=accelerator.device))
    summed = accelerator.reduce(torch.stack([value.float() for value in scaled]), "sum").tolist()
    sums = dict(zip([*values, "interrupted"], summed, strict=True))
    if not math.isfinite(sums["loss"]) or not math.isfinite(norm):
        raise DeepMusicError(
            f"The loss or its gradient is no longer finite (epoch "
            f"{state.step // plan.steps_per_epoch + 1}, step {state.step + 1}): lower the learning "
            f"rate ({config.learning_rate:g}) or look for broken values in the data."
        )
    state.optimizer.step()
    if state.average is not None and config.average_decay:
        update_average(state.average, state.model, decay=config.average_decay, step=state.step)
    return sums, rate


def _validate(task: Task, state: _State, accelerator: Accelerator) -> dict[str, float]:
    """Validate in the main process and tell the others."""
    if accelerator.num_processes > 1:  # running statistics differ: each process saw its own items
        broadcast(dict(state.model.state_dict()))
        broadcast(dict(state.judged.state_dict()))
    measures: list[Any] = [None]
    if accelerator.is_main_process:
        state.judged.eval()
        with torch.no_grad():
            measures[0] = {n: float(v) for n, v in task.validate(state.judged).items()}
        state.wrapped.train()
    broadcast_object_list(measures)
    validation: dict[str, float] = measures[0]
    if not math.isfinite(validation.get(task.monitor, math.nan)):
        raise DeepMusicError(
            f"Validation gives no finite {task.monitor!r} (epoch {len(state.history) + 1}), so the "
            f"best weights cannot be told; it gave {', '.join(validation) or 'nothing'}."
        )
    return validation


def _finish(
    task: Task, config: TrainingConfig, run: Path, accelerator: Accelerator, state: _State
) -> FitResult:
    """Put the best weights into the model, draw the pictures, and sum up."""
    best = _best_epoch(task, state.history)
    if accelerator.is_main_process:
        path = run / "best" / "weights.safetensors"
        weights, _ = load_weights(path)
        fill_model(state.model, weights, source=path)
        draw_history(state.history, run, best_epoch=best)
    if accelerator.num_processes > 1:
        broadcast(dict(state.model.state_dict()))
    task.model.eval()
    accelerator.wait_for_everyone()
    return FitResult(
        run=run,
        best_epoch=best,
        best=state.history[best - 1]["validation"],
        history=state.history,
        stopped_early=len(state.history) < config.epochs,
        setting=describe(accelerator, config),
    )


def _prepare_folder(run: Path, state: _State) -> None:
    for folder in (run, run / "checkpoint", run / "best"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeepMusicError(f"{folder} could not be made: {error.strerror}.") from error
        for leftover in folder.glob(".*.tmp"):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)
    _write_json(run / "config.json", _description(state))
    write_history(run, state.history)  # without the epochs after the checkpoint


def _save_best(run: Path, state: _State, record: dict[str, Any]) -> None:
    metadata = {**_description(state), "epoch": record["epoch"], "validation": record["validation"]}
    save_weights(run / "best" / "weights.safetensors", state.judged.state_dict(), metadata)
    _write_json(run / "best" / "config.json", metadata)


def _description(state: _State) -> dict[str, Any]:
    return {**state.metadata, "training": state.config, "version": __version__}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with write_atomically(path) as file:
        file.write(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _best_epoch(task: Task, history: list[dict[str, Any]]) -> int:
    return best_epoch(history, monitor=task.monitor, higher_is_better=task.higher_is_better)


def _out_of_patience(task: Task, config: TrainingConfig, history: list[dict[str, Any]]) -> bool:
    return config.patience is not None and (
        len(history) - _best_epoch(task, history) >= config.patience
    )
