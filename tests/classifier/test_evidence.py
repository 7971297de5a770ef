"""Evidence of cells against Shapley values by enumeration and in closed form."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from deepmusic.classifier.evidence import over_time, shapley_evidence

Floats = NDArray[np.floating]
MELS, FRAMES = 4, 6


def sounds(seed: int, patches: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(2, patches, MELS, FRAMES)).astype(np.float32))  # type: ignore[return-value]


def wild(spectrograms: NDArray[np.float32]) -> Floats:
    """Scores of two genres in which all cells interact."""
    flat = spectrograms.reshape(len(spectrograms), -1).astype(np.float64)
    return np.stack([np.sin(flat.sum(axis=1)), np.tanh(flat[:, ::3].prod(axis=1))], axis=1)


def odds(scores: Floats) -> float:
    mean = scores.mean(axis=0)
    return float(mean[0] - np.exp(mean[1]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    patches=st.integers(1, 3),
    bands=st.integers(1, 4),
    columns=st.integers(2, 6),
    orders=st.integers(1, 2),
)
def test_evidence_adds_up(seed: int, patches: int, bands: int, columns: int, orders: int) -> None:
    sound, background = sounds(seed, patches)
    given = {"bands": bands, "columns": columns, "orders": orders, "seed": seed}
    evidence = shapley_evidence(sound, background, wild, odds, **given)
    assert evidence.shape == (patches, bands, columns)
    assert evidence.sum() == pytest.approx(odds(wild(sound)) - odds(wild(background)), abs=1e-9)
    again = shapley_evidence(sound, background, wild, odds, **given)
    np.testing.assert_array_equal(evidence, again)


def test_many_orders_give_shapley_values() -> None:
    sound, background = sounds(1, 2)
    cells = [(n, slice(0, MELS), slice(c, c + 3)) for n in range(2) for c in (0, 3)]
    expected = np.zeros(4)
    for order in permutations(range(4)):
        now = background.copy()
        for index in order:
            before = odds(wild(now))
            now[cells[index]] = sound[cells[index]]
            expected[index] += (odds(wild(now)) - before) / factorial(4)
    evidence = shapley_evidence(
        sound, background, wild, odds, bands=1, columns=2, orders=400, seed=0
    )
    np.testing.assert_allclose(evidence.ravel(), expected, atol=0.03)
    assert np.ptp(expected) > 0.2


def test_an_order_and_its_reverse_are_exact_for_pairs() -> None:
    """For x'Ax over the cells, a cell gets its own term and half of each that it shares."""
    sound, _ = sounds(2, 1)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(24, 24))

    def score(spectrograms: NDArray[np.float32]) -> Floats:
        flat = spectrograms.reshape(len(spectrograms), -1).astype(np.float64)
        return np.einsum("ki,ij,kj->k", flat, matrix, flat)

    evidence = shapley_evidence(
        sound,
        np.zeros(1, np.float32),
        score,
        lambda scores: float(scores.sum()),
        bands=MELS,
        columns=FRAMES,
        orders=1,
    )
    flat = sound.ravel().astype(np.float64)
    expected = flat * ((matrix + matrix.T) / 2 @ flat)
    np.testing.assert_allclose(evidence.ravel(), expected, atol=1e-4)


@pytest.mark.parametrize(("frames", "starts"), [(20, (0, 4, 10)), (7, (0,))])
def test_over_time_keeps_the_sum(frames: int, starts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    evidence = rng.normal(size=(len(starts), 3, 4))
    spread = over_time(evidence, np.array(starts), length=10, frames=frames)
    assert spread.shape == (3, frames)
    np.testing.assert_allclose(spread.sum(axis=1), evidence.sum(axis=(0, 2)))
    if frames > 10:  # the first patch alone reaches the first frames, a column of three
        np.testing.assert_allclose(spread[:, :3], evidence[0, :, :1].repeat(3, axis=1) / 3)
