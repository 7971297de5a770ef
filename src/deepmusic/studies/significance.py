"""Whether one model is better than another: intervals of paired differences.

Over several folds the corrected resampled t-test is used, over one split a bootstrap of artists:
seeds of one split tell how much training varies, not how much another choice of tracks would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_DRAWS = 4000
_NUMBERS = 1_000_000  # held at a time


class Difference(NamedTuple):
    """How much better a model is than another, in shares of tracks.

    Attributes:
        mean: ours less theirs.
        low, high: the 95 % interval; NaN where there are too few folds or artists for one.
        p: two-sided; NaN likewise.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_difference(
    ours: Mapping[tuple[int, int], float],
    theirs: Mapping[tuple[int, int], float],
    *,
    overlap: float,
) -> tuple[float, float, float]:
    """Mean difference over the same folds, half width of its 95 % interval, and p.

    The corrected resampled t-test of Nadeau and Bengio (2003): folds of several seeds share
    tracks, so the variance of the mean is (1/n + test/train) times that of one difference.

    Args:
        ours: accuracy by (seed, fold); only folds that both models have are compared.
        theirs: likewise, of the model to compare with.
        overlap: test tracks over training tracks of a fold.
    """
    shared = sorted(ours.keys() & theirs.keys())
    difference = np.array([ours[key] - theirs[key] for key in shared])
    if len(shared) < 2:
        return float(difference.mean()) if shared else math.nan, math.nan, math.nan
    error = math.sqrt(difference.var(ddof=1) * (1 / len(shared) + overlap))
    if error == 0:
        return float(difference.mean()), 0.0, 1.0 if difference.mean() == 0 else 0.0
    free = len(shared) - 1
    p = 2 * stats.t.sf(abs(difference.mean()) / error, free)
    return float(difference.mean()), float(stats.t.ppf(0.975, free) * error), float(p)


def resampled_difference(
    ours: Mapping[tuple[int, int], float],
    theirs: Mapping[tuple[int, int], float],
    *,
    overlap: float,
) -> Difference:
    """:func:`paired_difference` as a :class:`Difference`."""
    mean, half, p = paired_difference(ours, theirs, overlap=overlap)
    return Difference(mean, mean - half, mean + half, p)


def bootstrap_difference(
    ours: Sequence[float] | NDArray[np.floating],
    theirs: Sequence[float] | NDArray[np.floating],
    groups: Sequence[int],
    *,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Difference:
    """Mean difference on the same tracks, with a percentile interval over drawn groups.

    Tracks of one artist are right or wrong together, so whole groups are drawn, not tracks (the
    cluster bootstrap; Davison and Hinkley 1997, chapter 3).

    Args:
        ours: ``(tracks,)``, how often each track was right, such as 1 or the share of seeds.
        theirs: ``(tracks,)``, of the model to compare with.
        groups: ``(tracks,)``, who belongs together.
        draws: how often groups are drawn.
        seed: of the draws.
    """
    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    if not len(differences):
        return Difference(math.nan, math.nan, math.nan, math.nan)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(member, differences), np.bincount(member)
    mean = float(differences.mean())
    if len(sums) < 2:
        return Difference(mean, math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    shares = np.full(len(sums), 1 / len(sums))
    drawn = np.empty(draws)
    at_once = max(1, _NUMBERS // len(sums))  # draws by groups would be large for large data
    for first in range(0, draws, at_once):
        weights = rng.multinomial(len(sums), shares, size=min(at_once, draws - first))
        drawn[first : first + at_once] = (weights @ sums) / (weights @ counts)
    low, high = (float(value) for value in np.percentile(drawn, [2.5, 97.5]))
    # with one draw to spare no p is 0; draws at zero speak for neither side
    above, below = float(np.mean(drawn >= 0)), float(np.mean(drawn <= 0))
    p = min(1.0, 2 * max(min(above, below), 1 / (draws + 1)))
    return Difference(mean, low, high, p)
