"""By how much a recording is out of tune with A = 440 Hz, from the peaks of its spectra.

Equal to ``librosa.estimate_tuning``: parabolas through the peaks give their frequencies, those of
at least median height vote, and the fullest of 100 bins, each a hundredth of a semitone wide, is
the tuning. Rounding is that of librosa, step by step: a vote that moves to another bin could move
the tuning, and with it every chroma value of the track.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepmusic.features.compiled import compiled

_LOW_HZ, _HIGH_HZ = 150.0, 4000.0
_BINS_PER_SEMITONE = 100

SHARE_OF_MAXIMUM = 0.1
"""Of the greatest value of its spectrum: what is lower is no peak."""
LOWEST_A_HZ = 440 / 16
"""A0, from which semitones are counted."""
VOTE_EDGES = np.linspace(-0.5, 0.5, _BINS_PER_SEMITONE + 1)
"""Ends of the bins that peaks vote for, in semitones."""


def peak_bins(sample_rate: float, n_fft: int) -> range:
    """The bins of a spectrum where peaks are looked for; each has two neighbours."""
    bin_hz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    inside = np.flatnonzero((bin_hz >= _LOW_HZ) & (bin_hz < min(_HIGH_HZ, sample_rate / 2)))
    inside = inside[(inside > 0) & (inside < len(bin_hz) - 1)]
    return range(int(inside[0]), int(inside[-1]) + 1) if len(inside) else range(1, 1)


class PeakFinder:
    """Collects the peaks of spectra, block by block.

    Args:
        sample_rate: samples per second that the bins are taken to stand for.
        n_fft: samples of a window.
    """

    def __init__(self, sample_rate: float, n_fft: int) -> None:
        bins = peak_bins(sample_rate, n_fft)
        self._first, self._last = bins.start, bins.stop - 1
        self._rate, self._fft_size = float(sample_rate), n_fft
        self._pitch = np.empty(1 << 15, np.float32)
        self._height = np.empty_like(self._pitch)
        self._count = 0

    def add(self, spectra: NDArray[np.float32], greatest: NDArray[np.float32]) -> None:
        """Take the peaks of ``(bins, frames)`` more spectra, with the greatest value of each."""
        first, last = self._first, self._last
        if last < first:
            return
        least = np.float32(SHARE_OF_MAXIMUM) * greatest
        # no two neighbours are peaks
        self._make_room(spectra.shape[1] * (last - first + 2) // 2)
        pitch, height = self._pitch[self._count :], self._height[self._count :]
        self._count += _peaks(
            spectra, least, first, last, self._rate, self._fft_size, pitch, height
        )

    def _make_room(self, peaks: int) -> None:
        while self._count + peaks > len(self._pitch):
            more = np.empty_like(self._pitch)
            self._pitch = np.concatenate([self._pitch, more])
            self._height = np.concatenate([self._height, more])

    def tuning(self) -> float:
        """Tuning in semitones, in [-0.5, 0.5); 0 where there is no peak."""
        pitch, height = self._pitch[: self._count], self._height[: self._count]
        if not len(pitch):
            return 0.0
        return tuning_of(pitch[height >= np.median(height)])


@compiled
def _peaks(
    spectra: NDArray[np.float32],
    least: NDArray[np.float32],
    first: int,
    last: int,
    sample_rate: float,
    n_fft: int,
    pitch: NDArray[np.float32],
    height: NDArray[np.float32],
) -> int:
    """Write pitches in Hz and heights of all peaks above ``least``; how many there are."""
    count = 0
    for place in range(first, last + 1):
        below, here, above = spectra[place - 1], spectra[place], spectra[place + 1]
        for frame in range(spectra.shape[1]):
            mid = here[frame]
            if mid > least[frame] and mid > below[frame] and mid >= above[frame]:
                low, high = below[frame], above[frame]
                bend = np.float64(high + low) - 2.0 * np.float64(mid)
                slope = np.float64(high - low) / 2.0
                shift = np.float32(0)
                if abs(slope) < abs(bend):
                    shift = np.float32(-slope / bend)
                tilt = (high - low) / np.float32(2)
                height[count] = mid + np.float32(0.5) * tilt * shift
                pitch[count] = (place + np.float64(shift)) * sample_rate / n_fft
                count += 1
    return count


def tuning_of(pitches: NDArray[np.float32]) -> float:
    """Where most pitches lie between the semitones.

    Args:
        pitches: ``(n,)`` in Hz, above 0.

    Returns:
        Semitones in [-0.5, 0.5); 0 where there is no pitch.
    """
    if not len(pitches):
        return 0.0
    apart = np.mod(12 * np.log2(pitches / LOWEST_A_HZ), 1.0)
    apart[apart >= 0.5] -= 1.0
    counts, _ = np.histogram(apart, VOTE_EDGES)
    return float(VOTE_EDGES[np.argmax(counts)])
