"""Likelihood on piano rolls: baselines for the composer that treat every pitch on its own.

The unit is nats per step, averaged over all steps of all pieces (the first of each included), as in
Boulanger-Lewandowski et al. (2012); the end of a piece is not scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Rolls = Sequence[NDArray[np.bool_]]


def unigram(train: Rolls, test: Rolls) -> float:
    """Each pitch sounds at its own rate, whatever came before."""
    sounds = np.concatenate(train)
    rate = (sounds.sum(axis=0) + 1) / (len(sounds) + 2)
    return _nats(np.concatenate(test), rate)


def copy_previous(train: Rolls, test: Rolls, *, axis: int | None = None) -> float:
    """A pitch sounds at one rate if it sounded in the step before, at another if not."""
    before, now = _pairs(train)
    on = ((before & now).sum(axis) + 1) / (before.sum(axis) + 2)
    off = ((~before & now).sum(axis) + 1) / ((~before).sum(axis) + 2)
    before, now = _pairs(test)
    return _nats(now, np.where(before, on, off))


def markov(train: Rolls, test: Rolls) -> float:
    """As ``copy_previous``, with two rates for each pitch."""
    return copy_previous(train, test, axis=0)


def uniform(train: Rolls, test: Rolls) -> float:
    """All sets of pitches are equally likely."""
    return float(test[0].shape[1] * math.log(2))


KEY_MODELS: dict[str, Callable[[Rolls, Rolls], float]] = {
    "uniform": uniform,
    "unigram": unigram,
    "copy-previous": copy_previous,
    "markov": markov,
}
"""Name -> nats per step on test rolls ``(steps, keys)`` after learning from training rolls."""


def _pairs(rolls: Rolls) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Every step with the one before it; nothing sounds before the first."""
    silence = np.zeros((1, rolls[0].shape[1]), bool)
    before = np.concatenate([np.concatenate([silence, roll[:-1]]) for roll in rolls])
    return before, np.concatenate(rolls)


def _nats(sounds: NDArray[np.bool_], rate: NDArray[np.floating]) -> float:
    log_probs = np.where(sounds, np.log(rate), np.log1p(-rate))
    return float(-log_probs.sum(axis=1).mean())
