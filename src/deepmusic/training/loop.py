"""The training loop: a plain loop over steps, on one process or several, that can be resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
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
from deepmusic.training.checkpoint import TrainState, best_path, start_run
from deepmusic.training.config import Task, TrainingConfig
from deepmusic.training.progress import Progress, draw_history
from deepmusic.training.runtime import (
    describe,
    deterministic,
    ignore_interrupts,
    seed_step,
    start_accelerator,
)
from deepmusic.training.weights import fill_model, load_weights


def fit(
    task: Task,
    config: TrainingConfig,
    run: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[dict[str, Any]]:
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
        The history, one record per epoch; ``task.model`` holds the weights of the best epoch, equal
        in all processes.

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
        loop.finish()
        return state.history
    finally:
        # Accelerate keeps device and precision for the process; the next fit may have others
        AcceleratorState._reset_state(reset_partial_state=plan.processes == 1)


@dataclass(frozen=True)
class _Loop:
    task: Task
    state: TrainState
    plan: BatchPlan
    run: Path
    accelerator: Accelerator
    on_progress: Callable[[Progress], None] | None

    def train(self, interrupted: Callable[[], bool]) -> None:
        """Make the remaining steps."""
        state, plan, is_main = self.state, self.plan, self.accelerator.is_main_process
        setting = describe(self.accelerator, state.config)
        loader: DataLoader[Any] = DataLoader(
            self.task.dataset,  # type: ignore[arg-type]  # keyed by pairs, unlike a Dataset
            batch_sampler=plan.batches(state.step),  # used once
            collate_fn=self.task.collate,
            num_workers=state.config.workers,
            worker_init_fn=ignore_interrupts,
            pin_memory=self.accelerator.device.type == "cuda",
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
                measured = self._validate()
                like_validation = {n[6:]: v for n, v in measured.items() if n.startswith("train_")}
                record = {
                    "epoch": epoch + 1,
                    "train": {**train, "objective": train["loss"], **like_validation},
                    "validation": {n: v for n, v in measured.items() if n[:6] != "train_"},
                    "learning_rate": learning_rate,
                    "seconds": round(state.seconds + time.monotonic() - clock, 3),
                    "seconds_left": round(seconds_left, 1),
                }
                state.history.append(record)
                state.totals, state.seconds, clock = {}, 0.0, time.monotonic()
            now = time.monotonic()
            state.seconds, clock = state.seconds + now - clock, now
            is_due = now - last_checkpoint >= 60 * state.config.checkpoint_minutes
            if is_main and (record or stop or is_due):
                state.save(self.run)
                last_checkpoint = now
            if is_main and record:
                state.save_epoch(self.run)
            if is_main and self.on_progress:
                position = (epoch + 1, plan.epochs, index + 1, plan.steps_per_epoch)
                self.on_progress(Progress(setting, *position, train, seconds_left, record))
            if record and state.out_of_patience:
                break
            if stop and state.step < plan.steps:
                raise KeyboardInterrupt(
                    f"Stopped in epoch {epoch + 1}; resume {self.run} to continue."
                )

    def _step(self, batch: Any, interrupted: bool) -> tuple[dict[str, float], float]:
        """One step of the optimizer; returns sums over the batch's items, and the learning rate."""
        state, plan, accelerator = self.state, self.plan, self.accelerator
        config, device = state.config, accelerator.device
        seed_step(config.seed, plan.rank, state.step)
        learning_rate = config.learning_rate_at(state.step, plan.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        mine, everyones = plan.share(state.step)
        with accelerator.autocast():
            loss, metrics = self.task.loss(state.wrapped, send_to_device(batch, device))
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
        state.update_average()
        return sums, learning_rate

    def _validate(self) -> dict[str, float]:
        """Validate in the main process, and give the others its measures."""
        state, task = self.state, self.task
        if self.accelerator.num_processes > 1:  # running statistics differ between processes
            broadcast(dict(task.model.state_dict()))
            broadcast(dict(state.validated.state_dict()))
        measures: list[Any] = [None]
        if self.accelerator.is_main_process:
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

    def finish(self) -> None:
        """Put the best weights into the model, and plot the history."""
        state, model, accelerator = self.state, self.task.model, self.accelerator
        if accelerator.is_main_process:
            path = best_path(self.run)
            fill_model(model, load_weights(path)[0], source=path)
            draw_history(state.history, self.run, best_epoch=state.best_epoch)
        if accelerator.num_processes > 1:
            broadcast(dict(model.state_dict()))
        accelerator.unwrap_model(state.wrapped, keep_fp32_wrapper=False).eval()
        model._compiled_call_impl = None  # so that it can be copied and pickled again
        accelerator.wait_for_everyone()


def _finite(measures: Mapping[str, float]) -> dict[str, float]:
    """The measures that have a value; JSON has no others."""
    return {name: float(v) for name, v in measures.items() if math.isfinite(v)}


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Which items one process sees in each step, as a pure function of the seed and the step.

    An epoch is cut into batches of nearly equal size instead of full ones and a remainder: a batch
    of one item would make a noisy step, and batch normalisation refuses it.

    Args:
        items: number of items in the data set.
        batch_size: the most items in a step, over all processes.
        epochs: passes over the data.
        seed: of the order of items.
        processes: number of processes.
        rank: which of them this is, from 0.
    """

    items: int
    batch_size: int
    epochs: int
    seed: int
    processes: int = 1
    rank: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch."""
        return -(-self.items // self.batch_size)

    @property
    def steps(self) -> int:
        """Steps in the whole run."""
        return self.epochs * self.steps_per_epoch

    def batches(self, start: int) -> Iterator[list[tuple[int, int]]]:
        """This process's ``(epoch, index)`` keys for each step from ``start`` to the end."""
        order: list[list[int]] = []
        for step in range(start, self.steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if position == 0 or not order:
                order = self._order(epoch)
            # a process without an item must take part in the step, with weight zero
            mine = order[position][self._mine(len(order[position]))] or order[position][:1]
            yield [(epoch, index) for index in mine]

    def share(self, step: int) -> tuple[int, int]:
        """Items of this process that count in a step, and those of all processes."""
        position = step % self.steps_per_epoch
        size = self.items // self.steps_per_epoch
        total = size + (position < self.items % self.steps_per_epoch)
        mine = self._mine(total)
        return mine.stop - mine.start, total

    def _order(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
        shuffled = torch.randperm(self.items, generator=generator)
        return [part.tolist() for part in shuffled.tensor_split(self.steps_per_epoch)]

    def _mine(self, total: int) -> slice:
        return slice(self.rank * total // self.processes, (self.rank + 1) * total // self.processes)


def _mix(seed: int, epoch: int) -> int:
    # unlike seed + epoch, neighbouring seeds share no epoch
    return (seed * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03) % 2**63
