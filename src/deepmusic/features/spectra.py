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

from deepmusic.features.compiled import compiled

__all__ = ["BINS", "FFT_SIZE", "HOP", "hann", "magnitudes", "windowed"]

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
    framed = np.empty((_FFT_FRAMES, FFT_SIZE))
    for start in range(0, count, _BLOCK_FRAMES):
        stop = min(start + _BLOCK_FRAMES, count)
        found = np.empty((stop - start, BINS), np.float32)
        for first in range(start, stop, _FFT_FRAMES):
            part = framed[: min(_FFT_FRAMES, stop - first)]
            windowed(sound, first * HOP, _WINDOW, part)
            # the square root of the sum of two float32 squares, as NumPy has it for complex64
            spectra = scipy.fft.rfft(part, axis=1).astype(np.complex64)
            np.abs(spectra, out=found[first - start : first - start + len(part)])
        yield found


@compiled
def windowed(
    sound: NDArray[np.float32],
    first: int,
    window: NDArray[np.floating],
    out: NDArray[np.floating],
) -> None:
    """Write windows of sound, one every 512 samples.

    Args:
        sound: samples.
        first: where the first window starts.
        window: ``(size,)``, what the samples are multiplied with.
        out: ``(windows, size)``, of the window's precision.
    """
    for frame in range(len(out)):
        start = first + frame * HOP
        for place in range(len(window)):
            out[frame, place] = sound[start + place] * window[place]
