"""Hear music and write it with capsule neural networks.

The public names are looked up on first use, so that ``import deepmusic`` stays fast and free of
torch::

    import deepmusic

    verdict = deepmusic.classify("song.mp3")
    print(verdict.genre, verdict.confidence)

    tune = deepmusic.generate("folk", bars=16, seed=7)
    deepmusic.music.write_midi(tune.score, "tune.mid")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepmusic.errors import (
    AudioError,
    CheckpointError,
    DataError,
    DeepMusicError,
    RequestError,
    ScoreError,
    ShapeError,
)
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.hearing.verdict import Verdict
    from deepmusic.pretrained import classify, generate, load, load_composer

__all__ = [
    "AudioError",
    "CheckpointError",
    "DataError",
    "DeepMusicError",
    "RequestError",
    "ScoreError",
    "ShapeError",
    "Verdict",
    "__version__",
    "classify",
    "generate",
    "load",
    "load_composer",
]

_LAZY = {
    "Verdict": "deepmusic.hearing.verdict",
    "classify": "deepmusic.pretrained",
    "generate": "deepmusic.pretrained",
    "load": "deepmusic.pretrained",
    "load_composer": "deepmusic.pretrained",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'deepmusic' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
