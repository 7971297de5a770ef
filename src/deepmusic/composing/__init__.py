"""Composing: capsules that listen, a decoder that writes, and what is asked of them.

The public names are looked up on first use: what asks and what judges does without PyTorch.

::

    composer = Composer.load("runs/mine")
    tune = composer.compose(Request(style={"folk": 1}, bars=16, seed=7))
    write_midi(tune.score, "tune.mid")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepmusic.lazy import lazy_names

if TYPE_CHECKING:
    from deepmusic.composing.composer import Composer, Tune
    from deepmusic.composing.config import ComposerConfig
    from deepmusic.composing.copying import (
        CopyIndex,
        CopyReport,
        HumanReference,
        Originals,
        copy_report,
        human_reference,
        longest_shared_run,
    )
    from deepmusic.composing.judge import Judge
    from deepmusic.composing.model import ComposerNetwork
    from deepmusic.composing.note_sets import NoteSetHead, spelled
    from deepmusic.composing.request import Request
    from deepmusic.composing.task import ComposerTask, likelihood
    from deepmusic.composing.training import TrainedComposer, train_composer

__all__ = [
    "Composer",
    "ComposerConfig",
    "ComposerNetwork",
    "ComposerTask",
    "CopyIndex",
    "CopyReport",
    "HumanReference",
    "Judge",
    "NoteSetHead",
    "Originals",
    "Request",
    "TrainedComposer",
    "Tune",
    "copy_report",
    "human_reference",
    "likelihood",
    "longest_shared_run",
    "spelled",
    "train_composer",
]

_MODULES = {
    "composer": ("Composer", "Tune"),
    "config": ("ComposerConfig",),
    "copying": (
        "CopyIndex",
        "CopyReport",
        "HumanReference",
        "Originals",
        "copy_report",
        "human_reference",
        "longest_shared_run",
    ),
    "judge": ("Judge",),
    "model": ("ComposerNetwork",),
    "note_sets": ("NoteSetHead", "spelled"),
    "request": ("Request",),
    "task": ("ComposerTask", "likelihood"),
    "training": ("TrainedComposer", "train_composer"),
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _MODULES)
