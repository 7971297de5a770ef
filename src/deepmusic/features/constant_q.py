"""The constant-Q transform of a track, octave by octave, while the sound arrives.

Equal to ``librosa.cqt`` with 7 octaves of 12 bins from C1, value by value: each octave is the same
twelve filters on sound of half the rate of the octave above (Schörkhuber and Klapuri, SMC 2010), so
that all take windows of the same length.

The order of operations is librosa's. `chroma_cens` asks which values are above a threshold, so that
a bit in one frame moves a feature of 41.

The fast transform has the same filters by other means, in single precision: what sound is decimated
by first is done by short filters, and an octave's filters are multiplied with samples instead of
spectra. Of the halvings that follow it keeps librosa's: where a track begins and ends, others ring
otherwise, which moves the statistics of the lowest octaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from deepmusic.features.half_band import HalfBand
from deepmusic.features.spectra import HOP, hann

_OCTAVES, _PER_OCTAVE = 7, 12
BINS = _OCTAVES * _PER_OCTAVE
_C1_HZ = 440.0 * 2.0 ** ((24 - 69) / 12.0)
_HANN_BANDWIDTH = 1.50018310546875  # of the window, in bins
_SPARSITY = 0.01  # the faintest share of a filter's spectrum, which is left out
_BLOCK_FRAMES = 128
_REACH = 96  # samples before and after one, at half the rate or less, that it has a share of


def _frequencies(tuning: float) -> NDArray[np.float64]:
    """Centres of the bins in Hz."""
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


def highest_hz(tuning: float) -> float:
    """Where the highest filter ends; sound needs more than twice this rate."""
    hz = _frequencies(tuning)
    widths = 1 + 0.5 * _HANN_BANDWIDTH * _relative_bandwidths(hz)
    return float(np.max(hz * widths))


def _wavelet(length: float, hz: float, sample_rate: float) -> NDArray[np.complex128]:
    """A filter in time, its absolute values adding up to one."""
    angle = np.arange(-length // 2, length // 2, dtype=float) * 2 * np.pi * hz / sample_rate
    wave = np.cos(angle) + 1j * np.sin(angle)
    wave *= hann(len(wave))
    total = float(np.sum(np.abs(wave)))
    return np.asarray(wave / total)


@dataclass(frozen=True)
class _Octave:
    """What one octave is made of.

    Args:
        hop: samples from frame to frame, at this octave's rate.
        n_fft: samples of a window.
        bins: of the window's spectrum, those that the filters reach.
        filters: ``(12, len(bins))`` complex64, sparse.
        scale: ``(12, 1)``, the root of the filters' lengths.
    """

    hop: int
    n_fft: int
    bins: slice
    filters: csr_matrix
    scale: NDArray[np.float64]


@lru_cache(maxsize=128)
def _octaves(sample_rate: float, tuning: float) -> tuple[int, tuple[_Octave, ...]]:
    """By how much sound is decimated first, and the octaves from the highest down."""
    hz = _frequencies(tuning)
    alpha = _relative_bandwidths(hz)
    spare = int(np.ceil(np.log2(sample_rate / 2 / highest_hz(tuning))) - 1) - 1
    hop_twos = (HOP & -HOP).bit_length() - 1
    early = min(max(0, spare), max(0, hop_twos - _OCTAVES + 1))
    top_rate, hop = sample_rate / 2**early, HOP // 2**early
    lengths = 1 / alpha * top_rate / hz
    octaves = []
    for number in range(_OCTAVES):
        chosen = slice(BINS - _PER_OCTAVE * (number + 1), BINS - _PER_OCTAVE * number)
        own_rate = top_rate / 2**number
        octave = _filters(own_rate, hz[chosen], alpha[chosen], np.sqrt(top_rate / own_rate))
        n_fft, bins, filters = octave
        scale = np.sqrt(lengths[chosen])[:, None]
        octaves.append(_Octave(hop // 2**number, n_fft, bins, filters, scale))
    return 2**early, tuple(octaves)


def _filters(
    sample_rate: float, hz: NDArray[np.float64], alpha: NDArray[np.float64], gain: float
) -> tuple[int, slice, csr_matrix]:
    """Spectra of an octave's filters: size of the window, bins, and the filters on them."""
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
    reached = np.cumsum(ordered / np.sum(height, axis=1, keepdims=True), axis=1)
    least = np.take_along_axis(ordered, np.argmin(reached < _SPARSITY, axis=1)[:, None], axis=1)
    spectra[height < least] = 0
    used = np.flatnonzero(spectra.any(axis=0))
    bins = slice(int(used[0]), int(used[-1]) + 1)
    filters = csr_matrix(spectra[:, bins])
    filters.data = (filters.data * gain).astype(np.complex64)
    return size, bins, filters


class _Halving:
    """Sound at a fraction of its rate, keeping its energy."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._stream = soxr.ResampleStream(factor, 1, 1, dtype="float32", quality="HQ")
        self._taken = self._given = 0

    def push(self, samples: NDArray[np.float32], *, is_last: bool) -> NDArray[np.float32]:
        self._taken += len(samples)
        found: NDArray[np.float32] = self._stream.resample_chunk(samples, last=is_last)
        if is_last:  # at least as long as librosa has it, and no longer
            due = -(-self._taken // self._factor) - self._given
            found = np.pad(found[:due], (0, max(due - len(found), 0)))
        self._given += len(found)
        found /= np.sqrt(1 / self._factor)
        return found


def _answer(factor: int, place: int) -> NDArray[np.float32]:
    """What comes of a single sample at a place when sound is brought to a fraction of its rate."""
    impulse = np.zeros(8 * _REACH * factor, np.float32)
    impulse[place] = 1
    return _Halving(factor).push(impulse, is_last=True)


@lru_cache(maxsize=8)
def halving_weights(factor: int) -> NDArray[np.float64]:
    """The filter by which sound is brought to a fraction of its rate, as its answers show it.

    Args:
        factor: a power of two, at least 2.

    Returns:
        ``(192 * factor + 1,)``, the middle one that of the sample itself. What lies beyond is
        rounding.
    """
    reach = _REACH * factor
    weights = np.zeros(2 * reach + 1)
    for place in range(4 * reach, 4 * reach + factor):
        answer = _answer(factor, place)
        away = factor * np.arange(len(answer)) - place
        near = np.abs(away) <= reach
        weights[reach + away[near]] = answer[near]
    return (weights + weights[::-1]) / 2


@lru_cache(maxsize=8)
def halving_start(factor: int) -> NDArray[np.float64]:
    """What the first samples of a sound give beyond :func:`halving_weights`.

    At a factor of 4 or more soxr takes them otherwise.

    Returns:
        ``(4 * factor, 96)``: from samples to those that come out.
    """
    weights = halving_weights(factor)
    start = np.empty((4 * factor, _REACH))
    for place, row in enumerate(start):
        middle = _REACH * factor - place
        row[:] = _answer(factor, place)[:_REACH] - weights[middle::factor][:_REACH]
    return start


_Magnitudes = Callable[[NDArray[np.float32], NDArray[np.float32]], object]


class _Response:
    """Magnitudes of one octave's frames, as far as the sound has come.

    Args:
        hop: samples from frame to frame.
        size: samples of a window.
        magnitudes: writes those of windows ``(frames, size)`` to ``(12, frames)``.
    """

    def __init__(self, hop: int, size: int, magnitudes: _Magnitudes) -> None:
        self._hop, self._size, self._magnitudes = hop, size, magnitudes
        self._waiting = np.zeros(size // 2, np.float32)
        self._skipped = 0  # samples to come that lie between two windows

    def push(self, samples: NDArray[np.float32], *, is_last: bool) -> NDArray[np.float32]:
        """The ``(12, frames)`` that are complete with these samples."""
        parts = [self._waiting, samples[self._skipped :]]
        self._skipped = max(0, self._skipped - len(samples))
        if is_last:
            parts.append(np.zeros(self._size // 2, np.float32))
        sound = np.concatenate(parts)
        count = max(0, 1 + (len(sound) - self._size) // self._hop)
        self._waiting = sound[count * self._hop :]
        self._skipped += max(0, count * self._hop - len(sound))
        found = np.empty((_PER_OCTAVE, count), np.float32)
        if count == 0:
            return found
        windows = np.lib.stride_tricks.sliding_window_view(sound, self._size)[:: self._hop]
        for start in range(0, count, _BLOCK_FRAMES):
            here = slice(start, min(start + _BLOCK_FRAMES, count))
            self._magnitudes(windows[here], found[:, here])
        return found


def _by_spectra(octave: _Octave, windows: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    spectra = scipy.fft.rfft(windows.astype(np.float64), axis=1, overwrite_x=True)
    chosen = np.ascontiguousarray(spectra[:, octave.bins].T, np.complex64)
    response = octave.filters.dot(chosen)
    response /= octave.scale
    np.abs(response, out=out)


def _by_samples(
    filters: NDArray[np.float32], windows: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    parts = np.ascontiguousarray(windows) @ filters
    parts *= parts
    np.sqrt((parts[:, :_PER_OCTAVE] + parts[:, _PER_OCTAVE:]).T, out=out)


@lru_cache(maxsize=128)
def _filters_in_time(sample_rate: float, tuning: float) -> tuple[NDArray[np.float32], ...]:
    """Of each octave ``(samples, 24)``: the real parts of twelve filters, then the imaginary."""
    found = []
    for octave in _octaves(sample_rate, tuning)[1]:
        spectra = octave.filters.toarray().astype(np.complex128) / octave.scale
        bins = np.arange(octave.bins.start, octave.bins.stop)
        turns = np.outer(bins, np.arange(octave.n_fft)) / octave.n_fft
        filters = spectra @ np.exp(-2j * np.pi * turns)
        parts = np.concatenate([filters.real, filters.imag])
        found.append(np.ascontiguousarray(parts.T, np.float32))
    return tuple(found)


def octave_filters(
    sample_rate: float, tuning: float
) -> tuple[int, tuple[tuple[int, NDArray[np.float32]], ...]]:
    """What the transform is made of, for whoever computes it elsewhere.

    Returns:
        By how much sound is decimated first; then of each octave from the highest down, each on
        sound of half the rate of the one before, the samples from frame to frame and the filters
        ``(samples, 24)``: the real parts of twelve, then the imaginary ones.
    """
    first, octaves = _octaves(sample_rate, tuning)
    hops = [octave.hop for octave in octaves]
    return first, tuple(zip(hops, _filters_in_time(sample_rate, tuning), strict=True))


class ConstantQ:
    """Constant-Q magnitudes of sound that arrives in blocks.

    Args:
        sample_rate: samples per second, at least twice :func:`highest_hz`.
        tuning: semitones above A = 440 Hz.
        is_exact: whether values are librosa's bit by bit.
    """

    def __init__(self, sample_rate: float, tuning: float, *, is_exact: bool = True) -> None:
        first, octaves = _octaves(sample_rate, tuning)
        highest = highest_hz(tuning) / (sample_rate / first / 2)
        self._first: list[_Halving | HalfBand] = [_Halving(first)] if first > 1 else []
        magnitudes: list[_Magnitudes] = [partial(_by_spectra, octave) for octave in octaves]
        if not is_exact:
            twos = range(first.bit_length() - 1)
            self._first = [HalfBand(highest / 2**number) for number in reversed(twos)]
            magnitudes = [
                partial(_by_samples, one) for one in _filters_in_time(sample_rate, tuning)
            ]
        self._halvings = [_Halving(2) for _ in octaves[1:]]
        self._responses = [
            _Response(octave.hop, octave.n_fft, respond)
            for octave, respond in zip(octaves, magnitudes, strict=True)
        ]
        self._waiting = [np.empty((_PER_OCTAVE, 0), np.float32) for _ in octaves]

    def push(self, samples: NDArray[np.float32], *, is_last: bool = False) -> NDArray[np.float32]:
        """Take ``(n,)`` more samples.

        Returns:
            ``(84, frames)`` magnitudes of the frames of 512 samples that are complete with them,
            the lowest bin first.
        """
        for halving in self._first:
            samples = halving.push(samples, is_last=is_last)
        for number, response in enumerate(self._responses):
            if number:
                samples = self._halvings[number - 1].push(samples, is_last=is_last)
            found = response.push(samples, is_last=is_last)
            if self._waiting[number].shape[1]:
                found = np.concatenate([self._waiting[number], found], axis=1)
            self._waiting[number] = found
        count = min(found.shape[1] for found in self._waiting)
        complete = np.concatenate([found[:, :count] for found in reversed(self._waiting)])
        self._waiting = [found[:, count:] for found in self._waiting]
        return complete
