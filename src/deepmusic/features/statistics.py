"""Seven statistics of a row of numbers over time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STATISTICS = ("kurtosis", "max", "mean", "median", "min", "skew", "std")
"""In the order of the columns."""

_AT_ONCE = 1 << 20
"""Numbers that are described together; of long tracks a row at a time, to spare memory."""


def describe(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Statistics of each row, in its own precision.

    Moments are those of the sample as a whole (no correction for its size), and the kurtosis is
    the excess over a normal distribution's. A row that does not vary has skew 0 and kurtosis -3,
    as in the published table (SciPy before 1.9), where later versions of SciPy have no number.

    Args:
        rows: ``(rows, frames)``, one frame or more.

    Returns:
        ``(7, rows)``, in the order of :data:`STATISTICS`.
    """
    with np.errstate(over="ignore", under="ignore"):  # powers of what is huge, or next to nothing
        if rows.size <= _AT_ONCE:
            return _described(rows)
        return np.concatenate([_described(row[None]) for row in rows], axis=1)


def _described(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    ordered = np.sort(rows, axis=1)
    frames = rows.shape[1]
    middle = frames // 2
    median = ordered[:, middle] if frames % 2 else ordered[:, middle - 1 : middle + 1].mean(axis=1)
    is_constant = ordered[:, -1] == ordered[:, 0]
    # the rounding of a mean is no variation
    mean = np.where(is_constant, ordered[:, 0], rows.mean(axis=1))[:, None]
    apart = rows - mean
    square = apart * apart
    second = square.mean(axis=1)
    # SciPy's measure of variation that is worth the name; and the square must not vanish
    varies = (second > (np.finfo(rows.dtype).eps * mean[:, 0]) ** 2) & (second**2 > 0)
    spread = np.where(varies, second, 1)
    skew = np.where(varies, (square * apart).mean(axis=1) / spread**1.5, 0)
    kurtosis = np.where(varies, (square * square).mean(axis=1) / spread**2 - 3, -3)
    return np.stack(
        [
            kurtosis,
            ordered[:, -1],
            mean[:, 0],
            median,
            ordered[:, 0],
            skew,
            np.sqrt(second),
        ]
    ).astype(np.float64)
