"""The constant-Q transform of sound that arrives in blocks, octave by octave.

Equal to ``librosa.cqt`` with 7 octaves of 12 bins from C1, value by value: each octave applies the
same twelve filters to sound of half the sample rate of the octave above (Schörkhuber and Klapuri,
SMC 2010), so that all windows have the same length.

Operations are in the order of librosa: `chroma_cens` compares values with thresholds, so that the
last bit of one frame can change 41 frames of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from deepmusic.features.stft import HOP_LENGTH, hann

_OCTAVES, _PER_OCTAVE = 7, 12
N_BINS = _OCTAVES * _PER_OCTAVE
_C1_HZ = 440.0 * 2.0 ** ((24 - 69) / 12.0)
_HANN_BANDWIDTH = 1.50018310546875  # of the window, in bins
_SPARSITY = 0.01  # share of a filter's spectrum, from the weakest bins, that is set to zero
_BLOCK_FRAMES = 128


def _frequencies(tuning: float) -> NDArray[np.float64]:
    """Centre frequencies in Hz, ``(84,)``."""
    octave = 2.0 ** (np.arange(_PER_OCTAVE, dtype=np.float64) / _PER_OCTAVE)
    ratios = np.multiply.outer(2.0 ** np.arange(_OCTAVES, dtype=np.float64), octave).ravel()
    return np.asarray(ratios * (_C1_HZ * 2.0 ** (tuning / _PER_OCTAVE)))


def _relative_bandwidths(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    height = np.log2(hz)
    per_octave = np.empty_like(hz)
    per_octave[0] = 1 / (height[1] - height[0])
    per_octave[-1] = 1 / (height[-1] - height[-2])
    per_octave[1:-1] = 2 / (height[2:] - height[:-2])
    ratio = 2.0 ** (2 / per_octave)
    return np.asarray((ratio - 1) / (ratio + 1))


def f_max(tuning: float) -> float:
    """Upper end of the highest filter in Hz; the sample rate must be at least twice as high."""
    hz = _frequencies(tuning)
    widths = 1 + 0.5 * _HANN_BANDWIDTH * _relative_bandwidths(hz)
    return float(np.max(hz * widths))


@dataclass(frozen=True)
class _Octave:
    """Filters of one octave.

    Args:
        hop_length: at the sample rate of this octave.
        n_fft: length of the window.
        bins: those of the window's spectrum that the filters reach.
        filters: ``(12, len(bins))`` complex64, sparse.
        scale: ``(12, 1)``, square roots of the filters' lengths.
    """

    hop_length: int
    n_fft: int
    bins: slice
    filters: csr_matrix
    scale: NDArray[np.float64]

    def magnitudes(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Response to ``(frames, n_fft)``, as ``(12, frames)``."""
        spectra = scipy.fft.rfft(windows.astype(np.float64), axis=1, overwrite_x=True)
        reached = np.ascontiguousarray(spectra[:, self.bins].T, np.complex64)
        response = self.filters.dot(reached)
        response /= self.scale
        return np.asarray(np.abs(response), np.float32)


@lru_cache(maxsize=128)
def _octaves(sample_rate: float, tuning: float) -> tuple[int, tuple[_Octave, ...]]:
    """By which factor the sound is decimated first, and the octaves from the highest down."""
    hz = _frequencies(tuning)
    alpha = _relative_bandwidths(hz)
    spare = int(np.ceil(np.log2(sample_rate / 2 / f_max(tuning))) - 1) - 1
    hop_twos = (HOP_LENGTH & -HOP_LENGTH).bit_length() - 1
    early = min(max(0, spare), max(0, hop_twos - _OCTAVES + 1))
    top_rate, hop_length = sample_rate / 2**early, HOP_LENGTH // 2**early
    lengths = 1 / alpha * top_rate / hz
    octaves = []
    for number in range(_OCTAVES):
        chosen = slice(N_BINS - _PER_OCTAVE * (number + 1), N_BINS - _PER_OCTAVE * number)
        rate = top_rate / 2**number
        n_fft, bins, filters = _filters(rate, hz[chosen], alpha[chosen], np.sqrt(top_rate / rate))
        scale = np.sqrt(lengths[chosen])[:, None]
        octaves.append(_Octave(hop_length // 2**number, n_fft, bins, filters, scale))
    return 2**early, tuple(octaves)


def _filters(
    sample_rate: float, hz: NDArray[np.float64], alpha: NDArray[np.float64], gain: float
) -> tuple[int, slice, csr_matrix]:
    """Spectra of an octave's filters: length of the window, bins, and the filters on them."""
    lengths = 1 / alpha * sample_rate / hz
    size = int(2.0 ** np.ceil(np.log2(max(lengths))))
    waves = np.zeros((len(hz), size), np.complex64)
    for row, length, centre in zip(waves, lengths, hz, strict=True):
        wave = _wavelet(float(length), float(centre), sample_rate)
        first = (size - len(wave)) // 2
        row[first : first + len(wave)] = wave
    waves *= lengths[:, None] / float(size)
    spectra = scipy.fft.fft(waves, axis=1)[:, : size // 2 + 1]
    height = np.abs(spectra)
    ordered = np.sort(height, axis=1)
    shares = np.cumsum(ordered / np.sum(height, axis=1, keepdims=True), axis=1)
    least = np.take_along_axis(ordered, np.argmin(shares < _SPARSITY, axis=1)[:, None], axis=1)
    spectra[height < least] = 0
    used = np.flatnonzero(spectra.any(axis=0))
    bins = slice(int(used[0]), int(used[-1]) + 1)
    filters = csr_matrix(spectra[:, bins])
    filters.data = (filters.data * gain).astype(np.complex64)
    return size, bins, filters


def _wavelet(length: float, hz: float, sample_rate: float) -> NDArray[np.complex128]:
    """A filter in time; its absolute values sum to 1."""
    angle = np.arange(-length // 2, length // 2, dtype=float) * 2 * np.pi * hz / sample_rate
    wave = np.cos(angle) + 1j * np.sin(angle)
    wave *= hann(len(wave))
    return np.asarray(wave / float(np.sum(np.abs(wave))))


class _Decimator:
    """Resamples to a fraction of the sample rate, keeping the energy."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._stream = soxr.ResampleStream(factor, 1, 1, dtype="float32", quality="HQ")
        self._received = self._returned = 0

    def push(self, samples: NDArray[np.float32], *, is_last: bool) -> NDArray[np.float32]:
        self._received += len(samples)
        result: NDArray[np.float32] = self._stream.resample_chunk(samples, last=is_last)
        if is_last:  # librosa cuts or pads to this length
            due = -(-self._received // self._factor) - self._returned
            result = np.pad(result[:due], (0, max(due - len(result), 0)))
        self._returned += len(result)
        result /= np.sqrt(1 / self._factor)
        return result


class _OctaveStream:
    """Magnitudes of one octave, as far as the sound has arrived."""

    def __init__(self, octave: _Octave) -> None:
        self._octave = octave
        self._pending = np.zeros(octave.n_fft // 2, np.float32)
        self._skip = 0  # samples to come that lie between two windows

    def push(self, samples: NDArray[np.float32], *, is_last: bool) -> NDArray[np.float32]:
        """The ``(12, frames)`` that are complete with these samples."""
        hop_length, n_fft = self._octave.hop_length, self._octave.n_fft
        parts = [self._pending, samples[self._skip :]]
        self._skip = max(0, self._skip - len(samples))
        if is_last:
            parts.append(np.zeros(n_fft // 2, np.float32))
        sound = np.concatenate(parts)
        count = max(0, 1 + (len(sound) - n_fft) // hop_length)
        self._pending = sound[count * hop_length :]
        self._skip += max(0, count * hop_length - len(sound))
        result = np.empty((_PER_OCTAVE, count), np.float32)
        if count:
            windows = np.lib.stride_tricks.sliding_window_view(sound, n_fft)[::hop_length]
            for start in range(0, count, _BLOCK_FRAMES):
                block = slice(start, min(start + _BLOCK_FRAMES, count))
                result[:, block] = self._octave.magnitudes(windows[block])
        return result


class ConstantQ:
    """Constant-Q magnitudes of sound that arrives in blocks.

    Args:
        sample_rate: at least twice ``f_max``.
        tuning: semitones above A = 440 Hz.
    """

    def __init__(self, sample_rate: float, tuning: float) -> None:
        factor, octaves = _octaves(sample_rate, tuning)
        first = [_Decimator(factor)] if factor > 1 else []
        self._decimators = [first, *([_Decimator(2)] for _ in octaves[1:])]
        self._streams = [_OctaveStream(octave) for octave in octaves]
        self._pending = [np.empty((_PER_OCTAVE, 0), np.float32) for _ in octaves]

    def push(self, samples: NDArray[np.float32], *, is_last: bool = False) -> NDArray[np.float32]:
        """Add ``(n,)`` samples.

        Returns:
            ``(84, frames)``, the frames of 512 samples that are complete now, lowest bin first.
        """
        for number, stream in enumerate(self._streams):
            for decimator in self._decimators[number]:
                samples = decimator.push(samples, is_last=is_last)
            frames = stream.push(samples, is_last=is_last)
            self._pending[number] = np.concatenate([self._pending[number], frames], axis=1)
        count = min(frames.shape[1] for frames in self._pending)
        complete = np.concatenate([frames[:, :count] for frames in reversed(self._pending)])
        self._pending = [frames[:, count:] for frames in self._pending]
        return complete
