"""Where weights start: fan-in by default, a length of one half on data."""

from __future__ import annotations

import math

import pytest
import torch

from deepmusic.capsules import (
    CapsuleLayer,
    CapsuleStack,
    PrimaryCapsules,
    capsule_length,
    init_stack_to_length,
    init_to_length,
    squash,
)
from deepmusic.errors import ShapeError


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("routing", "shape"),
    [("dynamic", (1152, 8, 10, 16)), ("dynamic", (64, 2, 40, 8)), ("uniform", (8, 4, 2, 3))]
    + [(routing, (64, 4, 5, 6)) for routing in ("em", "self_attention", "variational")],
)
def test_a_layer_starts_at_a_length_of_one_half(routing, shape):
    children, in_dim, _, _ = shape
    layer = CapsuleLayer(*shape, routing=routing)
    batch = squash(torch.randn(16, children, in_dim))
    reached = init_to_length(layer, batch)
    again = capsule_length(layer(batch).poses).mean().item()
    assert again == pytest.approx(reached, rel=1e-5)
    assert abs(again - 0.5) < 0.02


def test_primary_capsules_start_at_a_length_of_one_half():
    layer = PrimaryCapsules(3, 4, 8, kernel_size=3)
    features = 20 * torch.randn(4, 3, 6, 9)
    init_to_length(layer, features)
    assert abs(capsule_length(layer(features)).mean().item() - 0.5) < 0.02


def test_scaling_keeps_the_direction_of_the_weights():
    layer = CapsuleLayer(6, 4, 3, 5)
    before = layer.weight.detach().clone()
    init_to_length(layer, torch.randn(8, 6, 4))
    ratio = layer.weight.detach() / before
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-4, atol=0)
    assert layer.weight.requires_grad


@pytest.mark.parametrize("children", [32, 1152])
def test_uniform_coupling_of_unit_children_starts_near_one_half_by_itself(children):
    layer = CapsuleLayer(children, 8, 10, 16, routing="uniform")
    batch = torch.nn.functional.normalize(torch.randn(32, children, 8), dim=-1)
    assert abs(layer(batch).activations.mean().item() - 0.5) < 0.05


def test_fan_in_follows_the_law_it_states():
    weight = CapsuleLayer(100, 8, 10, 16).weight
    assert weight.detach().std().item() == pytest.approx(10 / math.sqrt(100 * 16), rel=0.02)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_silent_or_broken_batch_is_refused_and_the_weights_kept(value):
    layer = CapsuleLayer(6, 4, 3, 5)
    before = layer.weight.detach().clone()
    with pytest.raises(ShapeError, match="silent or not finite"):
        init_to_length(layer, torch.full((2, 6, 4), value))
    assert torch.equal(layer.weight, before)


def test_too_few_children_for_the_target_are_refused_with_what_they_can_reach():
    layer = CapsuleLayer(4, 2, 40, 8)  # at most 4 parents of 40 can be long
    batch = squash(torch.randn(16, 4, 2))
    with pytest.raises(ShapeError, match=r"at most 0\.1"):
        init_to_length(layer, batch)
    assert abs(init_to_length(layer, batch, target=0.08) - 0.08) < 0.02


def test_impossible_targets_and_layers_are_refused():
    layer = CapsuleLayer(6, 4, 3, 5)
    for target in (0.0, 1.0):
        with pytest.raises(ShapeError, match="between 0 and 1"):
            init_to_length(layer, torch.randn(2, 6, 4), target=target)
    with pytest.raises(ShapeError, match="no weight"):
        init_to_length(torch.nn.ReLU(), torch.randn(2, 6, 4))


STACKED = {
    "dynamic": {},
    "dynamic, residual": {"residual": True},
    "uniform": {"routing": "uniform"},
    "self_attention": {"routing": "self_attention"},
    "inverted_attention": {"routing": "inverted_attention"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKED)
def test_six_layers_keep_a_usable_gradient(name):
    layers = [CapsuleLayer(16, 8, 16, 8, **STACKED[name]) for _ in range(6)]
    children = squash(torch.randn(64, 16, 8))
    if name != "inverted_attention":  # its layer norm needs no length
        reached = init_stack_to_length(layers, children)
        assert all(abs(length - 0.5) < 0.02 for length in reached)
    records = CapsuleStack(layers)(children)
    target = torch.randn(64, 16, 8)
    (records[-1].poses * target).sum().backward()
    # relative to the weights: what one step of a normalised optimiser would change
    pull = [(layer.weight.grad.norm() / layer.weight.norm()).item() for layer in layers]
    assert min(pull) > 0.01 * max(pull), pull


def test_the_popular_constant_starves_the_same_stack():
    layers = [CapsuleLayer(16, 8, 16, 8) for _ in range(6)]
    for layer in layers:
        torch.nn.init.normal_(layer.weight, std=0.01)
    records = CapsuleStack(layers)(squash(torch.randn(64, 16, 8)))
    assert records[-1].activations.mean() < 1e-5
    (records[-1].poses * torch.randn(64, 16, 8)).sum().backward()
    assert layers[0].weight.grad.norm() / layers[0].weight.norm() < 1e-5
