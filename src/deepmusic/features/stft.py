"""Magnitudes of the short-time Fourier transform, computed once for all features that need them.

Equal to ``abs(librosa.stft(y))``: windows of 2048 samples every 512, centred and padded with zeros,
a periodic Hann window, and a transform in double precision. (In single precision, bins above the
low-pass of an mp3 are wrong by up to a factor of a hundred.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray

N_FFT, HOP_LENGTH = 2048, 512
N_BINS = N_FFT // 2 + 1
_BLOCK_FRAMES = 64  # magnitudes of a block fit into the level 2 cache
_FFT_FRAMES = 16  # transformed at a time, for the same reason


def hann(size: int) -> NDArray[np.float64]:
    """Periodic Hann window, bit by bit that of SciPy."""
    return np.asarray(0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, size + 1)))[:-1]


_WINDOW = hann(N_FFT)


def magnitudes(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Magnitude spectra of sound that arrives in blocks of any size.

    Args:
        blocks: ``(n,)`` each.

    Yields:
        ``(1025, frames)``, at most 64 frames at a time, ``1 + samples // 512`` in total.
    """
    pending = np.zeros(N_FFT // 2, np.float32)
    for block in blocks:
        pending = np.concatenate([pending, block])
        count = max(0, 1 + (len(pending) - N_FFT) // HOP_LENGTH)
        count -= count % _BLOCK_FRAMES
        yield from _spectra(pending, count)
        pending = pending[count * HOP_LENGTH :]
    pending = np.concatenate([pending, np.zeros(N_FFT // 2, np.float32)])
    yield from _spectra(pending, max(0, 1 + (len(pending) - N_FFT) // HOP_LENGTH))


def _spectra(sound: NDArray[np.float32], count: int) -> Iterator[NDArray[np.float32]]:
    if not count:
        return
    windows = np.lib.stride_tricks.sliding_window_view(sound, N_FFT)[::HOP_LENGTH][:count]
    for start in range(0, count, _BLOCK_FRAMES):
        block = windows[start : start + _BLOCK_FRAMES]
        result = np.empty((N_BINS, len(block)), np.float32)
        for first in range(0, len(block), _FFT_FRAMES):
            part = slice(first, first + _FFT_FRAMES)
            spectra = scipy.fft.rfft(block[part] * _WINDOW, axis=1, overwrite_x=True)
            _magnitude(spectra, result[:, part])  # from (frames, 1025)
        yield result


# compiled at the first call; the machine code is kept on disk for later processes
@njit(cache=True, nogil=True, error_model="numpy")
def _magnitude(spectra: NDArray[np.complex128], out: NDArray[np.float32]) -> None:
    """Write absolute values: ``(frames, bins)`` complex to ``(bins, frames)``."""
    for index in range(spectra.shape[1]):
        for frame in range(spectra.shape[0]):
            value = spectra[frame, index]
            real, imaginary = np.float32(value.real), np.float32(value.imag)
            out[index, frame] = np.sqrt(real * real + imaginary * imaginary)
