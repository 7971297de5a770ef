"""Hear music and write it with capsule neural networks.

The public names are looked up on first use, so that ``import deepmusic`` stays fast and free of
torch::

    import deepmusic

    verdict = deepmusic.classify("song.mp3")
    print(verdict.genre, verdict.confidence)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepmusic.errors import (
    AudioError,
    CheckpointError,
    DataError,
    DeepMusicError,
    ScoreError,
    ShapeError,
)
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.hearing.verdict import Verdict
    from deepmusic.pretrained import classify, load

__all__ = [
    "AudioError",
    "CheckpointError",
    "DataError",
    "DeepMusicError",
    "ScoreError",
    "ShapeError",
    "Verdict",
    "__version__",
    "classify",
    "load",
]

_LAZY = {
    "Verdict": "deepmusic.hearing.verdict",
    "classify": "deepmusic.pretrained",
    "load": "deepmusic.pretrained",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'deepmusic' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
