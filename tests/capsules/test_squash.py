"""Squashes and lengths: the formulas of the papers, and safe at every length."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from deepmusic.capsules import capsule_length, squash, squash_exp
from deepmusic.errors import ShapeError

SQUASHES = [squash, squash_exp]
FORMULAS = [lambda n: n * n / (1 + n * n), lambda n: -math.expm1(-n)]
DTYPES = [torch.float32, torch.bfloat16, torch.float64]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "formula"), list(zip(SQUASHES, FORMULAS, strict=True)))
@settings(deadline=None)  # the first call warms torch up
@given(entries=st.lists(st.floats(-50, 50).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=6))
def test_squash_equals_its_formula(function, formula, entries):
    pose = torch.tensor(entries, dtype=torch.float64)
    length = math.sqrt(sum(x * x for x in entries))
    expected = torch.tensor([x / length * formula(length) for x in entries], dtype=torch.float64)
    torch.testing.assert_close(function(pose), expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", SQUASHES)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-6, 1e4, 1e20, 3e38])
def test_squash_is_finite_and_right_from_nothing_to_the_edge_of_the_type(function, size, dtype):
    pose = torch.full((2, 8), size, dtype=dtype, requires_grad=True)
    squashed = function(pose)
    (squashed * torch.arange(8.0).to(dtype)).sum().backward()
    assert squashed.dtype == dtype
    assert squashed.isfinite().all()
    assert pose.grad.isfinite().all()
    length = squashed.double().norm(dim=-1)
    if size >= 1e4:
        torch.testing.assert_close(length, torch.ones_like(length), rtol=4e-3, atol=0)
    if size <= 1e-30:
        assert (length < 1e-6).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-3, 1e4, 1e20])
def test_length_is_finite_and_right_at_any_size(size, dtype):
    pose = torch.full((3, 4), size, dtype=dtype, requires_grad=True)
    length = capsule_length(pose)
    length.sum().backward()
    assert length.shape == (3,)
    expected = torch.full((3,), 2 * size, dtype=dtype)
    torch.testing.assert_close(length, expected, rtol=8e-3, atol=2e-6)
    assert pose.grad.isfinite().all()
    if size >= 1e-3:
        torch.testing.assert_close(pose.grad, torch.full_like(pose, 0.5), rtol=8e-3, atol=0)


def test_huge_poses_still_learn_their_direction():
    pose = torch.tensor([1e20, 0.0], requires_grad=True)
    squash(pose)[1].backward()  # turning by dx moves the tip by dx / |s|
    torch.testing.assert_close(pose.grad, torch.tensor([0.0, 1e-20]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("function", [*SQUASHES, capsule_length])
@pytest.mark.parametrize("size", [1e-7, 1e-3, 1.0, 1e3])
def test_gradients_are_those_of_finite_differences(function, size):
    generator = torch.Generator().manual_seed(0)
    pose = size * torch.randn(3, 4, dtype=torch.float64, generator=generator)
    eps = 1e-6 * max(size, 1e-6)
    assert torch.autograd.gradcheck(function, pose.requires_grad_(), eps=eps, atol=1e-7)


@pytest.mark.parametrize("function", SQUASHES)
def test_half_precision_lengths_are_summed_in_float32(function):
    pose = torch.full((1, 4), 300.0, dtype=torch.float16)  # 300² overflows float16
    torch.testing.assert_close(
        function(pose), torch.full((1, 4), 0.5, dtype=torch.float16), rtol=2e-3, atol=0
    )


@pytest.mark.parametrize("function", [*SQUASHES, capsule_length])
@pytest.mark.parametrize(
    "bad", [torch.tensor(1.0), torch.zeros(2, 0), torch.zeros(2, 3, dtype=torch.long)]
)
def test_what_is_no_pose_is_refused_by_shape(function, bad):
    with pytest.raises(ShapeError, match=r"\(\.\.\., d\)"):
        function(bad)


@pytest.mark.parametrize("function", [*SQUASHES, capsule_length])
def test_nan_stays_in_its_own_pose(function):
    pose = torch.ones(3, 4)
    pose[1, 2] = math.nan
    finite = function(pose).reshape(3, -1).isfinite()
    assert finite[[0, 2]].all()
    assert not finite[1].any()
