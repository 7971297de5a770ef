"""An ear with random weights in the cache, for tests where the real one need not be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from deepmusic.classifier.ear import ear_path, has_ear, install, read_ear
from deepmusic.classifier.ear.network import Ear

needs_ear = pytest.mark.skipif(
    not has_ear(), reason="the pretrained ear is not installed here (deepmusic ear install)"
)


@pytest.fixture
def stand_in_ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of an ear that hears something, if nothing that makes sense."""
    torch.manual_seed(0)
    ear = Ear()
    with torch.no_grad():
        for _ in range(3):  # statistics of its norms
            ear(3 * torch.rand(4, 187, 96))
    state = {name: tensor.numpy() for name, tensor in ear.state_dict().items()}
    weights = {name: array for name, array in state.items() if array.dtype == np.float32}
    monkeypatch.setenv("DEEPMUSIC_CACHE", str(tmp_path / "ear-cache"))
    monkeypatch.setattr(install, "_WEIGHTS_SHA256", install._digest(weights))
    ear_path().parent.mkdir(parents=True)
    ear_path().write_bytes(save(weights))
    read_ear.cache_clear()
    yield ear_path()
    read_ear.cache_clear()
