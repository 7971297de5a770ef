"""The process around a training: device, threads, random states, determinism, Ctrl-C."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepmusic.errors import DeepMusicError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from deepmusic.training.config import TrainingConfig


def start_accelerator(config: TrainingConfig) -> Accelerator:
    """Accelerate on the chosen device and in the chosen precision.

    Raises:
        DeepMusicError: the device does not exist.
    """
    from accelerate import Accelerator  # imports slowly

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(config.device, True):
        raise DeepMusicError(
            f"There is no {config.device} device for PyTorch here; use device auto or cpu."
        )
    cuda = available["cuda"] and config.device in ("auto", "cuda")
    bf16 = config.precision == "bf16" or (
        config.precision == "auto" and cuda and torch.cuda.is_bf16_supported()
    )
    return Accelerator(
        cpu=config.device == "cpu" or not any(available.values()),
        mixed_precision="bf16" if bf16 else "no",
    )


def describe(accelerator: Accelerator, config: TrainingConfig) -> str:
    """Device, precision, processes and batch size in words."""
    precision = {"no": "float32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    compiled = ", compiled" if config.compiled else ""
    count = accelerator.num_processes
    processes = f" over {count} processes" if count > 1 else ""
    batches = f"batches of {config.batch_size}"
    return f"{accelerator.device.type}, {precision}{compiled}, {batches}{processes}"


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed the generators of Python, numpy and torch for one step of one process.

    No random state lives from one step to the next, so a resumed run needs none.
    """
    mixed = np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0].item()
    random.seed(mixed)
    np.random.seed(mixed % 2**32)  # noqa: NPY002 - a task's loss may use the global generator
    torch.manual_seed(mixed)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Use reproducible algorithms on the CPU; restore settings and random states afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with torch.random.fork_rng(devices=[]):
            if device.type == "cpu":
                torch.use_deterministic_algorithms(True, warn_only=True)
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the main process, which finishes its step and then stops the data worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def torch_in_one_thread() -> Iterator[None]:
    """Let PyTorch compute in one thread: sums are then the same on any number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
