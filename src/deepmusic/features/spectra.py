"""Short-time spectra, computed once for all that is told from them.

Magnitudes are those of ``librosa.stft``: windows of 2048 samples every 512, centred, with zeros
before and after the sound, a periodic Hann window, and a transform in double precision. In single
precision, bins above an mp3's low-pass come out wrong by up to a hundred times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

__all__ = ["BINS", "FFT_SIZE", "HOP", "hann", "magnitudes"]

FFT_SIZE, HOP = 2048, 512
BINS = FFT_SIZE // 2 + 1
_BLOCK_FRAMES = 64  # spectra of a block stay inside the second-level cache
_FFT_FRAMES = 16


def hann(size: int) -> NDArray[np.float64]:
    """Periodic Hann window, to the last bit that of SciPy."""
    return np.asarray(0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, size + 1)))[:-1]


_WINDOW = hann(FFT_SIZE)


def magnitudes(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Magnitude spectra of sound that comes in blocks of any size.

    Args:
        blocks: ``(n,)`` float32 each.

    Yields:
        ``(frames, 1025)`` float32, at most 64 frames at a time, ``1 + samples // 512`` in all.
    """
    half = FFT_SIZE // 2
    waiting = np.zeros(half, np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        count = max(0, 1 + (len(waiting) - FFT_SIZE) // HOP)
        whole = count // _BLOCK_FRAMES * _BLOCK_FRAMES
        yield from _of(waiting, whole)
        waiting = waiting[whole * HOP :]
    waiting = np.concatenate([waiting, np.zeros(half, np.float32)])
    yield from _of(waiting, max(0, 1 + (len(waiting) - FFT_SIZE) // HOP))


def _of(sound: NDArray[np.float32], count: int) -> Iterator[NDArray[np.float32]]:
    if count == 0:
        return
    windows = np.lib.stride_tricks.sliding_window_view(sound, FFT_SIZE)[::HOP]
    framed = np.empty((_FFT_FRAMES, FFT_SIZE))
    for start in range(0, count, _BLOCK_FRAMES):
        stop = min(start + _BLOCK_FRAMES, count)
        found = np.empty((stop - start, BINS), np.float32)
        for first in range(start, stop, _FFT_FRAMES):
            last = min(first + _FFT_FRAMES, stop)
            part = np.multiply(windows[first:last], _WINDOW, out=framed[: last - first])
            # the square root of the sum of two float32 squares, as NumPy has it for complex64
            spectra = scipy.fft.rfft(part, axis=1).astype(np.complex64)
            np.abs(spectra, out=found[first - start : last - start])
        yield found
