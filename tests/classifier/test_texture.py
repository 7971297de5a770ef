"""Statistics of segments, held to a slow loop in float64."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from synthetic import spectrograms

from deepmusic.classifier.model import LAGS, TEXTURE_SIZE, texture
from deepmusic.errors import ShapeError


def slow_texture(segment: NDArray[np.floating]) -> NDArray[np.float64]:
    """What the docstring says, for one segment ``(n_mels, frames)``."""
    n_mels = len(segment)
    level = np.maximum(segment.astype(np.float64) - segment.max(), -80)
    cepstrum = scipy.fft.dct(level, type=2, norm="ortho", axis=0)[:20]
    timbre = [
        [np.mean(c) for c in cepstrum],
        [np.log(np.std(c)) for c in cepstrum],
        [scipy.stats.skew(c) for c in cepstrum],
        [np.log(scipy.stats.kurtosis(c, fisher=False)) for c in cepstrum],
        [np.max(c) for c in cepstrum],
        [np.min(c) for c in cepstrum],
        # torch takes the lower of the two middle values
        [np.sort(c)[(len(c) - 1) // 2] for c in cepstrum],
    ]
    between = np.corrcoef(cepstrum)
    correlation = [between[i, j] for i in range(20) for j in range(i + 1, 20)]
    movement = []
    width = n_mels // 32
    for lag in LAGS:
        for band in range(32):
            power = (10 ** (level[band * width : (band + 1) * width] / 10)).sum(axis=0)
            decibels = 10 * np.log10(power)
            steps = [abs(decibels[t + lag] - decibels[t]) for t in range(len(decibels) - lag)]
            movement.append(np.log(max(np.mean(steps), 1e-3)))
    return np.concatenate([*timbre, correlation, movement])


@pytest.mark.slow
@pytest.mark.parametrize(("n_mels", "frames"), [(32, 65), (64, 257), (128, 96), (128, 128)])
def test_the_texture_equals_a_slow_loop(n_mels: int, frames: int) -> None:
    rng = np.random.default_rng(n_mels + frames)
    drift = np.cumsum(rng.normal(size=(3, n_mels, frames)), axis=2)
    segments = (-30 + drift + 6 * rng.gamma(1.0, size=(3, n_mels, frames))).astype(np.float32)
    if frames == 128:
        segments = np.stack([s[:, :128] for s in spectrograms(4)[0]]).astype(np.float32)
    ours = texture(torch.from_numpy(segments))
    assert ours.dtype == torch.float32
    assert ours.shape[1] == TEXTURE_SIZE == 554
    theirs = np.stack([slow_texture(segment) for segment in segments])
    # the small numbers that keep silence finite are all that differs
    np.testing.assert_allclose(ours.double().numpy(), theirs, atol=0.05, rtol=0.01)


@settings(deadline=None, max_examples=30)
@given(gain=st.floats(-60, 60), seed=st.integers(0, 50))
def test_neither_loudness_nor_other_segments_matter(gain: float, seed: int) -> None:
    segments = 8 * torch.randn(3, 32, 80, generator=torch.Generator().manual_seed(seed))
    gains = torch.tensor([gain, 0.0, 200.0])[:, None, None]
    alone = torch.cat([texture(s.unsqueeze(0)) for s in segments])
    torch.testing.assert_close(texture(segments + gains), alone, atol=5e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "segment",
    [
        torch.full((1, 128, 128), -100.0),
        torch.zeros(1, 128, 128),
        torch.full((1, 128, 128), 1e30),
        torch.full((1, 128, 128), -100.0).index_fill(2, torch.tensor([5]), 0.0),
        torch.full((1, 128, 128), -100.0).index_fill(1, torch.tensor([5]), 0.0),
        1e6 * torch.randn(1, 128, 128, generator=torch.Generator().manual_seed(1)),
        torch.linspace(-1e30, 1e30, 128 * 128).reshape(1, 128, 128),
    ],
    ids=["silence", "constant", "huge", "one-frame", "one-band", "wild", "range"],
)
def test_finite_with_finite_gradients(segment: torch.Tensor) -> None:
    segment.requires_grad_()
    statistics = texture(segment)
    assert statistics.isfinite().all()
    statistics.square().sum().backward()
    assert segment.grad is not None
    assert segment.grad.isfinite().all()


def test_half_precision_around_it_changes_nothing() -> None:
    segment = 10 * torch.randn(2, 128, 128, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = texture(segment)
    assert torch.equal(inside, texture(segment))


@pytest.mark.parametrize("shape", [(128, 128), (1, 100, 128), (1, 128, 64), (1, 1, 128, 128)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"texture needs .*got \(" + str(shape[0])):
        texture(torch.zeros(shape))
