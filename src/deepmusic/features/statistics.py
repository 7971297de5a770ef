"""Seven summary statistics of a feature over time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import ShapeError

STATISTICS = ("kurtosis", "max", "mean", "median", "min", "skew", "std")
"""In the order of the columns."""

_MAX_AT_ONCE = 1 << 20  # values; the features of longer tracks are done one by one, to save memory


def summary_statistics(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """Statistics over time, computed in the precision of the input.

    Moments are those of the population (no bias correction), and kurtosis is the excess over that
    of a normal distribution. A feature that does not vary has skew 0 and kurtosis -3, as in the
    published table (SciPy before 1.9), where later versions of SciPy return NaN.

    Args:
        frames: ``(n, frames)``, at least one frame.

    Returns:
        ``(7, n)``, in the order of ``STATISTICS``.

    Raises:
        ShapeError: frames are not floating ``(n, frames)``, or there are none.
    """
    if frames.ndim != 2 or not frames.size or not np.issubdtype(frames.dtype, np.floating):
        raise ShapeError(f"frames are floating (n, frames); got {frames.dtype} {frames.shape}")
    with np.errstate(over="ignore", under="ignore"):  # powers of huge or tiny values
        if frames.size <= _MAX_AT_ONCE:
            return _statistics(frames)
        return np.concatenate([_statistics(row[None]) for row in frames], axis=1)


def _statistics(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    ordered = np.sort(frames, axis=1)
    count = frames.shape[1]
    middle = ordered[:, (count - 1) // 2 : count // 2 + 1]
    is_constant = ordered[:, -1] == ordered[:, 0]
    # the mean of equal values is rounded; that is not variation
    mean = np.where(is_constant, ordered[:, 0], frames.mean(axis=1))[:, None]
    deviation = frames - mean
    square = deviation * deviation
    variance = square.mean(axis=1)
    # SciPy's threshold for variation; and the squared variance must not underflow
    varies = (variance > (np.finfo(frames.dtype).eps * mean[:, 0]) ** 2) & (variance**2 > 0)
    divisor = np.where(varies, variance, 1)
    skew = np.where(varies, (square * deviation).mean(axis=1) / divisor**1.5, 0)
    kurtosis = np.where(varies, (square * square).mean(axis=1) / divisor**2 - 3, -3)
    return np.stack(
        [
            kurtosis,
            ordered[:, -1],
            mean[:, 0],
            middle.mean(axis=1),
            ordered[:, 0],
            skew,
            np.sqrt(variance),
        ]
    ).astype(np.float64)
