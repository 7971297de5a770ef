"""Computing in one thread, where steps are too small to be shared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_in_one_thread() -> Iterator[None]:
    """Let PyTorch compute in one thread: sums are then the same on any number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
