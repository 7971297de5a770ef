"""Deviation of a recording from A = 440 Hz, estimated from the peaks of its spectra.

Equal to ``librosa.estimate_tuning``: parabolas through the peaks give their frequencies, those of
at least median height vote, and the fullest of 100 bins, each a hundredth of a semitone wide, is
the tuning. Operations are rounded as in librosa: a vote that falls into another bin could change
the tuning, and with it every chroma value of the track.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepmusic.features.kernels import spectral_peaks
from deepmusic.features.stft import N_FFT

_F_MIN, _F_MAX = 150.0, 4000.0
_BINS_PER_SEMITONE = 100
_THRESHOLD = 0.1  # of the maximum of a spectrum; lower peaks are ignored
_A0_HZ = 440 / 16


class TuningEstimator:
    """Collects the peaks of spectra, block by block.

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
        threshold = np.float32(_THRESHOLD) * maximum
        self._count += spectral_peaks(spectra, threshold, first, last, self._bin_hz, pitch, height)

    def result(self) -> float:
        """Tuning in semitones, in [-0.5, 0.5); 0 where there is no peak."""
        if not self._count:
            return 0.0
        pitch, height = self._peaks[:, : self._count]
        pitch = pitch[height >= np.median(height)]
        deviation = np.mod(12 * np.log2(pitch / _A0_HZ), 1.0)
        deviation[deviation >= 0.5] -= 1.0
        edges = np.linspace(-0.5, 0.5, _BINS_PER_SEMITONE + 1)
        counts, _ = np.histogram(deviation, edges)
        return float(edges[np.argmax(counts)])
