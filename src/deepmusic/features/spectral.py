"""The shape of single spectra, and what is told from samples frame by frame.

Arrays are ``(1025, frames)``, float32, as :func:`~deepmusic.features.spectra.magnitudes` yields
them. Each function equals the one of librosa that has its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deepmusic.features.compiled import compiled
from deepmusic.features.lanes import (
    DOUBLES,
    FLOATS,
    greater,
    lesser,
    load,
    load_like,
    store,
)
from deepmusic.features.spectra import BINS, FFT_SIZE, HOP

CONTRAST_BANDS = 7
_LOWEST_BAND_HZ, _QUANTILE = 200.0, 0.02
_ROLLED_OFF = 0.85
_SILENCE = 1e-10  # samples closer to zero have no sign

HIGHEST_BAND_HZ = _LOWEST_BAND_HZ * 2 ** (CONTRAST_BANDS - 2)
"""Where the highest band of the contrast begins: at most half the rate."""


def _bin_hz(sample_rate: float) -> NDArray[np.float64]:
    return np.asarray(np.fft.rfftfreq(FFT_SIZE, 1 / sample_rate), np.float64)


def centroid_and_bandwidth(
    spectra: NDArray[np.float32], sample_rate: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and spread of each spectrum in Hz, ``(frames,)`` each; 0 where all is silent."""
    frames = spectra.shape[1]
    moments = np.empty((3, frames + -frames % DOUBLES))
    _moments(_padded(spectra, DOUBLES), _bin_hz(sample_rate), *moments)
    total, first, second = moments[:, :frames]
    total = np.where(total < np.finfo(np.float32).tiny, 1.0, total)
    centre = first / total
    width = np.sqrt(np.maximum(second / total - centre**2, 0))
    return np.asarray(centre), np.asarray(width)


def _padded(spectra: NDArray[np.float32], lanes: int) -> NDArray[np.float32]:
    """Spectra with silent ones after the last, until their number is a multiple."""
    missing = -spectra.shape[1] % lanes
    return np.pad(spectra, ((0, 0), (0, missing))) if missing else spectra


@compiled
def _moments(
    spectra: NDArray[np.float32],
    hz: NDArray[np.float64],
    total: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
) -> None:
    """Write the sums of each spectrum, weighted by 1, by frequency, and by its square."""
    flat, row = spectra.reshape(-1), spectra.shape[1]
    for frame in range(0, row, DOUBLES):
        nothing = load_like(flat, frame, total) * 0.0
        sum_0, sum_1, sum_2 = nothing, nothing, nothing
        for place in range(len(spectra)):
            height = load_like(flat, place * row + frame, total)
            sum_0 = sum_0 + height
            sum_1 = sum_1 + height * hz[place]
            sum_2 = sum_2 + height * (hz[place] * hz[place])
        store(total, frame, sum_0)
        store(first, frame, sum_1)
        store(second, frame, sum_2)


def rolloff(spectra: NDArray[np.float32], sample_rate: float) -> NDArray[np.float64]:
    """Frequency in Hz below which 85 % of each spectrum lie, ``(frames,)``."""
    bins = np.zeros(spectra.shape[1], np.int32)
    _rolled_off(spectra, np.float32(_ROLLED_OFF), bins)
    return np.asarray(_bin_hz(sample_rate)[bins])


@compiled
def _rolled_off(spectra: NDArray[np.float32], share: np.float32, bins: NDArray[np.int32]) -> None:
    """Count the bins of each spectrum before the one at which a share of its sum is reached.

    Bins are added one after another in float32, as librosa does, whose rounding decides close
    calls.
    """
    sums = np.zeros(spectra.shape[1], np.float32)
    for place in range(len(spectra)):
        row = spectra[place]
        for frame in range(len(sums)):
            sums[frame] += row[frame]
    least = sums * share
    sums[:] = 0
    for place in range(len(spectra)):
        row = spectra[place]
        for frame in range(len(sums)):
            sums[frame] += row[frame]
            bins[frame] += sums[frame] < least[frame]


def rms(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root of the mean square of each window, from spectra of power, ``(frames,)``.

    The window has faded its ends: steady sound has 1.6 times as much in its samples.
    """
    weights = np.full(BINS, 2.0 / FFT_SIZE**2, np.float32)
    weights[[0, -1]] *= 0.5
    return np.asarray(np.sqrt(weights @ power))


@dataclass(frozen=True)
class _Band:
    bins: slice
    count: int  # of bins that make a peak, and a valley


@lru_cache(maxsize=8)
def _bands(sample_rate: float) -> tuple[_Band, ...]:
    hz = np.fft.rfftfreq(FFT_SIZE, 1 / sample_rate)
    edges = np.concatenate([[0], _LOWEST_BAND_HZ * 2.0 ** np.arange(CONTRAST_BANDS)])
    bands = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((hz >= low) & (hz <= high))
        is_last = number == CONTRAST_BANDS - 1
        first = int(inside[0]) - (number > 0)
        last = BINS - 1 if is_last else int(inside[-1])
        count = max(int(np.rint(_QUANTILE * (last - first + 1))), 1)
        # librosa leaves out the last bin of all bands but the highest, once it has counted it
        bands.append(_Band(slice(first, last + is_last), count))
    return tuple(bands)


def contrast_ends(spectra: NDArray[np.float32], sample_rate: float) -> NDArray[np.float32]:
    """Mean of the loudest and of the faintest bins of each band.

    Args:
        spectra: of magnitude or of power.
        sample_rate: samples per second that the bins are taken to stand for; half of it is at least
            :data:`HIGHEST_BAND_HZ`.

    Returns:
        ``(14, frames)``: seven peaks, then seven valleys.
    """
    frames = spectra.shape[1]
    spectra = _padded(spectra, FLOATS)
    found = np.empty((2 * CONTRAST_BANDS, spectra.shape[1]), np.float32)
    for number, band in enumerate(_bands(sample_rate)):
        ends = found[number], found[CONTRAST_BANDS + number]
        _mean_ends(spectra[band.bins], band.count, *ends)
    return found[:, :frames]


@compiled
def _mean_ends(
    spectra: NDArray[np.float32],
    count: int,
    peak: NDArray[np.float32],
    valley: NDArray[np.float32],
) -> None:
    """Write the means of the ``count`` loudest and faintest bins of sixteen spectra at a time.

    Both are kept in order; a bin is compared with each of them, and the lesser, or the greater,
    goes on to the next. No branch depends on the sound.
    """
    flat = spectra.reshape(-1)
    loud, faint = np.empty(count * FLOATS, np.float32), np.empty(count * FLOATS, np.float32)
    for frame in range(0, spectra.shape[1], FLOATS):
        loud[:], faint[:] = -np.inf, np.inf
        for place in range(len(spectra)):
            bins = load(flat, place * spectra.shape[1] + frame)
            high = low = bins
            for at in range(0, count * FLOATS, FLOATS):
                kept = load(loud, at)
                store(loud, at, greater(kept, high))
                high = lesser(kept, high)
                kept = load(faint, at)
                store(faint, at, lesser(kept, low))
                low = greater(kept, low)
        sum_loud, sum_faint = load(loud, 0), load(faint, 0)
        for at in range(FLOATS, count * FLOATS, FLOATS):
            sum_loud = sum_loud + load(loud, at)
            sum_faint = sum_faint + load(faint, at)
        store(peak, frame, sum_loud * (np.float32(1) / np.float32(count)))
        store(valley, frame, sum_faint * (np.float32(1) / np.float32(count)))


def decibels(power: NDArray[np.floating], loudest: float) -> NDArray[np.floating]:
    """Power in dB, no more than 80 dB below the loudest of the track.

    Args:
        power: of any shape.
        loudest: the greatest power of the track.
    """
    least = 10.0 * np.log10(np.maximum(1e-10, loudest)) - 80.0
    return np.asarray(np.maximum(10.0 * np.log10(np.maximum(1e-10, power)), least))


class HopTotals:
    """Adds up what is told of samples, hop by hop, while they arrive.

    A window of 2048 samples is four hops of 512; samples that fill no hop wait for more.
    """

    def __init__(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._last = np.float32(0)
        self._parts: list[NDArray[np.float64]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take ``(n,)`` more samples."""
        sound = np.concatenate([self._waiting, samples]) if len(self._waiting) else samples
        whole = len(sound) // HOP * HOP
        if whole:
            self._count(sound[:whole])
        self._waiting = sound[whole:]

    def _count(self, sound: NDArray[np.float32]) -> None:
        before = self._last if self._parts else sound[0]
        negative = sound < np.float32(-_SILENCE)
        changes = np.empty(len(sound), np.bool_)
        changes[0] = negative[0] != (before < np.float32(-_SILENCE))
        np.not_equal(negative[1:], negative[:-1], out=changes[1:])
        changes_by_hop, by_hop = changes.reshape(-1, HOP), sound.reshape(-1, HOP)
        energy = np.einsum("hs,hs->h", by_hop, by_hop)
        counts = np.count_nonzero(changes_by_hop, axis=1)
        self._parts.append(np.stack([counts, changes_by_hop[:, 0], energy]))
        self._last = sound[-1]

    def by_frame(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of each window: changes of sign a sample, and the root of the mean square.

        Before the beginning and after the end are zeros, but no sign changes there. Call it once,
        when all samples were added.
        """
        frames = 1 + sum(part.shape[1] for part in self._parts)
        if len(self._waiting):
            # with silence after the end; its change of sign is none
            missing = HOP - len(self._waiting)
            self._count(np.pad(self._waiting, (0, missing), mode="edge"))
            self._parts[-1][2] -= missing * np.float64(self._waiting[-1]) ** 2
        hops = np.pad(np.concatenate(self._parts, axis=1), ((0, 0), (2, 2)))
        windows = hops[:, :-3] + hops[:, 1:-2] + hops[:, 2:-1] + hops[:, 3:]
        # a change at the first sample of a window is between it and the sample before
        crossings = windows[0] - hops[1, :-3]
        rms = np.sqrt(np.maximum(windows[2], 0) / FFT_SIZE)
        return crossings[:frames] / FFT_SIZE, rms[:frames]
