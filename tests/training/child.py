"""Trains the tiny task in a process of its own, to be killed, interrupted or run in parallel."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from tiny import TinyTask

from deepmusic.training import Progress, TrainingConfig, fit, save_weights

# children fork from a process that has imported PyTorch once
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["accelerate", "deepmusic.training.loop", "safetensors.torch"])


def start(
    run: Path, options: dict[str, Any], *, environment: dict[str, str] | None = None, **task: Any
) -> tuple[BaseProcess, Connection]:
    """A process in training, and where to receive ``(epoch, step)`` after each step."""
    reports, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_train, args=(run, options, environment or {}, sender, task))
    process.start()
    sender.close()
    return process, reports


def _train(
    run: Path, options: dict[str, Any], environment: dict[str, str], sender: Any, task: Any
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    pause = task.pop("pause", 0.0)
    tiny = TinyTask(**task)
    rank = os.environ.get("RANK", "0")
    if rank != "0":  # other first weights: the main process's must win
        with torch.no_grad():
            for parameter in tiny.model.parameters():
                parameter.add_(1.0)

    def report(progress: Progress) -> None:
        sender.send((progress.epoch, progress.step))
        time.sleep(pause)

    resume = (run / "checkpoint" / "state.safetensors").exists()
    try:
        fit(tiny, TrainingConfig(**options), run, resume=resume, on_progress=report)
    except KeyboardInterrupt as error:
        sender.send(str(error))
        sys.exit(1)
    save_weights(run.parent / f"{run.name}-{rank}.safetensors", tiny.model.state_dict(), {})
