"""Convolutional capsules: equal to loops over windows, any size of grid."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings, strategies as st

from deepmusic.capsules import (
    ROUTING,
    CapsuleLayer,
    ConvCapsules,
    PrimaryCapsules,
    squash,
)
from deepmusic.errors import ShapeError

METHODS = sorted(ROUTING)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def window(grid, y, x, layer):
    """Children of the window at position (y, x), (b, k, d); zeros outside the grid."""
    found = []
    for row, column in itertools.product(*map(range, layer.kernel_size)):
        at = y * layer.stride[0] + row - layer.padding[0]
        to = x * layer.stride[1] + column - layer.padding[1]
        is_inside = 0 <= at < grid.shape[1] and 0 <= to < grid.shape[2]
        found.append(grid[:, at, to] if is_inside else torch.zeros_like(grid[:, 0, 0]))
    return torch.cat(found, dim=1)


def options(method):
    return {"routing": method, "kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_without_competition_each_window_is_a_layer_of_its_own(method):
    layer = ConvCapsules(2, 3, 4, 5, **options(method), competition=False)
    grid = squash(torch.randn(2, 3, 7, 2, 3))
    record = layer(grid)
    assert record.poses.shape == (2, 4, 3, 4, 5)
    assert record.activations.shape == (2, 4, 3, 4)
    assert record.coupling.shape == (2, 4, 3, 12, 4)
    active = grid.square().sum(-1).add(1e-12).sqrt()
    for y, x in itertools.product(range(4), range(3)):
        present = window(active.unsqueeze(-1), y, x, layer)[..., 0]
        alone = layer.layer(window(grid, y, x, layer), present)
        for ours, theirs in zip(record, alone, strict=True):
            torch.testing.assert_close(ours[:, y, x], theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in METHODS if m != "self_attention"])
def test_a_childs_couplings_add_up_to_one_over_all_positions_and_parents(method):
    layer = ConvCapsules(2, 3, 4, 5, **options(method))
    record = layer(squash(torch.randn(2, 3, 7, 2, 3)))
    total = torch.zeros(2, 3 + 2, 7, 2)  # rows with their padding
    for y, x, row, column in itertools.product(range(4), range(3), range(2), range(3)):
        first = (row * 3 + column) * 2
        got = record.coupling[:, y, x, first : first + 2].sum(-1)
        total[:, y + row, 2 * x + column] += got.detach()
    torch.testing.assert_close(total[:, 1:-1], torch.ones(2, 3, 7, 2), rtol=0, atol=1e-5)
    assert (total[:, [0, -1]] == 0).all()


def test_competing_positions_route_as_one_loop_over_all_of_them():
    """Dynamic routing on a row of 4 places, windows of 2: written out with one softmax a child."""
    layer = ConvCapsules(1, 3, 2, 4, kernel_size=(1, 2), bias=False).double()
    grid = torch.randn(1, 1, 4, 1, 3, dtype=torch.float64)
    weight = layer.layer.weight  # (o, h, d, 2)
    logit = {
        (x, k, j): torch.zeros((), dtype=torch.float64)
        for x in range(3)
        for k in range(2)
        for j in range(2)
    }
    vote = {(x, k, j): weight[j, :, :, k] @ grid[0, 0, x + k, 0] for x, k, j in logit}
    for turn in range(3):
        total = {
            child: sum(v.exp() for (x, k, _), v in logit.items() if x + k == child)
            for child in range(4)
        }
        coupling = {key: v.exp() / total[key[0] + key[1]] for key, v in logit.items()}
        poses = {
            (x, j): squash(sum(coupling[x, k, j] * vote[x, k, j] for k in range(2)))
            for x in range(3)
            for j in range(2)
        }
        if turn < 2:
            logit = {(x, k, j): v + vote[x, k, j] @ poses[x, j] for (x, k, j), v in logit.items()}
    record = layer(grid)
    for (x, j), pose in poses.items():
        torch.testing.assert_close(record.poses[0, 0, x, j], pose)
    for (x, k, j), value in coupling.items():
        torch.testing.assert_close(record.coupling[0, 0, x, k, j], value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0.0, 1e20])
def test_silence_and_thunder_in_competing_windows_are_finite(method, size):
    layer = ConvCapsules(2, 3, 4, 5, kernel_size=2, routing=method)
    grid = (size * torch.randn(2, 3, 4, 2, 3)).requires_grad_()
    record = layer(grid)
    (record.poses.sum() + record.activations.sum()).backward()
    for tensor in (*record, grid.grad, layer.weight.grad):
        assert tensor.isfinite().all()


@settings(deadline=None, max_examples=30)
@given(
    method=st.sampled_from(METHODS),
    batch=st.integers(1, 3),
    height=st.integers(2, 6),
    width=st.integers(2, 6),
    kernel=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    competition=st.booleans(),
)
def test_any_grid_any_window_any_method(
    method, batch, height, width, kernel, stride, padding, competition
):
    layer = ConvCapsules(
        2,
        3,
        4,
        5,
        kernel_size=kernel,
        stride=stride,
        padding=padding,
        competition=competition,
        routing=method,
    )
    grid = squash(torch.randn(batch, height, width, 2, 3)).requires_grad_()
    record = layer(grid)
    expected = [
        (size + 2 * pad - k) // step + 1
        for size, pad, k, step in zip((height, width), padding, kernel, stride, strict=True)
    ]
    assert record.poses.shape == (batch, *expected, 4, 5)
    (record.poses.sum() + record.activations.sum()).backward()
    assert grid.grad.isfinite().all()
    alone = layer(grid[:1])
    torch.testing.assert_close(alone.poses[0], record.poses[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_network_of_primary_convolutional_and_class_capsules_learns():
    labels = torch.arange(64) % 2
    features = 0.1 * torch.randn(64, 1, 6, 8)
    features[labels == 0, :, :, :4] += 1
    features[labels == 1, :, :3] -= 1
    primary = PrimaryCapsules(1, 4, 4, kernel_size=2)
    middle = ConvCapsules(4, 4, 3, 6, kernel_size=3, stride=2)
    top = CapsuleLayer(3, 6, 2, 8)
    parameters = [*primary.parameters(), *middle.parameters(), *top.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    for _ in range(60):
        poses = middle(primary.grid(features)).poses  # (b, y, x, 3, 6)
        activations = top(poses.flatten(1, 2)).activations
        loss = (activations[torch.arange(64), labels] - 0.9).square().mean()
        loss = loss + (activations[torch.arange(64), 1 - labels] - 0.1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (activations.argmax(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("method", ["em", "self_routing", "variational"])
def test_activations_of_windows_change_the_poses(method):
    grid = squash(torch.randn(1, 4, 4, 2, 3))
    layer = ConvCapsules(2, 3, 4, 5, kernel_size=2, routing=method)
    some = torch.rand(1, 4, 4, 2)
    assert not torch.equal(layer(grid, some).poses, layer(grid).poses)


def test_bad_grids_and_windows_are_refused():
    layer = ConvCapsules(2, 3, 4, 5, kernel_size=3)
    for grid in (
        torch.zeros(2, 5, 5, 3, 2),
        torch.zeros(2, 5, 2, 3),
        torch.zeros(2, 5, 5, 2, 3).long(),
    ):
        with pytest.raises(ShapeError, match=r"\(batch, height, width, 2, 3\)"):
            layer(grid)
    with pytest.raises(ShapeError, match="3 by 3 does not fit a grid of 2 by 5"):
        layer(torch.zeros(1, 2, 5, 2, 3))
    with pytest.raises(ShapeError, match="activations"):
        layer(torch.zeros(1, 5, 5, 2, 3), torch.zeros(1, 5, 5, 3))
    for bad in (
        {"kernel_size": 0},
        {"kernel_size": 2, "stride": 0},
        {"kernel_size": 2, "padding": -1},
    ):
        with pytest.raises(ShapeError, match="at least 1"):
            ConvCapsules(2, 3, 4, 5, **bad)
