"""Halving the rate of sound by a filter that is short because little of the sound is wanted.

A half-band filter passes what it stops mirrored at a quarter of the rate, and every second of its
weights is zero (Crochiere and Rabiner, 1983). The lower the sound that is listened to, the fewer
weights are needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepmusic.features.compiled import compiled
from deepmusic.features.lanes import FLOATS, load, store

_STOPPED_DB = 120.0

Samples = NDArray[np.float32]


class HalfBand:
    """Sound at half its rate, keeping its energy: amplitudes grow by the root of two.

    Args:
        highest: up to where nothing may change, as a share of half the new rate, below 1. What
            would be folded onto it is 120 dB lower.
    """

    def __init__(self, highest: float) -> None:
        self._weights = _weights(highest)
        self._waiting = np.zeros(2 * len(self._weights), np.float32)  # before the beginning

    def push(self, samples: Samples, *, is_last: bool) -> Samples:
        """Take ``(n,)`` more samples; those of half the rate that are complete with them."""
        reach = len(self._weights)
        parts = [self._waiting, samples]
        if is_last:
            parts.append(np.zeros(2 * reach - 1, np.float32))
        sound = np.concatenate(parts)
        count = max(0, (len(sound) - 4 * reach) // 2 + 1)
        self._waiting = sound[2 * count :]
        found = np.empty(count + -count % FLOATS, np.float32)
        used = sound[: 2 * (count + 2 * reach)]
        even, odd = np.empty((2, len(found) + 2 * reach), np.float32)
        for part, half in ((even, used[::2]), (odd, used[1::2])):
            part[: len(half)], part[len(half) :] = half, 0
        _halved(even, odd, self._weights, found)
        return found[:count]


def _weights(highest: float) -> Samples:
    """Weights of the samples 1, 3, 5, ... before and after the middle one."""
    # Kaiser, 1974: how long a window must be, and its shape
    order = (_STOPPED_DB - 7.95) / (2.285 * np.pi * (1 - highest))
    count = int(np.ceil((order + 2) / 4))
    away = np.arange(1, 2 * count, 2)
    window = np.i0(0.1102 * (_STOPPED_DB - 8.7) * np.sqrt(1 - (away / (2 * count)) ** 2))
    weights = np.sin(np.pi * away / 2) / away * window
    return np.asarray(weights * (np.sqrt(2) / 4 / weights.sum()), np.float32)


@compiled
def _halved(even: Samples, odd: Samples, weights: Samples, found: Samples) -> None:
    middle, reach = np.float32(np.sqrt(0.5)), len(weights)
    for place in range(0, len(found), FLOATS):
        total = load(even, place + reach) * middle
        for number in range(reach):
            before = load(odd, place + reach - 1 - number)
            after = load(odd, place + reach + number)
            total = total + (before + after) * weights[number]
        store(found, place, total)
