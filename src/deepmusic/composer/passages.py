"""Passages for the capsules to hear, and what can be measured of their manner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import Encoded

MANNER = ("density", "pitch", "polyphony", "length", "offbeat")
"""Properties that a pose is asked to tell: notes struck a beat, mean MIDI pitch of these, keys that
sound at once where any does, steps for which notes sound, share of notes struck beside beats."""


def passage(piece: Encoded, start: int) -> NDArray[np.bool_]:
    """What a passage sounds like, ``(passage_steps, 2 * e)``, as frames are in ``Excerpt.before``.

    Args:
        piece: the music.
        start: the first step; steps outside the piece are silent.
    """
    sounding, struck = piece.frames(start, start + piece.config.passage_steps)
    return np.stack([sounding, struck], axis=2).reshape(len(sounding), -1)


def passage_starts(piece: Encoded) -> NDArray[np.int64]:
    """Where passages begin that follow one another through a piece, the last maybe shorter."""
    return np.arange(0, max(len(piece), 1), piece.config.passage_steps)


def passages_of(piece: Encoded) -> NDArray[np.bool_]:
    """The passages that follow one another through a piece, ``(n, passage_steps, 2 * e)``."""
    return np.stack([passage(piece, int(start)) for start in passage_starts(piece)])


def manner(config: ComposerConfig, frames: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The properties in :data:`MANNER` of a passage ``(t, 2 * e)``; zeros where it is silent."""
    sounding, struck = frames[:, 0::2], frames[:, 1::2]
    heard = np.flatnonzero(sounding.any(axis=1))
    step, element = np.nonzero(struck)
    if not len(heard) or not len(step):
        return np.zeros(len(MANNER))
    steps = heard[-1] + 1 - heard[0]
    beat = config.steps_per_beat
    return np.array(
        [
            len(step) / (steps / beat),
            config.lowest + (element % config.keys).mean(),
            sounding.sum() / len(heard),
            sounding.sum() / len(step),
            (step % beat != 0).mean(),
        ]
    )
