"""The composer's likelihood of the usual data sets, with published figures beside it.

The unit is nats per step, as in ``deepmusic.studies.piano_rolls``. On the piano rolls there is
one style, one part and no bars; the chorales on sixteenths have their four voices as parts, bars of
sixteen steps counted from the first (upbeats shift the true ones), and their own keys, transposed
at random in training.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from deepmusic.composer import ComposerConfig, ComposerNetwork, ComposerTask, likelihood
from deepmusic.composer.encoding import StyledPiece, encode
from deepmusic.composer.likelihood import poses_before
from deepmusic.datasets import SymbolicDataset
from deepmusic.training import Progress, TrainingConfig, fit

SETS = ("jsb", "nottingham", "musedata", "piano-midi")
CHORALES = "chorales"

PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "RNN-NADE, Hessian-free (2012)": (5.56, 2.31, 5.60, 7.05),
    "GRU, independent keys (2014)": (8.54, 3.23, 5.99, 8.82),
    "TCN, independent keys (2018)": (8.10, 3.07, None, None),
}
"""Test nats per step on ``SETS``, exact ones only: Boulanger-Lewandowski et al. 2012, Chung et
al. 2014, Bai et al. 2018."""

PUBLISHED_CHORALES = {
    "Coconet, chronological (2018)": 0.436,
    "Music Transformer, relative attention (2018)": 0.335,
}
"""Validation nats per token, a voice in a sixteenth, from Huang et al. 2018."""


class _Settings(NamedTuple):
    """How a set is trained; the fewer the data, the more dropout."""

    epochs: int
    dropout: float
    input_dropout: float = 0.0
    batch_size: int = 16
    ema_decay: float = 0.99


_SETTINGS = {
    "jsb": _Settings(90, 0.5, 0.2),
    "nottingham": _Settings(16, 0.3),
    "musedata": _Settings(10, 0.3),
    "piano-midi": _Settings(24, 0.4, 0.1),
    # small batches for many steps: transposed at random, few pieces are many
    CHORALES: _Settings(80, 0.2, batch_size=4, ema_decay=0.998),
}
_HOP = 16  # steps between updates of the capsule memory
_MAX_SHIFT = 6  # semitones


def measure_composer(
    dataset: SymbolicDataset,
    seed: int,
    *,
    capsules: bool,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train a composer on a set and score its validation and test pieces.

    Args:
        dataset: one of ``SETS`` or the chorales, by its name.
        seed: of weights and excerpts.
        capsules: whether a capsule memory of the past conditions the decoder.
        on_progress: called after every step.

    Returns:
        ``validation`` and ``test`` nats per step, with capsules also without a pose; epochs;
        parameters.
    """
    name = dataset.name
    chosen = _SETTINGS[name]
    config = _config(name, chosen, capsules=capsules)
    sides = {
        # the length of a piece is not known before its end
        side: [
            StyledPiece(encode(config, piece.grid, has_end=False), 0)
            for piece in getattr(dataset, side)
        ]
        for side in ("train", "validation", "test")
    }
    shift = _MAX_SHIFT if name == CHORALES else 0
    task = ComposerTask(config, sides["train"], sides["validation"], seed=seed, shift=shift)
    training = TrainingConfig(
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        learning_rate=2e-3,
        weight_decay=0.01,
        warmup=0.02,
        ema_decay=chosen.ema_decay,
        patience=max(chosen.epochs // 4, 3),
        seed=seed,
        device="cpu",
    )
    with tempfile.TemporaryDirectory() as run:
        history = fit(task, training, Path(run), on_progress=on_progress)
    model = task.model.eval()
    assert isinstance(model, ComposerNetwork)
    figures: dict[str, Any] = {}
    for side in ("validation", "test"):
        figures[side] = likelihood(model, sides[side]).of(None)
        if capsules:
            figures[f"{side}_without_pose"] = figures[side]
            poses = [poses_before(model, piece, hop=_HOP) for piece, _ in sides[side]]
            figures[side] = likelihood(model, sides[side], poses=poses).of(None)
    return {
        **figures,
        "epochs": len(history),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _config(name: str, chosen: _Settings, *, capsules: bool) -> ComposerConfig:
    is_chorales = name == CHORALES
    return ComposerConfig(
        styles=(name,),
        parts=4 if is_chorales else 1,
        # room to transpose the chorales by half an octave either way
        lowest=30 if is_chorales else 21,
        pitches=58 if is_chorales else 88,
        has_onsets=False,
        has_bars=is_chorales,
        steps_per_beat=4,
        frame_dim=128,
        hidden=256,
        head=192,
        dropout=chosen.dropout,
        input_dropout=chosen.input_dropout,
        capsules=capsules,
        passage_steps=64,
    )
