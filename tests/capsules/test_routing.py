"""Routing: equal to the paper written as a loop, and free of the bugs of public code."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmusic.capsules import (
    ROUTING,
    dynamic_routing,
    dynamic_routing_folded,
    routing_method,
    squash_exp,
    uniform_routing,
    uniform_routing_folded,
)
from deepmusic.errors import ShapeError

METHODS = sorted(ROUTING)


def vote(children, weight):
    """Votes (b, i, o, h) of children (b, i, d), the weights (o, d, i, h) unfolded."""
    return torch.einsum("bid,odih->bioh", children, weight)


def paper_loop(votes, iterations, *, stop_gradient=False, leaky=False, bias=None):
    """Procedure 1 of Sabour et al. (2017), one item, child and parent at a time."""
    batch, children, parents, _ = votes.shape
    all_poses, all_coupling = [], []
    for b in range(batch):
        logit = [[votes.new_zeros(()) for _ in range(parents)] for _ in range(children)]
        for r in range(iterations):
            coupling = []
            for i in range(children):
                total = sum(torch.exp(logit[i][j]) for j in range(parents)) + (1 if leaky else 0)
                coupling.append([torch.exp(logit[i][j]) / total for j in range(parents)])
            if stop_gradient:
                coupling = [[c.detach() for c in row] for row in coupling]
            poses = []
            for j in range(parents):
                s = sum(coupling[i][j] * votes[b, i, j] for i in range(children))
                if bias is not None:
                    s = s + bias[j]
                energy = (s * s).sum()
                poses.append(energy / (1 + energy) * s / torch.sqrt(energy + 1e-12))
            if r + 1 < iterations:
                for i in range(children):
                    for j in range(parents):
                        logit[i][j] = logit[i][j] + (votes[b, i, j] * poses[j]).sum()
        all_poses.append(torch.stack(poses))
        all_coupling.append(torch.stack([torch.stack(row) for row in coupling]))
    return torch.stack(all_poses), torch.stack(all_coupling)


def case(batch=2, children=4, in_dim=3, parents=3, out_dim=2, *, places=None, seed=0, size=1.0):
    """Random children, weights and bias in float64 that need gradients."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape):
        drawn = torch.randn(*shape, dtype=torch.float64, generator=generator)
        return (size * drawn).requires_grad_()

    where = (batch, children, in_dim) if places is None else (batch, places, children, in_dim)
    return leaf(*where), leaf(parents, in_dim, children, out_dim), leaf(parents, out_dim)


def gradients(output, leaves):
    """Gradients of an uneven sum, so that no symmetry hides an error."""
    ramp = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * ramp).sum(), leaves)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("stop_gradient", [False, True])
@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_dynamic_equals_the_loop_of_the_paper(iterations, stop_gradient, leaky, biased, folded):
    children, weight, bias = case()
    leaves = (children, weight, bias) if biased else (children, weight)
    options = {"stop_gradient": stop_gradient, "leaky": leaky, "bias": bias if biased else None}
    if folded:
        record = dynamic_routing_folded(children, weight, iterations, **options)
    else:
        record = dynamic_routing(vote(children, weight), iterations, **options)
    poses, coupling = paper_loop(vote(children, weight), iterations, **options)
    torch.testing.assert_close(record.poses, poses, rtol=0, atol=1e-10)
    torch.testing.assert_close(record.coupling, coupling, rtol=0, atol=1e-10)
    torch.testing.assert_close(record.activations, poses.norm(dim=-1), rtol=0, atol=1e-10)
    for ours, loop in zip(gradients(record.poses, leaves), gradients(poses, leaves), strict=True):
        torch.testing.assert_close(ours, loop, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("folded", [False, True])
def test_uniform_equals_a_loop(folded, leaky):
    children, weight, bias = case()
    if folded:
        record = uniform_routing_folded(children, weight, leaky=leaky, bias=bias)
    else:
        record = uniform_routing(vote(children, weight), leaky=leaky, bias=bias)
    poses, coupling = paper_loop(vote(children, weight), 1, leaky=leaky, bias=bias)
    torch.testing.assert_close(record.poses, poses, rtol=0, atol=1e-10)
    torch.testing.assert_close(record.coupling, coupling, rtol=0, atol=1e-12)
    for ours, loop in zip(
        gradients(record.poses, (children, weight, bias)),
        gradients(poses, (children, weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(ours, loop, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("places", [None, 2])
def test_gradients_are_those_of_finite_differences(method, leaky, places):
    leaves = case(batch=2, children=3, in_dim=2, parents=2, out_dim=2, places=places)

    def poses_and_coupling(children, weight, bias):
        record = ROUTING[method].folded(children, weight, 3, leaky=leaky, bias=bias)
        return record.poses, record.activations, record.coupling

    assert torch.autograd.gradcheck(poses_and_coupling, leaves)


@pytest.mark.parametrize("method", METHODS)
def test_plain_gradients_are_those_of_finite_differences(method):
    children, weight, bias = case(batch=2, children=3, in_dim=2, parents=2, out_dim=2)
    votes = vote(children, weight).detach().requires_grad_()

    def poses(votes, bias):
        return ROUTING[method].plain(votes, 3, bias=bias).poses

    assert torch.autograd.gradcheck(poses, (votes, bias))


def test_stopping_the_gradient_changes_it_and_not_the_poses():
    children, weight, _ = case()
    full = dynamic_routing_folded(children, weight)
    stopped = dynamic_routing_folded(children, weight, stop_gradient=True)
    torch.testing.assert_close(full.poses, stopped.poses, rtol=0, atol=0)
    assert full.coupling.requires_grad
    assert not stopped.coupling.requires_grad
    (through,) = gradients(full.poses, (weight,))
    (around,) = gradients(stopped.poses, (weight,))
    assert (through - around).abs().max() > 1e-3


sizes = st.integers(1, 6)


@settings(deadline=None)
@given(
    method=st.sampled_from(METHODS),
    batch=st.integers(1, 3),
    children=sizes,
    in_dim=sizes,
    parents=sizes,
    out_dim=sizes,
    places=st.one_of(st.none(), st.integers(1, 4)),
    iterations=st.integers(1, 4),
    leaky=st.booleans(),
    stop_gradient=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_folded_equals_plain_at_any_shape(
    method,
    batch,
    children,
    in_dim,
    parents,
    out_dim,
    places,
    iterations,
    leaky,
    stop_gradient,
    seed,
):
    u, weight, bias = case(batch, children, in_dim, parents, out_dim, places=places, seed=seed)
    options = {"leaky": leaky, "stop_gradient": stop_gradient, "bias": bias}
    if places is None:
        votes = vote(u, weight)
    else:  # each (place, child) is one child of the plain form
        votes = torch.einsum("bpid,odih->bpioh", u, weight).flatten(1, 2)
    plain = ROUTING[method].plain(votes, iterations, **options)
    folded = ROUTING[method].folded(u, weight, iterations, **options)
    assert folded.poses.shape == (batch, parents, out_dim)
    assert folded.activations.shape == (batch, parents)
    where = () if places is None else (places,)
    assert folded.coupling.shape == (batch, *where, children, parents)
    for ours, theirs in zip(folded, plain, strict=True):
        torch.testing.assert_close(ours, theirs.reshape(ours.shape), rtol=1e-9, atol=1e-10)
    for ours, theirs in zip(
        gradients(folded.poses, (u, weight, bias)),
        gradients(plain.poses, (u, weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


# The bugs of the public implementations, one test each.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["plain", "folded"])
def test_couplings_sum_to_one_over_parents_for_each_item_and_child(method, form):
    children, weight, _ = case(batch=3, children=5, parents=4)
    record = run(method, form, children, weight)
    torch.testing.assert_close(
        record.coupling.sum(dim=2), torch.ones(3, 5, dtype=torch.float64), rtol=0, atol=1e-12
    )
    if method == "dynamic":
        over_children = record.coupling.sum(dim=1)
        assert (over_children - over_children[0, 0]).abs().max() > 0.01
        assert (record.coupling[0] - record.coupling[1]).abs().max() > 0.01


def run(method, form, children, weight, **options):
    if form == "plain":
        return ROUTING[method].plain(vote(children, weight), **options)
    return ROUTING[method].folded(children, weight, **options)


@pytest.mark.parametrize("method", METHODS)
def test_a_leaky_slot_takes_its_share(method):
    children, weight, _ = case()
    kept = run(method, "folded", children, weight, leaky=True).coupling.sum(dim=2)
    assert (kept < 1).all()
    assert (kept > 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["plain", "folded"])
def test_the_order_of_children_does_not_matter(method, form):
    children, weight, _ = case(children=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    record = run(method, form, children, weight)
    shuffled = run(method, form, children[:, order], weight[:, :, order])
    torch.testing.assert_close(record.poses, shuffled.poses, rtol=0, atol=1e-12)
    torch.testing.assert_close(record.coupling[:, order], shuffled.coupling, rtol=0, atol=1e-12)


def test_the_order_of_places_does_not_matter():
    children, weight, _ = case(places=4)
    order = torch.tensor([2, 0, 3, 1])
    record = dynamic_routing_folded(children, weight)
    shuffled = dynamic_routing_folded(children[:, order], weight)
    torch.testing.assert_close(record.poses, shuffled.poses, rtol=0, atol=1e-12)
    torch.testing.assert_close(record.coupling[:, order], shuffled.coupling, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["plain", "folded"])
def test_an_item_is_routed_as_if_it_were_alone(method, form):
    children, weight, bias = case(batch=5)
    together = run(method, form, children, weight, bias=bias)
    for b in range(5):
        alone = run(method, form, children[b : b + 1], weight, bias=bias)
        for ours, theirs in zip(alone, together, strict=True):
            torch.testing.assert_close(ours[0], theirs[b], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["plain", "folded"])
def test_nan_stays_in_its_own_item(method, form):
    children, weight, _ = (leaf.detach() for leaf in case(batch=3))
    expected = run(method, form, children, weight)
    children[1, 2, 0] = math.nan
    record = run(method, form, children, weight)
    for ours, clean in zip(record, expected, strict=True):
        torch.testing.assert_close(ours[[0, 2]], clean[[0, 2]], rtol=0, atol=1e-12)
    assert record.poses[1].isnan().all()
    assert record.activations[1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["plain", "folded"])
@pytest.mark.parametrize("stop_gradient", [False, True])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4, 1e20])
def test_silence_and_thunder_give_finite_poses_and_gradients(size, stop_gradient, form, dtype):
    children, weight, bias = (leaf.detach().to(dtype) for leaf in case())
    leaves = [(size * children).requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    record = run("dynamic", form, leaves[0], leaves[1], stop_gradient=stop_gradient)
    (record.poses.sum() + record.activations.sum()).backward()
    for tensor in (*record, leaves[0].grad, leaves[1].grad):
        assert tensor.dtype == dtype
        assert tensor.isfinite().all()
    if size == 0:
        assert (record.poses == 0).all()


@pytest.mark.parametrize("form", ["plain", "folded"])
def test_half_precision_stays_near_full_precision(form):
    children, weight, bias = (leaf.detach() for leaf in case(children=64, size=0.2))
    exact = run("dynamic", form, children, weight, bias=bias)
    half = run("dynamic", form, *(x.bfloat16() for x in (children, weight)), bias=bias.bfloat16())
    torch.testing.assert_close(half.poses.double(), exact.poses, rtol=0, atol=0.03)


def test_children_of_another_width_are_routed_in_the_wider_type():
    children, weight, _ = (leaf.detach().float() for leaf in case())
    assert dynamic_routing_folded(children.bfloat16(), weight).poses.dtype == torch.float32


def test_another_squash_can_be_given():
    children, weight, _ = case()
    votes = vote(children, weight)
    record = dynamic_routing(votes, 1, squash=squash_exp)
    torch.testing.assert_close(record.poses, squash_exp(votes.sum(1) / 3))
    folded = dynamic_routing_folded(children, weight, 1, squash=squash_exp)
    torch.testing.assert_close(folded.poses, record.poses)


def test_more_passes_sharpen_the_couplings():
    children, weight, _ = case(children=8)
    sharpest = [
        dynamic_routing_folded(children, weight, n).coupling.amax(2).mean().item()
        for n in (1, 2, 3, 6)
    ]
    assert sharpest == sorted(sharpest)
    assert sharpest[0] == pytest.approx(1 / 3)
    assert sharpest[-1] > 0.5


# Bad input.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "votes",
    [
        torch.zeros(2, 3, 4),
        torch.zeros(2, 3, 4, 5, 6),
        torch.zeros(2, 0, 4, 5),
        torch.zeros(2, 3, 0, 5),
        torch.zeros(2, 3, 4, 0),
        torch.zeros(2, 3, 4, 5, dtype=torch.long),
    ],
)
def test_bad_votes_are_refused_by_shape(method, votes):
    with pytest.raises(ShapeError, match=r"\(batch, children, parents, dim\)"):
        ROUTING[method].plain(votes)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "children",
    [
        torch.zeros(2, 3),
        torch.zeros(2, 5, 3, 4, 1),
        torch.zeros(2, 4, 3),
        torch.zeros(2, 3, 5),
        torch.zeros(2, 0, 4),
        torch.zeros(2, 0, 3, 4),
        torch.zeros(2, 3, 4, dtype=torch.long),
    ],
)
def test_bad_children_are_refused_by_the_shape_they_should_have(method, children):
    with pytest.raises(ShapeError, match=r"\(batch, 3, 4\) or \(batch, places, 3, 4\)"):
        ROUTING[method].folded(children, torch.zeros(2, 4, 3, 5))


@pytest.mark.parametrize(
    "weight", [torch.zeros(4, 3, 5), torch.zeros(0, 4, 3, 5), torch.zeros(2, 4, 3, 5).long()]
)
def test_bad_weights_are_refused(weight):
    with pytest.raises(ShapeError, match=r"\(parents, in_dim, children, out_dim\)"):
        dynamic_routing_folded(torch.zeros(2, 3, 4), weight)


@pytest.mark.parametrize("bias", [torch.zeros(4), torch.zeros(5, 4), torch.zeros(4, 5).long()])
def test_a_bias_that_does_not_fit_is_refused(bias):
    with pytest.raises(ShapeError, match=r"\(4, 5\)"):
        dynamic_routing(torch.zeros(2, 3, 4, 5), bias=bias)
    with pytest.raises(ShapeError, match=r"\(4, 5\)"):
        dynamic_routing_folded(torch.zeros(2, 3, 6), torch.zeros(4, 6, 3, 5), bias=bias)


@pytest.mark.parametrize("iterations", [0, -1])
def test_fewer_than_one_pass_is_refused(iterations):
    with pytest.raises(ShapeError, match="at least 1"):
        dynamic_routing(torch.zeros(2, 3, 4, 5), iterations)
    with pytest.raises(ShapeError, match="at least 1"):
        dynamic_routing_folded(torch.zeros(2, 3, 6), torch.zeros(4, 6, 3, 5), iterations)


def test_an_unknown_method_is_a_value_error_that_lists_the_known():
    with pytest.raises(ValueError, match="dynamic, uniform"):
        routing_method("agreement")


def test_an_empty_batch_is_routed():
    record = dynamic_routing_folded(torch.zeros(0, 3, 6), torch.zeros(4, 6, 3, 5))
    assert record.poses.shape == (0, 4, 5)
    assert record.coupling.shape == (0, 3, 4)
