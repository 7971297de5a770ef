"""How strong each of the twelve pitch classes is, and what is told from that.

C comes first. The formulas and their order are librosa's: ``filters.chroma`` (Ellis 2007),
``chroma_cqt``, ``chroma_cens`` (Müller and Ewert, ISMIR 2011) and ``tonnetz`` (Harte, Sandler and
Gasser 2006).
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from deepmusic.features.spectra import BINS, FFT_SIZE

CLASSES = 12
_CENTRE_OCTAVE, _OCTAVE_WIDTH = 5.0, 2.0
_STEPS = (0.4, 0.2, 0.1, 0.05)  # of a share of the loudness; each that is passed counts a quarter
_SMOOTHED_FRAMES = 41
_AT_ONCE = 1 << 14  # frames of a long track that are in double precision at a time


def normalised(rows: NDArray[np.float32], order: float) -> NDArray[np.float32]:
    """Columns ``(rows, frames)`` divided by their norm of an order; those next to zero stay."""
    result = np.empty_like(rows)
    for start in range(0, rows.shape[1], _AT_ONCE):
        part = rows[:, start : start + _AT_ONCE]
        height = np.abs(part).astype(np.float64)
        if order == np.inf:
            length = height.max(axis=0)
        elif order == 1:
            length = height.sum(axis=0)
        else:
            length = np.sum(height**order, axis=0) ** (1.0 / order)
        length[length < np.finfo(rows.dtype).tiny] = 1.0
        result[:, start : start + _AT_ONCE] = part / length
    return result


def chroma_filters(sample_rate: float, tuning: float) -> NDArray[np.float32]:
    """From spectra to pitch classes, ``(12, 1025)``: Gaussians around octaves of each class.

    Args:
        sample_rate: samples per second that the bins are taken to stand for.
        tuning: semitones above A = 440 Hz.
    """
    hz = np.linspace(0, sample_rate, FFT_SIZE, endpoint=False)[1:]
    lowest_a = 440.0 * 2.0 ** (tuning / CLASSES) / 16
    height = CLASSES * np.log2(hz / lowest_a)
    # the first bin stands for 0 Hz: an octave and a half below the next
    height = np.concatenate([[height[0] - 1.5 * CLASSES], height])
    widths = np.concatenate([np.maximum(np.diff(height), 1.0), [1]])
    apart = np.subtract.outer(height, np.arange(CLASSES, dtype="d")).T
    half = CLASSES // 2
    apart = np.remainder(apart + half + 10 * CLASSES, CLASSES) - half
    weights = np.exp(-0.5 * (2 * apart / widths) ** 2)
    weights = normalised(weights, 2)
    octaves = (height / CLASSES - _CENTRE_OCTAVE) / _OCTAVE_WIDTH
    weights *= np.exp(-0.5 * octaves**2)
    weights = np.roll(weights, -3, axis=0)  # C first, not A
    return np.ascontiguousarray(weights[:, :BINS], dtype=np.float32)


def fold_filters(bins: int, per_octave: int) -> NDArray[np.float32]:
    """From constant-Q bins to pitch classes, ``(12, bins)``.

    Args:
        bins: from C1 upwards.
        per_octave: how many make an octave: for 12 each bin is a class of its own. FMA's recipe on
            librosa 0.8 or later takes the 84 bins for 36 to the octave, and so folds three
            neighbouring semitones into a class.
    """
    merged = per_octave // CLASSES
    folds = np.repeat(np.eye(CLASSES), merged, axis=1)
    folds = np.roll(folds, -(merged // 2), axis=1)
    repeats = -(-bins // per_octave)
    return np.tile(folds, repeats)[:, :bins].astype(np.float32)


def cens(chroma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Energy-normalised statistics of chroma ``(12, frames)`` of any loudness."""
    shares = normalised(chroma, 1)
    passed = np.zeros_like(shares)
    for step in _STEPS:
        np.add(passed, np.float32(0.25), out=passed, where=shares > step)
    del shares
    window = 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, _SMOOTHED_FRAMES + 2))
    smooth = scipy.ndimage.convolve1d(passed, window / window.sum(), axis=1, mode="constant")
    del passed
    return normalised(smooth, 2)


def tonnetz(chroma: NDArray[np.float32]) -> NDArray[np.float64]:
    """Six tonal centroids ``(6, frames)``: fifths, minor and major thirds, each x and y."""
    place = np.linspace(0, 12, num=CLASSES, endpoint=False)
    scale = np.array([7 / 6, 7 / 6, 3 / 2, 3 / 2, 2 / 3, 2 / 3])
    angle = np.multiply.outer(scale, place)
    angle[::2] -= 0.5
    radius = np.array([1, 1, 1, 1, 0.5, 0.5])
    circles = radius[:, None] * np.cos(np.pi * angle)
    shares = normalised(chroma, 1)
    result = np.empty((len(circles), chroma.shape[1]))
    for start in range(0, chroma.shape[1], _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        np.matmul(circles, shares[:, here], out=result[:, here])
    return result
