"""Centroid, bandwidth, roll-off, contrast and loudness of spectra; zero crossings of samples.

Spectra are ``(1025, frames)`` float32, as ``magnitudes`` yields them.
Each function equals the librosa function of its name.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deepmusic.features.stft import HOP_LENGTH, N_BINS, N_FFT

CONTRAST_BANDS = 7
_LOWEST_BAND_HZ, _QUANTILE = 200.0, 0.02
_ROLLOFF = 0.85
_ZERO = 1e-10  # samples closer to zero have no sign

HIGHEST_BAND_HZ = _LOWEST_BAND_HZ * 2 ** (CONTRAST_BANDS - 2)
"""Lower end of the highest band of the contrast; half the sample rate must be above it."""


@lru_cache(maxsize=8)
def _bin_hz(sample_rate: float) -> NDArray[np.float64]:
    return np.asarray(np.fft.rfftfreq(N_FFT, 1 / sample_rate), np.float64)


def centroid_and_bandwidth(
    spectra: NDArray[np.float32], sample_rate: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of frequency in Hz, ``(frames,)`` each; 0 in silence."""
    total, first, second = moments = np.zeros((3, spectra.shape[1]))
    _add_moments(spectra, _bin_hz(sample_rate), moments)
    total = np.where(total < np.finfo(np.float32).tiny, 1.0, total)
    centroid = first / total
    return centroid, np.sqrt(np.maximum(second / total - centroid**2, 0))


@njit(cache=True, nogil=True, error_model="numpy")
def _add_moments(
    spectra: NDArray[np.float32], hz: NDArray[np.float64], moments: NDArray[np.float64]
) -> None:
    """Add the sums of each spectrum, weighted by 1, frequency and its square, ``(3, frames)``."""
    for index in range(len(spectra)):
        for frame in range(spectra.shape[1]):
            value = np.float64(spectra[index, frame])
            moments[0, frame] += value
            moments[1, frame] += value * hz[index]
            moments[2, frame] += value * (hz[index] * hz[index])


def rolloff(spectra: NDArray[np.float32], sample_rate: float) -> NDArray[np.float64]:
    """Frequency in Hz below which 85 % of each spectrum lie, ``(frames,)``."""
    bins = np.zeros(spectra.shape[1], np.int32)
    _rolloff_bins(spectra, np.float32(_ROLLOFF), bins)
    return np.asarray(_bin_hz(sample_rate)[bins])


@njit(cache=True, nogil=True, error_model="numpy")
def _rolloff_bins(spectra: NDArray[np.float32], share: np.float32, bins: NDArray[np.int32]) -> None:
    """Count the bins of each spectrum below the one at which a share of its sum is reached.

    Bins are summed one after another in float32 as librosa does, since rounding decides close
    calls. ``bins`` is ``(frames,)``, all 0.
    """
    sums = np.zeros(spectra.shape[1], np.float32)
    for index in range(len(spectra)):
        row = spectra[index]
        for frame in range(len(sums)):
            sums[frame] += row[frame]
    threshold = sums * share
    sums[:] = 0
    for index in range(len(spectra)):
        row = spectra[index]
        for frame in range(len(sums)):
            sums[frame] += row[frame]
            bins[frame] += sums[frame] < threshold[frame]


def rms(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square of each windowed frame, from power spectra, ``(frames,)``.

    The Hann window attenuates: the root mean square of steady sound itself is 1.6 times as high.
    """
    weights = np.full(N_BINS, 2.0 / N_FFT**2, np.float32)
    weights[[0, -1]] *= 0.5
    return np.asarray(np.sqrt(weights @ power))


@lru_cache(maxsize=8)
def _contrast_bands(sample_rate: float) -> tuple[tuple[slice, int], ...]:
    """Of each band the bins, and how many of them are averaged to a peak and to a valley."""
    hz = _bin_hz(sample_rate)
    edges = np.concatenate([[0], _LOWEST_BAND_HZ * 2.0 ** np.arange(CONTRAST_BANDS)])
    bands = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((hz >= low) & (hz <= high))
        is_last = number == CONTRAST_BANDS - 1
        first = int(inside[0]) - (number > 0)
        last = N_BINS - 1 if is_last else int(inside[-1])
        count = max(int(np.rint(_QUANTILE * (last - first + 1))), 1)
        # librosa counts the last bin of a band, but then drops it from all but the highest band
        bands.append((slice(first, last + is_last), count))
    return tuple(bands)


def contrast_extremes(spectra: NDArray[np.float32], sample_rate: float) -> NDArray[np.float32]:
    """Means of the strongest and the weakest 2 % of the bins of each octave band.

    Args:
        spectra: magnitude or power.
        sample_rate: half of it must be above ``HIGHEST_BAND_HZ``.

    Returns:
        ``(14, frames)``: seven peaks, then seven valleys.
    """
    result = np.empty((2 * CONTRAST_BANDS, spectra.shape[1]), np.float32)
    for number, (bins, count) in enumerate(_contrast_bands(sample_rate)):
        _mean_extremes(spectra[bins], count, result[number], result[CONTRAST_BANDS + number])
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def _mean_extremes(
    spectra: NDArray[np.float32], count: int, peak: NDArray[np.float32], valley: NDArray[np.float32]
) -> None:
    """Write the means of the ``count`` largest and smallest bins of each spectrum.

    Both are kept sorted in ``count`` rows; each bin passes through them, leaving the larger (or
    smaller) value behind. No branch depends on the data.
    """
    frames = spectra.shape[1]
    largest = np.full((count, frames), -np.inf, np.float32)
    smallest = np.full((count, frames), np.inf, np.float32)
    high, low = np.empty(frames, np.float32), np.empty(frames, np.float32)
    for index in range(len(spectra)):
        high[:] = spectra[index]
        low[:] = spectra[index]
        for rank in range(count):
            large, small = largest[rank], smallest[rank]
            for frame in range(frames):
                a, b = large[frame], high[frame]
                large[frame], high[frame] = max(a, b), min(a, b)
                c, d = small[frame], low[frame]
                small[frame], low[frame] = min(c, d), max(c, d)
    for frame in range(frames):
        total_high, total_low = np.float32(0), np.float32(0)
        for rank in range(count):
            total_high += largest[rank, frame]
            total_low += smallest[rank, frame]
        peak[frame], valley[frame] = total_high / count, total_low / count


def power_to_db(power: NDArray[np.floating], maximum: float) -> NDArray[np.floating]:
    """Power in dB, clipped at 80 dB below the maximum of the track.

    Args:
        power: any shape.
        maximum: greatest power of the track.
    """
    floor = 10.0 * np.log10(np.maximum(1e-10, maximum)) - 80.0
    return np.asarray(np.maximum(10.0 * np.log10(np.maximum(1e-10, power)), floor))


class SampleFrames:
    """Zero-crossing rate and root mean square per frame, of samples that arrive in blocks.

    Both are counted per hop of 512 samples; a frame of 2048 is four of them.
    """

    def __init__(self) -> None:
        self._pending = np.zeros(0, np.float32)
        self._last = np.float32(0)
        self._hops: list[NDArray[np.float64]] = []  # (3, hops): crossings, at the first, energy

    def add(self, samples: NDArray[np.float32]) -> None:
        """Add ``(n,)`` samples."""
        sound = np.concatenate([self._pending, samples]) if len(self._pending) else samples
        whole = len(sound) // HOP_LENGTH * HOP_LENGTH
        if whole:
            self._count(sound[:whole])
        self._pending = sound[whole:]

    def _count(self, sound: NDArray[np.float32]) -> None:
        before = self._last if self._hops else sound[0]
        negative = sound < np.float32(-_ZERO)
        crossings = np.empty(len(sound), np.bool_)
        crossings[0] = negative[0] != (before < np.float32(-_ZERO))
        np.not_equal(negative[1:], negative[:-1], out=crossings[1:])
        per_hop, hops = crossings.reshape(-1, HOP_LENGTH), sound.reshape(-1, HOP_LENGTH)
        energy = np.einsum("hs,hs->h", hops, hops)
        self._hops.append(np.stack([np.count_nonzero(per_hop, axis=1), per_hop[:, 0], energy]))
        self._last = sound[-1]

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Zero crossings per sample, and root mean square, ``(frames,)`` each.

        The sound is padded with zeros, but the padding has no zero crossings. Call it once, after
        all samples were added.
        """
        frames = 1 + sum(part.shape[1] for part in self._hops)
        if len(self._pending):
            # fill the last hop with its last sample, which crosses nothing, and take its energy off
            missing = HOP_LENGTH - len(self._pending)
            self._count(np.pad(self._pending, (0, missing), mode="edge"))
            self._hops[-1][2] -= missing * np.float64(self._pending[-1]) ** 2
        hops = np.pad(np.concatenate(self._hops, axis=1), ((0, 0), (2, 2)))
        windows = hops[:, :-3] + hops[:, 1:-2] + hops[:, 2:-1] + hops[:, 3:]
        # a crossing at the first sample of a frame is between it and the sample before the frame
        crossings = windows[0] - hops[1, :-3]
        loudness = np.sqrt(np.maximum(windows[2], 0) / N_FFT)
        return crossings[:frames] / N_FFT, loudness[:frames]
