"""A server on this machine that tests of downloads talk to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from http_server import Remote, serving

from deepmusic.datasets import download


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """A server that is reached without a proxy and tried three times without waits."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "WAIT_S", 0.0)
    monkeypatch.setattr(download, "TRIES", 3)
    with serving(Remote()) as remote:
        yield remote


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
