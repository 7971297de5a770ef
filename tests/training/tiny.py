"""A task small enough to train in a second: two blobs, reported apart with noise and dropout."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate


class Blobs:
    """Points of two classes; each epoch adds other noise to them."""

    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.labels = np.arange(count) % 2
        self.points = (rng.normal(size=(count, 4)) + self.labels[:, None]).astype(np.float32)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, int]:
        epoch, index = key
        noise = np.random.default_rng([self.seed, epoch, index]).normal(size=4)
        return self.points[index] + 0.1 * noise.astype(np.float32), int(self.labels[index])


class TinyTask:
    """A perceptron with a norm, a frozen layer and dropout; random in every way a loss can be."""

    monitor = "accuracy"
    higher_is_better = True
    collate = staticmethod(default_collate)

    def __init__(self, count: int = 22, *, dropout: float = 0.3, norm: bool = True) -> None:
        torch.manual_seed(1)
        self.model: nn.Module = nn.Sequential(
            nn.Linear(4, 8),
            nn.BatchNorm1d(8) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(8, 2),
        )
        self.dataset: Any = Blobs(count)
        self.metadata: Mapping[str, Any] = {"classes": ["a", "b"], "fingerprint": "0123"}
        self.dropout = dropout

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor | float]]:
        points, labels = batch
        if self.dropout:
            points = points * (1 + 0.01 * random.random() + 0.01 * np.random.random())  # noqa: NPY002
        scores = model(points)
        accuracy = (scores.argmax(dim=1) == labels).float().mean()
        return nn.functional.cross_entropy(scores, labels), {"accuracy": accuracy}

    def validate(self, model: nn.Module) -> dict[str, float]:
        held_out = Blobs(40, seed=7)
        assert not model.training
        scores = model(torch.from_numpy(held_out.points).to(next(model.parameters()).device))
        labels = torch.from_numpy(held_out.labels).to(scores.device)
        return {
            "loss": float(nn.functional.cross_entropy(scores, labels)),
            "accuracy": float((scores.argmax(dim=1) == labels).float().mean()),
        }
