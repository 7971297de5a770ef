"""An ear with random weights in the cache, for tests where the real one need not be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from deepmusic.classifier.ear import ear_path, has_ear, install
from deepmusic.classifier.ear.network import Ear
from deepmusic.pretrained import _loaded

needs_ear = pytest.mark.skipif(
    not has_ear(), reason="the pretrained ear is not installed here (deepmusic ear install)"
)


@lru_cache(maxsize=1)
def stand_in_weights() -> dict[str, np.ndarray]:
    """An ear that hears something, if nothing that makes sense."""
    torch.manual_seed(0)
    ear = Ear()
    with torch.no_grad():
        for _ in range(3):  # statistics of its norms
            ear(3 * torch.rand(4, 187, 96))
    state = {name: tensor.numpy() for name, tensor in ear.state_dict().items()}
    return {name: array for name, array in state.items() if array.dtype == np.float32}


@contextmanager
def cache_in(folder: Path, patch: pytest.MonkeyPatch, *, with_ear: bool) -> Iterator[Path]:
    """The file where the ear is looked for, in a new cache, with the stand-in or without."""
    weights = stand_in_weights()
    patch.setenv("DEEPMUSIC_CACHE", str(folder))
    patch.setattr(install, "_WEIGHTS_SHA256", install._digest(weights))
    if with_ear:
        ear_path().parent.mkdir(parents=True)
        ear_path().write_bytes(save(weights))
    _loaded.cache_clear()
    yield ear_path()
    _loaded.cache_clear()


@pytest.fixture
def stand_in_ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of an ear with random weights, taken for the real one."""
    with cache_in(tmp_path / "ear-cache", monkeypatch, with_ear=True) as path:
        yield path


@pytest.fixture
def no_ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the ear is looked for, in vain."""
    with cache_in(tmp_path / "ear-cache", monkeypatch, with_ear=False) as path:
        yield path
