"""The training loop: a plain loop over steps, on one process or several, that can be resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, broadcast_object_list, send_to_device
from torch.utils.data import DataLoader

from deepmusic.errors import DataError, DeepMusicError
from deepmusic.training.batches import BatchPlan
from deepmusic.training.checkpoints import fill_model, load_weights
from deepmusic.training.config import TrainingConfig
from deepmusic.training.optimization import learning_rate_at, update_average
from deepmusic.training.pictures import draw_history
from deepmusic.training.run import RunState, best_path, start_run
from deepmusic.training.surroundings import (
    describe,
    deterministic,
    ignore_interrupts,
    interrupts_noted,
    seed_step,
    start_accelerator,
)
from deepmusic.training.task import Task


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
    if len(task.dataset) < 1:
        raise DataError("There is nothing to train on: the training set is empty.")
    accelerator = start_accelerator(config)
    plan = BatchPlan(
        items=len(task.dataset),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        processes=accelerator.num_processes,
        rank=accelerator.process_index,
    )
    try:
        state = start_run(task, config, run, accelerator, resume=resume)
        with deterministic(accelerator.device), interrupts_noted() as interrupted:
            _train(task, state, plan, run, accelerator, interrupted, on_progress)
        return _finish(state, run, accelerator)
    finally:
        # Accelerate keeps device and precision for the process; the next fit may have others.
        AcceleratorState._reset_state(reset_partial_state=plan.processes == 1)


def _train(
    task: Task,
    state: RunState,
    plan: BatchPlan,
    run: Path,
    accelerator: Accelerator,
    interrupted: Callable[[], bool],
    on_progress: Callable[[Progress], None] | None,
) -> None:
    """Make the steps that are left."""
    config, main = state.config, accelerator.is_main_process
    setting = describe(accelerator, config)
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
    for batch in () if state.out_of_patience else loader:
        sums, rate = _step(task, state, plan, batch, accelerator, interrupted())
        stop = sums.pop("interrupted") > 0  # the same in all processes, as all sums are
        state.totals = {name: state.totals.get(name, 0.0) + sums[name] for name in sums}
        count = state.totals["count"]
        train = _finite({n: v / count for n, v in state.totals.items() if n != "count"})
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
        now = time.monotonic()
        state.seconds, clock = state.seconds + now - clock, now
        if main and (record or stop or now - last_checkpoint >= 60 * config.checkpoint_minutes):
            state.save(run)
            last_checkpoint = now
        if main and record:
            state.save_epoch(run)
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
        if record and state.out_of_patience:
            break
        if stop and state.step < plan.steps:
            raise KeyboardInterrupt(f"Stopped in epoch {epoch + 1}; resume {run} to go on.")


def _step(
    task: Task,
    state: RunState,
    plan: BatchPlan,
    batch: Any,
    accelerator: Accelerator,
    interrupted: bool,
) -> tuple[dict[str, float], float]:
    """One step of the optimiser; gives sums over the batch's items, and the learning rate."""
    config = state.config
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
    scaled.append(torch.tensor(float(interrupted), device=accelerator.device))
    summed = accelerator.reduce(torch.stack([value.float() for value in scaled]), "sum").tolist()
    sums = dict(zip([*values, "interrupted"], summed, strict=True))
    if not math.isfinite(sums["loss"]) or not math.isfinite(norm):
        raise DeepMusicError(
            f"The loss or its gradient is no longer finite (epoch "
            f"{state.step // plan.steps_per_epoch + 1}, step {state.step + 1}): lower the learning "
            f"rate ({config.learning_rate:g}) or look for broken values in the data."
        )
    state.optimizer.step()
    if state.average is not None and config.ema_decay:
        update_average(state.average, state.model, decay=config.ema_decay, step=state.step)
    return sums, rate


def _validate(task: Task, state: RunState, accelerator: Accelerator) -> dict[str, float]:
    """Validate in the main process and tell the others."""
    if accelerator.num_processes > 1:  # running statistics differ: each process saw its own items
        broadcast(dict(state.model.state_dict()))
        broadcast(dict(state.judged.state_dict()))
    measures: list[Any] = [None]
    if accelerator.is_main_process:
        state.judged.eval()
        with torch.no_grad():
            measures[0] = _finite(task.validate(state.judged))
        state.wrapped.train()
    broadcast_object_list(measures)
    validation: dict[str, float] = measures[0]
    if task.monitor not in validation:
        raise DeepMusicError(
            f"Validation gives no finite {task.monitor!r} (epoch {len(state.history) + 1}), so the "
            f"best weights cannot be told; it gave {', '.join(validation) or 'nothing'}."
        )
    return validation


def _finite(measures: Mapping[str, float]) -> dict[str, float]:
    """The measures that have a value; JSON knows no other."""
    return {name: float(v) for name, v in measures.items() if math.isfinite(v)}


def _finish(state: RunState, run: Path, accelerator: Accelerator) -> FitResult:
    """Put the best weights into the model, draw the pictures, and sum up."""
    best = state.best_epoch
    if accelerator.is_main_process:
        weights, _ = load_weights(best_path(run))
        fill_model(state.model, weights, source=best_path(run))
        draw_history(state.history, run, best_epoch=best)
    if accelerator.num_processes > 1:
        broadcast(dict(state.model.state_dict()))
    accelerator.unwrap_model(state.wrapped, keep_fp32_wrapper=False).eval()
    state.model._compiled_call_impl = None  # so that it can be copied and pickled again
    accelerator.wait_for_everyone()
    return FitResult(
        run=run,
        best_epoch=best,
        best=state.history[best - 1]["validation"],
        history=state.history,
        stopped_early=len(state.history) < state.config.epochs,
        setting=describe(accelerator, state.config),
    )
