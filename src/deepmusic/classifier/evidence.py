"""Evidence that adds up: what each cell of time and frequency contributes to a score.

Shapley values by sampled permutations (Castro, Gómez and Tejada, Polynomial calculation of the
Shapley value based on sampling, 2009): the cells of a sound are put into a background one after
another, in random orders and their reverses, and each is credited with the change of the score. So
the evidence adds up to score(sound) - score(background), whatever the model, and needs no gradient.
An order with its reverse is already exact where no more than two cells interact (Mitchell et al.,
Sampling permutations for Shapley value estimation, 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def shapley_evidence(
    patches: NDArray[np.float32],
    background: NDArray[np.float32],
    score: Callable[[NDArray[np.float32]], Floats],
    pool: Callable[[Floats], float],
    *,
    bands: int,
    columns: int,
    orders: int = 2,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The evidence of each cell of a track's patches for the score of the track.

    ``score`` is called ``2 * orders`` times per patch, for ``bands * columns - 1`` spectrograms.

    Args:
        patches: ``(n, n_mels, frames)`` in dB, cut from one track.
        background: what is there in place of a cell; of the same shape, or one that broadcasts.
        score: from spectrograms ``(k, n_mels, frames)`` to the scores ``(k, ...)`` of each.
        pool: from the scores ``(n, ...)`` of the patches to the score of the track.
        bands: cells over the mels, at most as many.
        columns: cells over the frames, at most as many.
        orders: random orders; each is taken in reverse, too.
        seed: of the orders.

    Returns:
        ``(n, bands, columns)``, with the sum ``pool(score(patches)) - pool(score(background))`` up
        to rounding.
    """
    count, n_mels, frames = patches.shape
    background = np.broadcast_to(background, patches.shape)
    band, column = np.arange(n_mels) * bands // n_mels, np.arange(frames) * columns // frames
    cell = band[:, None] * columns + column  # (n_mels, frames)
    cells = bands * columns
    empty, full = score(np.ascontiguousarray(background)), score(patches)
    steps = np.arange(1, cells)[:, None, None]
    random = np.random.default_rng(seed)
    evidence = np.zeros(count * cells)
    for _ in range(orders):
        order = random.permutation(count * cells)
        for direction in (order, order[::-1]):
            # of each patch, the scores with its first 0, 1, 2 ... cells in this order
            states: list[Floats] = []
            for patch, below, start, end in zip(patches, background, empty, full, strict=True):
                own = direction[direction // cells == len(states)] % cells
                rank = np.empty(cells, np.int64)
                rank[own] = np.arange(cells)
                between = score(np.where(rank[cell] < steps, patch, below))
                states.append(np.concatenate([start[None], between, end[None]]))
            now, present = empty.copy(), np.zeros(count, np.int64)
            before = pool(now)
            for index in direction:
                patch = index // cells
                present[patch] += 1
                now[patch] = states[patch][present[patch]]
                after = pool(now)
                evidence[index] += after - before
                before = after
    return evidence.reshape(count, bands, columns) / (2 * orders)


def over_time(
    evidence: NDArray[np.float64], starts: NDArray[np.integer], *, length: int, frames: int
) -> NDArray[np.float64]:
    """Evidence by frame of the track, with the same sum; where patches overlap, it adds up.

    Args:
        evidence: ``(n, bands, columns)`` of patches.
        starts: ``(n,)``, first frame of each patch.
        length: frames of a patch.
        frames: of the track; one shorter than a patch was repeated.

    Returns:
        ``(bands, frames)``.
    """
    columns = evidence.shape[2]
    column = np.arange(length) * columns // length
    by_frame = (evidence / np.bincount(column, minlength=columns))[:, :, column]
    result = np.zeros((frames, evidence.shape[1]))
    for start, patch in zip(starts, by_frame, strict=True):
        np.add.at(result, (start + np.arange(length)) % frames, patch.T)
    return result.T
