"""The inner loops that NumPy cannot express efficiently, compiled by Numba.

Spectra are ``(1025, frames)`` float32. The inner loop always runs over frames, which are adjacent
in memory and independent of one another, so that the compiler can use vector instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
_Function = TypeVar("_Function", bound=Callable[..., object])


def _compiled(function: _Function) -> _Function:
    """Compile at the first call, and keep the machine code on disk for later processes."""
    compiled: Any = njit(cache=True, nogil=True, error_model="numpy")(function)
    result: _Function = compiled
    return result


@_compiled
def magnitude(spectra: NDArray[np.complex128], out: Float32) -> None:
    """Write absolute values: ``(frames, bins)`` complex to ``(bins, frames)``."""
    for index in range(spectra.shape[1]):
        for frame in range(spectra.shape[0]):
            value = spectra[frame, index]
            real, imaginary = np.float32(value.real), np.float32(value.imag)
            out[index, frame] = np.sqrt(real * real + imaginary * imaginary)


@_compiled
def rolloff_bins(spectra: Float32, share: np.float32, bins: NDArray[np.int32]) -> None:
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


@_compiled
def mean_extremes(spectra: Float32, count: int, peak: Float32, valley: Float32) -> None:
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


@_compiled
def spectral_peaks(
    spectra: Float32,
    threshold: Float32,
    first: int,
    last: int,
    bin_hz: float,
    pitch: Float32,
    height: Float32,
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
