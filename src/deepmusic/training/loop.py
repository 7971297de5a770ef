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
from deepmusic.parallel import graceful_interrupt
from deepmusic.training.batches import BatchPlan
from deepmusic.training.checkpoint import TrainState, best_path, start_run
from deepmusic.training.config import TrainingConfig
from deepmusic.training.optimization import learning_rate_at, update_average
from deepmusic.training.progress import Progress, draw_history
from deepmusic.training.runtime import (
    describe,
    deterministic,
    ignore_interrupts,
    seed_step,
    start_accelerator,
)
from deepmusic.training.task import Task
from deepmusic.training.weights import fill_model, load_weights


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The result of a training.

    Args:
        run: its folder.
        best_epoch: the epoch, from 1, whose weights are in ``best/`` and now in the model.
        best: the validation measures of that epoch.
        history: one record per epoch.
        stopped_early: whether it ran out of patience.
        setting: device, precision, processes and batch size, in words.
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
    state), ``best/`` (``weights.safetensors`` and ``config.json``), ``loss.png`` and, if the task
    reports it, ``accuracy.png``. On the CPU, with the same number of threads, a resumed run ends
    with exactly the weights of an uninterrupted one. Under ``torchrun`` the processes share each
    batch, and only the main one writes.

    Args:
        task: model, data, loss and validation.
        config: the settings.
        run: folder of the run; made if missing.
        resume: continue from the run's checkpoint, instead of starting a new run.
        on_progress: called in the main process after every step.

    Returns:
        The result; ``task.model`` holds the best weights, equal in all processes.

    Raises:
        CheckpointError: there is no checkpoint to resume from, it is damaged or of another
            training, it cannot be written, or a new run would overwrite one.
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
        loop = _Loop(task, state, plan, run, accelerator, on_progress)
        with deterministic(accelerator.device), graceful_interrupt() as interrupted:
            loop.train(interrupted)
        return loop.finish()
    finally:
        # Accelerate keeps device and precision for the process; the next fit may have others
        AcceleratorState._reset_state(reset_partial_state=plan.processes == 1)


class _Loop:
    def __init__(
        self,
        task: Task,
        state: TrainState,
        plan: BatchPlan,
        run: Path,
        accelerator: Accelerator,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._task, self._state, self._plan, self._run = task, state, plan, run
        self._accelerator, self._on_progress = accelerator, on_progress
        self._is_main = accelerator.is_main_process
        self._setting = describe(accelerator, state.config)

    def train(self, interrupted: Callable[[], bool]) -> None:
        """Make the remaining steps."""
        state, plan = self._state, self._plan
        loader: DataLoader[Any] = DataLoader(
            self._task.dataset,  # type: ignore[arg-type]  # keyed by pairs, unlike a Dataset
            batch_sampler=plan.batches(state.step),  # used once
            collate_fn=self._task.collate,
            num_workers=state.config.workers,
            worker_init_fn=ignore_interrupts,
            pin_memory=self._accelerator.device.type == "cuda",
        )
        first, started = state.step, time.monotonic()
        clock = last_checkpoint = started
        state.wrapped.train()
        for batch in () if state.out_of_patience else loader:
            sums, learning_rate = self._step(batch, interrupted())
            stop = sums.pop("interrupted") > 0  # the same in all processes, as all sums are
            state.totals = {name: state.totals.get(name, 0.0) + sums[name] for name in sums}
            count = state.totals["count"]
            train = _finite({n: v / count for n, v in state.totals.items() if n != "count"})
            epoch, index = divmod(state.step, plan.steps_per_epoch)
            state.step += 1
            per_step_s = (time.monotonic() - started) / (state.step - first)
            seconds_left = per_step_s * (plan.steps - state.step)

            record = None
            if index + 1 == plan.steps_per_epoch:
                record = {
                    "epoch": epoch + 1,
                    "train": train,
                    "validation": self._validate(),
                    "learning_rate": learning_rate,
                    "seconds": round(state.seconds + time.monotonic() - clock, 3),
                    "seconds_left": round(seconds_left, 1),
                }
                state.history.append(record)
                state.totals, state.seconds, clock = {}, 0.0, time.monotonic()
            now = time.monotonic()
            state.seconds, clock = state.seconds + now - clock, now
            is_due = now - last_checkpoint >= 60 * state.config.checkpoint_minutes
            if self._is_main and (record or stop or is_due):
                state.save(self._run)
                last_checkpoint = now
            self._report(epoch, index, train, seconds_left, record)
            if record and state.out_of_patience:
                break
            if stop and state.step < plan.steps:
                raise KeyboardInterrupt(
                    f"Stopped in epoch {epoch + 1}; resume {self._run} to continue."
                )

    def _report(
        self,
        epoch: int,
        index: int,
        train: Mapping[str, float],
        seconds_left: float,
        record: dict[str, Any] | None,
    ) -> None:
        if self._is_main and record:
            self._state.save_epoch(self._run)
        if self._is_main and self._on_progress:
            self._on_progress(
                Progress(
                    setting=self._setting,
                    epoch=epoch + 1,
                    epochs=self._plan.epochs,
                    step=index + 1,
                    steps=self._plan.steps_per_epoch,
                    train=train,
                    seconds_left=seconds_left,
                    record=record,
                )
            )

    def _step(self, batch: Any, interrupted: bool) -> tuple[dict[str, float], float]:
        """One step of the optimizer; returns sums over the batch's items, and the learning rate."""
        state, plan, accelerator = self._state, self._plan, self._accelerator
        config, device = state.config, accelerator.device
        seed_step(config.seed, plan.rank, state.step)
        learning_rate = learning_rate_at(state.step, plan.steps, config)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        mine, everyones = plan.share(state.step)
        with accelerator.autocast():
            loss, metrics = self._task.loss(state.wrapped, send_to_device(batch, device))
        state.optimizer.zero_grad()
        # gradients are averaged over processes; with this weight, over all their items
        accelerator.backward(loss * (mine * plan.processes / everyones))
        parameters = list(state.wrapped.parameters())
        norm = float(accelerator.clip_grad_norm_(parameters, config.clip_norm or math.inf))

        # one small sum over the processes keeps their figures and decisions the same
        values = {"loss": loss, **metrics, "count": 1.0}
        scaled = [torch.as_tensor(v, device=device).detach() * mine for v in values.values()]
        scaled.append(torch.tensor(float(interrupted), device=device))
        stacked = torch.stack([value.float() for value in scaled])
        summed = accelerator.reduce(stacked, "sum").tolist()
        sums = dict(zip([*values, "interrupted"], summed, strict=True))
        if not math.isfinite(sums["loss"]) or not math.isfinite(norm):
            raise DeepMusicError(
                f"The loss or its gradient is no longer finite (epoch "
                f"{state.step // plan.steps_per_epoch + 1}, step {state.step + 1}): lower the "
                f"learning rate ({config.learning_rate:g}) or look for broken values in the data."
            )
        state.optimizer.step()
        if state.average is not None and config.ema_decay:
            update_average(state.average, state.model, decay=config.ema_decay, step=state.step)
        return sums, learning_rate

    def _validate(self) -> dict[str, float]:
        """Validate in the main process, and give the others its measures."""
        state, task = self._state, self._task
        if self._accelerator.num_processes > 1:  # running statistics differ between processes
            broadcast(dict(state.model.state_dict()))
            broadcast(dict(state.validated.state_dict()))
        measures: list[Any] = [None]
        if self._is_main:
            state.validated.eval()
            with torch.no_grad():
                measures[0] = _finite(task.validate(state.validated))
            state.wrapped.train()
        broadcast_object_list(measures)
        validation: dict[str, float] = measures[0]
        if task.monitor not in validation:
            raise DeepMusicError(
                f"Validation gives no finite {task.monitor!r} (epoch {len(state.history) + 1}), "
                f"which chooses the best weights; it gave {', '.join(validation) or 'nothing'}."
            )
        return validation

    def finish(self) -> FitResult:
        """Put the best weights into the model, plot the history, and sum up."""
        state, run, accelerator = self._state, self._run, self._accelerator
        best = state.best_epoch
        if self._is_main:
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
            setting=self._setting,
        )


def _finite(measures: Mapping[str, float]) -> dict[str, float]:
    """The measures that have a value; JSON has no others."""
    return {name: float(v) for name, v in measures.items() if math.isfinite(v)}
