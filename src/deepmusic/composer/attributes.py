"""Musical attributes of a passage, which the poses of style capsules are trained to predict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.config import ComposerConfig

ATTRIBUTES = ("density", "pitch", "polyphony", "length", "offbeat")
"""Onsets per beat, mean MIDI pitch of these, pitches that sound at once where any does, mean
duration in steps, share of onsets off the beat."""


def measure_attributes(config: ComposerConfig, frames: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The ``ATTRIBUTES`` of a passage ``(t, 2 * e)``; zeros where it is silent."""
    sounding, onsets = frames[:, 0::2], frames[:, 1::2]
    audible = np.flatnonzero(sounding.any(axis=1))
    step, element = np.nonzero(onsets)
    if not len(audible) or not len(step):
        return np.zeros(len(ATTRIBUTES))
    beat = config.steps_per_beat
    return np.array(
        [
            len(step) / ((audible[-1] + 1 - audible[0]) / beat),
            config.lowest + (element % config.pitches).mean(),
            sounding.sum() / len(audible),
            sounding.sum() / len(step),
            (step % beat != 0).mean(),
        ]
    )
