"""Tuning, chroma (the strength of the twelve pitch classes), CENS and tonnetz.

Pitch classes start at C. The formulas and their order are those of librosa: ``filters.chroma``
(Ellis 2007), ``chroma_cqt``, ``chroma_cens`` (Müller and Ewert, ISMIR 2011) and ``tonnetz`` (Harte,
Sandler and Gasser 2006).
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from numba import njit
from numpy.typing import NDArray

from deepmusic.features.stft import N_BINS, N_FFT

N_CHROMA = 12
_F_MIN, _F_MAX = 150.0, 4000.0  # of the peaks that the tuning is estimated from
_PEAK_THRESHOLD = 0.1  # of the maximum of a spectrum; lower peaks are ignored
_A0_HZ = 440 / 16
_TUNING_BINS = 100  # per semitone
_CENTRE_OCTAVE, _OCTAVE_WIDTH = 5.0, 2.0
_THRESHOLDS = (0.4, 0.2, 0.1, 0.05)  # of the share of a class; each exceeded adds a quarter
_SMOOTHED_FRAMES = 41
_MAX_AT_ONCE = 1 << 14  # frames converted to double precision at a time


class TuningEstimator:
    """Estimates the deviation from A = 440 Hz from the peaks of spectra that arrive in blocks.

    Equal to ``librosa.estimate_tuning``: parabolas through the peaks give their frequencies, those
    of at least median height vote, and the fullest of 100 bins, each a hundredth of a semitone
    wide, is the tuning. Operations are rounded as in librosa: a vote that falls into another bin
    could change the tuning, and with it every chroma value of the track.

    Args:
        sample_rate: that the frequencies of the bins follow from.
    """

    def __init__(self, sample_rate: float) -> None:
        self._bin_hz = sample_rate / N_FFT
        hz = np.fft.rfftfreq(N_FFT, 1 / sample_rate)
        inside = np.flatnonzero((hz >= _F_MIN) & (hz < min(_F_MAX, sample_rate / 2)))
        inside = inside[(inside > 0) & (inside < len(hz) - 1)]  # a peak has two neighbours
        self._bins = (int(inside[0]), int(inside[-1])) if len(inside) else None
        self._peaks = np.empty((2, 1 << 15), np.float32)  # frequencies in Hz, heights
        self._count = 0

    def add(self, spectra: NDArray[np.float32], maximum: NDArray[np.float32]) -> None:
        """Add ``(1025, frames)`` spectra with the maximum of each, ``(frames,)``."""
        if self._bins is None:
            return
        first, last = self._bins
        most = spectra.shape[1] * (last - first + 2) // 2  # no two neighbours are peaks
        while self._count + most > self._peaks.shape[1]:
            self._peaks = np.concatenate([self._peaks, np.empty_like(self._peaks)], axis=1)
        pitch, height = self._peaks[:, self._count :]
        threshold = np.float32(_PEAK_THRESHOLD) * maximum
        self._count += _spectral_peaks(spectra, threshold, first, last, self._bin_hz, pitch, height)

    def result(self) -> float:
        """Tuning in semitones, in [-0.5, 0.5); 0 where there is no peak."""
        if not self._count:
            return 0.0
        pitch, height = self._peaks[:, : self._count]
        pitch = pitch[height >= np.median(height)]
        deviation = np.mod(12 * np.log2(pitch / _A0_HZ), 1.0)
        deviation[deviation >= 0.5] -= 1.0
        edges = np.linspace(-0.5, 0.5, _TUNING_BINS + 1)
        counts, _ = np.histogram(deviation, edges)
        return float(edges[np.argmax(counts)])


@njit(cache=True, nogil=True, error_model="numpy")
def _spectral_peaks(
    spectra: NDArray[np.float32],
    threshold: NDArray[np.float32],
    first: int,
    last: int,
    bin_hz: float,
    pitch: NDArray[np.float32],
    height: NDArray[np.float32],
) -> int:
    """Write frequencies in Hz and heights of the peaks above ``threshold``; return their number.

    A parabola through each local maximum of bins ``first`` to ``last`` and its two neighbours gives
    its position. Operations are rounded as in ``librosa.piptrack``.
    """
    count = 0
    for index in range(first, last + 1):
        below, here, above = spectra[index - 1], spectra[index], spectra[index + 1]
        for frame in range(spectra.shape[1]):
            mid = here[frame]
            if mid > threshold[frame] and mid > below[frame] and mid >= above[frame]:
                low, high = below[frame], above[frame]
                curvature = np.float64(high + low) - 2.0 * np.float64(mid)
                slope = np.float64(high - low) / 2.0
                shift = np.float32(0)
                if abs(slope) < abs(curvature):
                    shift = np.float32(-slope / curvature)
                height[count] = mid + np.float32(0.5) * ((high - low) / np.float32(2)) * shift
                pitch[count] = (index + np.float64(shift)) * bin_hz
                count += 1
    return count


def normalize(columns: NDArray[np.float32], order: float) -> NDArray[np.float32]:
    """Divide columns of ``(n, frames)`` by their norm; columns close to zero stay as they are.

    Args:
        columns: of any length ``n``.
        order: of the norm: 1, 2 or infinity.
    """
    result = np.empty_like(columns)
    for start in range(0, columns.shape[1], _MAX_AT_ONCE):
        part = columns[:, start : start + _MAX_AT_ONCE]
        length = np.linalg.norm(part.astype(np.float64), order, axis=0)
        length[length < np.finfo(columns.dtype).tiny] = 1.0
        result[:, start : start + _MAX_AT_ONCE] = part / length
    return result


def chroma_filters(sample_rate: float, tuning: float) -> NDArray[np.float32]:
    """Weights from spectra to pitch classes, ``(12, 1025)``: Gaussians around their octaves.

    Args:
        sample_rate: that the frequencies of the bins follow from.
        tuning: semitones above A = 440 Hz.
    """
    hz = np.linspace(0, sample_rate, N_FFT, endpoint=False)[1:]
    lowest_a = 440.0 * 2.0 ** (tuning / N_CHROMA) / 16
    height = N_CHROMA * np.log2(hz / lowest_a)
    # the first bin is 0 Hz: an octave and a half below the second stands for it
    height = np.concatenate([[height[0] - 1.5 * N_CHROMA], height])
    widths = np.concatenate([np.maximum(np.diff(height), 1.0), [1]])
    distance = np.subtract.outer(height, np.arange(N_CHROMA, dtype="d")).T
    half = N_CHROMA // 2
    distance = np.remainder(distance + half + 10 * N_CHROMA, N_CHROMA) - half
    weights = np.exp(-0.5 * (2 * distance / widths) ** 2)
    weights = normalize(weights, 2)
    octaves = (height / N_CHROMA - _CENTRE_OCTAVE) / _OCTAVE_WIDTH
    weights *= np.exp(-0.5 * octaves**2)
    weights = np.roll(weights, -3, axis=0)  # C first, not A
    return np.ascontiguousarray(weights[:, :N_BINS], dtype=np.float32)


def fold_filters(bins: int, per_octave: int) -> NDArray[np.float32]:
    """Weights from constant-Q bins to pitch classes, ``(12, bins)``.

    Args:
        bins: number of bins, from C1 upwards.
        per_octave: how many are counted as one octave. With 12, each bin is a pitch class. FMA's
            script on librosa 0.8 or later counts 36, although they are semitones, and so folds
            three neighbouring semitones into each class.
    """
    merged = per_octave // N_CHROMA
    folds = np.repeat(np.eye(N_CHROMA), merged, axis=1)
    folds = np.roll(folds, -(merged // 2), axis=1)
    repeats = -(-bins // per_octave)
    return np.tile(folds, repeats)[:, :bins].astype(np.float32)


def cens(chroma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Chroma energy normalized statistics of chroma ``(12, frames)`` of any loudness."""
    shares = normalize(chroma, 1)
    quantized = np.zeros_like(shares)
    for threshold in _THRESHOLDS:
        np.add(quantized, np.float32(0.25), out=quantized, where=shares > threshold)
    window = 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, _SMOOTHED_FRAMES + 2))
    smooth = scipy.ndimage.convolve1d(quantized, window / window.sum(), axis=1, mode="constant")
    return normalize(smooth, 2)


def tonnetz(chroma: NDArray[np.float32]) -> NDArray[np.float64]:
    """Six tonal centroids ``(6, frames)``: fifths, minor and major thirds, each x and y."""
    position = np.linspace(0, 12, num=N_CHROMA, endpoint=False)
    scale = np.array([7 / 6, 7 / 6, 3 / 2, 3 / 2, 2 / 3, 2 / 3])
    angle = np.multiply.outer(scale, position)
    angle[::2] -= 0.5
    radius = np.array([1, 1, 1, 1, 0.5, 0.5])
    circles = radius[:, None] * np.cos(np.pi * angle)
    shares = normalize(chroma, 1)
    result = np.empty((len(circles), chroma.shape[1]))
    for start in range(0, chroma.shape[1], _MAX_AT_ONCE):
        block = slice(start, start + _MAX_AT_ONCE)
        np.matmul(circles, shares[:, block], out=result[:, block])
    return result
