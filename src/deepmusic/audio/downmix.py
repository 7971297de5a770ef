"""The mix of channels to mono: their mean, unless they cancel in it.

Where one of two channels is inverted, their mean is next to nothing, or what is left of
reverberation and noise. The covariance of the last few seconds shows it; such a channel is then
inverted back, or left out where only its lower tones are inverted. Ordinary stereo, and also wide
stereo, whose channels are as good as independent, keeps its mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.silence import SILENCE

_CANCELS = -0.5  # twice the covariance of two channels by their energy; 0 if independent
_MEMORY = 0.7  # weight of what was a second ago
_FADE_S = 0.02  # of a change, so that it does not click
_TINY = np.finfo(np.float32).tiny
Floats = NDArray[np.floating]


class Downmix:
    """Mixes blocks of one recording to mono.

    Attributes:
        cancelled_s: seconds of audible sound in which a channel was inverted or left out.
        left_out: whether one was left out.
    """

    def __init__(self) -> None:
        self.cancelled_s = 0.0
        self.left_out = False
        self._energy = self._energy_of_mean = 0.0
        self._is_first = True
        self._reset(0)

    @property
    def mono_share(self) -> float:
        """Energy of the mean of the channels by their mean energy: 1 if equal, 0 if they cancel."""
        return self._energy_of_mean / self._energy if self._energy else 1.0

    def mix(self, block: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        """Mono ``(n,)`` of a block ``(n, channels)`` at a rate in Hz."""
        if block.shape[1] == 1:
            return np.ascontiguousarray(block[:, 0])
        if block.shape[1] != len(self._signs):
            self._reset(block.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            mean = _product(block, np.ones(block.shape[1]))
            # by the second, whatever the size of the blocks
            spans = [slice(start, start + rate) for start in range(0, len(block), rate)]
            signs = [self._signs, *(self._next_signs(block[s], mean[s], rate) for s in spans)]
            if self._is_first and spans:  # it begins as it goes on
                signs[0], self._is_first = signs[1], False
            if all((one == 1).all() for one in signs):
                return mean
            return np.concatenate(
                [
                    _faded(block[span], before, after, rate)
                    for span, before, after in zip(spans, signs[:-1], signs[1:], strict=True)
                ]
            )

    def _reset(self, channels: int) -> None:
        self._signs: Floats = np.ones(channels)
        self._covariance: Floats = np.zeros((channels, channels))
        self._of_treble: Floats = np.zeros((channels, channels))  # where it was needed

    def _next_signs(
        self, part: NDArray[np.float32], mean: NDArray[np.float32], rate: int
    ) -> Floats:
        """1, -1 or 0 for each channel, from this part on, ``(channels,)``."""
        length, channels = part.shape
        flat = part.ravel("K")
        energy, of_mean, sum_of_mean = float(flat @ flat), float(mean @ mean), float(mean.sum())
        if not np.isfinite([energy, of_mean, sum_of_mean]).all():
            return self._signs
        self._energy += energy / channels
        self._energy_of_mean += of_mean
        memory = _MEMORY ** (length / rate)
        self._covariance *= memory
        is_mean = bool((self._signs == 1).all())
        # most parts of most recordings: the mean has what two independent channels leave, or more
        if channels == 2 and is_mean and of_mean - sum_of_mean**2 / length > energy / 4:
            self._covariance += np.eye(2) * energy / 2
            return self._signs
        by_channel = np.ascontiguousarray(part.T)
        # without the offset: those of two channels may be opposite
        sums = (by_channel @ np.ones(length, np.float32)).astype(np.float64)
        self._covariance += _products(by_channel) - np.outer(sums, sums) / length
        relation = _relation(self._covariance)
        if is_mean and relation.min() > _CANCELS:
            return self._signs
        self._of_treble = memory * self._of_treble + _products(np.diff(by_channel))
        self._signs = _signs(relation, _relation(self._of_treble), self._signs)
        loud = energy - float(sums @ sums) / length > SILENCE * channels * length
        if loud and (self._signs != 1).any():
            self.cancelled_s += length / rate
            self.left_out |= bool((self._signs == 0).any())
        return self._signs


def _products(by_channel: NDArray[np.float32]) -> Floats:
    """``(channels, channels)`` of ``(channels, n)``; row by row is faster than one product."""
    return np.array([by_channel @ row for row in by_channel], np.float64)


def _relation(covariance: Floats) -> Floats:
    """For each pair of channels twice their covariance by their energy: -1 if they cancel."""
    energy = np.diag(covariance)
    # pairs that are much weaker than the whole do not matter
    relation: Floats = 2 * covariance / (energy[:, None] + energy + 0.01 * energy.sum() + _TINY)
    return relation


def _signs(relation: Floats, of_treble: Floats, before: Floats) -> Floats:
    """The sign of each channel: the first is never changed, the others are compared with those."""
    signs = np.ones(len(relation))
    for channel in range(1, len(signs)):
        related = relation[channel, :channel] * signs[:channel]
        other = int(np.abs(related).argmax())
        if related[other] < (_CANCELS if before[channel] == 1 else 0):
            is_whole = of_treble[channel, other] * signs[other] < 0
            signs[channel] = -1 if is_whole else 0
    return signs


def _product(block: NDArray[np.float32], signs: Floats) -> NDArray[np.float32]:
    """The mean of the channels that are not left out; ten times faster than ``mean``."""
    mono: NDArray[np.float32] = block @ (signs / np.abs(signs).sum()).astype(np.float32)
    return mono


def _faded(
    part: NDArray[np.float32], before: Floats, after: Floats, rate: int
) -> NDArray[np.float32]:
    mono = _product(part, after)
    if (before != after).any():
        count = min(len(part), max(1, round(_FADE_S * rate)))
        rise = np.linspace(0, 1, count, dtype=np.float32)
        mono[:count] += (1 - rise) * (_product(part[:count], before) - mono[:count])
    return mono
