"""Which items each process sees in each step, as a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The whole run's batches, for one of its processes.

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
